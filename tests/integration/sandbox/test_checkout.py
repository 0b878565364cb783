"""POST /checkout, keys, and how errors look."""

from __future__ import annotations

import pytest

from tests.integration.sandbox.conftest import CONSUMPTION

METADATA = {"beneficiary_name": "Example GmbH", "retirement_message": "October 2026"}
EXPIRY = "2026-11-21T07:00:00.000Z"


@pytest.mark.parametrize(
    ("layout", "field", "told"),
    [
        ("url", "expires_at", {"url"}),
        *(("expiry", field, {"url", field}) for field in ("expires_at", "expires_on", "expiresAt")),
        ("rich", "expires_at", {"url", "expires_at", "id", "payment_id"}),
    ],
)
def test_a_checkout_tells_its_address_and_what_its_layout_has_besides(shopper, layout, field, told):
    shopper.switch(checkout_layout=layout, expiry_field=field, checkout_seconds=3600)
    answer = shopper.checkout()

    assert set(answer) == told
    assert answer["url"].startswith(f"{shopper.url}/pay/")
    assert answer.get(field) == (None if layout == "url" else EXPIRY)
    assert shopper.pay(answer["url"]) == answer.get("payment_id", shopper.state()["payments"][0]["id"])


def test_a_checkout_below_the_minimum_charge_is_refused(shopper):
    shopper.switch(minimum_charge_usd=0.5)
    refused = shopper.http.post("/checkout", json=shopper.order("ICR-112", quantity_tonnes=0.129))
    shopper.open_checkout(project_id="ICR-112", quantity_tonnes=0.13)

    assert (refused.status_code, refused.json()["name"]) == (400, "MinPurchaseRequired")
    assert refused.json()["message"] == "The least that can be paid is 0.50 USD, and this costs 0.49 USD"


def puro(**consumption):
    """Return what is said in an order of Puro's credits, whose consumption is another; None leaves a part out."""
    said = {name: value for name, value in (CONSUMPTION | consumption).items() if value is not None}
    return {
        "project_id": "PUR-4411",
        "quantity_tonnes": 2,
        "metadata": METADATA | {"consumption_metadata": said},
    }


@pytest.mark.parametrize(
    ("status", "complaint", "changes"),
    [
        *((400, "quantity_tonnes", {"quantity_tonnes": each}) for each in (0, -1, "1", True, None, 1e30)),
        *((400, "multiple of 0.001", {"quantity_tonnes": each}) for each in (0.0001, 1.0005)),
        (409, "t left", {"quantity_tonnes": 99_999_999}),
        (404, "listing-137-0x00", {"asset_price_source_id": "listing-137-0x00"}),
        (400, "asset_price_source_id", {"asset_price_source_id": 7}),
        (400, "beneficiary_name", {"metadata": METADATA | {"beneficiary_name": ""}}),
        (400, "beneficiary_name", {"metadata": METADATA | {"beneficiary_name": "x" * 501}}),
        (400, "retirement_message", {"metadata": {"beneficiary_name": "Example GmbH"}}),
        (400, "cost_centre", {"metadata": METADATA | {"cost_centre": 7}}),
        (400, "metadata", {"metadata": None}),
        *((400, "success_url", {"success_url": url}) for url in ("javascript:alert(1)", "http://[broken")),
        *((400, "cancel_url", {"cancel_url": url}) for url in ("/no", None)),
        (400, "multiple of 1", puro() | {"quantity_tonnes": 1.5}),
        *((400, "country_of_", puro(country_of_consumption_code=each)) for each in (None, "Germany")),
        *((400, "_period_start", puro(consumption_period_start=each)) for each in (0, "2026-10-01")),
        (400, "_period_end", puro(consumption_period_end=CONSUMPTION["consumption_period_end"] * 1000)),
        (400, "must be after", puro(consumption_period_end=CONSUMPTION["consumption_period_start"])),
        (400, "country_of_consumption_code", puro() | {"metadata": METADATA}),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_cannot_be_sold_is_refused_with_its_reason(shopper, status, complaint, changes):
    shopper.is_refused(status, complaint, **changes)


def test_an_expired_listing_a_pool_or_less_than_the_minimum_fill_is_not_sold(shopper):
    pool = shopper.http.get("/prices", params={"assetPriceType": "klimaprotocol"}).json()[0]["sourceId"]
    shopper.is_refused(400, "of type klimaprotocol", asset_price_source_id=pool)
    source = shopper.liquid_listing()["sourceId"]
    for change, status, said in (
        ({"min_fill_amount": 5}, 400, "at least 5 for this listing, and is 1.234"),
        ({"expires_after": 1_700_000_000}, 409, "has expired"),
    ):
        shopper.http.patch(f"/sandbox/listings/{source}", json=change)
        shopper.is_refused(status, said, asset_price_source_id=source)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b'{"quantity_tonnes": NaN}'])
def test_a_body_that_is_no_order_is_refused(shopper, body):
    answer = shopper.http.post("/checkout", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400


def test_puro_credits_are_sold_for_a_consumption_wherever_that_is_said(shopper):
    as_text = {name: str(value) for name, value in CONSUMPTION.items()}
    beside = {"metadata": METADATA, "consumption_metadata": CONSUMPTION}
    for order in (puro(), puro() | {"metadata": METADATA | as_text}, puro() | beside):
        assert shopper.open_checkout(**order)


def test_an_idempotency_key_is_one_customers_and_of_one_order(shopper):
    order = shopper.order()

    def buy(customer, **changes):
        headers = {"idempotency-key": "run-1", "authorization": f"Bearer cm_api_{customer}"}
        return shopper.http.post("/checkout", json=order | changes, headers=headers)

    assert buy("anna").json() == buy("anna").json() != buy("ben").json()
    refused = buy("anna", quantity_tonnes=2)
    assert refused.status_code == 422
    assert "'run-1'" in refused.json()["message"]


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        *((each, 401) for each in (None, "Bearer wrong", "Bearer cm_api_", "Basic Y21fYXBpX3g6")),
        ("Bearer cm_api_forbidden-1", 403),
    ],
)
def test_a_wrong_key_is_refused_but_the_market_is_public(shopper, authorization, status):
    order = shopper.order()
    del shopper.http.headers["authorization"]
    if authorization:
        shopper.http.headers["authorization"] = authorization
    for path in ("/checkout", "/quotes"):
        assert shopper.http.post(path, json=order).status_code == status
    for path, told in {"/payments/pay_1": status, "/prices": 200, "/carbonProjects": 200}.items():
        assert shopper.http.get(path).status_code == told


@pytest.mark.parametrize(
    ("shape", "fields"),
    [("message_name", {"message", "name"}), ("status_code", {"statusCode", "error", "message", "code"})],
)
def test_errors_come_in_both_known_shapes_each_with_a_request_id_of_its_own(shopper, shape, fields):
    shopper.switch(error_shape=shape)
    answers = [
        *(shopper.http.get(path) for path in ("/payments/pay_1", "/nothing/here")),
        *(shopper.http.delete("/prices"), shopper.http.post("/checkout", json={})),
    ]
    assert [answer.status_code for answer in answers] == [404, 404, 405, 400]
    assert all(set(answer.json()) == fields for answer in answers)
    assert len({answer.headers["x-request-id"] for answer in answers}) == 4
