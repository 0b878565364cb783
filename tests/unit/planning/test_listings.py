from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.planning import ListingFilter, NoListingError
from airflow_provider_carbonmark.planning.listings import cheapest_listing, order_quantity
from tests.unit.planning.market import NOW, listing

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.models import Listing


def cheapest(*listings: Listing, tonnes: str = "12.345", **filters) -> str:
    return cheapest_listing(listings, Decimal(tonnes), ListingFilter(**filters), now=NOW).source_id


def refusal(*listings: Listing, tonnes: str = "12.345", **filters) -> str:
    with pytest.raises(NoListingError) as caught:
        cheapest(*listings, tonnes=tonnes, **filters)
    return str(caught.value)


def test_the_lowest_price_with_fees_wins():
    dear = listing("a", purchase_price=Decimal("3.79"), base_unit_price=Decimal(1))
    cheap = listing("b", purchase_price=Decimal("3.78"), base_unit_price=Decimal(2))
    assert cheapest(dear, cheap) == "b"


def test_equal_costs_go_to_the_newer_vintage_then_to_the_lower_id_in_whatever_order():
    market = [
        listing("d", vintage=None),
        listing("c", vintage=2020),
        listing("b", vintage=2021),
        listing("a2", vintage=2021),
    ]
    assert cheapest(*market) == cheapest(*reversed(market)) == "a2"
    assert cheapest(*market[:2]) == "c"


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
        ({"liquid_supply": Decimal(0)}, {}, "sold out"),
        ({"liquid_supply": Decimal("12.344")}, {}, "with too little liquid supply"),
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
        ({"expires_at": NOW + timedelta(seconds=1)}, {}),
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
    assert cheapest(listing("a", **changes), **filters) == "a"


def test_supply_without_liquidity_cannot_be_bought():
    assert "1 sold out" in refusal(listing(supply=Decimal(1000), liquid_supply=Decimal(0)))


def test_puro_is_ordered_in_whole_tonnes_and_competes_with_what_it_really_costs():
    puro = listing("puro", project_id="PUR-1", purchase_price=Decimal("3.70"))
    assert order_quantity(puro, Decimal("0.001")) == 1
    assert order_quantity(puro, Decimal("12.000")) == 12
    assert order_quantity(listing(), Decimal("0.001")) == Decimal("0.001")
    either = {"registries": ["VCS", "PUR"]}
    assert cheapest(puro, listing("other"), tonnes="12.345", **either) == "other"  # 13 × 3.70 > 12.345 × 3.78
    assert cheapest(puro, listing("other"), tonnes="12.999", **either) == "puro"
    assert "too little liquid supply" in refusal(
        listing(project_id="PUR-1", liquid_supply=Decimal("12.9")), registries=["PUR"]
    )


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
        listing("small", liquid_supply=Decimal(5)),
        listing("larger", liquid_supply=Decimal("9.5"), purchase_price=Decimal("4.10")),
        listing("largest", liquid_supply=Decimal(12), is_ex_ante=True),
        listing("coarse", min_fill_amount=Decimal(100)),
        listing("coarser", min_fill_amount=Decimal(200)),
        listing("dear", purchase_price=Decimal(8)),
        listing("dearer", purchase_price=Decimal(9)),
        max_price_usd=Decimal(5),
    )
    assert (
        "Largest supply that fits otherwise: 9.5 t of larger (VCS-191, 2019) at 4.10 USD per tonne."
        in message
    )
    assert (
        "Lowest minimum fill that fits otherwise: 100 t of coarse (VCS-191, 2019) at 3.78 USD per tonne."
        in message
    )
    assert "Cheapest that fits otherwise: dear (VCS-191, 2019) at 8 USD per tonne." in message


def test_an_empty_market_is_an_error_of_its_own():
    assert refusal() == "No listing for 12.345 t: the market has no listings at all; ask again later"


@pytest.mark.parametrize("tonnes", ["0", "-1", "nan", "inf", "0.0001"])
def test_a_quantity_that_cannot_be_bought_is_refused(tonnes):
    with pytest.raises(InvalidInputError, match="quantity_tonnes"):
        cheapest(listing(), tonnes=tonnes)


def test_a_time_without_zone_is_refused():
    with pytest.raises(InvalidInputError, match="now has no time zone"):
        cheapest_listing([listing()], Decimal(1), now=datetime(2026, 11, 21))


