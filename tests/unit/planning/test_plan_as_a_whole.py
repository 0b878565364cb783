"""What a plan is worth over all its needs, with the exhaustive search of all ways to serve them together as judge."""

from __future__ import annotations

import math
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st

from airflow_provider_carbonmark.planning import NoListingError, split as split_module
from airflow_provider_carbonmark.planning.least_cost_together import Demand
from tests.unit.planning.exhaustive import amounts, least_of_all
from tests.unit.planning.whole_plan import (
    HALF_A_TONNE,
    KILOGRAM,
    Offer,
    demand_of,
    in_order,
    no_search,
    orders,
    planned,
    units,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_carbonmark.ledger.values import Plan


@st.composite
def offer_lists(draw: st.DrawFn, lows: st.SearchStrategy[int], puro: st.SearchStrategy[bool]) -> list[Offer]:
    sizes = draw(st.lists(st.tuples(lows, st.integers(0, 7)), max_size=3))
    return [Offer(draw(st.integers(1, 5)), low, low + more, draw(puro)) for low, more in sizes]


need_lists = st.lists(st.integers(1, 7), max_size=3)


@st.composite
def tight_markets(draw: st.DrawFn, puro: st.SearchStrategy[bool]) -> tuple[list[int], list[Offer]]:
    """Make up needs, and hardly more than they need: often it can be had, but at the lowest cost in no order."""
    needs = draw(st.lists(st.integers(4, 7), min_size=2, max_size=3))
    offers, missing = [], sum(needs) + draw(st.integers(0, 4))
    for _ in range(draw(st.integers(0, 1))):
        offers.append(
            Offer(draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(2, 5)), draw(puro))
        )
    for share in (missing // 2, missing - missing // 2):
        shift = draw(st.integers(-2, 2))
        offers.append(Offer(draw(st.integers(1, 5)), draw(st.integers(1, 4)), share + shift, draw(puro)))
    return needs, offers


def situations(puro: st.SearchStrategy[bool]) -> st.SearchStrategy[tuple[list[int], list[Offer]]]:
    loose = st.tuples(need_lists, offer_lists(st.integers(1, 6), puro))
    return st.one_of(tight_markets(puro), tight_markets(puro), loose)


def check(plan: Plan, demands: Sequence[Demand], offers: Sequence[Offer], unit: Decimal = KILOGRAM) -> None:
    """Hold a plan against every constraint."""
    of_needs: Counter[str] = Counter()
    of_offers: Counter[int] = Counter()
    for entity, at, amount in units(plan, unit):
        assert amount in amounts(offers[at], offers[at].high)
        assert offers[at].is_puro or not demands[ord(entity) - 97].in_steps
        of_needs[entity] += amount
        of_offers[at] += amount
    assert of_needs == {chr(97 + at): one.amount for at, one in enumerate(demands)}
    assert all(amount <= offers[at].high for at, amount in of_offers.items())
    assert plan.cost_usd == sum(offers[at].price * amount * unit for _, at, amount in units(plan, unit))
    assert list(plan.lines) == sorted(plan.lines, key=lambda line: (line.entity, line.month))


@settings(max_examples=300, deadline=None)
@given(need_lists, offer_lists(st.just(1), st.just(False)))
def test_where_minimum_fills_are_as_small_as_can_be_a_plan_is_the_cheapest_without_a_search(needs, offers):
    least = least_of_all([Demand(need) for need in needs], offers)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(split_module, "fill_together", no_search)
        if least == math.inf:
            with pytest.raises(NoListingError):
                planned(needs, offers)
        else:
            assert planned(needs, offers).cost_usd == least * KILOGRAM


@settings(max_examples=500, deadline=None)
@given(situations(st.just(False)))
def test_with_any_minimum_fills_a_plan_is_the_cheapest_of_all_and_is_refused_only_when_there_is_none(
    situation,
):
    needs, offers = situation
    demands = [Demand(need) for need in needs]
    least = least_of_all(demands, offers)
    if least == math.inf:
        with pytest.raises(NoListingError):
            planned(needs, offers)
        return
    plan = planned(needs, offers)
    check(plan, demands, offers)
    assert plan.cost_usd == least * KILOGRAM


@settings(max_examples=500, deadline=None)
@given(situations(st.booleans()))
def test_with_whole_tonnes_too_a_plan_is_the_cheapest_of_all_that_round_up_only_what_cannot_be_exact(
    situation,
):
    needs, offers = situation
    demands = [demand_of(need, offers) for need in needs]
    least = least_of_all(demands, offers)
    in_turn = [found for order in orders(needs) if (found := in_order(order, offers, HALF_A_TONNE))]
    if least == math.inf and not in_turn:
        with pytest.raises(NoListingError):
            planned(needs, offers, unit=HALF_A_TONNE)
        return
    plan = planned(needs, offers, unit=HALF_A_TONNE)
    bought: Counter[str] = Counter()
    for entity, _, amount in units(plan, HALF_A_TONNE):
        bought[entity] += amount
    # What is taken in some order may have to be rounded up though it could be exact alone.
    rounded = [Demand(bought[chr(97 + at)], bought[chr(97 + at)] > need) for at, need in enumerate(needs)]
    check(plan, rounded, offers, HALF_A_TONNE)
    assert all(one.amount in {need, need + need % 2} for one, need in zip(rounded, needs, strict=True))
    tonnes = sum(bought.values()) * HALF_A_TONNE
    if in_turn:
        assert plan.cost_usd <= in_turn[0][0]
        assert tonnes <= in_turn[0][1]
    if least < math.inf:
        assert plan.cost_usd <= least * HALF_A_TONNE
    if rounded == demands:
        assert plan.cost_usd == least * HALF_A_TONNE
