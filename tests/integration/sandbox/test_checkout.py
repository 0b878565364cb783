"""POST /checkout, keys, and how errors look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.integration.sandbox.conftest import CONSUMPTION

if TYPE_CHECKING:
    from tests.integration.sandbox.conftest import Shopper

METADATA = {"beneficiary_name": "Example GmbH", "retirement_message": "October 2026"}


def test_a_checkout_answers_with_nothing_but_the_address_of_a_payment_page(shopper: Shopper) -> None:
    answer = shopper.http.post("/checkout", json=shopper.order())

    assert answer.status_code == 200
    assert set(answer.json()) == {"url"}
    assert answer.json()["url"].startswith(f"{shopper.url}/pay/")


@pytest.mark.parametrize("field", ["expires_at", "expires_on", "expiresAt"])
def test_a_checkout_tells_only_its_expiry_besides_under_the_wanted_name(shopper: Shopper, field: str) -> None:
    shopper.switch(checkout_layout="expiry", expiry_field=field, checkout_seconds=3600)
    answer = shopper.http.post("/checkout", json=shopper.order()).json()

    assert set(answer) == {"url", field}
    assert answer[field] == "2026-11-21T07:00:00.000Z"


def test_a_checkout_below_the_minimum_charge_is_refused(shopper: Shopper) -> None:
    shopper.switch(minimum_charge_usd=0.5)
    source = shopper.liquid_listing(tonnes=19, project_id="ICR-112")["sourceId"]
    order = shopper.order(asset_price_source_id=source)
    refused = shopper.http.post("/checkout", json={**order, "quantity_tonnes": 0.129})
    shopper.open_checkout(asset_price_source_id=source, quantity_tonnes=0.13)

    assert (refused.status_code, refused.json()["name"]) == (400, "MinPurchaseRequired")
    assert refused.json()["message"] == "The least that can be paid is 0.50 USD, and this costs 0.49 USD"
    assert len(shopper.state()["checkouts"]) == 1


def test_a_rich_checkout_also_names_its_payment_and_expiry(shopper: Shopper) -> None:
    shopper.switch(checkout_layout="rich", checkout_seconds=3600)
    answer = shopper.http.post("/checkout", json=shopper.order()).json()

    assert set(answer) == {"url", "id", "payment_id", "expires_at"}
    assert answer["expires_at"] == "2026-11-21T07:00:00.000Z"
    assert shopper.pay(answer["url"]) == answer["payment_id"]


@pytest.mark.parametrize(
    ("changes", "status", "complaint"),
    [
        ({"quantity_tonnes": 0}, 400, "quantity_tonnes"),
        ({"quantity_tonnes": -1}, 400, "quantity_tonnes"),
        ({"quantity_tonnes": "1"}, 400, "quantity_tonnes"),
        ({"quantity_tonnes": True}, 400, "quantity_tonnes"),
        ({"quantity_tonnes": None}, 400, "quantity_tonnes"),
        ({"quantity_tonnes": 1e30}, 400, "quantity_tonnes"),
        ({"quantity_tonnes": 0.0001}, 400, "multiple of 0.001"),
        ({"quantity_tonnes": 1.0005}, 400, "multiple of 0.001"),
        ({"quantity_tonnes": 99_999_999}, 409, "t left"),
        ({"asset_price_source_id": "listing-137-0x00"}, 404, "listing-137-0x00"),
        ({"asset_price_source_id": 7}, 400, "asset_price_source_id"),
        ({"metadata": {**METADATA, "beneficiary_name": ""}}, 400, "beneficiary_name"),
        ({"metadata": {**METADATA, "beneficiary_name": "x" * 501}}, 400, "beneficiary_name"),
        ({"metadata": {"beneficiary_name": "Example GmbH"}}, 400, "retirement_message"),
        ({"metadata": {**METADATA, "cost_centre": 7}}, 400, "cost_centre"),
        ({"metadata": None}, 400, "metadata"),
        ({"success_url": "ftp://buyer.test/thanks"}, 400, "success_url"),
        ({"success_url": "javascript:alert(1)"}, 400, "success_url"),
        ({"success_url": "http://[broken"}, 400, "success_url"),
        ({"cancel_url": "/no"}, 400, "cancel_url"),
        ({"cancel_url": None}, 400, "cancel_url"),
    ],
)
def test_what_cannot_be_sold_is_refused_with_its_reason(
    shopper: Shopper, changes: dict[str, Any], status: int, complaint: str
) -> None:
    body = {**shopper.order(), **changes}
    answer = shopper.http.post("/checkout", json=body)

    assert answer.status_code == status
    assert complaint in answer.json()["message"]
    assert shopper.state()["checkouts"] == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b'{"quantity_tonnes": NaN}'])
def test_a_body_that_is_no_order_is_refused(shopper: Shopper, body: bytes) -> None:
    answer = shopper.http.post("/checkout", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 400


def test_puro_credits_are_sold_in_whole_tonnes(shopper: Shopper) -> None:
    puro = shopper.liquid_listing(tonnes=2, project_id="PUR-4411")["sourceId"]
    order = shopper.order(asset_price_source_id=puro, quantity_tonnes=1.5)

    assert "multiple of 1" in shopper.http.post("/checkout", json=order).json()["message"]
    assert shopper.http.post("/quotes", json={**order, "quantity_tonnes": 2}).status_code == 200


def puro_order(shopper: Shopper, **changes: Any) -> dict[str, Any]:
    puro = shopper.liquid_listing(tonnes=2, project_id="PUR-4411")["sourceId"]
    return shopper.order(asset_price_source_id=puro, quantity_tonnes=2, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": {**METADATA, "consumption_metadata": CONSUMPTION}},
        {"metadata": METADATA | {name: str(value) for name, value in CONSUMPTION.items()}},
        {"consumption_metadata": CONSUMPTION},
    ],
)
def test_puro_credits_are_sold_for_a_consumption_wherever_that_is_said(
    shopper: Shopper, changes: dict[str, Any]
) -> None:
    answer = shopper.http.post("/checkout", json=puro_order(shopper, **changes))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"country_of_consumption_code": None}, "country_of_consumption_code"),
        ({"country_of_consumption_code": "Germany"}, "country_of_consumption_code"),
        ({"consumption_period_start": 0}, "consumption_period_start"),
        ({"consumption_period_start": "2026-10-01"}, "consumption_period_start"),
        ({"consumption_period_end": CONSUMPTION["consumption_period_end"] * 1000}, "consumption_period_end"),
        ({"consumption_period_end": CONSUMPTION["consumption_period_start"]}, "must be after"),
    ],
)
def test_puro_credits_without_a_consumption_that_makes_sense_are_refused(
    shopper: Shopper, changes: dict[str, Any], complaint: str
) -> None:
    said = {name: value for name, value in (CONSUMPTION | changes).items() if value is not None}
    order = puro_order(shopper, metadata={**METADATA, "consumption_metadata": said})
    answer = shopper.http.post("/checkout", json=order)
    assert (answer.status_code, complaint in answer.json()["message"]) == (400, True), answer.text


def test_puro_credits_without_any_consumption_are_refused(shopper: Shopper) -> None:
    answer = shopper.http.post("/checkout", json=puro_order(shopper))
    assert answer.status_code == 400
    assert "country_of_consumption_code" in answer.json()["message"]
    assert shopper.state()["checkouts"] == []


def test_only_listings_are_sold(shopper: Shopper) -> None:
    entry = shopper.http.get("/prices", params={"assetPriceType": "klimaprotocol"}).json()[0]
    answer = shopper.http.post("/checkout", json=shopper.order(asset_price_source_id=entry["sourceId"]))

    assert answer.status_code == 400
    assert "of type klimaprotocol" in answer.json()["message"]


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"expires_after": 1_700_000_000}, 409, "has expired"),
        ({"min_fill_amount": 5}, 400, "at least 5 for this listing, and is 1.234"),
    ],
)
def test_an_expired_listing_or_less_than_the_minimum_fill_is_not_sold(
    shopper: Shopper, changes: dict[str, int], status: int, said: str
) -> None:
    source = shopper.liquid_listing()["sourceId"]
    shopper.http.patch(f"/sandbox/listings/{source}", json=changes)
    answer = shopper.http.post("/checkout", json=shopper.order(asset_price_source_id=source))

    assert answer.status_code == status
    assert said in answer.json()["message"]


def test_an_idempotency_key_used_for_another_order_is_refused(shopper: Shopper) -> None:
    headers = {"idempotency-key": "run-1"}
    order = shopper.order()
    shopper.http.post("/checkout", json=order, headers=headers)
    answer = shopper.http.post("/checkout", json={**order, "quantity_tonnes": 2}, headers=headers)

    assert answer.status_code == 422
    assert "'run-1'" in answer.json()["message"]


def test_idempotency_keys_of_two_customers_have_nothing_to_do_with_each_other(shopper: Shopper) -> None:
    order = shopper.order()
    urls = {
        shopper.http.post(
            "/checkout",
            json=order,
            headers={"idempotency-key": "run-1", "authorization": f"Bearer cm_api_{name}"},
        ).json()["url"]
        for name in ("anna", "ben")
    }

    assert len(urls) == 2


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        ("Bearer wrong", 401),
        ("Bearer cm_api_", 401),
        ("Basic Y21fYXBpX3g6", 401),
        ("Bearer cm_api_forbidden-1", 403),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/checkout"), ("POST", "/quotes"), ("GET", "/payments/pay_1")]
)
def test_a_wrong_key_is_refused(
    shopper: Shopper, method: str, path: str, authorization: str | None, status: int
) -> None:
    headers = {"authorization": authorization} if authorization else {}
    json = shopper.order() if method == "POST" else None
    answer = httpx.request(method, shopper.url + path, json=json, headers=headers)

    assert answer.status_code == status


@pytest.mark.parametrize(
    ("shape", "fields"),
    [("message_name", {"message", "name"}), ("status_code", {"statusCode", "error", "message", "code"})],
)
def test_errors_come_in_both_known_shapes(shopper: Shopper, shape: str, fields: set[str]) -> None:
    shopper.switch(error_shape=shape)
    answers = [
        shopper.http.get("/payments/pay_1"),
        shopper.http.get("/nothing/here"),
        shopper.http.delete("/prices"),
        shopper.http.post("/checkout", json={}),
    ]

    assert [answer.status_code for answer in answers] == [404, 404, 405, 400]
    assert all(set(answer.json()) == fields for answer in answers)


def test_each_answer_has_a_request_id_of_its_own(shopper: Shopper) -> None:
    paths = ["/prices", "/payments/pay_1", "/nothing", "/", "/sandbox/state"]
    ids = [shopper.http.get(path).headers["x-request-id"] for path in paths]

    assert len(set(ids)) == len(paths)
