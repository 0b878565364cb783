"""Which listings fit, and what is said where none does."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.planning import ListingFilter
from airflow_provider_carbonmark.planning.listings import order_quantity
from airflow_provider_carbonmark.planning.market import Market
from tests.unit.planning.market import NOW, listing

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.models import Listing


LINK = timedelta(hours=24)


def fitting(*listings: Listing, **filters) -> list[str]:
    market = Market(listings, ListingFilter(**filters), now=NOW, link_lifetime=LINK)
    return [market.listing(one).source_id for one in market.offers]


def refusal(*listings: Listing, **filters) -> str:
    market = Market(listings, ListingFilter(**filters), now=NOW, link_lifetime=LINK)
    return market.why_nothing_fits("12.345 t", 12_345, {one: one.high for one in market.offers})


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
    assert fitting(listing("a", **changes), **filters) == ["a"]


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


def test_what_came_closest_is_named_with_its_price():
    message = refusal(
        listing("coarse", min_fill_amount=Decimal(100)),
        listing("coarser", min_fill_amount=Decimal(200)),
        listing("dear", purchase_price=Decimal(8)),
        listing("dearer", purchase_price=Decimal(9)),
        max_price_usd=Decimal(5),
    )
    assert (
        "Lowest minimum fill that fits otherwise: 100 t of coarse (VCS-191, 2019) at 3.78 USD per tonne."
        in message
    )
    assert "Cheapest that fits otherwise: dear (VCS-191, 2019) at 8 USD per tonne." in message


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
