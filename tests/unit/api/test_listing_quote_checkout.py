"""What is for sale, what it costs and where it is paid: read as it was seen, and not at all without what a purchase needs."""

from __future__ import annotations

import copy
import logging
from datetime import UTC, datetime
from decimal import Decimal
from functools import reduce

import pytest
from pydantic import ValidationError

from airflow_provider_carbonmark.api.models import Checkout, Listing
from tests.unit.api.conftest import make_calls, outcome

# The entry that carbonmark-api.md shows, section 2.
ENTRY = {
    "sourceId": "listing-137-0x79a4",
    "type": "listing",
    "purchasePrice": 3.78,
    "baseUnitPrice": 2.7,
    "supply": 19.361,
    "liquidSupply": 19.361,
    "minFillAmount": 0.001,
    "listing": {
        "id": "0x79a4",
        "creditId": {"vintage": 2019, "projectId": "ICR-112"},
        "token": {"tokenStandard": "erc1155", "symbol": "ICR-112-2019", "isExAnte": False, "tokenId": 1},
        "sellerId": "0x6e06",
        "expiresAfter": 1897738887,
    },
}


def entry(where, value):
    """Return the entry with another value somewhere, or, for an ellipsis, without it."""
    changed = copy.deepcopy(ENTRY)
    *parents, name = where.split(".")
    part = reduce(lambda part, parent: part[parent], parents, changed)
    part[name] = value
    if value is ...:
        del part[name]
    return changed


def prices(*entries):
    return outcome(make_calls().list_prices(), entries)


def test_a_listing_as_it_was_seen_is_read_whole():
    (listing,) = prices(ENTRY)
    assert listing.model_dump(exclude={"listing"}) == {
        "source_id": "listing-137-0x79a4",
        "type": "listing",
        "purchase_price": Decimal("3.78"),
        "base_unit_price": Decimal("2.7"),
        "supply": Decimal("19.361"),
        "liquid_supply": Decimal("19.361"),
        "min_fill_amount": Decimal("0.001"),
        "project_id": "ICR-112",
        "vintage": 2019,
        "is_ex_ante": False,
        "expires_at": datetime(2030, 2, 19, 13, 41, 27, tzinfo=UTC),
        "token_symbol": "ICR-112-2019",
    }


@pytest.mark.parametrize(
    ("project_id", "registry", "whole"),
    [
        ("VCS-191", "VCS", False),
        ("PUR-123456", "PUR", True),
        ("CMARK-1-2", "CMARK", False),
        ("PURE-1", "PURE", False),
    ],
)
def test_the_registry_tells_whether_only_whole_tonnes_are_sold(project_id, registry, whole):
    (listing,) = prices(entry("listing.creditId.projectId", project_id))
    assert (listing.registry, listing.whole_tonnes_only) == (registry, whole)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        *((name, value) for name in ("sourceId", "type", "listing") for value in (..., None, "", True, [])),
        *(
            (name, value)
            for name in ("purchasePrice", "supply", "liquidSupply", "minFillAmount")
            for value in (..., None, "lots", -1, "NaN", "Infinity", "1e3000000")
        ),
        # A missing answer must not pass for "no", nor one that can't be read for "never".
        *(("listing.token.isExAnte", ...), ("listing.expiresAfter", "next year")),
    ],
)
def test_a_listing_without_what_a_purchase_needs_is_not_read(where, value):
    with pytest.raises(ValidationError):
        Listing.model_validate(entry(where, value))


def test_a_listing_may_lack_vintage_symbol_base_price_and_expiry():
    credit = {"projectId": "VCS-1", "vintage": "unknown"}
    bare = {"baseUnitPrice": None, "listing": {"creditId": credit, "token": {"isExAnte": True}}}
    (listing,) = prices(ENTRY | bare)
    assert (listing.vintage, listing.token_symbol, listing.base_unit_price, listing.expires_at) == (None,) * 4
    assert listing.is_ex_ante


def test_entries_that_cannot_be_read_are_left_out_with_one_warning_and_pools_silently(caplog):
    pool = {"sourceId": "klima-1", "type": "klimaprotocol", "purchasePrice": 1}
    assert prices(ENTRY, pool) == prices(ENTRY)
    assert not caplog.records
    assert (
        prices(ENTRY, entry("liquidSupply", None), 5, entry("purchasePrice", "?"), ENTRY) == prices(ENTRY) * 2
    )
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "3 of 5 entries" in record.getMessage()
    assert "liquidSupply" in record.getMessage()


def quote(**changes):
    """Return what comes of a quote that echoes its order, with changes; an ellipsis leaves a field out."""
    order = {"asset_price_source_id": "listing-137-0x79a4", "quantity_tonnes": "12.345"}
    told = {"uuid": "u", "asset_price_source_id": "listing-137-0x79A4", "quantity_tonnes": 12.345, **changes}
    kept = {name: value for name, value in told.items() if value is not ...}
    return outcome(make_calls().create_quote(**order), kept)


@pytest.mark.parametrize("cost", ["cost_usdc", "cost_usd", "cost"])
def test_a_quote_names_its_cost_in_one_of_three_ways_and_may_leave_out_what_was_asked(cost):
    order = ("asset_price_source_id", "quantity_tonnes")
    for echo in ({}, dict.fromkeys(order), dict.fromkeys(order, ...)):
        got = quote(**{cost: 46.6641}, **echo)
        assert (got.cost_usd, got.quantity_tonnes) == (Decimal("46.6641"), Decimal("12.345"))
        assert got.asset_price_source_id.lower() == "listing-137-0x79a4"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        *(({"cost_usdc": cost}, "is not a quote") for cost in (..., None, -1, 0, 9e-7, 1e9, "?")),
        ({"cost_usdc": 1, "uuid": ...}, "is not a quote"),
        ({"cost_usdc": 1, "quantity_tonnes": 12.346}, "not asked for"),
        ({"cost_usdc": 1, "asset_price_source_id": "listing-137-0xother"}, "not asked for"),
    ],
    ids=str,
)
def test_a_quote_for_something_else_or_without_cost_or_id_is_refused(changes, says):
    assert says in str(quote(**changes))


@pytest.mark.parametrize("name", ["url", "checkout_url"])
def test_a_checkout_needs_no_more_than_its_address(name):
    checkout = Checkout.model_validate({name: "https://pay.example/1"})
    assert (checkout.url, checkout.payment_id, checkout.expires_at) == ("https://pay.example/1", None, None)


def test_a_checkout_may_tell_payment_id_and_expiry():
    told = {"url": "https://pay.example/1", "id": "cs_1", "payment_id": "pay_1"}
    checkout = Checkout.model_validate(told | {"expires_at": "2026-10-22T00:00:00Z"})
    assert (checkout.payment_id, checkout.expires_at) == ("pay_1", datetime(2026, 10, 22, tzinfo=UTC))
    assert checkout.model_extra == {"id": "cs_1"}
    for odd in ("../prices", "", 5, None):
        assert Checkout.model_validate(told | {"payment_id": odd}).payment_id is None


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "/pay/1", "", None, 5, "https://", "https://a@b.example/1"]
)
def test_a_checkout_without_a_web_address_is_not_read(url):
    with pytest.raises(ValidationError):
        Checkout.model_validate({"url": url})
