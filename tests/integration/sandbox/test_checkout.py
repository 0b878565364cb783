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
def test_a_checkout_tells_the_address_of_a_payment_page_and_besides_what_its_layout_has(
    shopper, layout, field, told
):
    shopper.switch(checkout_layout=layout, expiry_field=field, checkout_seconds=3600)
    answer = shopper.checkout()

    assert set(answer) == told
    assert answer["url"].startswith(f"{shopper.url}/pay/")
    assert answer.get(field) == (None if layout == "url" else EXPIRY)
    assert shopper.pay(answer["url"]) == answer.get("payment_id", shopper.state()["payments"][0]["id"])


def test_a_checkout_below_the_minimum_charge_is_refused(shopper):
    shopper.switch(minimum_charge_usd=0.5)
    source = shopper.liquid_listing(tonnes=19, project_id="ICR-112")["sourceId"]
    order = shopper.order(asset_price_source_id=source)
    refused = shopper.http.post("/checkout", json={**order, "quantity_tonnes": 0.129})
    shopper.open_checkout(asset_price_source_id=source, quantity_tonnes=0.13)

    assert (refused.status_code, refused.json()["name"]) == (400, "MinPurchaseRequired")
    assert refused.json()["message"] == "The least that can be paid is 0.50 USD, and this costs 0.49 USD"


@pytest.mark.parametrize(
    ("changes", "status", "complaint"),
    [
        *(({"quantity_tonnes": each}, 400, "quantity_tonnes") for each in (0, -1, "1", True, None, 1e30)),
        *(({"quantity_tonnes": each}, 400, "multiple of 0.001") for each in (0.0001, 1.0005)),
        ({"quantity_tonnes": 99_999_999}, 409, "t left"),
        ({"asset_price_source_id": "listing-137-0x00"}, 404, "listing-137-0x00"),
        ({"asset_price_source_id": 7}, 400, "asset_price_source_id"),
        *(
            ({"metadata": METADATA | {"beneficiary_name": name}}, 400, "beneficiary_name")
            for name in ("", "x" * 501)
        ),
        ({"metadata": {"beneficiary_name": "Example GmbH"}}, 400, "retirement_message"),
        ({"metadata": METADATA | {"cost_centre": 7}}, 400, "cost_centre"),
        ({"metadata": None}, 400, "metadata"),
        *(({"success_url": url}, 400, "success_url") for url in ("javascript:alert(1)", "http://[broken")),
        *(({"cancel_url": url}, 400, "cancel_url") for url in ("/no", None)),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_cannot_be_sold_is_refused_with_its_reason(shopper, changes, status, complaint):
    told, message = shopper.refusal(shopper.order() | changes)
    assert told == status
    assert complaint in message


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b'{"quantity_tonnes": NaN}'])
def test_a_body_that_is_no_order_is_refused(shopper, body):
    answer = shopper.http.post("/checkout", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"expires_after": 1_700_000_000}, 409, "has expired"),
        ({"min_fill_amount": 5}, 400, "at least 5 for this listing, and is 1.234"),
    ],
)
def test_an_expired_listing_or_less_than_the_minimum_fill_is_not_sold(shopper, change, status, said):
    order = shopper.order()
    shopper.http.patch(f"/sandbox/listings/{order['asset_price_source_id']}", json=change)
    told, message = shopper.refusal(order)
    assert told == status
    assert said in message


def test_only_listings_are_sold(shopper):
    entry = shopper.http.get("/prices", params={"assetPriceType": "klimaprotocol"}).json()[0]
    told, message = shopper.refusal(shopper.order(asset_price_source_id=entry["sourceId"]))
    assert told == 400
    assert "of type klimaprotocol" in message


@pytest.fixture
def puro(shopper):
    """Return an order of credits of Puro's."""
    source = shopper.liquid_listing(tonnes=2, project_id="PUR-4411")["sourceId"]
    return shopper.order(asset_price_source_id=source, quantity_tonnes=2)


def test_puro_credits_are_sold_in_whole_tonnes(shopper, puro):
    assert "multiple of 1" in shopper.refusal(puro | {"quantity_tonnes": 1.5})[1]
    assert shopper.http.post("/quotes", json=puro).status_code == 200


@pytest.mark.parametrize(
    "said",
    [
        {"metadata": METADATA | {"consumption_metadata": CONSUMPTION}},
        {"metadata": METADATA | {name: str(value) for name, value in CONSUMPTION.items()}},
        {"consumption_metadata": CONSUMPTION},
    ],
    ids=["in metadata", "as metadata", "beside"],
)
def test_puro_credits_are_sold_for_a_consumption_wherever_that_is_said(shopper, puro, said):
    answer = shopper.http.post("/checkout", json=puro | said)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        *(
            ({"country_of_consumption_code": each}, "country_of_consumption_code")
            for each in (None, "Germany")
        ),
        *(({"consumption_period_start": each}, "consumption_period_start") for each in (0, "2026-10-01")),
        ({"consumption_period_end": CONSUMPTION["consumption_period_end"] * 1000}, "consumption_period_end"),
        ({"consumption_period_end": CONSUMPTION["consumption_period_start"]}, "must be after"),
        (dict.fromkeys(CONSUMPTION), "country_of_consumption_code"),
    ],
    ids=str,
)
def test_puro_credits_without_a_consumption_that_makes_sense_are_refused(shopper, puro, changes, complaint):
    said = {name: value for name, value in (CONSUMPTION | changes).items() if value is not None}
    told, message = shopper.refusal(puro | {"metadata": METADATA | {"consumption_metadata": said}})
    assert told == 400
    assert complaint in message


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
def test_errors_come_in_both_known_shapes(shopper, shape, fields):
    shopper.switch(error_shape=shape)
    answers = [
        *(shopper.http.get(path) for path in ("/payments/pay_1", "/nothing/here")),
        *(shopper.http.delete("/prices"), shopper.http.post("/checkout", json={})),
    ]
    assert [answer.status_code for answer in answers] == [404, 404, 405, 400]
    assert all(set(answer.json()) == fields for answer in answers)


def test_each_answer_has_a_request_id_of_its_own(shopper):
    paths = ["/prices", "/payments/pay_1", "/nothing", "/", "/sandbox/state"]
    assert len({shopper.http.get(path).headers["x-request-id"] for path in paths}) == len(paths)
