"""The one algorithm of both clients, driven by hand: no network, no clock."""

from __future__ import annotations

import gzip
import json
import logging
import re
import zlib
from decimal import Decimal

import pytest

from airflow_provider_carbonmark.api import calls as calls_module
from airflow_provider_carbonmark.api.answers import MAX_BODY_BYTES
from airflow_provider_carbonmark.api.errors import (
    AccessDeniedError,
    CarbonmarkError,
    InvalidInputError,
    NotFoundError,
    RateLimitedError,
    RequestRefusedError,
    ServiceError,
    TransportError,
    UnreadableAnswerError,
)
from airflow_provider_carbonmark.api.retries import DEFAULT_RETRIES, NO_RETRIES, RetryPolicy
from tests.unit.api.conftest import KEY, PAID, Started, answer_with, make_calls

CHECKOUT = {
    "asset_price_source_id": "listing-1",
    "quantity_tonnes": Decimal("12.345"),
    "metadata": {"beneficiary_name": "Acme", "retirement_message": "For October"},
    "success_url": "https://a.example/paid",
    "cancel_url": "https://a.example/cancelled",
    "idempotency_key": None,
}


def ask(status=200, body=PAID, retries=NO_RETRIES, **headers):
    """Return what reading a payment comes to when the service answers so."""
    exchange = Started(make_calls(retries).get_payment("pay_1"))
    with pytest.raises((StopIteration, CarbonmarkError)) as caught:
        answer_with(exchange, status, body, **headers)
    assert KEY not in str(caught.value)
    return caught.value.value if isinstance(caught.value, StopIteration) else caught.value


def test_a_payment_is_read_with_decimals():
    assert ask().quantity_tonnes == Decimal("12.345")


def test_requests_carry_who_we_are_and_what_we_take():
    request = next(make_calls().get_payment("pay_1"))
    assert str(request.url) == "https://checkout.example.com/base/payments/pay_1"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["accept"] == "application/json"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["user-agent"] == "airflow-provider-carbonmark/0"


def test_without_a_key_none_is_sent():
    assert "authorization" not in next(make_calls(api_key=None).get_payment("pay_1")).headers


def test_the_public_price_list_does_not_get_the_key():
    request = next(make_calls().list_prices(["VCS-191", "ICR-112"], Decimal("0.500")))
    assert (
        str(request.url)
        == "https://market.example.com/prices?projectIds=VCS-191&projectIds=ICR-112&minSupply=0.5"
    )
    assert "authorization" not in request.headers


@pytest.mark.parametrize(
    ("project_ids", "min_supply"), [("VCS-191", None), ([""], None), ([5], None), (None, 0), (None, "lots")]
)
def test_a_price_query_that_makes_no_sense_is_refused(project_ids, min_supply):
    with pytest.raises(InvalidInputError, match="project_ids|min_supply"):
        next(make_calls().list_prices(project_ids, min_supply))


def test_a_checkout_is_sent_as_documented():
    request = next(make_calls().create_checkout(**CHECKOUT))
    assert request.method == "POST"
    assert str(request.url) == "https://checkout.example.com/base/checkout"
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.content, parse_float=str) == {
        **{name: value for name, value in CHECKOUT.items() if name != "idempotency_key"},
        "quantity_tonnes": "12.345",
    }


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"asset_price_source_id": " "}, "asset_price_source_id"),
        ({"quantity_tonnes": "0.0001"}, "quantity_tonnes"),
        ({"success_url": "https://a.example/paid?run=1"}, "success_url"),
        ({"cancel_url": "javascript:alert(1)"}, "cancel_url"),
        ({"metadata": {"beneficiary_name": "x" * 10_000}}, "beneficiary_name"),
        ({"metadata": {"retirement_message": ""}}, "retirement_message"),
        ({"metadata": {"start": object()}}, "metadata"),
        ({"metadata": {"share": float("nan")}}, "metadata"),
        ({"idempotency_key": "a\r\nb"}, "idempotency_key"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"idempotency_key": "x" * 256}, "idempotency_key"),
    ],
)
def test_a_checkout_that_makes_no_sense_is_refused_before_anything_is_sent(changes, field):
    with pytest.raises(InvalidInputError) as caught:
        next(make_calls().create_checkout(**CHECKOUT | changes))
    assert caught.value.field == field


