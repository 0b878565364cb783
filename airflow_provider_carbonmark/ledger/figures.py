"""What is counted of the ledger's rows. Every amount is exact."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import ROUND_HALF_UP, Context, Decimal, Inexact
from typing import Self

_CENT = Decimal("0.01")
_ZERO = Decimal(0)
_EXACT = Context(prec=60, traps=[Inexact])
_ROUNDED = Context(prec=60)


@dataclass(frozen=True)
class Figures:
    """
    The figures of an entity, of a month, or of everything: tonnes of CO₂e, and USD.

    :param emitted_tonnes: as stated last for each entity and month.
    :param covered_tonnes: of what was retired, no more than was emitted, for each entity and month: a surplus of one is not taken for another.
    :param open_tonnes: emitted and not covered.
    :param planned_tonnes: in lines without a link to pay.
    :param link_made_tonnes: in lines with a link that nobody has paid.
    :param paid_tonnes: paid, and not retired yet.
    :param cost_usd: cost of what was retired as quoted, fees included.
    :param rounding_tonnes: retired besides, because credits are sold in steps: nobody's.
    """

    emitted_tonnes: Decimal = _ZERO
    retired_tonnes: Decimal = _ZERO
    covered_tonnes: Decimal = _ZERO
    open_tonnes: Decimal = _ZERO
    planned_tonnes: Decimal = _ZERO
    link_made_tonnes: Decimal = _ZERO
    paid_tonnes: Decimal = _ZERO
    cost_usd: Decimal = _ZERO
    rounding_tonnes: Decimal = _ZERO

    def __add__(self, other: Self) -> Self:
        names = [field.name for field in fields(self)]
        return type(self)(*(_EXACT.add(getattr(self, name), getattr(other, name)) for name in names))

    @property
    def coverage_percent(self) -> Decimal | None:
        """Covered in per cent of all that was to be, rounded down to 0.1: 100 only where nothing is open. None where nothing was emitted."""
        to_cover = _EXACT.add(self.covered_tonnes, self.open_tonnes)
        if not to_cover:
            return None
        per_mille = _EXACT.divide_int(_EXACT.multiply(self.covered_tonnes, Decimal(1000)), to_cover)
        return per_mille.scaleb(-1, _EXACT)

    @property
    def price_per_tonne_usd(self) -> Decimal | None:
        """USD per retired tonne, rounded to the cent; None where nothing was retired."""
        if not self.retired_tonnes:
            return None
        return _ROUNDED.divide(self.cost_usd, self.retired_tonnes).quantize(_CENT, ROUND_HALF_UP, _ROUNDED)
