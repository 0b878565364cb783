"""Which listings fit, what they are as offers, and what is said where nothing fits."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

import pytest

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.planning import ListingFilter
from airflow_provider_carbonmark.planning.listings import order_quantity
from airflow_provider_carbonmark.planning.market import Market, base_unit_price_usd, unit_price_usd
from tests.unit.planning.market import NOW, WITH_PURO, listing, offer

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.models import Listing


LINK = timedelta(hours=24)


def offers(
    *listings: Listing, filters: ListingFilter = WITH_PURO, **other
) -> list[tuple[str, int, int, int]]:
    """Give the name, the least, the most and the step of each, in kilograms."""
    market = Market(listings, filters, now=NOW, link_lifetime=LINK, **other)
    return [(market.listing(one).source_id, one.low, one.high, one.step) for one in market.offers]


def refusal(*listings: Listing, **filters) -> str:
    market = Market(listings, ListingFilter(**filters), now=NOW, link_lifetime=LINK)
    return market.why_nothing_fits("12.345 t", 12_345, {one: one.high for one in market.offers})


def test_offers_are_ordered_by_price_then_newer_vintage_then_id():
    names = [("d", 2019), ("c", 2020), ("b", 2020), ("e", None)]
    same = [offer(name, "2", "7", vintage=year) for name, year in names]
    assert [name for name, *_ in offers(*same, offer("cheap", "1", "1"))] == ["cheap", "b", "c", "d", "e"]


def test_puro_is_sold_by_the_tonne_and_only_when_asked_for():
    puro = offer("puro", "1", "50.9", "0.5", project_id="PUR-1")
    assert offers(puro) == [("puro", 1000, 50_000, 1000)]
    assert offers(puro, filters=ListingFilter()) == []


def test_supplies_and_minimum_fills_finer_than_a_kilogram_are_rounded_to_what_can_be_bought():
    assert offers(
        offer("a", "1", "0.9999"), offer("b", "2", "50", "1.0001"), offer("c", "3", "9", "0.0005")
    ) == [
        ("a", 1, 999, 1),
        ("b", 1001, 50_000, 1),
        ("c", 1, 9000, 1),
    ]


def test_what_has_less_left_than_it_sells_at_once_is_no_offer():
    # An address is the same in either letter case.
    promised = {"0xa": Decimal(5), "0xA": Decimal("4.5"), "gone": Decimal(7)}
    assert offers(offer("0xA", "1", "10", "0.6"), offer("b", "1", "10"), promised=promised) == [
        ("b", 1, 10_000, 1)
    ]
    assert offers(offer("0xA", "1", "10", "0.4"), promised=promised) == [("0xA", 400, 500, 1)]


@pytest.mark.parametrize(
    ("price", "project", "least"),
    [("0.3", "VCS-1", 1667), ("0.3", "PUR-1", 2000), ("400", "VCS-1", 2), ("600", "VCS-1", 1)],
)
def test_no_offer_is_less_than_what_can_be_paid(price, project, least):
    of_project = offer("a", price, "50", project_id=project)
    ((_, low, _, _),) = offers(of_project, minimum_payment_usd=Decimal("0.50"))
    assert low == least


def test_so_much_is_bought_of_a_listing_that_its_supply_is_the_margin_times_as_much():
    listings = [
        offer("a", "1", "10"),
        offer("b", "2", "10.001", project_id="PUR-1"),
        offer("c", "3", "1", "0.4"),
    ]
    for margin, most in {"1": [10_000, 10_000, 1000], "2.5": [4000, 4000, 400], "3": [3333, 3000]}.items():
        filters = ListingFilter(registries=["VCS", "PUR"], supply_margin=Decimal(margin))
        assert [high for _, _, high, _ in offers(*listings, filters=filters)] == most


def test_what_is_promised_to_others_counts_as_bought_for_the_margin():
    filters = ListingFilter(supply_margin=Decimal(2))
    for promised, most in {"0": [5000], "4": [1000], "5": [], "9": []}.items():
        found = offers(offer("a", "1", "10"), filters=filters, promised={"a": Decimal(promised)})
        assert [high for _, _, high, _ in found] == most


def test_a_listing_named_twice_has_its_smaller_supply_once():
    assert offers(offer("0xA", "1", "12"), offer("0xa", "1", "5")) == [("0xa", 1, 5000, 1)]


def test_prices_count_in_steps_of_a_millionth_of_a_dollar_rounded_up():
    prices = {"3.7799999999999994": "3.78", "3.780": "3.780", "0.0000001": "0.000001"}
    with localcontext(prec=2):
        found = {price: unit_price_usd(offer("a", price, "1")) for price in prices}
    assert found == {price: Decimal(rounded) for price, rounded in prices.items()}


def test_the_price_without_fees_is_rounded_likewise_and_none_where_it_is_untold_or_above_the_price_with_them():
    prices = {None: None, "0.0000001": "0.000001", "3.150000": "3.150000", "3.78": "3.78", "3.780001": None}
    found = {base: base_unit_price_usd(listing(base_unit_price=base)) for base in prices}
    assert found == {base: rounded and Decimal(rounded) for base, rounded in prices.items()}


def test_a_refusal_says_what_fits_together_and_what_came_closest():
    message = refusal(
        offer("a", "1", "5"),
        offer("b", "2", "4.5"),
        offer("coarser", "2", "100", "51"),
        offer("coarse", "3", "100", "50"),
        listing("d", is_ex_ante=True),
        listing("e", liquid_supply=Decimal(0)),
        offer("f", "4", "0.5", "0.6"),
        offer("dear", "11", "5"),
        offer("dearer", "12", "5"),
        max_price_usd=Decimal(10),
    )
    assert message == (
        "No listing for 12.345 t; of 9 on the market, 2 with a higher minimum fill, 2 above the highest price, 1 ex-ante, "
        "1 with less left than the minimum fill, 1 sold out, 2 fit and have 9.5 t together. Lowest minimum fill that fits "
        "otherwise: 50 t of coarse (VCS-191, 2019) at 3 USD per tonne. Cheapest that fits otherwise: dear (VCS-191, 2019) at "
        "11 USD per tonne. Ask for another quantity, or loosen the filters"
    )


def test_a_refusal_says_when_supplies_suffice_but_nothing_sums_up():
    message = refusal(offer("a", "1", "12", "9"), offer("b", "2", "12", "9"))
    assert "2 fit and have 24 t together, of which no amounts that they sell sum to it." in message


def test_a_refusal_says_what_the_margin_keeps_back():
    listings = offer("a", "1", "20"), offer("b", "2", "1", "0.6"), offer("c", "3", "30", project_id="ICR-1")
    message = refusal(*listings, registries=["VCS"], supply_margin=Decimal(2))
    assert (
        "1 of another registry, 1 with less left than the minimum fill, 1 fit and have 10 t together. Ask for another quantity, or "
        "loosen the filters. supply_margin, 2, keeps 10.5 t back of listings that fit otherwise: lower it to use them"
    ) in message


def test_an_empty_market_is_an_error_of_its_own():
    assert refusal().endswith("the market has no listings at all; ask again later")


def test_a_time_without_zone_is_refused():
    with pytest.raises(InvalidInputError, match="now has no time zone"):
        Market([], ListingFilter(), now=datetime(2026, 11, 21))


@pytest.mark.parametrize(
    ("changes", "filters", "failure"),
    [
        ({"type": "carbon_pool"}, {}, "not of type listing"),
        ({}, {"project_ids": ["VCS-1"]}, "of another project"),
        ({}, {"registries": ["ICR", "ECO"]}, "of another registry"),
        ({"project_id": "PUR-1"}, {}, "of Puro, which was not asked for"),
        ({}, {"vintage_from": 2020}, "of a vintage outside the range or unknown"),
        ({}, {"vintage_to": 2018}, "of a vintage outside the range or unknown"),
        ({"vintage": None}, {"vintage_to": 2018}, "of a vintage outside the range or unknown"),
        ({"is_ex_ante": True}, {}, "ex-ante"),
        ({"expires_at": NOW}, {}, "expired"),
        ({"expires_at": NOW + LINK - timedelta(seconds=1)}, {}, "expiring before a link made now would"),
        ({"liquid_supply": Decimal(0)}, {}, "sold out"),
        ({"purchase_price": Decimal("0.0009")}, {}, "without a plausible price"),
        ({"min_fill_amount": Decimal("12.346")}, {}, "with a higher minimum fill"),
        ({}, {"max_price_usd": Decimal("3.77")}, "above the highest price"),
    ],
)
def test_each_condition_excludes_and_is_counted(changes, filters, failure):
    message = refusal(listing("a", **changes), listing("b", **changes), **filters)
    assert message.startswith(f"No listing for 12.345 t; of 2 on the market, 2 {failure}.")
    assert message.endswith("Ask for another quantity, or loosen the filters")


@pytest.mark.parametrize(
    ("changes", "filters"),
    [
        ({}, {"project_ids": ["vcs-191"], "registries": ["vcs"]}),
        ({}, {"project_ids": [], "registries": ()}),
        ({"project_id": "PUR-1"}, {"registries": ["PUR"]}),
        ({"project_id": "PUR-1"}, {"project_ids": ["PUR-1", "VCS-191"]}),
        ({}, {"vintage_from": 2019, "vintage_to": 2019}),
        ({"vintage": None}, {}),
        ({"is_ex_ante": True}, {"allow_ex_ante": True}),
        ({"expires_at": NOW + LINK}, {}),
        (
            {"supply": Decimal(0), "liquid_supply": Decimal("12.345"), "min_fill_amount": Decimal("12.345")},
            {},
        ),
        (
            {"project_id": "PUR-1", "liquid_supply": Decimal(13), "min_fill_amount": Decimal(13)},
            {"registries": ["PUR"]},
        ),
        ({}, {"max_price_usd": Decimal("3.78")}),
    ],
)
def test_each_condition_lets_through_what_just_meets_it(changes, filters):
    ((name, *_),) = offers(listing("a", **changes), filters=ListingFilter(**filters))
    assert name == "a"


def test_puro_is_ordered_in_whole_tonnes():
    puro = listing("puro", project_id="PUR-1")
    assert [order_quantity(puro, Decimal(tonnes)) for tonnes in ("0.001", "12.000")] == [1, 12]
    assert order_quantity(listing(), Decimal("0.001")) == Decimal("0.001")


def test_a_listing_is_counted_once_at_the_first_condition_it_fails():
    message = refusal(
        listing("a", type="klimaprotocol", liquid_supply=Decimal(0)),
        listing("b", is_ex_ante=True, liquid_supply=Decimal(0)),
        listing("c", liquid_supply=Decimal(0), min_fill_amount=Decimal(50)),
        listing("d", liquid_supply=Decimal(0)),
    )
    assert "of 4 on the market, 2 sold out, 1 not of type listing, 1 ex-ante." in message


@pytest.mark.parametrize(
    ("filters", "field"),
    [
        ({"project_ids": "VCS-191"}, "project_ids"),
        ({"registries": "VCS"}, "registries"),
        ({"countries": "Brazil"}, "countries"),
        ({"excluded_categories": ["Forestry", " "]}, "excluded_categories"),
        ({"methodologies": [42]}, "methodologies"),
        ({"countries": ["Brazil"], "excluded_countries": ["Chad", "brazil "]}, "countries"),
        ({"mechanism": "both"}, "mechanism"),
        ({"vintage_from": 2021, "vintage_to": 2020}, "vintage_from"),
        ({"max_price_usd": 3.78}, "max_price_usd"),
        ({"max_price_usd": Decimal(0)}, "max_price_usd"),
        ({"max_price_usd": Decimal("nan")}, "max_price_usd"),
        ({"supply_margin": 2}, "supply_margin"),
        ({"supply_margin": Decimal("0.99")}, "supply_margin"),
        ({"supply_margin": Decimal("nan")}, "supply_margin"),
        ({"supply_margin": Decimal("inf")}, "supply_margin"),
    ],
)
def test_a_filter_that_means_nothing_is_refused(filters, field):
    with pytest.raises(InvalidInputError) as caught:
        ListingFilter(**filters)
    assert caught.value.field == field
