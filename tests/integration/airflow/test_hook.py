"""The hook: its calls, and a connection test that tells a wrong key from a wrong host without buying anything."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal

import pytest

from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook
from tests.integration.airflow.parts import stranger
from tests.integration.conftest import KEY, NOWHERE


def test_the_market_is_asked_as_told_and_a_payment_is_the_same_without_blocking(listing, sandbox, buy):
    sandbox.state.change_switches(retirement_seconds=0)
    hook = CarbonmarkHook()
    assert {each.project_id for each in hook.list_prices(project_ids=[listing.project_id])} == {
        listing.project_id
    }
    assert all(each.supply >= 5 for each in hook.list_prices(min_supply=Decimal(5)))
    _, payment_id = buy()
    assert asyncio.run(hook.aget_payment(payment_id)) == hook.get_payment(payment_id)


# --- the connection test


def check() -> tuple[bool, str]:
    status, message = CarbonmarkHook().test_connection()
    assert isinstance(status, bool)
    assert isinstance(message, str)
    assert KEY not in message
    return status, message


@pytest.mark.parametrize(
    ("key", "environment", "mode", "error_shape"),
    [
        (KEY, "production", "production", "message_name"),
        (KEY, "test", "test mode: nothing is retired", "status_code"),
        ("cm_api_sandbox_1", None, "test mode: nothing is retired", "message_name"),
    ],
)
def test_a_working_connection_says_what_it_is(connect, sandbox, key, environment, mode, error_shape):
    sandbox.state.change_switches(error_shape=error_shape)
    connect(key, environment=environment)
    works, message = check()
    assert works
    # It buys nothing, and gives the key to the Checkout Service only.
    assert [(each["method"], each["path"], each["has_key"]) for each in sandbox.state.requests] == [
        ("GET", "/payments/airflow-connection-test", True),
        ("GET", "/prices", False),
    ]
    assert "accepts the API key" in message
    assert mode in message
    assert f"{len(CarbonmarkHook().list_prices())} price sources" in message


@pytest.mark.parametrize(
    ("key", "status", "error_shape"),
    [("wrong", 401, "message_name"), ("", 401, "status_code"), ("cm_api_forbidden_1", 403, "status_code")],
)
def test_a_wrong_key_is_told_from_a_wrong_host(connect, sandbox, key, status, error_shape):
    sandbox.state.change_switches(error_shape=error_shape)
    connect(key)
    works, message = check()
    assert not works
    assert "refuses the API key: check the connection's password" in message
    assert f"HTTP {status}" in message


def test_a_service_that_needs_no_key_works_without_one(connect, sandbox):
    sandbox.state.change_switches(require_key=False)
    connect("")
    assert check()[0]


@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [
        (404, "text/html", b"<h1>404 Not Found</h1>"),
        (404, "application/json", b"[]"),
        (200, "application/json", b"{}"),
        (302, "text/html", b""),
        (200, "text/html", b""),
        # It knows every payment.
        (200, "application/json", b'{"id": "airflow-connection-test", "status": "PAID"}'),
    ],
)
def test_a_stranger_at_the_host_is_recognised(connect, status, content_type, body):
    with stranger(status, content_type, body) as url:
        connect(host=url)
        works, message = check()
    assert not works
    assert url in message
    assert "check the connection's host" in message


def test_a_host_where_nothing_listens(connect):
    connect(host=NOWHERE)
    works, message = check()
    assert not works
    assert "connection's host" in message


@pytest.mark.parametrize("fault", [{"kind": "error", "status": 503}, {"kind": "drop"}])
def test_a_service_in_trouble_is_asked_once_and_says_so(connect, sandbox, fault):
    sandbox.state.change_switches(faults=[{**fault, "path": "/payments/"}])
    works, message = check()
    assert not works
    assert "can't be used" in message
    assert len(sandbox.state.requests) == 1


@pytest.mark.parametrize("market", ["refused", "stranger"])
def test_a_wrong_market_api_is_told_from_a_wrong_checkout_service(connect, market):
    with stranger(200) as url:
        connect(market_url=url if market == "stranger" else NOWHERE)
        works, message = check()
    assert not works
    assert "The Checkout Service answers, but the market API" in message
    assert "check market_url in the connection's extra" in message


@pytest.mark.parametrize("changes", [{"host": "ftp://example.com"}, {"timeout": "soon"}, {"key": "gehe im"}])
def test_an_unusable_connection_is_an_answer_too(connect, changes):
    connect(**changes)
    works, message = check()
    assert not works
    assert "connection 'carbonmark_default', " in message
    assert "gehe" not in message


@pytest.mark.filterwarnings("ignore:ProvidersManager.hooks is deprecated")  # Airflow about itself
def test_airflow_itself_can_test_the_connection(connect, sandbox):
    # What the button in the connection form does.
    from airflow.models import Connection

    connection = Connection(  # noqa: AIR311 - the API server's, which has the button
        conn_id="carbonmark_default",
        conn_type="carbonmark",
        host=sandbox.url,
        password=KEY,
        extra=json.dumps({"market_url": sandbox.url, "environment": "production"}),
    )
    works, message = connection.test_connection()
    assert works, message
    assert "test mode" not in message
