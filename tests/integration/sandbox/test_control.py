"""The control calls, the home page and the OpenAPI document."""

from __future__ import annotations

import pytest

from airflow_provider_carbonmark.sandbox.switches import Fault, Switches
from airflow_provider_carbonmark.sandbox.world.cards import CARDS


def test_the_state_counts_requests_and_shows_checkouts_and_payments(shopper):
    url = shopper.open_checkout()
    payment_id = shopper.pay(url)
    for _ in range(3):
        shopper.payment(payment_id)
    state = shopper.state()

    assert state["requests"] == {
        "GET /prices": 1,
        "POST /checkout": 1,
        "POST /pay/{id}": 1,
        "GET /payments/{id}": 3,
    }
    (checkout,) = state["checkouts"]
    assert url.endswith(checkout["id"])
    assert (checkout["is_paid"], checkout["test_mode"], checkout["payment_id"]) == (True, False, payment_id)
    assert state["payments"] == [
        {
            "id": payment_id,
            "checkout_id": checkout["id"],
            "amount_usd": checkout["amount_usd"],
            "paid_at": "2026-11-21T06:00:00.000Z",
            "outcome": "retired",
            "payment_status": "PAID",
            "retirement_status": "SUBMITTED",
        }
    ]


def test_the_last_requests_are_remembered_but_never_a_key(shopper):
    order = shopper.order()
    answer = shopper.http.post("/checkout", json=order, headers={"idempotency-key": "run-1"})
    log = shopper.http.get("/sandbox/requests")
    request = log.json()[-1]

    assert request["id"] == answer.headers["x-request-id"]
    assert (request["method"], request["path"], request["status"]) == ("POST", "/checkout", 200)
    assert (request["has_key"], request["idempotency_key"]) == (True, "run-1")
    assert '"quantity_tonnes":1.234' in request["body"]
    assert "cm_api_shopper" not in log.text + shopper.http.get("/sandbox/state").text


def test_a_reset_forgets_everything_but_the_market(shopper):
    market = shopper.http.get("/prices").json()
    payment_id = shopper.buy()
    shopper.switch(error_shape="status_code")
    shopper.advance(60)
    shopper.http.post("/sandbox/reset")
    state = shopper.state()

    assert (state["requests"], state["checkouts"], state["payments"]) == ({}, [], [])
    assert state["now"] == "2026-11-21T06:00:00.000Z"
    assert shopper.http.get("/sandbox/switches").json()["error_shape"] == "message_name"
    assert shopper.http.get("/prices").json() == market
    assert shopper.http.get(f"/payments/{payment_id}").status_code == 404


def test_patching_switches_keeps_the_others_and_putting_them_does_not(shopper):
    shopper.switch(latency=0.001)
    shopper.switch(proof_at="top")
    patched = shopper.http.get("/sandbox/switches").json()
    put = shopper.http.put("/sandbox/switches", json={"bought_at": "order"}).json()

    assert (patched["latency"], patched["proof_at"]) == (0.001, "top")
    assert (put["latency"], put["proof_at"], put["bought_at"]) == (0, "beside", "order")


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        *(
            (each, next(iter(each)))
            for each in ({"latncy": 1}, {"latency": -1}, {"bought_at": "nowhere"}, {"faults": 1})
        ),
        *(
            ({"faults": [{"kind": "error"} | each]}, f"faults/0/{next(iter(each))}")
            for each in ({"kind": "other"}, {"rate": 2}, {"next": 0}, {"status": 200}, {"often": True})
        ),
    ],
    ids=str,
)
def test_a_switch_that_does_not_exist_or_fit_is_refused(shopper, changes, place):
    before = shopper.http.get("/sandbox/switches").json()
    answer = shopper.http.patch("/sandbox/switches", json=changes)

    assert answer.status_code == 400
    assert place in answer.json()["message"]
    assert shopper.http.get("/sandbox/switches").json() == before


def test_the_clock_only_goes_forward(shopper):
    for change in ({"advance_seconds": -1}, {"advance_seconds": "x"}, {}, {"back": 1}):
        assert shopper.http.post("/sandbox/clock", json=change).status_code == 400
    answer = shopper.http.post("/sandbox/clock", json={"advance_seconds": 86400.5})
    assert answer.json() == {"now": "2026-11-22T06:00:00.500Z"}


def test_a_payment_can_be_made_to_end_otherwise_and_say_anything(shopper):
    payment_id = shopper.buy()
    shopper.advance(3)
    path = f"/sandbox/payments/{payment_id}"
    words = {"payment_status": "REFUNDED", "retirement_status": "CANCELLED"}
    for change, status, retirement in (
        ({"outcome": "failed"}, "PAID", "FAILED"),
        (words, "REFUNDED", "CANCELLED"),
        (dict.fromkeys(words), "PAID", "FAILED"),
    ):
        assert shopper.http.patch(path, json=change).json()["payment_status"] == status
        payment = shopper.payment(payment_id)
        assert (payment["payment_status"], payment["retirement"]["status"]) == (status, retirement)


def test_what_does_not_exist_cannot_be_changed(shopper):
    assert shopper.http.patch("/sandbox/payments/pay_1", json={"outcome": "failed"}).status_code == 404
    assert shopper.http.patch("/sandbox/listings/listing-1", json={"supply": 1}).status_code == 404


def test_a_listing_can_be_repriced_and_old_checkouts_keep_their_price(shopper):
    order = shopper.order("ICR-112", quantity_tonnes=1)
    url = shopper.open_checkout(**order)
    path = f"/sandbox/listings/{order['asset_price_source_id']}"
    entry = shopper.http.patch(path, json={"purchase_price": 14}).json()

    assert (entry["purchasePrice"], entry["baseUnitPrice"]) == (14, 10)
    assert "Pay $3.78<" in shopper.http.get(url).text


def test_the_home_page_says_how_to_use_it_and_nothing_loads_scripts_from_elsewhere(shopper):
    page = shopper.http.get("/").text

    assert "AIRFLOW_CONN_CARBONMARK_DEFAULT=" in page
    assert page.count(shopper.url) == 2
    assert all(card.spaced_number in page for card in CARDS)
    assert [shopper.http.get(path).status_code for path in ("/docs", "/redoc")] == [404, 404]


def test_the_openapi_document_describes_every_call_switch_and_card(shopper):
    document = shopper.http.get("/openapi.json").json()
    schemas = document["components"]["schemas"]

    below_a_retirement = ("", "/provenance", "/certificate")
    assert set(document["paths"]) >= {
        *("/checkout", "/quotes", "/prices", "/payments/{payment_id}", "/pay/{checkout_id}"),
        *("/carbonProjects", "/carbonProjects/{key}", "/retirements"),
        *(f"/retirements/{{retirement_id}}{each}" for each in below_a_retirement),
    }
    assert all(call["summary"] for path in document["paths"].values() for call in path.values())
    assert all(card.spaced_number in document["info"]["description"] for card in CARDS)
    for model in (Switches, Fault):
        assert all(field.description for field in model.model_fields.values())
        assert set(schemas[model.__name__]["properties"]) == set(model.model_fields)
