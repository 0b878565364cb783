"""The search for all demands together, with the exhaustive search of all ways to fill them as judge."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st

from airflow_provider_carbonmark.planning.least_cost import Offer, Steps
from airflow_provider_carbonmark.planning.least_cost_together import Demand, fill_together, least_cost
from tests.unit.planning.exhaustive import least_of_all

PLENTY = 1_000_000


def cost_of(parts: list[list[tuple[Offer, int]]], offers: list[Offer], demands: list[Demand]) -> int:
    """Hold fillings against every constraint, and give their cost."""
    taken: Counter[Offer] = Counter()
    for demand, of_one in zip(demands, parts, strict=True):
        assert sum(amount for _, amount in of_one) == demand.amount
        assert [one for one, _ in of_one] == [one for one in offers if one in dict(of_one)]
        for one, amount in of_one:
            assert amount >= one.low
            assert amount % one.step == 0
            assert one.step > 1 or not demand.in_steps
            taken[one] += amount
    assert all(taken[one] <= one.high for one in offers)
    return sum(one.price * amount for one, amount in taken.items())


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Offer], list[Demand]]:
    """Few offers, small amounts, prices that often are equal, and one step that some offers and demands have."""
    step = draw(st.integers(2, 4))
    offers = []
    for number in range(draw(st.integers(0, 4))):
        of_one = draw(st.sampled_from([1, 1, step]))
        low = draw(st.integers(1, max(1, 6 // of_one)))
        high = low + draw(st.integers(0, 9 // of_one))
        price = draw(st.one_of(st.integers(0, 3), st.integers(0, 20)))
        offers.append(Offer(price, low * of_one, high * of_one, of_one, number))
    demands = draw(st.lists(st.builds(Demand, st.integers(1, 8)), min_size=1, max_size=4))
    if any(one.step > 1 for one in offers) and draw(st.booleans()):
        demands[0] = Demand(draw(st.integers(1, 8 // step)) * step, in_steps=True)
    return sorted(offers, key=lambda one: (one.price, one.preference)), demands


@settings(max_examples=600, deadline=None)
@given(situations())
def test_what_is_found_is_the_cheapest_of_all_and_nothing_is_found_when_there_is_nothing(situation):
    offers, demands = situation
    parts, least = fill_together(offers, demands, Steps(PLENTY))
    assert least == least_of_all(demands, offers)
    assert (parts is None) == (least == math.inf)
    assert parts is None or cost_of(parts, offers, demands) == least


@settings(max_examples=300, deadline=None)
@given(situations(), st.integers(0, 100))
def test_only_what_is_below_a_ceiling_is_found(situation, ceiling):
    offers, demands = situation
    best = least_of_all(demands, offers)
    parts, least = fill_together(offers, demands, Steps(PLENTY), ceiling)
    assert (parts is not None) == (best < ceiling)
    assert least == min(best, ceiling)


@settings(max_examples=300, deadline=None)
@given(situations(), st.integers(0, 12))
def test_a_search_cut_short_never_claims_more_than_it_knows(situation, steps):
    offers, demands = situation
    best = least_of_all(demands, offers)
    parts, least = fill_together(offers, demands, Steps(steps))
    assert least <= best
    assert parts is None or cost_of(parts, offers, demands) >= best


@settings(max_examples=600, deadline=None)
@given(situations())
def test_the_bound_without_a_search_is_never_above_the_cheapest_of_all(situation):
    offers, demands = situation
    assert least_cost(offers, demands) <= least_of_all(demands, offers)


@settings(max_examples=100, deadline=None)
@given(situations())
def test_the_bound_without_a_search_is_the_cheapest_of_all_where_smallest_amounts_and_steps_are_one(
    situation,
):
    offers, demands = situation
    offers = [Offer(one.price, 1, one.high, 1, one.preference) for one in offers]
    demands = [Demand(demand.amount) for demand in demands]
    assert least_cost(offers, demands) == least_of_all(demands, offers)


@pytest.mark.parametrize(
    ("offers", "amounts", "bound"),
    [
        # One missing to the last four is best taken elsewhere, or three more instead of what is cheaper still.
        ([Offer(1, 1, 3, 1, 0), Offer(4, 4, 8, 4, 1), Offer(5, 1, 20, 1, 2)], [4, 4], 24),
        ([Offer(1, 1, 3, 1, 0), Offer(2, 4, 8, 4, 1), Offer(9, 1, 20, 1, 2)], [4, 4], 16),
        ([Offer(1, 5, 9, 1, 0), Offer(3, 1, 20, 1, 1)], [4, 4], 24),
        ([Offer(1, 5, 9, 1, 0), Offer(3, 1, 20, 1, 1)], [5, 4], 17),
        ([Offer(1, 4, 4, 4, 0), Offer(1, 4, 8, 4, 1), Offer(3, 1, 20, 1, 2)], [6, 6], 20),
    ],
    ids=[
        "a step less",
        "a step more",
        "too small demands",
        "a large enough demand",
        "whole steps in demands",
    ],
)
def test_the_bound_without_a_search_sees_steps_and_what_demands_are_large_enough_for(offers, amounts, bound):
    demands = [Demand(amount) for amount in amounts]
    assert least_cost(offers, demands) == bound == least_of_all(demands, offers)


def medium_market(offers: int, demands: int) -> tuple[list[Offer], list[Demand]]:
    """Make a market with half as much again as is asked for, of which many offers sell 1, 3 or 5 t at least."""
    chance = random.Random(1)
    asked = [Demand(chance.randint(13_500, 14_500)) for _ in range(demands)]
    average = sum(demand.amount for demand in asked) * 1.5 / offers
    made = []
    for number in range(offers):
        low = chance.choice([1, 1000, 3000, 5000])
        made.append(
            Offer(
                chance.randint(1, 10**6),
                low,
                max(low, int(average * chance.uniform(0.5, 1.5))),
                1,
                number,
            )
        )
    return sorted(made, key=lambda one: (one.price, one.preference)), asked


@pytest.mark.parametrize(("offers", "demands"), [(10, 5), (20, 10), (60, 30)])
def test_a_market_of_dozens_of_offers_takes_hundreds_of_steps(offers, demands):
    made, asked = medium_market(offers, demands)
    steps = Steps(1_000)
    parts, least = fill_together(made, asked, steps)
    assert steps.left > 0
    assert cost_of(parts, made, asked) == least


def test_steps_are_counted_down_to_the_end_of_a_bound():
    made, asked = medium_market(60, 30)
    steps = Steps(20)
    parts, least = fill_together(made, asked, steps)
    assert parts is None
    assert -30 < steps.left <= 0
    assert least_cost(made, asked) <= least < math.inf