@pytest.mark.parametrize(
    ("filters", "field"),
    [
        ({"project_ids": "VCS-191"}, "project_ids"),
        ({"registries": "VCS"}, "registries"),
        ({"vintage_from": 2021, "vintage_to": 2020}, "vintage_from"),
        ({"max_price_usd": 3.78}, "max_price_usd"),
        ({"max_price_usd": Decimal(0)}, "max_price_usd"),
        ({"max_price_usd": Decimal("nan")}, "max_price_usd"),
    ],
)
def test_a_filter_that_means_nothing_is_refused(filters, field):
    with pytest.raises(InvalidInputError) as caught:
        ListingFilter(**filters)
    assert caught.value.field == field


kilograms = st.integers(0, 20_000).map(lambda number: Decimal(number).scaleb(-3))
listings = st.builds(
    listing,
    source_id=st.sampled_from("abcdefgh"),
    type=st.sampled_from(["listing", "listing", "listing", "carbon_pool"]),
    purchase_price=st.integers(1, 500).map(lambda cents: Decimal(cents).scaleb(-2)),
    liquid_supply=kilograms,
    min_fill_amount=st.one_of(st.just(Decimal("0.001")), kilograms),
    project_id=st.sampled_from(["VCS-1", "VCS-2", "ICR-1", "PUR-1"]),
    vintage=st.one_of(st.none(), st.integers(2018, 2022)),
    is_ex_ante=st.booleans(),
    expires_at=st.sampled_from([None, NOW - timedelta(1), NOW, NOW + timedelta(1)]),
)
filters = st.builds(
    ListingFilter,
    project_ids=st.sampled_from([None, ["VCS-1", "PUR-1"]]),
    registries=st.sampled_from([None, ["VCS"], ["VCS", "PUR"]]),
    vintage_from=st.sampled_from([None, 2019]),
    vintage_to=st.sampled_from([None, 2021]),
    max_price_usd=st.sampled_from([None, Decimal("2.50")]),
    allow_ex_ante=st.booleans(),
)


def cost_if_it_fits(one: Listing, kilos: int, wanted: ListingFilter) -> Fraction | None:
    """The rules once more, in plain words and whole kilograms."""
    registry = one.project_id[:3]
    if registry == "PUR":
        if "PUR" not in (wanted.registries or []) and "PUR-1" not in (wanted.project_ids or []):
            return None
        kilos = ceil(kilos / 1000) * 1000
    if one.type != "listing" or (one.is_ex_ante and not wanted.allow_ex_ante):
        return None
    if (wanted.project_ids and one.project_id not in wanted.project_ids) or (
        wanted.registries and registry not in wanted.registries
    ):
        return None
    if wanted.vintage_from and (not one.vintage or one.vintage < wanted.vintage_from):
        return None
    if wanted.vintage_to and (not one.vintage or one.vintage > wanted.vintage_to):
        return None
    if one.expires_at and one.expires_at <= NOW:
        return None
    if not one.min_fill_amount * 1000 <= kilos <= one.liquid_supply * 1000:
        return None
    if wanted.max_price_usd and one.purchase_price > wanted.max_price_usd:
        return None
    return Fraction(one.purchase_price) * kilos


@given(st.lists(listings, max_size=30), st.integers(1, 15_000), filters)
def test_the_choice_is_what_trying_every_listing_gives(market, kilos, wanted):
    costs = [(cost_if_it_fits(one, kilos, wanted), one) for one in market]
    fitting = [(cost, -(one.vintage or 0), one.source_id) for cost, one in costs if cost is not None]
    quantity = Decimal(kilos).scaleb(-3)
    if fitting:
        chosen = cheapest_listing(market, quantity, wanted, now=NOW)
        found = cost_if_it_fits(chosen, kilos, wanted), -(chosen.vintage or 0), chosen.source_id
        assert found == min(fitting)
    else:
        with pytest.raises(NoListingError) as caught:
            cheapest_listing(market, quantity, wanted, now=NOW)
        if market:
            counted = str(caught.value).split("on the market, ")[1].split(".")[0]
            counts = [int(part.split()[0]) for part in counted.split(", ") if part[0].isdigit()]
            assert sum(counts) == len(market)
