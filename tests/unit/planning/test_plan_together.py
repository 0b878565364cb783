"""Needs that are cheapest, or possible at all, only together; and what then holds of limits, rounding and long searches."""

from __future__ import annotations

from decimal import Decimal

import pytest

from airflow_provider_carbonmark.ledger.values import Coverage
from airflow_provider_carbonmark.planning import (
    Limits,
    NoListingError,
    PlanLimitError,
    split as split_module,
    split_together as split_together_module,
)
from airflow_provider_carbonmark.planning.least_cost_together import Demand
from airflow_provider_carbonmark.planning.split import Market
from airflow_provider_carbonmark.planning.split_together import split_together
from tests.unit.planning.exhaustive import least_of_all
from tests.unit.planning.market import NOW, WITH_PURO
from tests.unit.planning.whole_plan import (
    HALF_A_TONNE,
    KILOGRAM,
    Offer,
    in_order,
    listings,
    no_search,
    planned,
    units,
)

NEITHER_FIRST = [5, 5], [Offer(2, 2, 5), Offer(1, 2, 6)]
NO_ORDER = [5, 5], [Offer(4, 1, 3), Offer(3, 3, 7)]


@pytest.mark.parametrize(
    ("needs", "offers"),
    [
        # The large one takes what alone is sold in so small amounts, though the other listing would do for it.
        ([5, 1], [Offer(2, 5, 10), Offer(1, 1, 5)]),
        # The small one takes so much of the large listing that nobody can buy the rest.
        ([6, 10], [Offer(1, 6, 10), Offer(2, 1, 6)]),
    ],
    ids=["the smallest first", "the largest first"],
)
def test_a_market_that_is_too_small_in_one_order_is_tried_in_another(needs, offers):
    assert in_order(needs, offers) is None
    assert planned(needs, offers).cost_usd == least_of_all([*map(Demand, needs)], offers) * KILOGRAM


def test_what_is_cheapest_together_is_found_though_each_alone_would_take_more_of_the_cheap():
    needs, offers = NEITHER_FIRST
    assert in_order(needs, offers) == (Decimal("0.015"), Decimal("0.010"))
    plan = planned(needs, offers)
    assert plan.cost_usd == Decimal("0.014")
    assert units(plan) == [("a", 1, 3), ("a", 0, 2), ("b", 1, 3), ("b", 0, 2)]


def test_what_no_order_makes_possible_is_found():
    needs, offers = NO_ORDER
    assert in_order(needs, offers) is None
    assert planned(needs, offers).cost_usd == Decimal("0.033")


def test_of_equal_costs_the_plan_by_entity_and_month_is_kept():
    # It costs as much to serve the second from the first listing, of which nobody buys the rest either.
    assert units(planned([4, 4], [Offer(1, 4, 6), Offer(3, 1, 9)])) == [("a", 0, 4), ("b", 1, 4)]


def test_what_is_promised_to_others_is_not_searched():
    needs, offers = NO_ORDER
    plenty = [offers[0], offers[1]._replace(high=10)]
    promised = {"listing 1": 3 * KILOGRAM}
    assert planned(needs, plenty, coverage=Coverage(promised=promised)) == planned(needs, offers)
    with pytest.raises(NoListingError, match=r"0\.004 t of the market are promised"):
        planned(needs, plenty, coverage=Coverage(promised={"listing 1": 4 * KILOGRAM}))


def test_what_can_be_exact_only_alone_is_rounded_up_for_all_but_one():
    offers = [Offer(9, 1, 1), Offer(1, 1, 8, is_puro=True)]
    plan = planned([3, 3], offers, unit=HALF_A_TONNE)
    assert units(plan, HALF_A_TONNE) == [("a", 1, 2), ("a", 0, 1), ("b", 1, 4)]


def test_an_order_that_rounds_up_what_the_first_fills_exactly_is_not_taken_though_it_is_cheaper():
    needs, offers = [5, 4], [Offer(3, 1, 4), Offer(7, 3, 8, is_puro=True)]
    exact = in_order(needs, offers, HALF_A_TONNE)
    assert exact == (Decimal("29.5"), Decimal("4.5"))
    assert in_order([4, 5], offers, HALF_A_TONNE) == (Decimal(27), Decimal(5))
    assert planned(needs, offers, unit=HALF_A_TONNE).cost_usd == exact[0]


def test_what_is_rounded_up_is_of_whole_tonne_credits_alone():
    offers = [Offer(1, 2, 2), Offer(5, 2, 8, is_puro=True)]
    plan = planned([3, 3], offers, unit=HALF_A_TONNE)
    assert units(plan, HALF_A_TONNE) == [("a", 1, 4), ("b", 1, 4)]


def test_what_is_rounded_up_is_the_cheapest_together_too():
    needs, offers = [9, 9], [Offer(2, 4, 10, is_puro=True), Offer(1, 4, 12, is_puro=True)]
    assert in_order(needs, offers, HALF_A_TONNE) == (Decimal(15), Decimal(10))
    assert planned(needs, offers, unit=HALF_A_TONNE).cost_usd == 14


@pytest.mark.parametrize(
    ("offers", "needs", "limits", "cost"),
    [
        (
            [Offer(1, 4, 6), Offer(3, 1, 99)],
            [5, 6],
            Limits(max_cost_per_run_usd=Decimal("0.022")),
            "0.021",
        ),
        (
            [Offer(1, 1, 10), Offer(10, 1, 99)],
            [1, 10],
            Limits(max_cost_per_entity_usd=Decimal("0.015")),
            "0.02",
        ),
    ],
    ids=["of the run", "of an entity"],
)
def test_a_limit_that_one_order_passes_is_met_by_another(offers, needs, limits, cost):
    assert planned(needs, offers, limits).cost_usd == Decimal(cost)


