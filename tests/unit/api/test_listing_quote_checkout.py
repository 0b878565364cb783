from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from pydantic import ValidationError

from airflow_provider_carbonmark.api.models import Checkout, Listing, Quote


def entry(**changes):
    """Return the entry that carbonmark-api.md shows, section 2."""
    return {
        "sourceId": "listing-137-0x79a4",
        "type": "listing",
        "purchasePrice": Decimal("3.78"),
        "baseUnitPrice": Decimal("2.7"),
        "supply": Decimal("19.361"),
        "liquidSupply": Decimal("19.361"),
        "minFillAmount": Decimal("0.001"),
        "listing": {
            "id": "0x79a4",
            "creditId": {"vintage": 2019, "projectId": "ICR-112"},
            "token": {"tokenStandard": "erc1155", "symbol": "ICR-112-2019", "isExAnte": False, "tokenId": 1},
            "sellerId": "0x6e06",
            "expiresAfter": 1897738887,
        },
    } | changes


def test_a_listing_as_it_was_seen_is_read_whole():
    listing = Listing.model_validate(entry())
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
    answer = entry()
    answer["listing"]["creditId"]["projectId"] = project_id
    listing = Listing.model_validate(answer)
    assert (listing.registry, listing.whole_tonnes_only) == (registry, whole)


TEXTS = ["sourceId", "type"]
AMOUNTS = ["purchasePrice", "supply", "liquidSupply", "minFillAmount"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in [*TEXTS, *AMOUNTS, "listing"] for value in (None, "", True, [])),
        *((name, "lots") for name in [*AMOUNTS, "listing"]),
    ],
)
def test_a_listing_without_what_a_purchase_needs_is_not_read(name, value):
    with pytest.raises(ValidationError):
        Listing.model_validate(entry(**{name: value}))


@pytest.mark.parametrize("price", [-1, "NaN", "Infinity"])
def test_a_price_makes_sense(price):
    with pytest.raises(ValidationError):
        Listing.model_validate(entry(purchasePrice=price))


def test_a_listing_that_does_not_say_whether_it_is_ex_ante_is_not_read():
    answer = entry()
    del answer["listing"]["token"]["isExAnte"]
    with pytest.raises(ValidationError):
        Listing.model_validate(answer)


def test_an_expiry_that_cannot_be_read_does_not_pass_for_never():
    answer = entry()
    answer["listing"]["expiresAfter"] = "next year"
    with pytest.raises(ValidationError):
        Listing.model_validate(answer)


def test_a_listing_may_lack_vintage_symbol_base_price_and_expiry():
    answer = entry(baseUnitPrice=None)
    answer["listing"] = {
        "creditId": {"projectId": "VCS-1", "vintage": "unknown"},
        "token": {"isExAnte": True},
    }
    listing = Listing.model_validate(answer)
    assert (listing.vintage, listing.token_symbol, listing.base_unit_price, listing.expires_at) == (None,) * 4
    assert listing.is_ex_ante


@pytest.mark.parametrize("name", ["cost_usdc", "cost_usd", "cost"])
def test_a_quote_is_read_with_either_name_of_its_cost(name):
    answer = {
        "uuid": "u",
        "asset_price_source_id": "listing-1",
        "quantity_tonnes": "12.345",
        name: Decimal("46.66"),
    }
    quote = Quote.model_validate(answer)
    assert (quote.cost_usd, quote.quantity_tonnes) == (Decimal("46.66"), Decimal("12.345"))


@pytest.mark.parametrize(
    "answer", [{"url": "https://pay.example/1"}, {"url": None, "checkout_url": "https://pay.example/1"}]
)
def test_a_checkout_needs_no_more_than_its_address(answer):
    answer = {name: value for name, value in answer.items() if value}
    checkout = Checkout.model_validate(answer)
    assert (checkout.url, checkout.payment_id, checkout.expires_at) == ("https://pay.example/1", None, None)


def test_a_checkout_may_tell_payment_id_and_expiry():
    answer = {
        "url": "https://pay.example/1",
        "id": "cs_1",
        "payment_id": "pay_1",
        "expires_at": "2026-10-22T00:00:00Z",
    }
    checkout = Checkout.model_validate(answer)
    assert checkout.payment_id == "pay_1"
    assert checkout.expires_at == datetime(2026, 10, 22, tzinfo=UTC)
    assert checkout.model_extra == {"id": "cs_1"}


@pytest.mark.parametrize("payment_id", ["../prices", "", 5, None])
def test_a_payment_id_that_is_none_counts_as_absent(payment_id):
    assert (
        Checkout.model_validate({"url": "https://pay.example/1", "payment_id": payment_id}).payment_id is None
    )


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "/pay/1", "", None, 5, "https://", "https://a@b.example/1"]
)
def test_a_checkout_without_a_web_address_is_not_read(url):
    with pytest.raises(ValidationError):
        Checkout.model_validate({"url": url})
