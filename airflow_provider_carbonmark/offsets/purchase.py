"""Tonnes and listings become a plan: which quantity of which listing for whom."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import ROUND_CEILING, Context, Decimal
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import parse_quantity
from airflow_provider_carbonmark.offsets.dedication import Dedication
from airflow_provider_carbonmark.offsets.limits import NO_LIMITS, Limits, PlanLimitError, check_limits, total
from airflow_provider_carbonmark.offsets.listings import (
    ANY_CREDIT,
    ListingFilter,
    NoListingError,
    cheapest_listing,
    order_quantity,
)
from airflow_provider_carbonmark.offsets.split import Market, Split, split, unit_price_usd
from airflow_provider_carbonmark.offsets.split_together import split_together

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.models import Listing
    from airflow_provider_carbonmark.offsets.emissions import EntityEmissions

__all__ = [
    "Coverage",
    "Covered",
    "Dedication",
    "Limits",
    "ListingFilter",
    "Need",
    "NoListingError",
    "OverCovered",
    "Plan",
    "PlanLimitError",
    "PlannedLine",
    "Unstated",
    "cheapest_listing",
    "order_quantity",
    "plan_purchases",
    "split",
]

_EXACT = Context(prec=60)
# An emitted figure is the exact sum of what a provider states, which may have any number of digits.
_EMITTED = Context(prec=4000, rounding=ROUND_CEILING)
_EMITTED_STEP = Decimal("1E-9")


@dataclass(frozen=True)
class Need:
    """
    What still has to be bought for an entity and a month.

    :param entity: as in the emissions.
    :param month: ``YYYY-MM``.
    :param emitted_tonnes: what it emitted in the month.
    :param offset_tonnes: what is not covered yet, in steps of 0.001 t, above zero.
    """

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
    :param whole_tonnes: whether credits that retire in whole tonnes only are among the covering lines: then up to a
        tonne too much is their rounding.
    """

    covered_tonnes: Decimal
    emitted_tonnes: Decimal | None
    whole_tonnes: bool = False


_NOTHING = Covered(Decimal(0), None)


