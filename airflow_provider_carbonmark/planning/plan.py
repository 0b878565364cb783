"""Tonnes and listings become a plan: which quantity of which listing for whom."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import ROUND_CEILING, Context, Decimal
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import parse_quantity
from airflow_provider_carbonmark.ledger.values import (
    Coverage,
    Covered,
    Need,
    OverCovered,
    Plan,
    PlannedLine,
    Restated,
    Unstated,
)
from airflow_provider_carbonmark.planning.limits import NO_LIMITS, Limits, check_limits
from airflow_provider_carbonmark.planning.listings import ANY_CREDIT, ListingFilter
from airflow_provider_carbonmark.planning.split import Market, Split, unit_price_usd
from airflow_provider_carbonmark.planning.split_together import split_together

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.models import Listing
    from airflow_provider_carbonmark.emissions import EntityEmissions
    from airflow_provider_carbonmark.planning.dedication import Dedication

_EXACT = Context(prec=60)
# An emitted figure is the exact sum of what a provider states, which may have any number of digits.
_EMITTED = Context(prec=4000, rounding=ROUND_CEILING)
_EMITTED_STEP = Decimal("1E-9")
_NOTHING = Covered(Decimal(0), None)


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
    tonnes, is told at :func:`~airflow_provider_carbonmark.planning.split_together.split_together`. Not tried is to pay more
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


def _restated(stated: _Stated, coverage: Coverage) -> Iterable[Restated]:
    for key, one in stated.items():
        known = coverage.covered.get(key, _NOTHING)
        if _missing(key, one, coverage) <= 0 and one.emitted_tonnes != known.emitted_tonnes:
            yield Restated(*key, one.emitted_tonnes)


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
