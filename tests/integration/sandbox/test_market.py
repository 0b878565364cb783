"""GET /prices and POST /quotes."""

from __future__ import annotations

import statistics
from collections import Counter
from decimal import Decimal

from hypothesis import HealthCheck, given, settings, strategies as st

from tests.integration.sandbox.conftest import NOW


def test_the_market_looks_like_the_measured_one(shopper):
    entries = shopper.http.get("/prices").json()
    prices = [entry["purchasePrice"] for entry in entries]
    vintages = [entry["listing"]["creditId"]["vintage"] for entry in entries]
    registries = Counter(entry["listing"]["creditId"]["projectId"].split("-")[0] for entry in entries)

    assert len(entries) == 50
    assert (min(prices), statistics.median(prices), max(prices)) == (0.1, 3.78, 982.59)
    assert (min(vintages), max(vintages)) == (2008, 2025)
    assert registries.most_common(1)[0][0] == "VCS"
    assert set(registries) == {"VCS", "CMARK", "ICR", "TVER", "ECO", "PUR"}
    assert {entry["minFillAmount"] for entry in entries} == {0.001}
    assert {entry["sourceId"][:14] for entry in entries} == {"listing-137-0x", "listing-8453-0"}
    assert 0 < sum(entry["liquidSupply"] > 0 for entry in entries) < len(entries) / 3
    assert any(entry["listing"]["token"]["isExAnte"] for entry in entries)
    assert any(entry["listing"]["expiresAfter"] < NOW.timestamp() for entry in entries)


def test_prices_can_be_asked_for_by_project_price_and_supply(shopper):
    query = {"projectIds": ["ICR-112", "PUR-4411"], "minPriceUSD": 3.78, "minSupply": 19.361}
    entries = shopper.http.get("/prices", params=query).json()

    assert {entry["listing"]["creditId"]["projectId"] for entry in entries} == {"ICR-112", "PUR-4411"}
    assert all(entry["purchasePrice"] >= 3.78 and entry["supply"] >= 19.361 for entry in entries)
    assert len(entries) < len(shopper.http.get("/prices", params={"projectIds": query["projectIds"]}).json())


def test_a_query_that_makes_no_sense_is_refused(shopper):
    answer = shopper.http.get("/prices", params={"minSupply": "plenty", "assetPriceType": "other"})

    assert answer.status_code == 400
    assert "minSupply" in answer.json()["message"]
    assert "assetPriceType" in answer.json()["message"]


def test_a_quote_has_every_documented_field_and_when_switched_the_last_digits_of_a_float(shopper):
    listing = shopper.liquid_listing(tonnes=19, project_id="ICR-112")
    body = {"asset_price_source_id": listing["sourceId"], "quantity_tonnes": 1.234}
    quote = shopper.http.post("/quotes", json=body).json()

    for id_ in ("uuid", "credential_id"):
        assert len(quote.pop(id_)) == 36
    moments = dict.fromkeys(("created_at", "updated_at"), "2026-11-21T06:00:00.000Z")
    assert quote == body | moments | {"cost_usdc": 4.66452, "consumed": 0}
    shopper.switch(quote_float_noise=True)
    assert '"cost_usdc":4.664520000000001,' in shopper.http.post("/quotes", json=body).text.replace(" ", "")


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(thousandths=st.integers(1, 2_000_000))
def test_quantity_and_cost_of_a_quote_are_exact(shopper, thousandths):
    listing = shopper.liquid_listing(tonnes=2000)
    quantity = Decimal(thousandths) / 1000
    body = f'{{"asset_price_source_id": "{listing["sourceId"]}", "quantity_tonnes": {quantity}}}'
    headers = {"content-type": "application/json"}
    quote = shopper.http.post("/quotes", content=body, headers=headers).json(parse_float=Decimal)

    assert quote["quantity_tonnes"] == quantity
    assert quote["cost_usdc"] == quantity * Decimal(str(listing["purchasePrice"]))


def test_supply_goes_down_with_each_paid_purchase_and_not_before(shopper):
    listing = shopper.liquid_listing()
    source, supply, liquid = listing["sourceId"], listing["supply"], listing["liquidSupply"]
    checkout = shopper.open_checkout(asset_price_source_id=source, quantity_tonnes=20.5)

    def left():
        entries = shopper.http.get("/prices").json()
        return next((each["supply"], each["liquidSupply"]) for each in entries if each["sourceId"] == source)

    assert left() == (supply, liquid)
    shopper.pay(checkout)
    assert left() == (supply - 20.5, liquid - 20.5)
