"""The cheapest filling, with the exhaustive search of all ways as judge."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings, strategies as st

from airflow_provider_carbonmark.planning import cheapest, solver
from airflow_provider_carbonmark.planning.cheapest import UnsolvedError, fill_in_order, saved_with, solve
from airflow_provider_carbonmark.planning.problem import TONNE, Budget, Offer, Problem
from tests.unit.planning.exhaustive import least_of_all

HALF = TONNE // 2


def offer(price: int, low: int, high: int, step: int = 1, name: int = 0) -> Offer:
    """USD per tonne; kilograms, or tonnes where it is sold by the tonne."""
    return Offer(price * 1_000_000, low * step, high * step, step, name)


def problem(amounts: list[int], *offers: Offer, budgets: tuple[Budget, ...] = ()) -> Problem:
    in_order = sorted(offers, key=lambda one: (one.price, one.preference))
    return Problem(amounts, in_order, budgets)


@st.composite
def problems(draw: st.DrawFn, *, unit: int = 1, by_tonne: bool = False, budgets: bool = False) -> Problem:
    """Make up hardly more than is needed: often it can be had, but at the lowest cost in no order."""
    amounts = [unit * draw(st.integers(1, 7)) for _ in range(draw(st.integers(1, 3)))]
    offers = []
    for name in range(draw(st.integers(1, 3))):
        price, low, more = draw(st.integers(1, 5)), draw(st.integers(1, 6)), draw(st.integers(0, 7))
        if by_tonne and draw(st.booleans()):
            offers.append(offer(price, 1 + low // 3, 1 + low // 3 + more // 2, TONNE, name))
        else:
            offers.append(Offer(price * 1_000_000, low * unit, (low + more) * unit, 1, name))
    limits = []
    if budgets:
        places = st.sets(st.integers(0, len(amounts) - 1), min_size=1)
        for _ in range(draw(st.integers(1, 2))):
            shares = {at: draw(st.sampled_from([Fraction(1), Fraction(1, 2)])) for at in draw(places)}
            limits.append(Budget(shares, Fraction(draw(st.integers(1, 40)) * unit * 1_000_000)))
    return problem(amounts, *offers, budgets=tuple(limits))


def is_the_cheapest(given_problem: Problem, unit: int = 1) -> bool:
    least = least_of_all(given_problem, unit)
    try:
        found = solve(given_problem)
    except UnsolvedError as unsolved:
        return unsolved.is_proven and least == math.inf
    assert given_problem.is_filling(found.filling)
    assert given_problem.is_within_budgets(found.filling)
    return given_problem.cost(found.filling) == least


@settings(max_examples=300)
@given(problems())
def test_with_any_minimums_it_is_the_cheapest_of_all_or_there_is_none(one):
    assert is_the_cheapest(one)


@settings(max_examples=200)
@given(problems(unit=HALF, by_tonne=True))
def test_with_whole_tonnes_too(one):
    assert is_the_cheapest(one, HALF)


@settings(max_examples=200)
@given(problems(budgets=True))
def test_within_budgets_too(one):
    assert is_the_cheapest(one)


@settings(max_examples=100)
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=5), st.lists(st.integers(1, 60), min_size=1, max_size=5)
)
def test_where_no_minimum_binds_no_solver_is_needed_and_it_finds_nothing_cheaper(amounts, supplies):
    one = problem(amounts, *(offer(3 + name % 3, 1, high, name=name) for name, high in enumerate(supplies)))
    if sum(amounts) > sum(supplies):
        with pytest.raises(UnsolvedError):
            solve(one)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solver, "improve", lambda *args: pytest.fail("the solver was asked"))
        found = solve(one)
    assert (one.cost(found.filling), found.excess) == (one.least_cost(), 0)
    by_solver, bound = solver.improve(one, None)
    assert one.cost(by_solver) == one.cost(found.filling)
    assert bound == pytest.approx(one.cost(found.filling), abs=10_000)


@given(problems(unit=HALF, by_tonne=True), st.integers(0, 2))
def test_what_more_offers_save_is_told_no_better_than_it_is_known(few, dropped):
    one = problem(few.amounts, *few.offers, offer(9, 1, sum(few.amounts), name=9))
    fewer = replace(one, offers=one.offers[dropped:])
    cost = least_of_all(fewer, HALF)
    least, most = saved_with(fewer, one.offers, cost)
    assert 0 <= least <= cost - least_of_all(one, HALF) <= most


@pytest.mark.parametrize(
    ("one", "cost_usd"),
    [
        # Neither served first gives it: each would take more of the cheap.
        (problem([5, 5], offer(2, 2, 5), offer(1, 2, 6, name=1)), 0.014),
        # seen (HiGHS 1.16): led by what was known, it called that optimal, at another cost.
        (
            problem([1500, 2500, 2000], offer(1, 2, 5, TONNE), Offer(2_000_000, 500, 2500, 1, 1)),
            8.0,
        ),
        # In no order is it possible at all.
        (problem([5, 5], offer(4, 1, 3), offer(3, 3, 7, name=1)), 0.033),
        # The large one takes what alone is sold in so small amounts, though the other offer would do for it.
        (problem([5, 1], offer(2, 5, 10), offer(1, 1, 5, name=1)), 0.011),
        # Of lots only some sum up.
        (
            problem([12], *(offer(name, lot, lot, name=name) for name, lot in enumerate((5, 7, 9, 4), 1))),
            0.019,
        ),
        # By the tonne, with the fraction from elsewhere; or rounded up, where that is cheaper.
        (problem([1_345], offer(1, 1, 9, TONNE), offer(3, 1, 900, name=1)), 2.0),
        (problem([1_345], offer(6, 1, 9, TONNE), offer(7, 1, 900, name=1)), 6 + 7 * 0.345),
    ],
)
def test_what_only_a_look_at_all_of_it_finds(one, cost_usd):
    found = solve(one)
    assert one.cost(found.filling) / 1e9 == pytest.approx(cost_usd)


def test_of_equal_costs_the_one_with_fewer_payments_is_taken():
    one = problem([6, 6], offer(2, 4, 8), offer(2, 4, 8, name=1))
    assert [len(parts) for parts in solve(one).filling] == [1, 1]


def many(amounts: int, offers: int, seed: int = 1) -> Problem:
    """A market as one was seen: prices over three magnitudes, half as much again as is needed, and 0.50 USD the least."""
    chance = random.Random(seed)
    needs = [chance.randint(5_000, 50_000) for _ in range(amounts)]
    found = []
    for name in range(offers):
        price = int(round(min(982.59, max(0.1, chance.lognormvariate(1.33, 1.5))), 2) * 1_000_000)
        high = int(sum(needs) * 1.5 / offers * chance.uniform(0.5, 1.5))
        found.append(Offer(price, min(high, -(-500_000_000 // price)), high, 1, name))
    return problem(needs, *found)


def test_three_hundred_amounts_over_a_market_are_proven_to_cost_the_least_to_a_millionth():
    one = many(300, 61)
    found = solve(one)
    assert one.is_filling(found.filling)
    assert found.excess <= one.cost(found.filling) * cheapest.CLOSE_ENOUGH


def test_what_is_too_much_for_the_solver_is_filled_and_its_excess_told(monkeypatch):
    monkeypatch.setattr(cheapest, "MOST_PAIRS", 0)
    monkeypatch.setattr(cheapest, "MOST_BORDERS", 0)
    one = problem([5, 5], offer(2, 2, 5), offer(1, 2, 6, name=1))
    found = solve(one)
    assert one.is_filling(found.filling)
    # Without minimums it would cost 6 at 1 and 4 at 2.
    assert found.excess == one.cost(found.filling) - 14_000_000 == 1_000_000


def test_what_was_not_found_is_not_said_to_be_impossible(monkeypatch):
    monkeypatch.setattr(cheapest, "MOST_PAIRS", 0)
    with pytest.raises(UnsolvedError) as caught:
        solve(problem([5, 5], offer(4, 1, 3), offer(3, 3, 7, name=1)))
    assert not caught.value.is_proven
    assert caught.value.attempt.failed == 1


def test_the_same_problem_has_the_same_solution():
    # One that is searched to its end: where time runs out, what is found by then is taken.
    assert solve(many(20, 15, seed=3)) == solve(many(20, 15, seed=3))


def test_a_solution_that_is_none_is_not_believed(monkeypatch):
    one = problem([5, 5], offer(2, 2, 5), offer(1, 2, 6, name=1))
    monkeypatch.setattr(solver, "_whole", lambda *args: [[(0, 5)], [(0, 5)]])
    known = fill_in_order(one, range(2)).filling
    assert solver.improve(one, known)[0] == known