@pytest.mark.parametrize("given_key", [None, "order-2026-10"])
def test_every_attempt_carries_the_same_idempotency_key(given_key):
    exchange = make_calls(RetryPolicy(attempts=5)).create_checkout(
        **CHECKOUT | {"idempotency_key": given_key}
    )
    keys = [next(exchange).headers["idempotency-key"]]
    for _ in range(4):
        assert isinstance(exchange.send(TransportError("Reset.")), float)
        keys.append(next(exchange).headers["idempotency-key"])
    assert len(keys) == 5
    assert len(set(keys)) == 1
    assert given_key in (None, keys[0])
    with pytest.raises(TransportError):
        exchange.send(TransportError("Reset."))


def test_each_checkout_has_a_key_of_its_own():
    keys = {next(make_calls().create_checkout(**CHECKOUT)).headers["idempotency-key"] for _ in range(10)}
    assert len(keys) == 10
    assert all(re.fullmatch(r"[0-9a-f-]{36}", key) for key in keys)


def test_a_retry_is_logged_with_reason_and_delay_and_without_the_key(caplog):
    exchange = Started(make_calls(DEFAULT_RETRIES).get_payment("pay_1"))
    body = json.dumps({"message": f"slow down, {KEY}"}).encode()
    with caplog.at_level(logging.INFO):
        assert answer_with(exchange, 429, body, retry_after="17") == 17.0
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "Attempt 1 of 4" in record.getMessage()
    assert "17.0 s" in record.getMessage()
    assert "slow down, ***" in record.getMessage()
    assert KEY not in caplog.text


def test_time_that_has_passed_counts_against_the_longest_time(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(calls_module.time, "monotonic", lambda: now[0])
    exchange = make_calls(RetryPolicy(attempts=99, max_elapsed=90.0)).get_payment("pay_1")
    next(exchange)
    now[0] += 89.0
    assert exchange.send(TransportError("Timeout.")) <= 1.0
    next(exchange)
    now[0] += 1.0
    with pytest.raises(TransportError):
        exchange.send(TransportError("Timeout."))


@pytest.mark.parametrize(
    ("status", "kind", "remedy"),
    [
        (400, RequestRefusedError, "Check the inputs"),
        (401, AccessDeniedError, "API key in the connection's password"),
        (403, AccessDeniedError, "API key in the connection's password"),
        (404, NotFoundError, "host"),
        (408, RequestRefusedError, "Check the inputs"),
        (409, RequestRefusedError, "sold out or expired"),
        (422, RequestRefusedError, "Check the inputs"),
        (429, RateLimitedError, "less often"),
        (503, ServiceError, "later"),
        (599, ServiceError, "later"),
        (999, ServiceError, "later"),
    ],
)
@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        ({"message": "Not so.", "name": "SomeError"}, "Not so.", "SomeError"),
        ({"statusCode": 1, "error": "Some Error", "message": "Not so.", "code": "SOME"}, "Not so.", "SOME"),
        ({"statusCode": 1, "error": "Some Error", "message": "Not so."}, "Not so.", "Some Error"),
        (
            {"statusCode": 1, "error": "Some Error", "message": ["Not so.", "Nor so."]},
            "Not so.; Nor so.",
            "Some Error",
        ),
    ],
)
def test_an_error_status_tells_message_code_request_id_and_remedy(status, kind, remedy, body, message, code):
    error = ask(status, json.dumps(body).encode(), x_request_id="req_1")
    assert type(error) is kind
    assert (error.status, error.code, error.request_id) == (status, code, "req_1")
    assert message in str(error)
    assert remedy in str(error)
    assert f"HTTP {status}, code {code}, request id req_1" in str(error)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>Bad gateway</html>", b"[1]", b'{"message": 5, "code": {}}', b"\xff\xfe", b"[" * 99999],
)
def test_an_error_status_counts_whatever_its_body(body):
    error = ask(502, body)
    assert type(error) is ServiceError
    assert error.code is None
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    "name", ["x_request_id", "request_id", "x_correlation_id", "x_amzn_requestid", "cf_ray"]
)
def test_the_request_id_is_found_in_usual_headers(name):
    assert ask(500, **{name: "req_1"}).request_id == "req_1"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_names_the_host_only(status):
    error = ask(status, b"", location="https://user:pass@evil.example/steal?token=1")
    assert type(error) is UnreadableAnswerError
    assert "evil.example" in str(error)
    assert "pass" not in str(error).replace("passed", "")
    assert "steal" not in str(error)


