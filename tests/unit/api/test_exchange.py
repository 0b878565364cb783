"""The one algorithm of both clients, driven by hand: no network, no clock."""

from __future__ import annotations

import gzip
import json
import logging
import re
import zlib
from decimal import Decimal

import httpx
import pytest

from airflow_provider_carbonmark.api import calls as calls_module, errors
from airflow_provider_carbonmark.api.answers import MAX_BODY_BYTES, Answer
from airflow_provider_carbonmark.api.retries import DEFAULT_RETRIES, RetryPolicy
from tests.unit.api.conftest import CHECKOUT, KEY, make_calls, outcome

PAID = b'{"status": "PAID", "quantity_tonnes": 12.345}'


def ask(status=200, body=PAID, **headers):
    """Return what reading a payment comes to when the service answers so."""
    return outcome(make_calls().get_payment("pay_1"), body, status, **headers)


def test_requests_carry_who_we_are_and_what_we_take():
    request = next(make_calls().get_payment("pay_1"))
    assert str(request.url) == "https://checkout.example.com/base/payments/pay_1"
    assert dict(request.headers) == {
        "host": "checkout.example.com",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "airflow-provider-carbonmark/0",
        "authorization": f"Bearer {KEY}",
    }
    assert "authorization" not in next(make_calls(api_key=None).get_payment("pay_1")).headers


def test_the_public_market_does_not_get_the_key():
    calls = make_calls()
    prices = next(calls.list_prices(["VCS-191", "ICR-112"], Decimal("0.500")))
    projects = next(calls.list_projects(["VCS-191"]))
    query = "projectIds=VCS-191&projectIds=ICR-112&minSupply=0.5"
    assert str(prices.url) == f"https://market.example.com/prices?{query}"
    assert str(projects.url) == "https://market.example.com/carbonProjects?keys=VCS-191&limit=50&offset=0"
    assert "authorization" not in {*prices.headers, *projects.headers}


@pytest.mark.parametrize(
    ("project_ids", "min_supply"), [("VCS-191", None), ([""], None), ([5], None), (None, 0), (None, "lots")]
)
def test_a_price_query_that_makes_no_sense_is_refused(project_ids, min_supply):
    with pytest.raises(errors.InvalidInputError, match="project_ids|min_supply"):
        next(make_calls().list_prices(project_ids, min_supply))


def test_a_checkout_is_sent_as_documented():
    request = next(make_calls().create_checkout(**CHECKOUT))
    assert (request.method, str(request.url)) == ("POST", "https://checkout.example.com/base/checkout")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["idempotency-key"] == "order-2026-10"
    sent = json.loads(request.content, parse_float=Decimal)
    assert sent | {"idempotency_key": "order-2026-10"} == CHECKOUT


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"asset_price_source_id": " "}, "asset_price_source_id"),
        ({"quantity_tonnes": "0.0001"}, "quantity_tonnes"),
        ({"success_url": "https://a.example/paid?run=1"}, "success_url"),
        ({"cancel_url": "javascript:alert(1)"}, "cancel_url"),
        ({"metadata": {"beneficiary_name": "x" * 256}}, "beneficiary_name"),
        ({"metadata": {"retirement_message": "x" * 501}}, "retirement_message"),
        *(({"metadata": {"odd": value}}, "metadata") for value in (object(), float("nan"))),
        *(({"idempotency_key": key}, "idempotency_key") for key in ("a\r\nb", "", "x" * 256)),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_checkout_that_makes_no_sense_is_refused_before_anything_is_sent(changes, field):
    with pytest.raises(errors.InvalidInputError) as caught:
        next(make_calls().create_checkout(**CHECKOUT | changes))
    assert caught.value.field == field


def test_each_checkout_has_an_idempotency_key_of_its_own():
    order = CHECKOUT | {"idempotency_key": None}
    keys = {next(make_calls().create_checkout(**order)).headers["idempotency-key"] for _ in range(9)}
    assert len(keys) == 9
    assert all(re.fullmatch(r"[0-9a-f-]{36}", key) for key in keys)


def test_a_retry_is_logged_with_reason_and_delay_and_without_the_key(caplog):
    exchange = make_calls(DEFAULT_RETRIES).get_payment("pay_1")
    body = json.dumps({"message": f"slow down, {KEY}"}).encode()
    answer = Answer(next(exchange), 429, httpx.Headers({"retry-after": "17"}), body)
    with caplog.at_level(logging.INFO):
        assert exchange.send(answer) == 17.0
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
    assert exchange.send(errors.TransportError("Timeout.")) <= 1.0
    next(exchange)
    now[0] += 1.0
    with pytest.raises(errors.TransportError):
        exchange.send(errors.TransportError("Timeout."))


