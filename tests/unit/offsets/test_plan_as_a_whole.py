"""What a plan is worth over all its needs, with the exhaustive search of all ways to serve them together as judge."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings, strategies as st

from airflow_provider_carbonmark.offsets import split as split_module, split_together as split_together_module
from airflow_provider_carbonmark.offsets.limits import NO_LIMITS
from airflow_provider_carbonmark.offsets.purchase import (
    Coverage,
    Dedication,
    Limits,
    ListingFilter,
    Need,
    NoListingError,
    Plan,
    PlanLimitError,
    plan_purchases,
)
from airflow_provider_carbonmark.offsets.split import Market
from airflow_provider_carbonmark.offsets.split_together import split_together
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


def check(plan: Plan, asked: Sequence[Asked], offers: Sequence[Offer], unit: Decimal = KILOGRAM) -> None:
    """Hold a plan against every constraint."""
    of_needs: Counter[str] = Counter()
    of_offers: Counter[int] = Counter()
    for entity, at, amount in units(plan, unit):
        assert amount in offers[at].sells(offers[at].high)
        assert offers[at].is_puro or not asked[ord(entity) - 97].of_puro
        of_needs[entity] += amount
        of_offers[at] += amount
    assert of_needs == {chr(97 + at): one.units for at, one in enumerate(asked)}
    assert all(amount <= offers[at].high for at, amount in of_offers.items())
    assert plan.cost_usd == sum(offers[at].price * amount * unit for _, at, amount in units(plan, unit))
    assert list(plan.lines) == sorted(plan.lines, key=lambda line: (line.entity, line.month))


@settings(max_examples=300, deadline=None)
@given(need_lists, offer_lists(st.just(1), st.just(False)))
def test_where_minimum_fills_are_as_small_as_can_be_a_plan_is_the_cheapest_without_a_search(needs, offers):
    least = least_of_all([Asked(need) for need in needs], offers)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(split_module, "fill_together", no_search)
        if least is None:
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
    asked = [Asked(need) for need in needs]
    least = least_of_all(asked, offers)
    if least is None:
        with pytest.raises(NoListingError):
            planned(needs, offers)
        return
    plan = planned(needs, offers)
    check(plan, asked, offers)
    assert plan.cost_usd == least * KILOGRAM


@settings(max_examples=500, deadline=None)
@given(situations(st.booleans()))
def test_with_whole_tonnes_too_a_plan_is_the_cheapest_of_all_that_round_up_only_what_cannot_be_exact(
    situation,
):
    needs, offers = situation
    asked = [asked_of(need, offers) for need in needs]
    least = least_of_all(asked, offers)
    in_turn = [found for order in orders(needs) if (found := in_order(order, offers, HALF_A_TONNE))]
    if least is None and not in_turn:
        with pytest.raises(NoListingError):
            planned(needs, offers, unit=HALF_A_TONNE)
        return
    plan = planned(needs, offers, unit=HALF_A_TONNE)
    bought: Counter[str] = Counter()
    for entity, _, amount in units(plan, HALF_A_TONNE):
        bought[entity] += amount
    # What is taken in some order may have to be rounded up though it could be exact alone.
    rounded = [Asked(bought[chr(97 + at)], bought[chr(97 + at)] > need) for at, need in enumerate(needs)]
    check(plan, rounded, offers, HALF_A_TONNE)
    assert all(one.units in {need, need + need % 2} for one, need in zip(rounded, needs, strict=True))
    tonnes = sum(bought.values()) * HALF_A_TONNE
    if in_turn:
        assert plan.cost_usd <= in_turn[0][0]
        assert tonnes <= in_turn[0][1]
    if least is not None:
        assert plan.cost_usd <= least * HALF_A_TONNE
    if rounded == asked:
        assert plan.cost_usd == least * HALF_A_TONNE


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
    assert planned(needs, offers).cost_usd == least_of_all([*map(Asked, needs)], offers) * KILOGRAM


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


def no_search(*args: object) -> None:
    raise AssertionError("all quantities were searched together")


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
