"""What the market tells of retirements once they are proven: serial numbers and the like, read after the proof and kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class RetirementFacts:
    """
    What the market tells of a purchase's retirement; what it didn't tell is None or empty.

    :param purchase: the purchase's number.
    :param retirement_id: the market's name of it, ``{chainId}-{transaction hash}-{index}``.
    :param retired_at: when it was retired, as the market tells it.
    :param retiring_name: who retired it, as the market tells it.
    :param serial_numbers: of the credits, as the registry that issued them has them.
    :param bridge: which bridge brought the credits on chain.
    :param read_at: when it was told.
    :param certificate_sha256: of the certificate's bytes as they came, in hexadecimal digits; None while nobody has got it.
    """

    purchase: int
    retirement_id: str
    retired_at: datetime | None = None
    retiring_name: str | None = None
    serial_numbers: tuple[str, ...] = ()
    bridge: str | None = None
    read_at: datetime
    certificate_sha256: str | None = None