@pytest.mark.parametrize(
    ("status", "kind", "remedy"),
    [
        *((status, errors.RequestRefusedError, "Check the inputs") for status in (400, 408, 422)),
        *(
            (status, errors.AccessDeniedError, "API key in the connection's password")
            for status in (401, 403)
        ),
        (404, errors.NotFoundError, "host"),
        (409, errors.RequestRefusedError, "sold out or expired"),
        (429, errors.RateLimitedError, "less often"),
        *((status, errors.ServiceError, "later") for status in (503, 599, 999)),
    ],
)
def test_an_error_status_tells_its_kind_and_remedy(status, kind, remedy):
    error = ask(status, b'{"message": "Not so.", "name": "SomeError"}', x_request_id="req_1")
    assert (type(error), error.status) == (kind, status)
    assert "Not so." in str(error)
    assert remedy in str(error)
    assert f"HTTP {status}, code SomeError, request id req_1" in str(error)


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        ({"error": "Some Error", "message": "Not so.", "code": "SOME"}, "Not so.", "SOME"),
        ({"statusCode": 422, "error": "Some Error", "message": "Not so."}, "Not so.", "Some Error"),
        ({"error": "Some Error", "message": ["Not so.", "Nor so."]}, "Not so.; Nor so.", "Some Error"),
        ({"message": 5, "code": {}}, '{"message": 5, "code": {}}', None),
        *((body, "", None) for body in (b"", b"<html>Bad gateway</html>", b"[1]", b"\xff\xfe", b"[" * 99999)),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_error_status_counts_whatever_its_body(body, message, code):
    error = ask(422, body)
    assert (type(error), error.code) == (errors.RequestRefusedError, code)
    assert message in str(error)
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    "name", ["x_request_id", "request_id", "x_correlation_id", "x_amzn_requestid", "cf_ray"]
)
def test_the_request_id_is_found_in_usual_headers(name):
    assert ask(500, **{name: "req_1"}).request_id == "req_1"


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_refused_and_names_the_host_only(status):
    error = ask(status, b"", location="https://user:pass@evil.example/steal?token=1")
    assert type(error) is errors.UnreadableAnswerError
    assert "redirect to evil.example, which is not followed" in str(error)
    for hidden in ("user", "steal", "token"):
        assert hidden not in str(error)
    for location in ("/elsewhere", "", "http://[::1"):
        assert "redirect" in str(ask(status, b"", location=location))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        *((body, "is empty") for body in (b"", b"  \n")),
        *((body, "is not JSON") for body in (b"<!doctype html><h1>It works!</h1>", b'{"status": "PAID",,')),
        *((body, "is not JSON") for body in (b'{"quantity_tonnes": NaN}', b'{"status": "\xff"}')),
        *((b'{"n": ' + odd, "is not JSON") for odd in (b"1.0e99999999999999999999}", b"9" * 5000 + b"}")),
        (b'{"n": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "is not JSON"),
        (b"[]", "JSON array instead of an object"),
        (b'"PAID"', "JSON string instead of an object"),
        (b"true", "JSON boolean instead of an object"),
        (b"1.5", "JSON number instead of an object"),
        (b"null", "JSON null instead of an object"),
        *((body, "neither an id nor a status") for body in (b"{}", b'{"message": "ok"}')),
        (b"x" * (MAX_BODY_BYTES + 1), "longer than 4 MiB"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
def test_an_answer_that_is_not_what_is_documented_is_unreadable(body, problem):
    error = ask(200, body, content_type="text/odd", x_request_id="req_1")
    assert (type(error), error.status, error.request_id) == (errors.UnreadableAnswerError, 200, "req_1")
    assert problem in str(error)
    assert "'text/odd'" in str(error)
    assert len(str(error)) < 600


def test_an_excerpt_is_one_line_without_control_characters():
    error = str(ask(body=b"<h1>\x1b[31mred\x00\r\nnext"))
    assert "\\x1b[31mred\\x00 next" in error
    assert "\x1b" not in error


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (PAID, "identity"),
        (b"\xef\xbb\xbf" + PAID, "identity"),
        # Compressed unasked.
        *((gzip.compress(PAID), "gzip"), (zlib.compress(PAID), "deflate")),
    ],
    ids=["plain", "byte order mark", "gzip", "deflate"],
)
def test_a_payment_is_read_with_decimals(body, encoding):
    assert ask(body=body, content_encoding=encoding).quantity_tonnes == Decimal("12.345")


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(b" " * (MAX_BODY_BYTES + 1) + PAID), "gzip"),
        (gzip.compress(b"x" * 100_000_000, 1), "gzip"),
        (gzip.compress(PAID)[:-9], "gzip"),
        *((PAID, "gzip"), (PAID, "br")),
    ],
    ids=["just too long", "bomb", "cut", "not gzip", "brotli"],
)
def test_a_compressed_body_is_never_unpacked_beyond_the_limit(body, encoding):
    assert "is compressed" in str(ask(body=body, content_encoding=encoding))


@pytest.mark.parametrize(
    "echo",
    [
        {"status": 401, "body": {"message": f"Key {KEY} is wrong", "code": KEY}},
        {"status": 500, "body": f"<html>{' ' * 5000}{KEY}</html>".encode(), "x_request_id": f"id-{KEY}"},
        {"status": 500, "body": b"x" * 180 + KEY.encode()},
        {"status": 302, "body": b"", "location": f"https://{KEY}.evil.example/"},
        {"body": f"<html>{KEY}</html>".encode(), "content_type": f"text/{KEY}"},
        {"body": [KEY]},
        # An address, which would be shown shortened.
        {"body": {"url": f"ftp://evil.example/{'x' * 50}{KEY}"}},
    ],
    ids=["words", "page", "at the cut", "redirect", "content type", "JSON", "address"],
)
def test_the_key_is_in_no_error_even_when_the_service_echoes_it(echo):
    error = str(outcome(make_calls().create_checkout(**CHECKOUT), **echo))
    assert KEY[:12] not in error
    assert "***" in error


def test_the_request_of_a_poll_is_built_once():
    calls = make_calls()
    assert next(calls.get_payment("pay_1")) is next(calls.get_payment("pay_1"))
    assert next(calls.get_payment("pay_1")) is not next(calls.get_payment("pay_2"))
