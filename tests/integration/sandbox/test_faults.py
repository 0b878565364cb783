"""What goes wrong when a fault is switched on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.integration.sandbox.conftest import Shopper


# TCP may tell of the same drop as a close or, where a part of the request was still unread, as a reset.
DROPPED = (httpx.RemoteProtocolError, httpx.ReadError)


def fail(shopper: Shopper, kind: str, **how: Any) -> None:
    shopper.switch(faults=[{"kind": kind, **how}])


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_an_error_has_its_status_and_the_usual_shape(shopper: Shopper, status: int) -> None:
    fail(shopper, "error", status=status)
    answer = shopper.http.get("/prices")

    assert answer.status_code == status
    assert set(answer.json()) == {"message", "name"}
    assert answer.headers["x-request-id"]
    assert "retry-after" not in answer.headers


def test_a_connection_is_dropped_without_an_answer(shopper: Shopper) -> None:
    fail(shopper, "drop", next=1)
    with pytest.raises(DROPPED):
        shopper.http.post("/checkout", json=shopper.order(asset_price_source_id="listing-1"))

    assert shopper.http.get("/prices").status_code == 200


def test_a_connection_is_dropped_in_the_middle_of_an_answer(shopper: Shopper) -> None:
    fail(shopper, "drop_mid_body")
    with pytest.raises(DROPPED):
        shopper.http.get("/prices")


@pytest.mark.parametrize("kind", ["error", "drop", "html", "redirect", "empty_object"])
def test_nothing_is_done_when_the_service_is_not_reached(shopper: Shopper, kind: str) -> None:
    order = shopper.order()
    fail(shopper, kind, path="/checkout")
    try:
        shopper.http.post("/checkout", json=order)
    except DROPPED:
        assert kind == "drop"

    assert shopper.state()["checkouts"] == []


@pytest.mark.parametrize(
    ("kind", "status", "content_type", "text"),
    [
        ("html", 200, "text/html", "<!doctype html>.*"),
        ("redirect", 302, None, ".*"),
        ("invalid_json", 200, "application/json", ".*,,"),
        ("empty_object", 200, "application/json", "{}"),
    ],
)
def test_something_else_comes_instead_of_the_answer(
    shopper: Shopper, kind: str, status: int, content_type: str | None, text: str
) -> None:
    fail(shopper, kind, location="http://elsewhere.test/prices")
    answer = shopper.http.get("/prices")

    assert (answer.status_code, answer.headers.get("content-type")) == (status, content_type)
    assert re.fullmatch(text, answer.text, re.DOTALL)
    assert answer.headers.get("location") == ("http://elsewhere.test/prices" if status == 302 else None)


def test_types_are_swapped(shopper: Shopper) -> None:
    order = shopper.order()
    fail(shopper, "wrong_types")

    assert shopper.http.post("/checkout", json=order).json() == {"url": 12345}
    assert shopper.http.get("/prices").json()[0]["purchasePrice"] == "not a number"


@pytest.mark.parametrize("kind", ["oversized", "oversized_chunked"])
def test_a_body_is_larger_than_four_mebibytes(shopper: Shopper, kind: str) -> None:
    fail(shopper, kind)
    answer = shopper.http.get("/prices")

    assert len(answer.content) > 4 * 1024 * 1024
    assert ("content-length" in answer.headers) == (kind == "oversized")


def test_latency_delays_pages_too_but_not_the_control_calls(shopper: Shopper) -> None:
    shopper.switch(latency=60)
    for path in ("/prices", "/"):
        with pytest.raises(httpx.ReadTimeout):
            shopper.http.get(path, timeout=0.05)

    assert shopper.http.get("/sandbox/state").status_code == 200


def test_faults_hit_the_next_requests_in_the_order_given(shopper: Shopper) -> None:
    shopper.switch(
        faults=[{"kind": "error", "status": 500, "next": 2}, {"kind": "error", "status": 429, "next": 1}]
    )

    assert [shopper.http.get("/prices").status_code for _ in range(5)] == [500, 500, 429, 200, 200]


def test_changing_another_switch_does_not_start_the_faults_over(shopper: Shopper) -> None:
    fail(shopper, "error", next=1)
    shopper.http.get("/prices")
    shopper.switch(retirement_seconds=1)

    assert shopper.http.get("/prices").status_code == 200


def test_a_fault_hits_only_its_paths(shopper: Shopper) -> None:
    fail(shopper, "error", path="/payments/")
    url = shopper.open_checkout()

    assert shopper.http.get(url).status_code == 200
    assert shopper.http.get(f"/payments/{shopper.pay(url)}").status_code == 503


def test_a_fault_without_a_path_hits_the_calls_and_leaves_pages_and_control_calls_alone(
    shopper: Shopper,
) -> None:
    shopper.switch(retirement_seconds=0)
    url = shopper.open_checkout()
    certificate = shopper.payment(shopper.pay(url))["retirement"]["view_retirement_url"]
    fail(shopper, "error")

    for path in (
        "/prices",
        "/carbonProjects",
        "/carbonProjects/VCS-191",
        "/retirements",
        "/retirements/1-0x00-0",
    ):
        assert shopper.http.get(path).status_code == 503
    for page in (url, certificate, "/sandbox/switches"):
        assert shopper.http.get(page).status_code == 200


@pytest.mark.parametrize("kind", ["wrong_types", "bad_urls", "invalid_json", "oversized"])
def test_a_page_can_be_spoilt_too(shopper: Shopper, kind: str) -> None:
    fail(shopper, kind, path="/cancelled")

    assert shopper.http.get("/cancelled").headers["content-type"] == "application/json"


def test_random_faults_are_the_same_for_the_same_seed(shopper: Shopper) -> None:
    def statuses(seed: int) -> list[int]:
        shopper.switch(faults=[{"kind": "error", "rate": 0.3}], seed=seed)
        return [shopper.http.get("/payments/x").status_code for _ in range(60)]

    first = statuses(1)
    assert statuses(1) == first
    assert statuses(2) != first
    assert 0 < first.count(503) < 60


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ({"kind": "other"}, "faults/0/kind"),
        ({"kind": "error", "rate": 2}, "faults/0/rate"),
        ({"kind": "error", "next": 0}, "faults/0/next"),
        ({"kind": "error", "status": 200}, "faults/0/status"),
        ({"kind": "error", "often": True}, "faults/0/often"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(
    shopper: Shopper, fault: dict[str, Any], complaint: str
) -> None:
    answer = shopper.http.patch("/sandbox/switches", json={"faults": [fault]})

    assert answer.status_code == 400
    assert complaint in answer.json()["message"]
    assert shopper.http.get("/sandbox/switches").json()["faults"] == []
