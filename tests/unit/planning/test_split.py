from __future__ import annotations

import logging
import random
from datetime import datetime
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.planning import ListingFilter, NoListingError, split as split_module
from airflow_provider_carbonmark.planning.split import Market, split, unit_price_usd
from tests.unit.planning.market import NOW, WITH_PURO, listing, offer

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.models import Listing


def parts(*listings: Listing, tonnes: str = "12.345", filters: ListingFilter = WITH_PURO) -> dict[str, str]:
    found = split(listings, Decimal(tonnes), filters, now=NOW)
    return {one.source_id: str(quantity) for one, quantity in found}


def refusal(*listings: Listing, tonnes: str = "12.345", filters: ListingFilter = WITH_PURO) -> str:
    with pytest.raises(NoListingError) as caught:
        parts(*listings, tonnes=tonnes, filters=filters)
    return str(caught.value)


def test_one_listing_that_has_enough_at_the_lowest_price_gets_it_all():
    assert parts(offer("a", "3.79", "50"), offer("b", "3.78", "12.345")) == {"b": "12.345"}


def test_a_cheap_listing_is_emptied_before_a_dear_one_is_touched():
    assert parts(offer("dear", "9", "50"), offer("cheap", "1", "12")) == {"cheap": "12", "dear": "0.345"}


def test_a_minimum_fill_takes_from_the_cheaper_part():
    assert parts(offer("cheap", "1", "12"), offer("dear", "9", "50", "5")) == {"cheap": "7.345", "dear": "5"}


def test_of_equal_costs_fewer_parts_win_then_the_newer_vintage_then_the_lower_id():
    small = offer("a", "2", "6.345", vintage=2025)
    large = [offer(name, "2", "7", vintage=year) for name, year in (("d", 2019), ("c", 2020), ("b", 2020))]
    assert parts(small, *large, offer("e", "2", "12.345", vintage=None)) == {"e": "12.345"}
    assert parts(small, *large) == {"a": "6.345", "b": "6"}
    assert parts(*large) == {"b": "7", "c": "5.345"}


def test_puro_is_bought_in_whole_tonnes_with_the_fraction_from_elsewhere():
    puro = offer("puro", "1", "50.9", project_id="PUR-1")
    assert parts(puro, offer("other", "3", "9")) == {"puro": "12", "other": "0.345"}
    assert parts(puro, offer("other", "3", "9", "0.5")) == {"puro": "11", "other": "1.345"}
    assert parts(puro, tonnes="50") == {"puro": "50"}


def test_puro_alone_is_rounded_up_to_whole_tonnes_over_several_listings_if_need_be():
    first, second = offer("a", "1", "7.9", project_id="PUR-1"), offer("b", "2", "9", project_id="PUR-2")
    assert parts(first, second) == {"a": "7", "b": "6"}
    assert parts(first, tonnes="0.001") == {"a": "1"}


def test_what_cannot_give_the_fraction_is_not_bought_when_whole_tonnes_are_rounded_up():
    puro = offer("puro", "9", "50", project_id="PUR-1")
    assert parts(puro, offer("lots", "1", "20", "13")) == {"puro": "13"}


def test_puro_is_not_touched_unless_asked_for():
    puro = offer("puro", "1", "50", project_id="PUR-1")
    assert parts(puro, offer("other", "3", "50"), filters=ListingFilter()) == {"other": "12.345"}


def test_supplies_and_minimum_fills_finer_than_a_kilogram_are_rounded_to_what_can_be_bought():
    assert parts(offer("a", "1", "0.9999"), offer("b", "2", "50"), tonnes="1") == {"a": "0.999", "b": "0.001"}
    fine = offer("a", "1", "50", "0.0005"), offer("b", "2", "50", "1.0001")
    assert parts(*fine, tonnes="0.001") == {"a": "0.001"}
    assert "1 with a higher minimum fill" in refusal(fine[1], tonnes="1")


def test_prices_count_in_steps_of_a_millionth_of_a_dollar_rounded_up():
    noisy, exact = offer("b", "3.7799999999999994", "50"), offer("a", "3.78", "50")
    assert unit_price_usd(noisy) == unit_price_usd(exact) == Decimal("3.78")
    assert unit_price_usd(offer("c", "0.0000001", "1")) == Decimal("0.000001")
    assert str(unit_price_usd(offer("d", "3.780", "1"))) == "3.780"
    assert parts(noisy, exact) == {"a": "12.345"}


