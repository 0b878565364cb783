"""What a plan is worth over all its needs, with the exhaustive search of all ways to serve them together as judge."""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st

from airflow_provider_carbonmark.offsets.limits import NO_LIMITS
from airflow_provider_carbonmark.offsets.listings import ANY_CREDIT
from airflow_provider_carbonmark.offsets.purchase import (
    Coverage,
    Dedication,
    Limits,
    Need,
    NoListingError,
    Plan,
    PlanLimitError,
    plan_purchases,
)
from airflow_provider_carbonmark.offsets.split import Market
from tests.unit.offsets.market import NOW, offer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_provider_carbonmark.api.models import Listing

DEDICATION = Dedication("{entity}", "{month}")
#: Price in USD per tonne, least and most kilograms.
Offer = tuple[int, int, int]


def tonnes(kilograms: int) -> Decimal:
    return Decimal(kilograms).scaleb(-3)


def planned(needs: Sequence[int], offers: Sequence[Offer], limits: Limits = NO_LIMITS) -> Plan:
    """Plan for the entities a, b, c…, which need so many kilograms."""
    wanted = [Need(chr(97 + at), "2026-10", tonnes(need), tonnes(need)) for at, need in enumerate(needs)]
    coverage = Coverage(abandoned=wanted)
    return plan_purchases([], coverage, listings(offers), dedication=DEDICATION, limits=limits, now=NOW)


def listings(offers: Sequence[Offer]) -> list[Listing]:
    return [
        offer(f"listing {at}", str(price), str(tonnes(high)), str(tonnes(low)))
        for at, (price, low, high) in enumerate(offers)
    ]


def ways(need: int, prices_and_lows: Sequence[tuple[int, int]], left: tuple[int, ...]) -> Iterator[tuple]:
    """Give every way to fill a need: its cost, and what is left."""
    if not left:
        if not need:
            yield 0, ()
        return
    (price, low), *others = prices_and_lows
    for amount in (0, *range(low, min(need, left[0]) + 1)):
        for cost, rest in ways(need - amount, others, left[1:]):
            yield cost + price * amount, (left[0] - amount, *rest)


def least_of_all(needs: Sequence[int], offers: Sequence[Offer]) -> int | None:
    """Find the least cost at which all needs can be filled together, however; None when they can't."""
    prices_and_lows = [(price, low) for price, low, _ in offers]

    @cache
    def least(at: int, left: tuple[int, ...]) -> int | None:
        if at == len(needs):
            return 0
        costs = [
            cost + rest
            for cost, left_then in ways(needs[at], prices_and_lows, left)
            if (rest := least(at + 1, left_then)) is not None
        ]
        return min(costs, default=None)

    return least(0, tuple(high for _, _, high in offers))


def fills(order: Sequence[int], offers: Sequence[Offer]) -> bool:
    market = Market(listings(offers), ANY_CREDIT, now=NOW)
    try:
        return all(market.take(tonnes(need)) for need in order)
    except NoListingError:
        return False


@st.composite
def offer_lists(draw: st.DrawFn, lows: st.SearchStrategy[int]) -> list[Offer]:
    sizes = draw(st.lists(st.tuples(lows, st.integers(0, 7)), max_size=3))
    return [(draw(st.integers(1, 5)), low, low + more) for low, more in sizes]


need_lists = st.lists(st.integers(1, 7), max_size=3)


@settings(max_examples=300, deadline=None)
@given(need_lists, offer_lists(st.just(1)))
def test_a_plan_is_the_cheapest_of_all_where_minimum_fills_are_as_small_as_can_be(needs, offers):
    least = least_of_all(needs, offers)
    if least is None:
        with pytest.raises(NoListingError):
            planned(needs, offers)
    else:
        assert planned(needs, offers).cost_usd * 1000 == least


@settings(max_examples=300, deadline=None)
@given(need_lists, offer_lists(st.integers(1, 6)))
def test_with_any_minimum_fills_a_plan_fills_all_needs_and_is_refused_only_when_three_orders_fail(
    needs, offers
):
    orders = needs, sorted(needs), sorted(needs, reverse=True)
    least = least_of_all(needs, offers)
    if not any(fills(order, offers) for order in orders):
        with pytest.raises(NoListingError):
            planned(needs, offers)
        return
    plan = planned(needs, offers)
    assert least is not None
    assert plan.cost_usd * 1000 >= least
    assert [
        sum(line.quantity_tonnes for line in plan.lines if line.entity == chr(97 + at))
        for at in range(len(needs))
    ] == [tonnes(need) for need in needs]
    assert list(plan.lines) == sorted(plan.lines, key=lambda line: (line.entity, line.month))


@pytest.mark.parametrize(
    ("needs", "offers"),
    [
        # The large one takes what alone is sold in so small amounts, though the other listing would do for it.
        ([5, 1], [(2, 5, 10), (1, 1, 5)]),
        # The small one takes so much of the large listing that nobody can buy the rest.
        ([6, 10], [(1, 6, 10), (2, 1, 6)]),
    ],
    ids=["the smallest first", "the largest first"],
)
def test_a_market_that_is_too_small_in_one_order_is_tried_in_another(needs, offers):
    assert not fills(needs, offers)
    assert planned(needs, offers).cost_usd * 1000 == least_of_all(needs, offers)


@pytest.mark.parametrize(
    ("offers", "needs", "limits", "cost"),
    [
        ([(1, 4, 6), (3, 1, 99)], [5, 6], Limits(max_cost_per_run_usd=Decimal("0.022")), "0.021"),
        ([(1, 1, 10), (10, 1, 99)], [1, 10], Limits(max_cost_per_entity_usd=Decimal("0.015")), "0.02"),
    ],
    ids=["of the run", "of an entity"],
)
def test_a_limit_that_one_order_passes_is_met_by_another(offers, needs, limits, cost):
    assert planned(needs, offers, limits).cost_usd == Decimal(cost)


def test_a_plan_that_no_order_makes_possible_is_refused_as_by_entity_and_month():
    with pytest.raises(NoListingError, match=r"^No listing for 0.002 t of b in 2026-10"):
        planned([3, 2, 1], [(1, 1, 3)])
    with pytest.raises(PlanLimitError, match="much: a 0.03 USD, b 0.02"):
        planned([3, 2, 1], [(10, 1, 9)], Limits(max_cost_per_entity_usd=Decimal("0.0001")))
