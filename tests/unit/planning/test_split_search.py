from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings, strategies as st

from airflow_provider_carbonmark.planning.least_cost import Filling, Offer, Steps, UndecidedError, fill

PLENTY = 1_000_000


def filled(offers: list[Offer], amount: int, steps: int = PLENTY) -> Filling | None:
    return fill(sorted(offers, key=lambda one: (one.price, one.preference)), amount, Steps(steps))


def every_filling(offers: list[Offer], amount: int) -> Iterator[list[tuple[Offer, int]]]:
    """Try each amount of each offer."""
    if not offers:
        if amount == 0:
            yield []
        return
    first, *others = offers
    for taken in (0, *range(first.low, min(first.high, amount) + 1, first.step)):
        for rest in every_filling(others, amount - taken):
            yield [(first, taken), *rest] if taken else rest


def merit(parts: list[tuple[Offer, int]]) -> tuple[int, int, list[object]]:
    """What makes one filling better than another, in plain words: cost, parts, preferences."""
    return (
        sum(one.price * amount for one, amount in parts),
        len(parts),
        sorted(one.preference for one, _ in parts),
    )


@st.composite
def offer_lists(draw: st.DrawFn) -> list[Offer]:
    """Few offers, small amounts, prices that often are equal, and one step that some of the offers have."""
    coarse = draw(st.integers(1, 5))
    offers = []
    for number in range(draw(st.integers(0, 5))):
        step = draw(st.sampled_from([1, 1, coarse]))
        low = draw(st.integers(1, max(1, 9 // step)))
        high = draw(st.integers(low, max(low, draw(st.sampled_from([12, 30])) // step)))
        price = draw(st.one_of(st.integers(0, 3), st.integers(0, 20)))
        offers.append(Offer(price, low * step, high * step, step, (draw(st.integers(-1, 0)), number)))
    return draw(st.permutations(offers))


@settings(max_examples=600, deadline=None)
@given(offer_lists(), st.integers(1, 25))
def test_a_filling_is_the_best_of_all_there_are_and_none_is_given_when_there_is_none(offers, amount):
    fillings = [merit(parts) for parts in every_filling(offers, amount)]
    found = filled(offers, amount)
    if not fillings:
        assert found is None
        return
    assert merit(found.parts) == min(fillings)
    assert found.excess == 0
    assert sum(taken for _, taken in found.parts) == amount
    assert all(one.low <= taken <= one.high and taken % one.step == 0 for one, taken in found.parts)


@settings(deadline=None)
@given(offer_lists(), st.integers(1, 25), st.integers(0, 6))
def test_a_search_cut_short_never_claims_more_than_it_knows(offers, amount, steps):
    costs = [merit(parts)[0] for parts in every_filling(offers, amount)]
    try:
        found = filled(offers, amount, steps)
    except UndecidedError:
        return
    if found is None:
        assert not costs
        return
    cost = merit(found.parts)[0]
    assert cost - found.excess <= min(costs) <= cost
    assert sum(taken for _, taken in found.parts) == amount
    assert all(one.low <= taken <= one.high and taken % one.step == 0 for one, taken in found.parts)


def test_a_minimum_that_the_rest_would_miss_is_met_by_taking_less_of_the_cheap_offer():
    cheap, dear = Offer(1, 1, 999, 1, "cheap"), Offer(9, 50, 999, 1, "dear")
    assert filled([cheap, dear], 1000).parts == [(cheap, 950), (dear, 50)]


def test_the_cheapest_offer_is_left_alone_where_its_use_makes_the_rest_dear():
    cheap, middle, dear = (
        Offer(1, 10, 10, 1, "cheap"),
        Offer(2, 15, 20, 1, "middle"),
        Offer(90, 1, 9, 1, "dear"),
    )
    assert filled([cheap, middle, dear], 15).parts == [(middle, 15)]


def test_at_one_price_the_larger_supply_saves_a_part_and_the_better_preference_fills_up_first():
    small, large, other = (
        Offer(5, 1, 4, 1, (-2025, "small")),
        Offer(5, 1, 9, 1, (-2010, "large")),
        Offer(5, 1, 9, 1, (-2020, "other")),
    )
    assert filled([small, large, other], 12).parts == [(small, 4), (other, 8)]
    assert filled([small, large, other], 16).parts == [(other, 9), (large, 7)]


def test_whole_steps_leave_the_fraction_to_what_has_no_step():
    whole, fine = Offer(1, 1000, 50_000, 1000, "whole"), Offer(3, 1, 9000, 1, "fine")
    assert filled([whole, fine], 12_345).parts == [(whole, 12_000), (fine, 345)]


def test_whole_steps_are_left_out_where_that_saves_a_part_at_the_same_cost():
    first = Offer(0, 3, 3, 1, "first")
    whole, fine = Offer(1, 5, 25, 5, "whole"), Offer(1, 1, 20, 1, "fine")
    assert filled([first, whole, fine], 15).parts == [(first, 3), (fine, 12)]


def hard_market(seed: int, sells_fractions: bool) -> tuple[list[Offer], int]:
    """All-or-nothing offers, which make the search exponential; with fractions there is always some filling."""
    chance = random.Random(seed)
    offers = []
    for number in range(700):
        lot = 7 * chance.randint(100, 3000)
        offers.append(Offer(chance.randint(1, 10**6), lot, lot, 1, number))
    if sells_fractions:
        offers.append(Offer(10**7, 1, 10**9, 1, 700))
    return offers, 7 * 50_000 + 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("steps", [0, 1, 50, 300])
def test_the_hardest_markets_end_with_a_filling_and_its_possible_excess(seed, steps):
    offers, amount = hard_market(seed, sells_fractions=True)
    left = Steps(steps)
    found = fill(sorted(offers, key=lambda one: one.price), amount, left)
    assert sum(taken for _, taken in found.parts) == amount
    assert 0 < found.excess < merit(found.parts)[0]
    assert left.left >= -3  # the halves of the last part, and the filling itself


def test_an_offer_that_fills_the_amount_alone_is_taken_when_the_search_finds_nothing_better():
    offers, amount = hard_market(1, sells_fractions=False)
    alone = Offer(10**7, amount, amount, 1, 700)
    found = filled([*offers, alone], amount, 300)
    assert found.parts == [(alone, amount)]
    assert 0 < found.excess < alone.price * amount


@pytest.mark.parametrize("seed", range(3))
def test_the_hardest_markets_end_undecided_when_nothing_was_found(seed):
    offers, amount = hard_market(seed, sells_fractions=False)
    with pytest.raises(UndecidedError):
        filled(offers, amount, 300)


@pytest.mark.parametrize(
    ("lows", "highs"),
    [((6180, 6200), (12_300, 12_344)), ((4120, 4200), (6000, 6150))],
    ids=["one is too little and two are too many", "two are too little and three are too many"],
)
def test_supplies_that_nearly_fit_are_seen_to_fit_nowhere_at_once(lows, highs):
    chance = random.Random(1)
    offers = [
        Offer(chance.randint(1, 10**6), chance.randint(*lows), chance.randint(*highs), 1, number)
        for number in range(700)
    ]
    assert filled(offers, 12_345, steps=10) is None