def test_a_listing_named_twice_has_its_smaller_supply_once():
    assert parts(offer("a", "1", "12"), offer("a", "1", "5"), offer("b", "2", "50")) == {
        "a": "5",
        "b": "7.345",
    }


def test_what_is_taken_is_gone_for_the_next():
    market = Market([offer("a", "1", "10", "4"), offer("b", "2", "100")], ListingFilter(), now=NOW)
    taken = [
        {one.source_id: str(quantity) for one, quantity in market.take(Decimal(tonnes))}
        for tonnes in ("5", "7", "0.001")
    ]
    assert taken == [{"a": "5"}, {"a": "5", "b": "2"}, {"b": "0.001"}]
    with pytest.raises(
        NoListingError, match=r"1 with less left than the minimum fill, 1 fit and have 97.999 t"
    ):
        market.take(Decimal(98))


def test_a_refusal_says_what_fits_together_and_what_came_closest():
    message = refusal(
        offer("a", "1", "5"),
        offer("b", "2", "4.5"),
        offer("c", "3", "100", "50"),
        listing("d", is_ex_ante=True),
        listing("e", liquid_supply=Decimal(0)),
        offer("f", "4", "0.5", "0.6"),
        filters=ListingFilter(max_price_usd=Decimal(10)),
    )
    assert message == (
        "No listing for 12.345 t, nor several together; of 6 on the market, 1 ex-ante, 1 with a higher minimum fill, "
        "1 with less left than the minimum fill, 1 sold out, 2 fit and have 9.5 t together. Lowest minimum fill that fits "
        "otherwise: 50 t of c (VCS-191, 2019) at 3 USD per tonne. Ask for another quantity, or loosen the filters"
    )


def test_a_refusal_says_when_supplies_suffice_but_nothing_sums_up():
    message = refusal(offer("a", "1", "12", "9"), offer("b", "2", "12", "9"))
    assert "2 fit and have 24 t together, of which no amounts that they sell sum to it." in message


def test_an_empty_market_is_an_error_of_its_own():
    assert refusal().endswith("nor several together: the market has no listings at all; ask again later")


@pytest.mark.parametrize("tonnes", ["0", "-1", "nan", "0.0001", "1E12"])
def test_a_quantity_that_cannot_be_bought_is_refused(tonnes):
    with pytest.raises(InvalidInputError, match="quantity_tonnes"):
        parts(listing(), tonnes=tonnes)


def test_a_time_without_zone_is_refused():
    with pytest.raises(InvalidInputError, match="now has no time zone"):
        split([], Decimal(1), now=datetime(2026, 11, 21))


def test_the_callers_decimal_context_is_not_used():
    with localcontext(prec=2):
        found = parts(offer("a", "1.234567", "12.001"), offer("b", "1.234568", "50"))
    assert found == {"a": "12.001", "b": "0.344"}


def hard_market(*fallback: Listing) -> list[Listing]:
    """Lots that are sold whole or not at all, none of which sum to 350.001 t."""
    chance = random.Random(1)
    lots = [(chance.randint(1, 10**6), 7 * chance.randint(100, 3000)) for _ in range(700)]
    return [
        *fallback,
        *(
            offer(
                str(number),
                f"{price / 1000}",
                str(Decimal(lot).scaleb(-3)),
                str(Decimal(lot).scaleb(-3)),
                vintage=None,
            )
            for number, (price, lot) in enumerate(lots)
        ),
    ]


def test_a_search_that_gets_too_long_takes_the_best_it_found_and_says_how_much_dearer_it_may_be(
    caplog, monkeypatch
):
    monkeypatch.setattr(split_module, "STEPS_PER_SPLIT", 100)
    market = Market(hard_market(offer("any", "9999", "1000")), ListingFilter(), now=NOW)
    found = market.take(Decimal("350.001"), " of search in 2026-10")
    assert sum(quantity for _, quantity in found) == Decimal("350.001")
    (message,) = caplog.messages
    assert message.startswith("The split found for 350.001 t of search in 2026-10 may cost up to ")
    assert message.endswith(" USD more than the cheapest: the search ended after 100 steps")


