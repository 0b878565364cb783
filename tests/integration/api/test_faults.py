"""Everything that goes wrong on the way: with both clients where it is their transport's, with one where the algorithm is shared."""

from __future__ import annotations

import logging
import re
import traceback
from itertools import cycle

import pytest

from airflow_provider_carbonmark.api import errors
from tests.integration.api.conftest import KEY, ONE_CLIENT

BROKEN = {
    "html": (errors.UnreadableAnswerError, "is not JSON (content type 'text/html', body '<!doctype html>"),
    "redirect": (errors.UnreadableAnswerError, "is a redirect to the same host, which is not followed"),
    "invalid_json": (errors.UnreadableAnswerError, "is not JSON (content type 'application/json', body '{"),
    "empty_object": (errors.UnreadableAnswerError, "tells neither an id nor a status"),
    "wrong_types": (errors.UnreadableAnswerError, "tells neither an id nor a status"),
    "oversized": (errors.UnreadableAnswerError, "is longer than 4 MiB"),
    "oversized_chunked": (errors.UnreadableAnswerError, "is longer than 4 MiB"),
    "drop": (errors.TransportError, "https:// is right instead of http://. Check the connection's host"),
    "drop_mid_body": (errors.TransportError, "Check the network and the proxy, and the connection's host"),
    "error": (errors.ServiceError, "Carbonmark says 'The sandbox was told to fail.'"),
}
CALLS = ["list_prices", "create_quote", "create_checkout", "get_payment"]


@pytest.fixture
def make(call, order, sandbox):
    """Return a function that makes any of the calls with fitting arguments."""
    payment_id = sandbox.pay(call("create_checkout", **order).url)
    arguments = {
        "list_prices": {},
        "create_quote": {name: order[name] for name in ("asset_price_source_id", "quantity_tonnes")},
        "create_checkout": order,
        "get_payment": {"payment_id": payment_id},
    }

    def make(method, call=call, **fault):
        if fault:
            sandbox.state.change_switches(faults=[fault])
        return call(method, **arguments[method])

    return make


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_answer_is_the_error_that_says_how(make, kind):
    error, says = BROKEN[kind]
    with pytest.raises(error, match=re.escape(says)):
        make("get_payment", kind=kind)


@ONE_CLIENT
def test_a_proof_that_is_not_on_the_web_is_no_proof(make):
    payment = make("get_payment", kind="bad_urls")
    assert payment.retirement_status == "COMPLETED"
    assert (payment.certificate_url, payment.explorer_url) == (None, None)


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        *(("list_prices", "drop_mid_body"), ("create_quote", "drop")),
        *(("create_checkout", "error"), ("get_payment", "error")),
    ],
)
def test_a_call_survives_failures_that_pass(make, call, delays, method, fault):
    assert make(method, call.retrying(attempts=4), kind=fault, next=3) is not None
    assert len(delays) == 3
    assert all(0 <= delay <= longest for delay, longest in zip(delays, (0.5, 1.0, 2.0), strict=True))


@ONE_CLIENT
def test_an_unreadable_answer_is_asked_for_again_but_nothing_is_made_again(make, call, sandbox, delays):
    assert make("get_payment", call.retrying(), kind="html", next=1).payment_status == "PAID"
    for method, counted in (("create_quote", "POST /quotes"), ("create_checkout", "POST /checkout")):
        before = sandbox.state.request_counts[counted]
        with pytest.raises(errors.UnreadableAnswerError):
            make(method, call.retrying(), kind="html", after_work=True, next=1)
        assert sandbox.state.request_counts[counted] == before + 1


@ONE_CLIENT
@pytest.mark.parametrize(("status", "written"), [(429, "seconds"), (503, "date")])
def test_the_service_says_how_long_to_wait(make, call, delays, status, written):
    retry_after = {"retry_after": 42, "retry_after_as": written}
    make("get_payment", call.retrying(), kind="error", status=status, next=1, **retry_after)
    # A date has whole seconds, and some time passes on the way.
    assert 31 <= delays[0] <= 42


@pytest.mark.parametrize("fault", ["drop", "error"])
def test_a_checkout_whose_answer_was_lost_is_made_once(make, call, sandbox, delays, fault):
    checkouts = len(sandbox.state.checkouts)
    make("create_checkout", call.retrying(attempts=4), kind=fault, after_work=True, next=3)
    assert len(sandbox.state.checkouts) == checkouts + 1
    _, *keys = (each["idempotency_key"] for each in sandbox.state.requests if each["path"] == "/checkout")
    assert keys == [keys[0]] * 4


def test_the_key_is_in_no_log_line_and_no_error_of_any_fault(make, call, delays, caplog):
    caplog.set_level(logging.DEBUG)
    shown = []
    for kind, method in zip(BROKEN, cycle(CALLS[1:]), strict=False):
        with pytest.raises(errors.CarbonmarkError) as caught:
            make(method, call.retrying(attempts=2), kind=kind)
        shown += traceback.format_exception(caught.value)
        shown.append(repr(caught.value))
    assert KEY not in "".join(shown)
    assert "Attempt 1 of 2" in caplog.text
    assert KEY not in caplog.text
