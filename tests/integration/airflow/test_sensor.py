"""What the sensor makes of a payment, and what it outlives: in each of its three ways to wait where they have code of their own."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.sensors.carbonmark import CarbonmarkRetirementSensor
from tests.integration.airflow.model import FAILING_CARD, GOOD_CARD, SOMETHING_ELSE_CARD
from tests.integration.airflow.parts import START, make_context, polls, wait
from tests.integration.conftest import KEY

STUCK, NO_PROOF, PLACEHOLDER = "4000000000001026", "4000000000001034", "4000000000001042"
SANDBOX_KEY = "cm_api_sandbox_1"

#: A sensor that is rescheduled pokes like one that isn't.
worker_and_triggerer = pytest.mark.parametrize("mode", ["poke", "deferrable"])
#: What the first poll decides, or what comes before it, is the same in each mode.
poking = pytest.mark.parametrize("mode", ["poke"])


@pytest.fixture
def follow(mode, clock, buy):
    """Return a function that pays with a card and follows the payment in the mode."""

    def follow(card=GOOD_CARD, **arguments):
        checkout, payment_id = buy(card)
        return wait(mode, clock, **{"payment_id": payment_id, "checkout": checkout} | arguments)

    return follow


@pytest.fixture
def trouble(sandbox):
    """Return a function that gives polls trouble, one fault after the other."""
    return lambda *faults: sandbox.state.change_switches(
        faults=[{"path": "/payments/", **fault} for fault in faults]
    )


def test_a_retirement_is_waited_for_and_proven(mode, sandbox, clock, buy, listing):
    checkout, payment_id = buy()
    result = wait(mode, clock, payment_id=payment_id, checkout=checkout)
    proof = sandbox.state.checkouts[checkout["checkout_url"].rpartition("/")[2]].transaction
    retired_at = result.pop("retired_at")
    assert json.loads(json.dumps(result)) == {
        "payment_id": payment_id,
        "payment_status": "PAID",
        "retirement_status": "COMPLETED",
        "quantity_tonnes": "1.234",
        "beneficiary_name": "Acme GmbH",
        "certificate_url": sandbox.url + proof.certificate_path,
        "transaction_hash": proof.hash,
        "explorer_url": sandbox.url + proof.explorer_path,
        "test_mode": False,
    }
    assert retired_at.startswith("2026-08-20T09:00:03")
    assert 3 <= clock.elapsed < 6
    assert len(polls(sandbox)) <= 5


@pytest.mark.parametrize("card", [GOOD_CARD, FAILING_CARD])
def test_what_has_already_ended_takes_one_poll_and_no_triggerer(follow, sandbox, clock, card):
    sandbox.state.change_switches(retirement_seconds=0)
    if card == FAILING_CARD:
        with pytest.raises(AirflowSkipException):
            follow(card, soft_fail=True)
    else:
        assert follow(card)["retirement_status"] == "COMPLETED"
    assert (len(polls(sandbox)), clock.sleeps) == (1, [])


def test_a_wait_of_three_days_polls_ever_less_and_waits_for_the_proof(follow, sandbox, clock):
    sandbox.state.change_switches(retirement_seconds=3 * 86_400, proof_seconds=86_400)
    follow(max_wait=timedelta(hours=2))
    assert 0 <= clock.elapsed - 4 * 86_400 <= 7200
    assert len(polls(sandbox)) < 90
    assert max(clock.sleeps) <= 7200


@worker_and_triggerer
@pytest.mark.parametrize(
    ("card", "arguments", "reason"),
    [
        (FAILING_CARD, {}, "'FAILED'"),
        (FAILING_CARD, {"soft_fail": True}, "'FAILED'"),
        (PLACEHOLDER, {"allow_test_mode": True}, "placeholder.*nothing was retired"),
        (PLACEHOLDER, {"allow_test_mode": True, "checkout": None}, "placeholder.*nothing was retired"),
        (
            SOMETHING_ELSE_CARD,
            {},
            r"Something else was retired.*'Somebody Else Ltd\.' instead of 'Acme GmbH'.*2\.234.*1\.234",
        ),
    ],
)
def test_what_is_no_retirement_of_ours_fails_without_a_retry_or_skips(follow, clock, card, arguments, reason):
    is_soft = arguments.get("soft_fail")
    with pytest.raises(AirflowSkipException if is_soft else AirflowFailException) as ended:
        follow(card, **arguments)
    assert re.search(reason, f"{ended.value} {ended.value.__cause__}")
    assert clock.elapsed < 6


# --- how long it waits


@pytest.mark.parametrize(
    ("card", "seconds", "arguments", "switches"),
    [
        (STUCK, 600, {"timeout": 600}, {}),
        (STUCK, 600, {"timeout": 600, "soft_fail": True}, {}),
        (NO_PROOF, 120, {"timeout": timedelta(minutes=2)}, {}),
        (STUCK, 0.5, {"timeout": 0.5}, {}),
        # The payment's own success is no retirement.
        (STUCK, 60, {"timeout": 60}, {"status_words": {"PAID": "COMPLETED"}}),
        (GOOD_CARD, 120, {"timeout": 120}, {"faults": [{"kind": "html", "path": "/payments/"}]}),
        # No service can carry a wait over its deadline.
        (
            GOOD_CARD,
            600,
            {"timeout": 600},
            {"faults": [{"kind": "error", "status": 429, "retry_after": 86_400, "path": "/payments/"}]},
        ),
    ],
)
def test_the_timeout_means_the_same_in_every_mode(follow, sandbox, clock, card, seconds, arguments, switches):
    sandbox.state.change_switches(**switches)
    is_soft = arguments.get("soft_fail")
    with pytest.raises(AirflowSkipException if is_soft else AirflowSensorTimeout):
        follow(card, poke_interval=100, **arguments)
    assert seconds < clock.elapsed < seconds + 0.1
    assert all(pause >= 75 for pause in clock.sleeps[:-1])
    # The last poll is at the deadline.
    last = datetime.fromisoformat(polls(sandbox)[-1]["at"])
    assert seconds <= (last - START).total_seconds() < seconds + 0.1


def test_a_retirement_at_the_deadline_is_found(follow, sandbox):
    sandbox.state.change_switches(retirement_seconds=600)
    assert follow(timeout=600)["retirement_status"] == "COMPLETED"


def test_a_scheduler_without_triggerer_ends_the_wait_as_a_timeout(buy, clock):
    checkout, payment_id = buy(STUCK)
    sensor = CarbonmarkRetirementSensor(
        task_id="confirm", payment_id=payment_id, checkout=checkout, deferrable=True
    )
    with pytest.raises(TaskDeferred):
        sensor.execute(make_context())
    with pytest.raises(AirflowSensorTimeout, match="no triggerer ran, .* Start one with `airflow triggerer`"):
        sensor.resume_execution("__fail__", {"error": "Trigger timeout"}, make_context())


def test_a_poking_worker_lasts_a_week(clock, connect, monkeypatch):
    # Airflow's own backoff raises OverflowError after some thousand pokes.
    monkeypatch.setattr(CarbonmarkRetirementSensor, "poke", lambda self, context: False)
    with pytest.raises(AirflowSensorTimeout):
        wait("poke", clock, payment_id="pay_1", timeout=7 * 86_400)
    assert len(clock.sleeps) > 2000
    assert 7 * 86_400 < clock.elapsed < 7 * 86_400 + 5


@pytest.mark.parametrize(
    ("first", "longest", "field"),
    [
        (0, 300, "poke_interval is no length"),
        (float("nan"), 300, "poke_interval is no length"),
        ("1", 300, "poke_interval is no length"),
        (True, 300, "poke_interval is no length"),
        (1, float("inf"), "max_wait is no length"),
        (timedelta(minutes=2), timedelta(minutes=1), "poke_interval is longer than max_wait"),
    ],
)
def test_pauses_are_checked_when_the_dag_is_read(first, longest, field):
    with pytest.raises(InvalidInputError, match=field):
        CarbonmarkRetirementSensor(
            task_id="confirm", payment_id="pay_1", poke_interval=first, max_wait=longest
        )


def test_pauses_come_from_the_default_arguments_and_a_wait_lasts_thirty_days():
    with DAG("pauses", schedule=None, default_args={"poke_interval": timedelta(seconds=20), "max_wait": 40}):
        sensor = CarbonmarkRetirementSensor(task_id="confirm", payment_id="pay_1")
    assert (sensor.poke_interval, sensor.max_wait) == (20, timedelta(seconds=40))
    assert timedelta(seconds=sensor.timeout) == timedelta(days=30)


# --- what it outlives, and what ends it


def test_trouble_is_waited_out_and_the_key_is_nowhere(mode, sandbox, clock, buy, connect, logged, trouble):
    connect(key := "cm_api_0123secret4567")
    checkout, payment_id = buy()
    faults = [
        *({"kind": kind} for kind in ("drop", "drop_mid_body", "html", "invalid_json", "empty_object")),
        *({"kind": kind} for kind in ("wrong_types", "oversized", "oversized_chunked")),
        {"kind": "redirect", "location": "https://elsewhere.example.com/"},
        *({"kind": "error", "status": status} for status in (408, 429, 500, 501, 503)),
    ]
    trouble(*({**fault, "next": 1} for fault in faults))
    result = wait(mode, clock, payment_id=payment_id, checkout=checkout)
    assert [each["fault"] for each in polls(sandbox)] == [*(fault["kind"] for fault in faults), None]
    paths = {"/quotes", "/checkout", urlsplit(checkout["checkout_url"]).path, f"/payments/{payment_id}"}
    assert {each["path"] for each in sandbox.state.requests} <= paths
    text = logged()
    assert "This poll failed, the wait goes on" in text
    assert key not in json.dumps([result, checkout]) + text


def test_the_next_poll_is_not_before_the_service_wants_it(follow, sandbox, clock, trouble):
    wanted = {"kind": "error", "retry_after": 90, "next": 1}
    trouble(
        {**wanted, "status": 429, "retry_after_as": "seconds"},
        {**wanted, "status": 503, "retry_after_as": "date"},
    )
    follow()
    assert [round(pause) for pause in clock.sleeps] == [90, 90]
    assert len(polls(sandbox)) == 3


def test_a_payment_that_is_not_there_yet_is_waited_for(follow, sandbox, clock):
    sandbox.state.change_switches(payment_visible_seconds=200, retirement_seconds=1000)
    follow()
    assert clock.elapsed >= 1000


def test_a_payment_that_never_appears_ends_the_wait_after_the_grace(mode, sandbox, clock, connect):
    with pytest.raises(
        AirflowFailException, match="doesn't know payment 'pay_none' after 300 s.*payment id.*API key"
    ):
        wait(mode, clock, payment_id="pay_none")
    # The first poll after the grace, with the pause that the wait had come to.
    assert 300 <= clock.elapsed < 500


@poking
@pytest.mark.parametrize(
    ("connection", "told"),
    [
        ({"key": "wrong"}, "HTTP 401"),
        ({"key": "cm_api_forbidden_1"}, "HTTP 403"),
        ({"host": "ftp://example.com"}, "connection 'carbonmark_default', host"),
    ],
)
def test_a_connection_that_is_refused_ends_the_wait_at_once(mode, clock, buy, connect, connection, told):
    checkout, payment_id = buy()
    connect(**connection)
    with pytest.raises(AirflowFailException, match=told) as failed:
        wait(mode, clock, payment_id=payment_id, checkout=checkout)
    assert clock.sleeps == []
    assert connection.get("key", KEY) not in str(failed.value)


@worker_and_triggerer
@pytest.mark.parametrize("status", [401, 400])
def test_what_is_refused_during_the_wait_ends_it(follow, sandbox, clock, trouble, status):
    sandbox.state.change_switches(retirement_seconds=10_000)
    clock.before_sleep = lambda: clock.elapsed > 100 and trouble({"kind": "error", "status": status})
    with pytest.raises(AirflowFailException, match=f"HTTP {status}"):
        follow()
    assert 100 < clock.elapsed < 300


# --- test mode


@poking
@pytest.mark.parametrize(
    ("followed_with", "told"),
    [
        ({"key": SANDBOX_KEY, "environment": None}, "test mode.*production key.*allow_test_mode"),
        ({"key": KEY}, "was made in test mode"),
    ],
)
def test_what_was_made_in_test_mode_fails_at_once(mode, clock, connect, buy, followed_with, told):
    connect(SANDBOX_KEY, environment=None)
    checkout, payment_id = buy()
    connect(**followed_with)
    with pytest.raises(AirflowFailException, match=told):
        wait(mode, clock, payment_id=payment_id, checkout=checkout)
    assert clock.sleeps == []


@pytest.mark.parametrize(("mode", "allow"), [("poke", True), ("deferrable", " true ")])
def test_a_rehearsal_that_may_count_says_that_it_was_one(follow, connect, allow):
    connect(SANDBOX_KEY, environment=None)
    result = follow(allow_test_mode=allow)
    assert (result["test_mode"], result["beneficiary_name"]) == (True, "Developer Tester")


# --- status words


@worker_and_triggerer
def test_words_nobody_knows_are_waited_out_and_logged_once_each(follow, mode, sandbox, logged):
    words = {"SUBMITTED": "PONDERING", "COMMITTED": "BREWING"}
    sandbox.state.change_switches(retirement_seconds=3000, status_words=words)
    follow()
    text = logged()
    assert len(polls(sandbox)) > 10
    # The worker that defers is a process of its own.
    for word in words.values():
        assert 1 <= text.count(f"status is '{word}'") <= {"poke": 1, "deferrable": 2}[mode]


@worker_and_triggerer
def test_states_can_be_renamed(follow, sandbox):
    sandbox.state.change_switches(status_words={"COMPLETED": "burned for good", "FAILED": "Gone Wrong"})
    states = {"success_states": ["BURNED_FOR_GOOD"], "failed_states": ["gone-wrong"]}
    assert follow(**states)["retirement_status"] == "burned for good"
    with pytest.raises(AirflowFailException, match="'Gone Wrong'"):
        follow(FAILING_CARD, **states)


# --- what is passed in


@poking
def test_the_checkout_may_be_json_text_or_missing(mode, clock, buy):
    checkout, payment_id = buy()
    first = wait(mode, clock, payment_id=payment_id, checkout=json.dumps(checkout))
    assert wait(mode, clock, payment_id=payment_id) == first


@poking
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"payment_id": "../prices"}, "payment_id is not made of.*last part of the path"),
        ({"payment_id": None}, "payment_id"),
        ({"checkout": "no json"}, "checkout is not a mapping.*CarbonmarkCreateCheckoutOperator"),
        ({"checkout": {"beneficiary_name": "A"}}, "checkout lacks quantity_tonnes"),
        ({"checkout": {"beneficiary_name": "A", "quantity_tonnes": "many"}}, "checkout quantity_tonnes"),
        (
            {"checkout": {"purchase": 1, "beneficiary_name": "A", "quantity_tonnes": "many"}},
            "checkout quantity_tonnes",
        ),
        (
            {"checkout": {"beneficiary_name": "A", "quantity_tonnes": "1", "payment_id": "pay_2"}},
            "payment_id is not the payment of this checkout, which is 'pay_2'.*'pay_1'",
        ),
        ({"allow_test_mode": "maybe"}, "allow_test_mode is neither true nor false"),
    ],
)
def test_bad_input_fails_without_a_retry_before_anything_is_asked(
    mode, sandbox, clock, connect, arguments, message
):
    with pytest.raises(AirflowFailException, match=message):
        wait(mode, clock, **{"payment_id": "pay_1"} | arguments)
    assert polls(sandbox) == []


@pytest.mark.parametrize("event", [{}, {"outcome": "waiting"}])
def test_an_event_nobody_knows_fails_loudly(event):
    sensor = CarbonmarkRetirementSensor(task_id="confirm", payment_id="pay_1", deferrable=True)
    with pytest.raises(ValueError, match="doesn't know"):
        sensor.resume_execution("execute_complete", {"event": event}, make_context())
