"""When a fault hits, and what; what then comes: tests/integration/api/test_faults.py."""

from __future__ import annotations

import httpx
import pytest

# TCP may tell of the same drop as a close or, where a part of the request was still unread, as a reset.
DROPPED = (httpx.RemoteProtocolError, httpx.ReadError)


def fail(shopper, kind, **how):
    shopper.switch(faults=[{"kind": kind, **how}])


@pytest.mark.parametrize("kind", ["error", "drop", "html", "redirect", "empty_object"])
def test_nothing_is_done_when_the_service_is_not_reached(shopper, kind):
    order = shopper.order()
    fail(shopper, kind, path="/checkout", next=1)
    try:
        shopper.http.post("/checkout", json=order)
    except DROPPED:
        assert kind == "drop"
    assert shopper.state()["checkouts"] == []
    assert shopper.http.post("/checkout", json=order).status_code == 200


def test_types_are_swapped(shopper):
    fail(shopper, "wrong_types")
    entry = shopper.http.get("/prices").json()[0]
    assert (entry["type"], entry["purchasePrice"]) == (12345, "not a number")


@pytest.mark.parametrize(
    "kind", ["wrong_types", "bad_urls", "invalid_json", "oversized", "oversized_chunked"]
)
def test_a_page_can_be_spoilt_too(shopper, kind):
    fail(shopper, kind, path="/cancelled")
    headers = shopper.http.get("/cancelled").headers
    assert headers["content-type"] == "application/json"
    assert ("content-length" in headers) == (kind != "oversized_chunked")


def test_latency_delays_pages_too_but_not_the_control_calls(shopper):
    shopper.switch(latency=60)
    for path in ("/prices", "/"):
        with pytest.raises(httpx.ReadTimeout):
            shopper.http.get(path, timeout=0.05)
    assert shopper.http.get("/sandbox/state").status_code == 200


def test_faults_hit_the_next_requests_in_the_order_given_and_other_switches_do_not_start_them_over(shopper):
    shopper.switch(faults=[{"kind": "error", "status": status, "next": 2} for status in (500, 429)])
    statuses = []
    for seconds in range(5):
        statuses.append(shopper.http.get("/prices").status_code)
        shopper.switch(retirement_seconds=seconds)
    assert statuses == [500, 500, 429, 429, 200]


def test_a_fault_hits_its_paths_or_without_one_the_calls_and_no_page_or_control_call(shopper):
    shopper.switch(retirement_seconds=0)
    url = shopper.open_checkout()
    payment_id = shopper.pay(url)
    certificate = shopper.payment(payment_id)["retirement"]["view_retirement_url"]
    market = [
        "/prices",
        "/carbonProjects",
        "/carbonProjects/VCS-191",
        "/retirements",
        "/retirements/1-0x00-0",
    ]
    for path, hit, passed in (
        ("", [*market, f"/payments/{payment_id}"], [url, certificate, "/sandbox/switches"]),
        ("/payments/", [f"/payments/{payment_id}"], [url, "/prices"]),
    ):
        fail(shopper, "error", path=path)
        assert {shopper.http.get(each).status_code for each in hit} == {503}
        assert {shopper.http.get(each).status_code for each in passed} == {200}


def test_random_faults_are_the_same_for_the_same_seed(shopper):
    def statuses(seed):
        shopper.switch(faults=[{"kind": "error", "rate": 0.3}], seed=seed)
        return [shopper.http.get("/payments/x").status_code for _ in range(30)]

    first = statuses(1)
    assert statuses(1) == first
    assert statuses(2) != first
    assert 0 < first.count(503) < 30
