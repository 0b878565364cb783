"""What became of a payment's retirement: derived from the time since it was paid, so nothing runs in the background."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from airflow_provider_carbonmark.sandbox.cards import Outcome


@dataclass(frozen=True)
class Transaction:
    """
    Where on which chain a retirement is recorded.

    :param chain_id: 137 is Polygon, 8453 is Base.
    :param hash: ``0x`` and 64 hexadecimal digits.
    :param index: which of the transaction's retirements.
    """

    chain_id: int
    hash: str
    index: int

    @property
    def certificate_path(self) -> str:
        return f"/retirements/id/{self.chain_id}-{self.hash}-{self.index}"

    @property
    def explorer_path(self) -> str:
        return f"/transactions/{self.chain_id}/{self.hash}"


@dataclass(frozen=True)
class Retirement:
    """
    A retirement and whom it says it is for.

    :param status: ``SUBMITTED``, ``COMMITTED``, ``COMPLETED`` or ``FAILED``, before any respelling.
    :param quantity_tonnes: what was retired.
    :param transaction: None until there is a proof.
    :param completed_at: None until it is completed.
    """

    status: str
    quantity_tonnes: Decimal
    asset_price_source_id: str
    beneficiary_name: str
    retirement_message: str
    transaction: Transaction | None = None
    completed_at: datetime | None = None


@dataclass(frozen=True)
class Takes:
    """
    How long things take after paying, in seconds.

    :param visible: until the payment is known.
    :param retirement: until the retirement is over.
    :param proof: from there to its proof.
    """

    visible: float
    retirement: float
    proof: float


# seen: what every test-mode order in the world links to. Block and hash are made up, the wording is paraphrased.
PLACEHOLDER = Retirement(
    status="COMPLETED",
    quantity_tonnes=Decimal("0.017"),
    asset_price_source_id="listing-137-0x" + hashlib.sha256(b"placeholder listing").hexdigest(),
    beneficiary_name="Developer Tester",
    retirement_message="TEST MODE - this retirement was made once, for developers to test with."
    " Do NOT present it or pass it on as the retirement of anybody's emissions.",
    transaction=Transaction(137, "0x" + hashlib.sha256(b"placeholder").hexdigest(), 0),
    completed_at=datetime(2024, 3, 12, 9, 41, 7, tzinfo=UTC),
)


def progress(
    asked: Retirement,
    transaction: Transaction,
    outcome: Outcome,
    *,
    paid_at: datetime,
    now: datetime,
    takes: Takes,
) -> Retirement:
    """
    Return a retirement as it stands.

    :param asked: what was paid for.
    :param transaction: the proof it will have.
    :param outcome: how it ends.
    :param takes: how long its steps take.
    """
    elapsed = (now - paid_at).total_seconds()
    if outcome is Outcome.STUCK or elapsed < takes.retirement / 3:
        return asked
    if elapsed < takes.retirement:
        return replace(asked, status="COMMITTED")
    if outcome is Outcome.FAILED:
        return replace(asked, status="FAILED")
    if outcome is Outcome.PLACEHOLDER:
        return PLACEHOLDER
    done = replace(asked, status="COMPLETED", completed_at=paid_at + timedelta(seconds=takes.retirement))
    if outcome is Outcome.NO_PROOF or elapsed < takes.retirement + takes.proof:
        return done
    if outcome is Outcome.SOMETHING_ELSE:
        done = replace(done, beneficiary_name="Somebody Else Ltd.", quantity_tonnes=asked.quantity_tonnes + 1)
    return replace(done, transaction=transaction)