def test_a_search_that_gets_too_long_without_a_find_is_an_error_that_says_so(monkeypatch):
    monkeypatch.setattr(split_module, "STEPS_PER_SPLIT", 100)
    message = refusal(*hard_market(), tonnes="350.001")
    assert message.startswith(
        "No listing for 350.001 t, and no split was found in 100 steps, though there may be one"
    )


def test_many_long_searches_in_one_market_get_shorter(caplog, monkeypatch):
    monkeypatch.setattr(split_module, "STEPS_PER_SPLIT", 100)
    monkeypatch.setattr(split_module, "STEPS_PER_MARKET", 210)
    caplog.set_level(logging.WARNING)
    market = Market(hard_market(offer("any", "9999", "100000")), ListingFilter(), now=NOW)
    for _ in range(5):
        market.take(Decimal("350.001"))
    steps = [int(message.split()[-2]) for message in caplog.messages]
    assert steps == [100, 100, *[split_module.FEWEST_STEPS] * 3]


# A property in plain words: all ways to fill, tried one by one. Amounts are multiples of a unit, so that there are few:
# 1 kg without Puro, half a tonne with it. Limits and quantities that are multiples of it make the best split one, too.

UNITS = {False: Fraction(1, 1000), True: Fraction(1, 2)}


@st.composite
def small_markets(draw: st.DrawFn) -> tuple[list[Listing], bool, Fraction]:
    has_puro = draw(st.booleans())
    unit = UNITS[has_puro]
    listings = []
    for name in "abcd"[: draw(st.integers(0, 4))]:
        minimum = draw(st.integers(0, 8))
        listings.append(
            offer(
                name,
                str(draw(st.one_of(st.integers(1, 4), st.integers(1, 40)))),
                str(float(unit * draw(st.integers(0, 12)))),
                str(float(unit * minimum)),
                project_id=draw(st.sampled_from(["VCS-1", "PUR-1"])) if has_puro else "VCS-1",
                vintage=draw(st.sampled_from([None, 2019, 2020])),
                is_ex_ante=draw(st.integers(0, 9)) == 0,
            )
        )
    return listings, has_puro, unit


def amounts(one: Listing, unit: Fraction) -> list[Fraction]:
    """All that can be taken of a listing, nothing included."""
    if one.is_ex_ante:
        return [Fraction(0)]
    step = Fraction(1) if one.project_id == "PUR-1" else unit
    lowest, highest = Fraction(one.min_fill_amount), Fraction(one.liquid_supply)
    some = (step * number for number in range(1, int(highest / step) + 1))
    return [Fraction(0), *(amount for amount in some if lowest <= amount <= highest)]


def best_of_all(listings: list[Listing], quantity: Fraction, unit: Fraction):
    """The merit of the best of all fillings: cost, parts, vintages and ids; None when there is none."""

    def merits(listings: list[Listing], wanted: Fraction):
        for choice in product(*(amounts(one, unit) for one in listings)):
            if sum(choice) == wanted:
                taken = [(one, amount) for one, amount in zip(listings, choice, strict=True) if amount]
                yield merit(taken)

    exact = min(merits(listings, quantity), default=None)
    if exact is not None:
        return exact
    whole = [one for one in listings if one.project_id == "PUR-1"]
    return min(merits(whole, Fraction(-(-quantity // 1))), default=None)


def merit(taken):
    return (
        sum(Fraction(one.purchase_price) * Fraction(amount) for one, amount in taken),
        len(taken),
        sorted((-(one.vintage or 0), one.source_id) for one, _ in taken),
    )


@settings(max_examples=300, deadline=None)
@given(small_markets(), st.integers(1, 24), st.randoms(use_true_random=False))
def test_a_split_is_what_trying_every_way_to_fill_gives(market, units, chance):
    listings, _, unit = market
    quantity = unit * units
    best = best_of_all(listings, quantity, unit)
    tonnes = Decimal(str(float(quantity)))
    if best is None:
        refusal(*listings, tonnes=str(tonnes))
        return
    found = split(listings, tonnes, WITH_PURO, now=NOW)
    assert merit(found) == best
    total = sum(Fraction(amount) for _, amount in found)
    assert total == quantity or (
        total == -(-quantity // 1) and {one.project_id for one, _ in found} == {"PUR-1"}
    )
    assert all(Fraction(amount) in amounts(one, unit) for one, amount in found)
    chance.shuffle(listings)
    assert split(listings, tonnes, WITH_PURO, now=NOW) == found
