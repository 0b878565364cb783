"""Everything that goes wrong on the way, with both clients."""

from __future__ import annotations

import logging
import pickle
import traceback

import pytest

from airflow_provider_carbonmark.api.errors import (
    CarbonmarkError,
    RateLimitedError,
    RequestRefusedError,
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


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("kind", ["empty_object", "wrong_types"])
def test_json_that_is_not_the_answer_is_unreadable_or_read_as_nothing(make, sandbox, method, kind):
    sandbox.state.change_switches(faults=[{"kind": kind}])
    if (method, kind) == ("list_prices", "wrong_types"):
        assert make(method) == []
        return
    with pytest.raises(UnreadableAnswerError):
        make(method)


def test_a_checkout_page_that_is_not_on_the_web_is_refused(make, sandbox):
    sandbox.state.change_switches(faults=[{"kind": "bad_urls"}])
    with pytest.raises(UnreadableAnswerError, match="url"):
        make("create_checkout")


def test_a_proof_that_is_not_on_the_web_is_no_proof(make, sandbox):
    sandbox.state.change_switches(faults=[{"kind": "bad_urls"}])
    payment = make("get_payment")
    assert payment.retirement_status == "COMPLETED"
    assert (payment.certificate_url, payment.explorer_url) == (None, None)


def test_an_html_page_is_shown_with_its_type_and_its_beginning(make, sandbox):
    sandbox.state.change_switches(faults=[{"kind": "html"}])
    with pytest.raises(UnreadableAnswerError, match="'text/html', body '<!doctype html>.*It works!"):
        make("get_payment")


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


def test_attempts_are_limited(make, call, sandbox, delays):
    sandbox.state.change_switches(faults=[{"kind": "error", "status": 503, "path": "/quotes"}])
    with pytest.raises(ServiceError):
        make("create_quote", call.retrying(attempts=3))
    assert sandbox.state.request_counts["POST /quotes"] == 3
    assert len(delays) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 501])
def test_a_failure_that_does_not_pass_is_not_tried_again(make, call, sandbox, delays, status):
    sandbox.state.change_switches(faults=[{"kind": "error", "status": status}])
    with pytest.raises(CarbonmarkError):
        make("create_quote", call.retrying())
    assert sandbox.state.request_counts["POST /quotes"] == 1
    assert not delays


def test_the_service_says_how_long_to_wait_in_seconds(make, call, sandbox, delays):
    fault = {"kind": "error", "status": 429, "retry_after": 42, "next": 1}
    sandbox.state.change_switches(faults=[fault])
    make("get_payment", call.retrying())
    assert delays == [42.0]


def test_the_service_says_how_long_to_wait_as_a_date(make, call, sandbox, delays):
    fault = {"kind": "error", "status": 503, "retry_after": 42, "retry_after_as": "date", "next": 1}
    sandbox.state.change_switches(faults=[fault])
    make("get_payment", call.retrying())
    # A date has whole seconds, and some time passes on the way.
    assert 30 < delays[0] <= 42


def test_a_service_that_wants_to_be_left_alone_for_too_long_ends_the_call(make, call, sandbox, delays):
    sandbox.state.change_switches(faults=[{"kind": "error", "status": 429, "retry_after": 3600}])
    with pytest.raises(RateLimitedError) as caught:
        make("get_payment", call.retrying())
    assert caught.value.retry_after == 3600.0
    assert not delays


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


def test_two_checkouts_are_two_even_when_they_are_alike(make, sandbox):
    checkouts = len(sandbox.state.checkouts)
    make("create_checkout")
    make("create_checkout")
    assert len(sandbox.state.checkouts) == checkouts + 2


def test_the_callers_idempotency_key_is_the_one_that_is_sent(call, sandbox, order):
    urls = {call("create_checkout", **order, idempotency_key="october").url for _ in range(2)}
    assert len(urls) == 1
    with pytest.raises(RequestRefusedError, match="used before"):
        call("create_checkout", **order | {"quantity_tonnes": 5}, idempotency_key="october")


def test_a_service_that_is_too_slow_is_a_transport_error(make, call, sandbox):
    sandbox.state.change_switches(faults=[{"kind": "slow", "seconds": 60}])
    with pytest.raises(TransportError, match="total limit"):
        make("get_payment", call.using(timeout=0.2))


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