@pytest.mark.parametrize("location", ["/elsewhere", "", "http://[::1"])
def test_a_redirect_without_a_host_is_refused_too(location):
    assert "redirect" in str(ask(302, b"", location=location))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"<!doctype html><h1>It works!</h1>", "is not JSON"),
        (b'{"status": "PAID",,', "is not JSON"),
        (b'{"quantity_tonnes": NaN}', "is not JSON"),
        (b'{"status": "\xff"}', "is not JSON"),
        (b'{"n": 1.0e99999999999999999999}', "is not JSON"),
        (b'{"n": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b'{"n": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "is not JSON"),
        (b"[]", "JSON array instead of an object"),
        (b'"PAID"', "JSON string instead of an object"),
        (b"true", "JSON boolean instead of an object"),
        (b"1.5", "JSON number instead of an object"),
        (b"null", "JSON null instead of an object"),
        (b"{}", "neither an id nor a status"),
        (b'{"message": "ok"}', "neither an id nor a status"),
        (b"x" * (MAX_BODY_BYTES + 1), "longer than 4 MiB"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
def test_an_answer_that_is_not_what_is_documented_is_unreadable(body, problem):
    error = ask(200, body, content_type="text/odd", x_request_id="req_1")
    assert type(error) is UnreadableAnswerError
    assert problem in str(error)
    assert "'text/odd'" in str(error)
    assert (error.status, error.request_id) == (200, "req_1")
    assert len(str(error)) < 600


def test_an_answer_with_a_byte_order_mark_is_read():
    assert ask(body=b"\xef\xbb\xbf" + PAID).payment_status == "PAID"


def test_an_excerpt_is_one_line_without_control_characters():
    error = str(ask(body=b"<h1>\x1b[31mred\x00\r\nnext"))
    assert "\\x1b[31mred\\x00 next" in error
    assert "\x1b" not in error


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_a_body_that_is_compressed_unasked_is_read(compress):
    encoding = "gzip" if compress is gzip.compress else "deflate"
    assert ask(body=compress(PAID), content_encoding=encoding).payment_status == "PAID"


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(b" " * (MAX_BODY_BYTES + 1) + PAID), "gzip"),
        (gzip.compress(b"x" * 100_000_000, 1), "gzip"),
        (gzip.compress(PAID)[:-9], "gzip"),
        (PAID, "gzip"),
        (PAID, "br"),
    ],
    ids=["just too long", "bomb", "cut", "not gzip", "brotli"],
)
def test_a_compressed_body_is_never_unpacked_beyond_the_limit(body, encoding):
    assert "is compressed" in str(ask(body=body, content_encoding=encoding))


@pytest.mark.parametrize(
    "echo",
    [
        {"status": 401, "body": json.dumps({"message": f"Key {KEY} is wrong", "code": KEY}).encode()},
        {"status": 500, "body": f"<html>{' ' * 5000}{KEY}</html>".encode(), "x_request_id": f"id-{KEY}"},
        {"status": 500, "body": b"x" * 180 + KEY.encode()},
        {"status": 302, "body": b"", "location": f"https://{KEY}.evil.example/"},
        {"body": f"<html>{KEY}</html>".encode(), "content_type": f"text/{KEY}"},
        {"body": json.dumps({"url": f"ftp://evil.example/{KEY}"}).encode()},
        {"body": json.dumps([KEY]).encode()},
    ],
)
def test_the_key_is_in_no_error_even_when_the_service_echoes_it(echo):
    error = str(ask(**echo))
    assert KEY[:12] not in error
    assert "***" in error


def test_an_address_that_echoes_the_key_leaves_no_part_of_it():
    exchange = Started(make_calls().create_checkout(**CHECKOUT))
    body = json.dumps({"url": f"ftp://evil.example/{'x' * 50}{KEY}"}).encode()
    with pytest.raises(UnreadableAnswerError) as caught:
        answer_with(exchange, 200, body)
    assert KEY[:8] not in str(caught.value)


def test_the_request_of_a_poll_is_built_once():
    calls = make_calls()
    assert next(calls.get_payment("pay_1")) is next(calls.get_payment("pay_1"))
    assert next(calls.get_payment("pay_1")) is not next(calls.get_payment("pay_2"))
