"""What a planner gets from the ledger and gives back to it: plain values, nothing of SQL."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Context, Decimal
from functools import reduce
from typing import Final

#: The arithmetic of amounts: exact for any that the ledger can hold, whatever context a process has.
EXACT: Final = Context(prec=60)
_DOWN = Context(prec=60, rounding=ROUND_FLOOR)
_USD_STEP = Decimal("1E-9")
#: Stands for the purchase's reference in a message, until the purchase has its number.
REFERENCE: Final = "{reference}"
#: What the reason begins with of what is too little to be paid, and is left to a later plan.
CARRIED_OVER: Final = "carried over"
#: Why what an entity and month lack is not caught up with: only its source can tell whether it goes by another name now.
UNSTATED: Final = (
    "not stated any more with its month's emissions: what it lacks is bought when it is stated again"
)


@dataclass(frozen=True)
class Part:
    """
    What of a figure one column of amounts gave, exactly.

    :param scopes: ``"1"``, ``"2"``, ``"3"`` or several, ``"1+2+3"``; empty where the source does not say.
    :param method: ``"market-based"``, ``"location-based"``, or empty.
    """

    column: str
    scopes: str
    method: str
    tonnes: Decimal


@dataclass(frozen=True)
class Origin:
    """
    Where the emitted figure of an entity and month is from.

    :param source: the source's name, such as ``AWS``.
    :param version: of the model that the amounts were worked out with; empty where none is stated.
    :param parts: what the figure is made of; none where only the sum was stated.
    """

    source: str
    version: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class SourceFile:
    """A file that emissions were read from, its rows below the header, and the SHA-256 of its bytes as stored, in hexadecimal digits."""

    path: str
    row_count: int
    sha256: str


@dataclass(frozen=True)
class Need:
    """What an entity emitted in a month, ``YYYY-MM``, and what of it still has to be bought: above zero, at most nine decimals."""

    entity: str
    month: str
    emitted_tonnes: Decimal
    offset_tonnes: Decimal


@dataclass(frozen=True)
class Covered:
    """
    What is known of an entity and a month.

    :param covered_tonnes: the sum of its covering lines; 0 when there are none.
    :param emitted_tonnes: the emitted figure known last; None when none is known.
    :param reason: why nothing was bought for that figure, where something should have been.
    """

    covered_tonnes: Decimal
    emitted_tonnes: Decimal | None
    reason: str | None = None


@dataclass(frozen=True)
class Coverage:
    """
    What has been planned and bought before.

    :param covered: by entity and month; a pair that nothing is known of is absent.
    :param abandoned: what is to be planned again unless its emissions are stated: because its run ended before it delivered a
        link; and what earlier months lack, because it failed, was declined or was too little to be paid. Each entity and month once.
    :param run_cost_usd: what this very run planned before costs, as far as it is paid or may be; it counts against the limits.
    :param run_cost_by_entity: the same by entity.
    :param promised: tonnes by listing that are to be bought and not paid yet, for whatever month: the market still shows them.
    :param own: the entities and months asked for that the same DAG planned before, or one that it takes over from.
    :param unsettled: those of its own that lack something, or for which something is still to be paid or retired.
    :param origins: where the figures known last are from, of what is abandoned or unsettled, as far as it is known.
    """

    covered: Mapping[tuple[str, str], Covered] = field(default_factory=dict)
    abandoned: Sequence[Need] = ()
    run_cost_usd: Decimal = Decimal(0)
    run_cost_by_entity: Mapping[str, Decimal] = field(default_factory=dict)
    promised: Mapping[str, Decimal] = field(default_factory=dict)
    own: Set[tuple[str, str]] = frozenset()
    unsettled: Set[tuple[str, str]] = frozenset()
    origins: Mapping[tuple[str, str], Origin] = field(default_factory=dict)


@dataclass(frozen=True)
class Share:
    """
    How much of a purchase is for an entity and a month.

    :param emitted_tonnes: what the entity emitted in the month, at most nine decimals.
    :param quantity_tonnes: likewise.
    :param cost_usd: its share of what the purchase costs, rounded down to 10^-9 USD.
    """

    entity: str
    month: str
    emitted_tonnes: Decimal
    quantity_tonnes: Decimal
    cost_usd: Decimal


@dataclass(frozen=True, kw_only=True)
class PlannedPurchase:
    """
    One purchase: a quantity of one listing for those whose certificates say the same.

    :param quantity_tonnes: what to buy, in steps of 0.001 t.
    :param vintage: year; None when the market doesn't tell.
    :param unit_price_usd: USD per tonne, fees included, at most six decimals.
    :param cost_usd: exactly the price times the quantity, so at most nine decimals.
    :param shares: whom it is for, each entity and month once; the rest of the quantity was added by rounding and is nobody's.
    :param base_unit_price_usd: USD per tonne without fees, likewise; None when the market doesn't tell.
    """

    quantity_tonnes: Decimal
    asset_price_source_id: str
    project_id: str
    registry: str
    vintage: int | None
    unit_price_usd: Decimal
    cost_usd: Decimal
    beneficiary_name: str
    retirement_message: str
    shares: tuple[Share, ...]
    base_unit_price_usd: Decimal | None = None

    @property
    def rounding_tonnes(self) -> Decimal:
        return EXACT.subtract(self.quantity_tonnes, total(share.quantity_tonnes for share in self.shares))


@dataclass(frozen=True)
class Restated:
    """A figure of an entity and month that is new, and for which nothing is bought; and why not, where something is missing."""

    entity: str
    month: str
    emitted_tonnes: Decimal
    reason: str | None = None


@dataclass(frozen=True)
class CarriedOver:
    """What an entity and month still need, and why it is not bought now; it is as soon as it is enough to be paid, with others."""

    need: Need
    reason: str


@dataclass(frozen=True)
class Balance:
    """
    What an entity emitted in a month, beside what is covered of it.

    :param emitted_tonnes: the figure stated now, or, where none is, the one known last.
    """

    entity: str
    month: str
    emitted_tonnes: Decimal
    covered_tonnes: Decimal


@dataclass(frozen=True)
class Plan:
    """
    What to buy, and what to note.

    :param purchases: by the entity and month of their first shares.
    :param restated: figures that are new and for which nothing is bought, by entity and month.
    :param over_covered: what has more tonnes covered than its emissions, restated since, ask for; by entity and month.
    :param unstated: what the DAG planned before and is not stated any more, by entity and month. It may have been restated away, renamed,
        or left out by mistake: only its source can tell, by stating it with 0 tonnes. What is covered of it stays; what it lacks, or
        comes to lack, is not caught up with.
    :param carried_over: what is left to a later plan, by entity and month.
    :param origins: where the figures are from, by entity and month; of those only where that is known.
    :param files: the files that were read for each month.
    """

    purchases: tuple[PlannedPurchase, ...] = ()
    restated: tuple[Restated, ...] = ()
    over_covered: tuple[Balance, ...] = ()
    unstated: tuple[Balance, ...] = ()
    carried_over: tuple[CarriedOver, ...] = ()
    origins: Mapping[tuple[str, str], Origin] = field(default_factory=dict)
    files: Mapping[str, Sequence[SourceFile]] = field(default_factory=dict)

    @property
    def cost_usd(self) -> Decimal:
        """What all purchases cost together, in USD."""
        return total(purchase.cost_usd for purchase in self.purchases)


def too_little(cost_usd: Decimal | None, minimum_payment_usd: Decimal) -> str:
    """Say why something is carried over: because of what it costs, or, where that is None, of its parts."""
    what = "it can't be bought without a payment" if cost_usd is None else f"{cost_usd:f} USD is"
    return f"{CARRIED_OVER}: {what} below the least that can be paid, {minimum_payment_usd:f} USD"


def share_of_cost(cost_usd: Decimal, part_tonnes: Decimal, quantity_tonnes: Decimal) -> Decimal:
    """Return what a part of a purchase costs, rounded down to 10^-9 USD; so what rounding added costs the rest."""
    share = _DOWN.divide(EXACT.multiply(cost_usd, part_tonnes), quantity_tonnes)
    return share.quantize(_USD_STEP, context=_DOWN).normalize(EXACT)


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Add amounts up, to the last digit."""
    return reduce(EXACT.add, amounts, Decimal(0))


def plain(amount: Decimal) -> str:
    """Write an amount without an exponent, and without zeros at its end."""
    return f"{amount.normalize(EXACT):f}"


def spans(months: Collection[str]) -> Iterator[str]:
    """Give months, those that follow each other as one: ``2026-01 to 2026-03``."""
    numbers = sorted({int(month[:4]) * 12 + int(month[5:]) - 1 for month in months})
    first = last = None
    for number in [*numbers, None]:
        if last is not None and number == last + 1:
            last = number
            continue
        if first is not None and last is not None:
            yield _month(first) if first == last else f"{_month(first)} to {_month(last)}"
        first = last = number


def _month(number: int) -> str:
    return f"{number // 12:04}-{number % 12 + 1:02}"
