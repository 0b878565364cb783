"""Everything that goes wrong on the way, with both clients."""

from __future__ import annotations

import logging
import pickle
import traceback

import pytest

from airflow_provider_carbonmark.api.errors import (
    CarbonmarkError,
    ServiceError,
    TransportError,
    UnreadableAnswerError,
)
from airflow_provider_carbonmark.api.retries import is_passing
from tests.integration.api.conftest import KEY

BROKEN = {
    "html": UnreadableAnswerError,
    "redirect": UnreadableAnswerError,
    "invalid_json": UnreadableAnswerError,
    "oversized": UnreadableAnswerError,
    "oversized_chunked": UnreadableAnswerError,
    "drop": TransportError,
    "drop_mid_body": TransportError,
    "error": ServiceError,
}
CALLS = ["list_prices", "create_quote", "create_checkout", "get_payment"]


@pytest.fixture
def make(call, order, pay, sandbox):
    """Return a function that makes any of the calls with fitting arguments."""
    payment_id = pay(call("create_checkout", **order).url)
    arguments = {
        "list_prices": {},
        "create_quote": {name: order[name] for name in ("asset_price_source_id", "quantity_tonnes")},
        "create_checkout": order,
        "get_payment": {"payment_id": payment_id},
    }

    def make(method, call=call):
        return call(method, **arguments[method])

    return make


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_answer_is_the_error_that_says_how(make, sandbox, method, kind):
    make(method)
    sandbox.state.change_switches(faults=[{"kind": kind}])
    with pytest.raises(CarbonmarkError) as caught:
        make(method)
    assert type(caught.value) is BROKEN[kind]
    assert is_passing(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args


def test_a_proof_that_is_not_on_the_web_is_no_proof(make, sandbox):
    sandbox.state.change_switches(faults=[{"kind": "bad_urls"}])
    payment = make("get_payment")
    assert payment.retirement_status == "COMPLETED"
    assert (payment.certificate_url, payment.explorer_url) == (None, None)


def test_a_redirect_is_not_followed_and_its_host_is_named(make, sandbox):
    sandbox.state.change_switches(faults=[{"kind": "redirect", "location": f"{sandbox.url}/stolen"}])
    with pytest.raises(UnreadableAnswerError, match="redirect to 127.0.0.1"):
        make("get_payment")
    assert "/stolen" not in [request["path"] for request in sandbox.state.requests]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("method", CALLS)
def test_a_call_survives_failures_that_pass(make, call, sandbox, delays, method, status):
    sandbox.state.change_switches(faults=[{"kind": "error", "status": status, "next": 3}])
    assert make(method, call.retrying(attempts=4)) is not None
    assert len(delays) == 3
    assert all(0 <= delay <= longest for delay, longest in zip(delays, (0.5, 1.0, 2.0), strict=True))


@pytest.mark.parametrize("kind", ["drop", "drop_mid_body"])
@pytest.mark.parametrize("method", CALLS)
def test_a_call_survives_lost_connections(make, call, sandbox, delays, method, kind):
    sandbox.state.change_switches(faults=[{"kind": kind, "next": 3}])
    assert make(method, call.retrying(attempts=4)) is not None


@pytest.mark.parametrize("kind", ["html", "invalid_json", "redirect", "oversized"])
def test_an_unreadable_answer_is_asked_for_again_but_nothing_is_made_again(make, call, sandbox, delays, kind):
    sandbox.state.change_switches(faults=[{"kind": kind, "next": 1}])
    assert make("get_payment", call.retrying()).payment_status == "PAID"
    for method in ("create_quote", "create_checkout"):
        sandbox.state.change_switches(faults=[{"kind": kind, "next": 1}])
        with pytest.raises(UnreadableAnswerError):
            make(method, call.retrying())


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 413, 422, 501, 505])
@pytest.mark.parametrize(
    ("method", "counted"), [("create_quote", "POST /quotes"), ("get_payment", "GET /payments/{id}")]
)
def test_a_failure_that_does_not_pass_is_not_tried_again(
    make, call, sandbox, delays, method, counted, status
):
    sandbox.state.change_switches(faults=[{"kind": "error", "status": status}])
    with pytest.raises(CarbonmarkError):
        make(method, call.retrying())
    assert sandbox.state.request_counts[counted] == 1
    assert not delays


# A date has whole seconds, and some time passes on the way.
@pytest.mark.parametrize(("status", "written", "shortest"), [(429, "seconds", 42), (503, "date", 31)])
def test_the_service_says_how_long_to_wait(make, call, sandbox, delays, status, written, shortest):
    fault = {"kind": "error", "status": status, "retry_after": 42, "retry_after_as": written, "next": 1}
    sandbox.state.change_switches(faults=[fault])
    make("get_payment", call.retrying())
    (delay,) = delays
    assert shortest <= delay <= 42


@pytest.mark.parametrize("fault", ["drop", "error"])
def test_a_checkout_whose_answer_was_lost_is_made_once(make, call, sandbox, delays, fault):
    checkouts = len(sandbox.state.checkouts)
    sandbox.state.change_switches(faults=[{"kind": fault, "after_work": True, "next": 3}])
    make("create_checkout", call.retrying(attempts=4))
    assert len(sandbox.state.checkouts) == checkouts + 1
    keys = [
        request["idempotency_key"] for request in sandbox.state.requests if request["path"] == "/checkout"
    ][1:]
    assert len(keys) == 4
    assert len(set(keys)) == 1


def test_the_key_is_in_no_log_line_and_no_error_of_any_fault(make, call, sandbox, delays, caplog):
    caplog.set_level(logging.DEBUG)
    shown = []
    for kind in BROKEN:
        for method in CALLS:
            sandbox.state.change_switches(faults=[{"kind": kind}])
            with pytest.raises(CarbonmarkError) as caught:
                make(method, call.retrying(attempts=2))
            shown += traceback.format_exception(caught.value)
            shown.append(repr(caught.value))
    assert KEY not in "".join(shown)
    assert "Attempt 1 of 2" in caplog.text
    assert KEY not in caplog.text
