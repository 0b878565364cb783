"""Plans over small markets."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_carbonmark.ledger.values import Coverage, Need, Plan
from airflow_provider_carbonmark.planning import Limits, NoListingError, plan_purchases
from airflow_provider_carbonmark.planning.dedication import Dedication
from airflow_provider_carbonmark.planning.least_cost_together import Demand
from airflow_provider_carbonmark.planning.limits import NO_LIMITS
from airflow_provider_carbonmark.planning.split import Market
from tests.unit.planning.exhaustive import least_of_all
from tests.unit.planning.market import NOW, WITH_PURO, offer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_carbonmark.api.models import Listing

DEDICATION = Dedication("{entity}", "{month}")
NOTHING_KNOWN = Coverage()
KILOGRAM = Decimal("0.001")
HALF_A_TONNE = Decimal("0.5")


class Offer(NamedTuple):
    """A price in USD per tonne, the least and the most units sold: kilograms, or half tonnes where there is Puro."""

    price: int
    low: int
    high: int
    is_puro: bool = False

    @property
    def step(self) -> int:
        return 2 if self.is_puro else 1


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


def demand_of(need: int, offers: Sequence[Offer]) -> Demand:
    """Round a need up to whole tonnes of Puro if the whole market can't fill it exactly."""
    is_exact = least_of_all([Demand(need)], offers) < math.inf
    return Demand(need) if is_exact or not need % 2 else Demand(need + 1, in_steps=True)


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