@dataclass(frozen=True)
class Coverage:
    """
    What has been planned and bought before.

    :param covered: by entity and month; a pair that nothing is known of is absent.
    :param abandoned: what is to be planned again for other months than those asked for, because its run ended
        before it delivered a link; each entity and month once.
    :param run_cost_usd: what the covering lines cost that this very run planned before; it counts against the limits.
    :param run_cost_by_entity: the same by entity.
    :param promised: tonnes by listing that are to be bought and not paid yet, for whatever month: the market still shows them.
    :param own: the entities and months asked for that the same DAG planned before.
    """

    covered: Mapping[tuple[str, str], Covered] = field(default_factory=dict)
    abandoned: Sequence[Need] = ()
    run_cost_usd: Decimal = Decimal(0)
    run_cost_by_entity: Mapping[str, Decimal] = field(default_factory=dict)
    promised: Mapping[str, Decimal] = field(default_factory=dict)
    own: Set[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class PlannedLine:
    """
    One purchase: a quantity of one listing for an entity and a month.

    :param emitted_tonnes: what the entity emitted in the month, at most nine decimals.
    :param quantity_tonnes: what to buy, in steps of 0.001 t.
    :param vintage: year; None when the market doesn't tell.
    :param unit_price_usd: USD per tonne, fees included, at most six decimals.
    :param cost_usd: exactly the price times the quantity, so at most nine decimals.
    """

    entity: str
    month: str
    emitted_tonnes: Decimal
    quantity_tonnes: Decimal
    asset_price_source_id: str
    project_id: str
    registry: str
    vintage: int | None
    unit_price_usd: Decimal
    cost_usd: Decimal
    beneficiary_name: str
    retirement_message: str


@dataclass(frozen=True)
class OverCovered:
    """An entity and month with more tonnes covered than its emissions, restated since, ask for."""

    entity: str
    month: str
    emitted_tonnes: Decimal
    covered_tonnes: Decimal


@dataclass(frozen=True)
class Unstated:
    """
    An entity and month that the DAG planned before and whose emissions are not stated any more; nothing is done about it.

    It may have been restated away, renamed, or left out by mistake: only its source can tell, by stating it with 0 tonnes.

    :param emitted_tonnes: the figure known last, above zero.
    """

    entity: str
    month: str
    emitted_tonnes: Decimal
    covered_tonnes: Decimal


@dataclass(frozen=True)
class Plan:
    """
    What to buy, and what to note.

    :param lines: the purchases, by entity and month.
    :param restated: figures that are new and need no purchase, by entity and month.
    :param over_covered: entities and months that have more than they need, by entity and month.
    :param unstated: entities and months that are missing from the emissions, by entity and month.
    """

    lines: tuple[PlannedLine, ...] = ()
    restated: tuple[EntityEmissions, ...] = ()
    over_covered: tuple[OverCovered, ...] = ()
    unstated: tuple[Unstated, ...] = ()

    @property
    def cost_usd(self) -> Decimal:
        """What all lines cost together, in USD."""
        return total(line.cost_usd for line in self.lines)


def plan_purchases(
    emissions: Iterable[EntityEmissions],
    coverage: Coverage,
    listings: Iterable[Listing],
    *,
    dedication: Dedication,
    filters: ListingFilter = ANY_CREDIT,
    limits: Limits = NO_LIMITS,
    now: datetime,
) -> Plan:
    """
    Work out what is still to buy, of which listings.

    An entity and month need what their emissions ask for beyond what is covered: a restated month is topped up by the
    difference. What is promised to lines that nobody has paid yet is not left of the market. Emitted figures are rounded up
    to 10^-9 t, which is what the ledger keeps and compares with.

    What all needs cost together is the least that they can, or the log says by how much it may be too much. It is proven
    to be the least as long as minimum fills are no more than 0.001 t and no credits retire in whole tonnes only; otherwise
    mostly for up to some dozen needs over some dozen listings. What is tried, and when needs are rounded up to whole
    tonnes, is told at :func:`~airflow_provider_carbonmark.offsets.split_together.split_together`. Not tried is to pay more
    for all together so that an entity stays within its limit, save that another order of serving the needs does it.

    :param emissions: as from ``emissions_of_month``, of one or several months; each entity and month once.
    :param coverage: what was planned and bought before, for those entities and months at least.
    :param listings: the market, as from ``CarbonmarkHook.list_prices``.
    :param dedication: what the certificates will say.
    :param now: aware time that a listing's expiry is held against.
    :raises NoListingError: when no way was found to fill all needs; names the first that can't be filled when they are
        served by entity and month.
    :raises PlanLimitError: when all that was found would cost more than the limits allow.
    :raises InvalidInputError: when an entity and month come twice, a quantity is not one that can be bought, a text for
        a certificate gets too long, or ``now`` is naive.
    """
    listings = list(listings)
    stated = _by_entity_and_month(emissions)

    needs = sorted(_needs(stated, coverage), key=lambda need: (need.entity, need.month))

    def within_limits(splits: Iterable[Split]) -> list[PlannedLine]:
        pairs = zip(needs, splits, strict=True)
        lines = [line for need, split in pairs for line in _lines(need, split, dedication)]
        check_limits(lines, coverage, limits)
        return lines

    lines = split_together(
        [(need.offset_tonnes, f" of {need.entity} in {need.month}") for need in needs],
        partial(Market, listings, filters, now=now, promised=coverage.promised),
        within_limits,
    )
    return Plan(
        lines=tuple(lines),
        restated=tuple(_restated(stated, coverage)),
        over_covered=tuple(_over_covered(stated, coverage)),
        unstated=tuple(_unstated(stated, coverage)),
    )


_Stated = Mapping[tuple[str, str], "EntityEmissions"]


def _missing(key: tuple[str, str], one: EntityEmissions, coverage: Coverage) -> Decimal:
    return _EXACT.subtract(one.offset_tonnes, coverage.covered.get(key, _NOTHING).covered_tonnes)


def _needs(stated: _Stated, coverage: Coverage) -> list[Need]:
    # Where the emissions are stated, what they ask for includes what was abandoned.
    needs = [need for need in coverage.abandoned if (need.entity, need.month) not in stated]
    for key, one in stated.items():
        if (missing := _missing(key, one, coverage)) > 0:
            needs.append(Need(*key, one.emitted_tonnes, missing))
    return needs


def _restated(stated: _Stated, coverage: Coverage) -> Iterable[EntityEmissions]:
    for key, one in stated.items():
        known = coverage.covered.get(key, _NOTHING)
        if _missing(key, one, coverage) <= 0 and one.emitted_tonnes != known.emitted_tonnes:
            yield one


def _over_covered(stated: _Stated, coverage: Coverage) -> Iterable[OverCovered]:
    for key, one in stated.items():
        known = coverage.covered.get(key, _NOTHING)
        missing = _missing(key, one, coverage)
        # Less than a tonne too much may be the rounding of credits that are sold by the tonne.
        if missing < 0 and not (known.whole_tonnes and missing > -1):
            yield OverCovered(*key, one.emitted_tonnes, known.covered_tonnes)


def _unstated(stated: Collection[tuple[str, str]], coverage: Coverage) -> Iterable[Unstated]:
    for entity, month in sorted(coverage.own):
        known = coverage.covered[entity, month]
        if (entity, month) not in stated and known.emitted_tonnes is not None and known.emitted_tonnes > 0:
            yield Unstated(entity, month, known.emitted_tonnes, known.covered_tonnes)


def _by_entity_and_month(emissions: Iterable[EntityEmissions]) -> dict[tuple[str, str], EntityEmissions]:
    """Sort the emissions, with their figures as the ledger keeps them."""
    stated: dict[tuple[str, str], EntityEmissions] = {}
    for one in sorted(emissions, key=lambda one: (one.entity, one.month)):
        key = one.entity, one.month
        if key in stated:
            raise InvalidInputError(
                "emissions",
                "have an entity and month twice",
                value=key,
                remedy="Add them up, or name the two entities differently",
            )
        if one.offset_tonnes:
            parse_quantity(one.offset_tonnes, f"offset_tonnes of {one.entity} in {one.month}")
        stated[key] = replace(one, emitted_tonnes=_as_kept(one.emitted_tonnes))
    return stated


def _as_kept(emitted: Decimal) -> Decimal:
    rounded = emitted.quantize(_EMITTED_STEP, context=_EMITTED)
    return emitted if rounded == emitted else rounded


def _lines(need: Need, split: Split, dedication: Dedication) -> Iterable[PlannedLine]:
    for listing, quantity in split:
        beneficiary_name, retirement_message = dedication.of(
            need.entity, need.month, need.emitted_tonnes, quantity
        )
        price = unit_price_usd(listing)
        yield PlannedLine(
            entity=need.entity,
            month=need.month,
            emitted_tonnes=need.emitted_tonnes,
            quantity_tonnes=quantity,
            asset_price_source_id=listing.source_id,
            project_id=listing.project_id,
            registry=listing.registry,
            vintage=listing.vintage,
            unit_price_usd=price,
            cost_usd=_EXACT.multiply(price, quantity),
            beneficiary_name=beneficiary_name,
            retirement_message=retirement_message,
        )
