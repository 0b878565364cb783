"""A wait outlives trouble, and stops where nothing will mend: the same in all three modes."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout

from airflow_provider_carbonmark.sandbox import SandboxServer
from tests.integration.airflow.parts import polls, wait


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop"},
        {"kind": "drop_mid_body"},
        {"kind": "html"},
        {"kind": "redirect", "location": "https://elsewhere.example.com/"},
        {"kind": "invalid_json"},
        {"kind": "empty_object"},
        {"kind": "wrong_types"},
        {"kind": "oversized"},
        {"kind": "oversized_chunked"},
        {"kind": "error", "status": 500},
        {"kind": "error", "status": 501},
        {"kind": "error", "status": 503},
        {"kind": "error", "status": 408},
        {"kind": "error", "status": 429},
    ],
    ids=lambda fault: f"{fault['kind']}-{fault.get('status', '')}",
)
def test_trouble_is_waited_out(mode, sandbox, clock, buy, fault):
    checkout, payment_id = buy()
    sandbox.state.change_switches(faults=[{**fault, "path": "/payments/", "next": 6}])
    assert wait(mode, clock, payment_id=payment_id, checkout=checkout)["payment_id"] == payment_id
    assert [each["fault"] for each in polls(sandbox)] == [fault["kind"]] * 6 + [None]
    paths = {"/quotes", "/checkout", urlsplit(checkout["checkout_url"]).path, f"/payments/{payment_id}"}
    assert {each["path"] for each in sandbox.state.requests} <= paths


def test_trouble_that_does_not_end_times_out_and_says_what_it_was(mode, sandbox, clock, buy, logged):
    checkout, payment_id = buy()
    sandbox.state.change_switches(faults=[{"kind": "html", "path": "/payments/"}])
    with pytest.raises(AirflowSensorTimeout):
        wait(mode, clock, payment_id=payment_id, checkout=checkout, timeout=120)
    assert 120 < clock.elapsed < 120.1
    assert "This poll failed, the wait goes on" in logged()


@pytest.mark.parametrize("written", ["seconds", "date"])
@pytest.mark.parametrize("status", [429, 503])
def test_the_next_poll_is_not_before_the_service_wants_it(mode, sandbox, clock, buy, status, written):
    checkout, payment_id = buy()
    fault = {"kind": "error", "status": status, "retry_after": 90, "retry_after_as": written, "next": 2}
    sandbox.state.change_switches(faults=[{**fault, "path": "/payments/"}])
    wait(mode, clock, payment_id=payment_id, checkout=checkout)
    assert [round(pause) for pause in clock.sleeps] == [90, 90]
    assert len(polls(sandbox)) == 3


def test_no_service_can_carry_a_wait_over_its_deadline(mode, sandbox, clock, buy):
    checkout, payment_id = buy()
    sandbox.state.change_switches(
        faults=[{"kind": "error", "status": 429, "retry_after": 86_400, "path": "/payments/"}]
    )
    with pytest.raises(AirflowSensorTimeout):
        wait(mode, clock, payment_id=payment_id, checkout=checkout, timeout=600)
    assert 600 < clock.elapsed < 600.1


def test_a_payment_that_is_not_there_yet_is_waited_for(mode, sandbox, clock, buy):
    sandbox.state.change_switches(payment_visible_seconds=200, retirement_seconds=1000)
    checkout, payment_id = buy()
    wait(mode, clock, payment_id=payment_id, checkout=checkout)
    assert clock.elapsed >= 1000


def test_a_payment_that_never_appears_ends_the_wait_after_the_grace(mode, sandbox, clock, connect):
    with pytest.raises(
        AirflowFailException, match="doesn't know payment 'pay_none' after 300 s.*payment id.*API key"
    ):
        wait(mode, clock, payment_id="pay_none")
    # The first poll after the grace, with the pause that the wait had come to.
    assert 300 <= clock.elapsed < 500


@pytest.mark.parametrize("key", ["wrong", "", "cm_api_forbidden_1"])
def test_a_refused_key_ends_the_wait_at_once(mode, sandbox, clock, buy, connect, key):
    checkout, payment_id = buy()
    connect(key)
    with pytest.raises(AirflowFailException, match="40[13].*HTTP 40[13]|HTTP 40[13]") as failed:
        wait(mode, clock, payment_id=payment_id, checkout=checkout)
    assert clock.sleeps == []
    assert not key or key not in str(failed.value)


@pytest.mark.parametrize("status", [401, 403, 400])
def test_a_key_refused_during_the_wait_ends_it(mode, sandbox, clock, buy, status):
    sandbox.state.change_switches(retirement_seconds=10_000)
    checkout, payment_id = buy()

    def refuse_later():
        if clock.elapsed > 100:
            sandbox.state.change_switches(faults=[{"kind": "error", "status": status, "path": "/payments/"}])

    clock.before_sleep = refuse_later
    with pytest.raises(AirflowFailException, match=f"HTTP {status}"):
        wait(mode, clock, payment_id=payment_id, checkout=checkout)
    assert 100 < clock.elapsed < 300


def test_a_service_that_restarts_in_between_is_waited_for(mode, sandbox, clock, buy, connect, pay):
    with SandboxServer(retirement_seconds=2000) as first:
        connect(host=first.url)
        checkout, payment_id = buy(asset_price_source_id=next(
            each.source_id for each in first.state.listings.values() if each.type == "listing" and each.liquid_supply > 10
        ))  # fmt: skip
        running = [first]

        def restart():
            """Down from 100 to 1000 seconds, then back on the same port with the same memory."""
            if clock.elapsed > 100 and running == [first]:
                running.pop().__exit__(None, None, None)
            elif clock.elapsed > 1000 and not running:
                second = SandboxServer(port=int(first.url.rpartition(":")[2]))
                second.state.__dict__.update(first.state.__dict__)
                running.append(second.__enter__())

        clock.before_sleep = restart
        try:
            wait(mode, clock, payment_id=payment_id, checkout=checkout)
        finally:
            if running and running != [first]:
                running.pop().__exit__(None, None, None)
    assert clock.elapsed >= 2000


def test_the_key_is_nowhere_in_a_wait_through_trouble(mode, sandbox, clock, buy, connect, logged):
    key = "cm_api_0123secret4567"
    connect(key)
    checkout, payment_id = buy()
    sandbox.state.change_switches(
        faults=[
            {"kind": "html", "next": 1, "path": "/payments/"},
            {"kind": "drop", "next": 1, "path": "/payments/"},
            {"kind": "error", "next": 1, "path": "/payments/"},
        ]
    )
    result = wait(mode, clock, payment_id=payment_id, checkout=checkout)
    assert {each["fault"] for each in polls(sandbox)} == {"html", "drop", "error", None}
    assert key not in json.dumps([result, checkout])
    assert key not in logged()