def test_a_limit_that_every_order_passes_is_met_by_what_is_cheapest_together():
    limits = Limits(max_cost_per_run_usd=Decimal("0.014"))
    assert planned(*NEITHER_FIRST, limits).cost_usd == Decimal("0.014")


def test_where_what_is_cheapest_together_passes_a_limit_the_cheapest_order_within_it_is_taken(caplog):
    needs, offers = NEITHER_FIRST
    tonnes = [need * 1000 for need in needs]
    offers = [one._replace(low=one.low * 1000, high=one.high * 1000) for one in offers]
    coverage = Coverage(run_cost_by_entity={"a": Decimal(4)})
    limits = Limits(max_cost_per_entity_usd=Decimal(10))
    assert planned(tonnes, offers, limits, coverage=coverage).cost_usd == 15
    assert caplog.messages == [
        "The splits found for 2 quantities may cost up to 1.00 USD more than the cheapest: the cheapest that the search "
        "found cost more than the limits allow"
    ]
    assert planned(tonnes, offers, limits).cost_usd == 14


def test_a_plan_that_is_impossible_in_any_way_is_refused_as_by_entity_and_month(caplog):
    with pytest.raises(NoListingError, match=r"^No listing for 0.002 t of b in 2026-10"):
        planned([3, 2, 1], [Offer(1, 1, 3)])
    with pytest.raises(PlanLimitError, match="much: a 0.03 USD, b 0.02"):
        planned([3, 2, 1], [Offer(10, 1, 9)], Limits(max_cost_per_entity_usd=Decimal("0.0001")))
    with pytest.raises(NoListingError, match=r"^No listing for 0.005 t of b in 2026-10"):
        planned([5, 5], [Offer(4, 4, 6), Offer(3, 2, 4)])
    assert caplog.messages == []


def test_a_search_that_gets_too_long_keeps_the_cheapest_order_and_says_by_how_much_it_may_be_too_dear(
    caplog, monkeypatch
):
    needs, offers = NEITHER_FIRST
    offers = [one._replace(low=one.low * 1000, high=one.high * 1000) for one in offers]
    monkeypatch.setattr(split_together_module, "MOST_STEPS", 1)
    assert planned([need * 1000 for need in needs], offers).cost_usd == 15
    assert caplog.messages == [
        "The splits found for 2 quantities may cost up to 1.00 USD more than the cheapest: the search ended after 1 steps"
    ]


def test_a_search_that_gets_too_long_without_a_find_is_refused_as_the_first_order_and_says_so(
    caplog, monkeypatch
):
    monkeypatch.setattr(split_together_module, "MOST_STEPS", 1)
    with pytest.raises(NoListingError, match=r"^No listing for 0.005 t of b in 2026-10"):
        planned(*NO_ORDER)
    assert caplog.messages == [
        "No splits of 2 quantities were found, though there may be some: the search ended after 1 steps"
    ]


def test_too_many_pairs_are_not_searched(caplog, monkeypatch):
    monkeypatch.setattr(split_module, "fill_together", no_search)
    monkeypatch.setattr(split_together_module, "MOST_PAIRS", 3)
    assert planned(*NEITHER_FIRST).cost_usd == Decimal("0.015")
    assert caplog.messages == [
        "The splits found for 2 quantities may cost up to 0.00 USD more than the cheapest: 4 pairs of a quantity and a "
        "listing are too many to search"
    ]


def test_a_need_alone_is_not_searched_again(monkeypatch):
    monkeypatch.setattr(split_module, "fill_together", no_search)
    assert planned([7], [Offer(1, 1, 6), Offer(2, 3, 9)]).cost_usd == Decimal("0.010")


@pytest.mark.parametrize(("steps", "orders_tried"), [(split_module.FEWEST_STEPS, 1), (1000, 3)])
def test_orders_are_tried_for_a_lower_cost_only_while_searches_may_get_long(steps, orders_tried, monkeypatch):
    taken = []
    take = Market.take
    monkeypatch.setattr(Market, "take", lambda *args: taken.append(args) or take(*args))
    monkeypatch.setattr(split_module, "STEPS_PER_MARKET", steps)
    assert planned([5, 7, 6], [Offer(2, 4, 9), Offer(1, 2, 6), Offer(3, 1, 9)]).lines
    assert len(taken) == 3 * orders_tried


def test_a_large_plan_on_a_market_of_small_minimum_fills_is_made_once_and_not_searched(caplog, monkeypatch):
    taken = []
    take = Market.take
    monkeypatch.setattr(Market, "take", lambda *args: taken.append(args) or take(*args))
    monkeypatch.setattr(split_module, "fill_together", no_search)
    needs = [7 + 13 * number % 20 for number in range(300)]
    offers = [Offer(1 + number % 7, 1, 100, is_puro=number % 2 > 0) for number in range(60)]
    splits = split_together(
        [(need * HALF_A_TONNE, "") for need in needs],
        lambda: Market(listings(offers, HALF_A_TONNE), WITH_PURO, now=NOW),
        list,
    )
    assert [sum(part for _, part in split) for split in splits] == [need * HALF_A_TONNE for need in needs]
    assert [quantity for _, quantity, _ in taken] == [need * HALF_A_TONNE for need in needs]
    assert caplog.messages == []
