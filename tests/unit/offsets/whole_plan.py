"""Plans over small markets, and the exhaustive search of all ways to serve their needs together as judge."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_carbonmark.offsets.limits import NO_LIMITS
from airflow_provider_carbonmark.offsets.purchase import (
    Coverage,
    Dedication,
    Limits,
    ListingFilter,
    Need,
    NoListingError,
    Plan,
    plan_purchases,
)
from airflow_provider_carbonmark.offsets.split import Market
from tests.unit.offsets.market import NOW, offer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_provider_carbonmark.api.models import Listing

DEDICATION = Dedication("{entity}", "{month}")
WITH_PURO = ListingFilter(registries=["VCS", "PUR"])
NOTHING_KNOWN = Coverage()
KILOGRAM = Decimal("0.001")
HALF_A_TONNE = Decimal("0.5")


class Offer(NamedTuple):
    """A price in USD per tonne, the least and the most units sold: kilograms, or half tonnes where there is Puro."""

    price: int
    low: int
    high: int
    is_puro: bool = False

    def sells(self, most: int) -> range:
        """Give all that can be taken, nothing left aside."""
        step = 2 if self.is_puro else 1
        return range(-(-self.low // step) * step, min(most, self.high) + 1, step)


class Asked(NamedTuple):
    """What a need asks for: units, of Puro only or not."""

    units: int
    of_puro: bool = False


def planned(
    needs: Sequence[int],
    offers: Sequence[Offer],
    limits: Limits = NO_LIMITS,
    unit: Decimal = KILOGRAM,
    coverage: Coverage = NOTHING_KNOWN,
) -> Plan:
    """Plan for the entities a, b, c…, which need so many units."""
    wanted = [Need(chr(97 + at), "2026-10", need * unit, need * unit) for at, need in enumerate(needs)]
    return plan_purchases(
        [],
        replace(coverage, abandoned=wanted),
        listings(offers, unit),
        dedication=DEDICATION,
        filters=WITH_PURO,
        limits=limits,
        now=NOW,
    )


def listings(offers: Sequence[Offer], unit: Decimal = KILOGRAM) -> list[Listing]:
    return [
        offer(
            f"listing {at}",
            str(one.price),
            str(one.high * unit),
            str(one.low * unit),
            project_id="PUR-1" if one.is_puro else "VCS-1",
        )
        for at, one in enumerate(offers)
    ]


def units(plan: Plan, unit: Decimal = KILOGRAM) -> list[tuple[str, int, int]]:
    """Give whose each line is, of which offer, and how many units."""
    return [
        (line.entity, int(line.asset_price_source_id.split()[1]), int(line.quantity_tonnes / unit))
        for line in plan.lines
    ]


def ways(asked: Asked, offers: Sequence[Offer], left: tuple[int, ...]) -> Iterator[tuple]:
    """Give every way to fill a need: its cost, and what is left."""
    if not left:
        if not asked.units:
            yield 0, ()
        return
    one, *others = offers
    sold = () if asked.of_puro and not one.is_puro else one.sells(min(asked.units, left[0]))
    for amount in (0, *sold):
        for cost, rest in ways(asked._replace(units=asked.units - amount), others, left[1:]):
            yield cost + one.price * amount, (left[0] - amount, *rest)


def asked_of(need: int, offers: Sequence[Offer]) -> Asked:
    """Round a need up to whole tonnes of Puro if the whole market can't fill it exactly."""
    alone = ways(Asked(need), offers, tuple(one.high for one in offers))
    return Asked(need) if next(alone, None) or not need % 2 else Asked(need + 1, of_puro=True)


def least_of_all(asked: Sequence[Asked], offers: Sequence[Offer]) -> int | None:
    """Find the least cost at which all needs can be filled together, however; None when they can't."""

    @cache
    def least(at: int, left: tuple[int, ...]) -> int | None:
        if at == len(asked):
            return 0
        costs = [
            cost + rest
            for cost, left_then in ways(asked[at], offers, left)
            if (rest := least(at + 1, left_then)) is not None
        ]
        return min(costs, default=None)

    return least(0, tuple(one.high for one in offers))


def in_order(
    order: Sequence[int], offers: Sequence[Offer], unit: Decimal = KILOGRAM
) -> tuple[Decimal, Decimal] | None:
    """Fill one need after the other, each at the lowest cost that is left: the cost and the tonnes; None if that fails."""
    market = Market(listings(offers, unit), WITH_PURO, now=NOW)
    try:
        parts = [part for need in order for part in market.take(need * unit)]
    except NoListingError:
        return None
    return sum(one.purchase_price * part for one, part in parts), sum(part for _, part in parts)


def orders(needs: Sequence[int]) -> list[Sequence[int]]:
    return [needs, sorted(needs), sorted(needs, reverse=True)]


def no_search(*args: object) -> None:
    raise AssertionError("all quantities were searched together")
