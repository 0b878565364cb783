"""What the sensor makes of a payment, the same in poke, reschedule and deferrable mode."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta

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
from tests.integration.airflow.conftest import KEY
from tests.integration.airflow.parts import START, make_context, polls, wait

FAILING, STUCK, NO_PROOF, PLACEHOLDER, SOMETHING_ELSE = (
    "4000000000001018",
    "4000000000001026",
    "4000000000001034",
    "4000000000001042",
    "4000000000001059",
)
SANDBOX_KEY = "cm_api_sandbox_1"


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


def test_what_is_already_retired_takes_one_poll_and_no_triggerer(mode, sandbox, clock, buy):
    sandbox.state.change_switches(retirement_seconds=0)
    checkout, payment_id = buy()
    sensor = CarbonmarkRetirementSensor(
        task_id="confirm",
        payment_id=payment_id,
        checkout=checkout,
        **({"deferrable": True} if mode == "deferrable" else {"mode": mode}),
    )
    assert sensor.execute(make_context())["retirement_status"] == "COMPLETED"
    assert len(polls(sandbox)) == 1
    assert clock.sleeps == []


def test_a_wait_of_three_days_polls_ever_less(mode, sandbox, clock, buy):
    sandbox.state.change_switches(retirement_seconds=3 * 86_400)
    checkout, payment_id = buy()
    wait(mode, clock, payment_id=payment_id, checkout=checkout, max_wait=7200)
    assert 0 <= clock.elapsed - 3 * 86_400 <= 7200
    assert len(polls(sandbox)) < 80
    assert max(clock.sleeps) <= 7200


@pytest.mark.parametrize("soft_fail", [False, True])
@pytest.mark.parametrize(
    ("card", "reason"),
    [
        (FAILING, "'FAILED'"),
        (PLACEHOLDER, "placeholder"),
        (
            SOMETHING_ELSE,
            r"Something else was retired.*'Somebody Else Ltd\.' instead of 'Acme GmbH'.*2\.234.*1\.234",
        ),
    ],
)
def test_what_is_no_retirement_of_ours_fails_without_a_retry_or_skips(
    mode, clock, buy, card, reason, soft_fail
):
    checkout, payment_id = buy(card)
    with pytest.raises(AirflowSkipException if soft_fail else AirflowFailException) as ended:
        wait(mode, clock, payment_id=payment_id, checkout=checkout, soft_fail=soft_fail)
    told = f"{ended.value} {ended.value.__cause__}"
    assert re.search(reason, told)
    assert clock.elapsed < 6


def test_what_has_already_failed_skips_with_soft_fail_at_the_first_poll(mode, sandbox, clock, buy):
    sandbox.state.change_switches(retirement_seconds=0)
    checkout, payment_id = buy(FAILING)
    with pytest.raises(AirflowSkipException):
        wait(mode, clock, payment_id=payment_id, checkout=checkout, soft_fail=True)
    assert clock.sleeps == []


@pytest.mark.parametrize(
    ("card", "seconds", "timeout"),
    [
        (STUCK, 600, 600),
        (NO_PROOF, 600, 600),
        (STUCK, 0.5, 0.5),
        (STUCK, 7.3, 7.3),
        (STUCK, 120, timedelta(minutes=2)),
    ],
)
@pytest.mark.parametrize("soft_fail", [False, True])
def test_the_timeout_means_the_same_in_every_mode(
    mode, sandbox, clock, buy, card, seconds, timeout, soft_fail
):
    checkout, payment_id = buy(card)
    about = {"payment_id": payment_id, "checkout": checkout, "timeout": timeout, "poke_interval": 100}
    with pytest.raises(AirflowSkipException if soft_fail else AirflowSensorTimeout):
        wait(mode, clock, **about, soft_fail=soft_fail)
    assert seconds < clock.elapsed < seconds + 0.1
    # The last poll is at the deadline.
    last = datetime.fromisoformat(polls(sandbox)[-1]["at"])
    assert seconds <= (last - START).total_seconds() < seconds + 0.1


def test_a_retirement_at_the_deadline_is_found(mode, sandbox, clock, buy):
    sandbox.state.change_switches(retirement_seconds=600)
    checkout, payment_id = buy()
    assert (
        wait(mode, clock, payment_id=payment_id, checkout=checkout, timeout=600)["payment_id"] == payment_id
    )


def test_a_scheduler_without_triggerer_ends_the_wait_as_a_timeout(buy, clock):
    checkout, payment_id = buy(STUCK)
    sensor = CarbonmarkRetirementSensor(
        task_id="confirm", payment_id=payment_id, checkout=checkout, deferrable=True
    )
    with pytest.raises(TaskDeferred):
        sensor.execute(make_context())
    with pytest.raises(AirflowSensorTimeout):
        sensor.resume_execution("__fail__", {"error": "Trigger timeout"}, make_context())


def test_a_poking_worker_lasts_a_week(clock, connect, monkeypatch):
    # Airflow's own backoff raises OverflowError after some thousand pokes.
    monkeypatch.setattr(CarbonmarkRetirementSensor, "poke", lambda self, context: False)
    with pytest.raises(AirflowSensorTimeout):
        wait("poke", clock, payment_id="pay_1", timeout=7 * 86_400)
    assert len(clock.sleeps) > 2000
    assert 7 * 86_400 < clock.elapsed < 7 * 86_400 + 5


# --- test mode


def test_a_test_connection_fails_at_once_unless_a_rehearsal_may_count(mode, clock, connect, buy):
    connect(SANDBOX_KEY, environment=None)
    checkout, payment_id = buy()
    with pytest.raises(AirflowFailException, match="test mode.*production key.*allow_test_mode"):
        wait(mode, clock, payment_id=payment_id, checkout=checkout)
    assert clock.sleeps == []


@pytest.mark.parametrize("allow", [True, "True", " true "])
def test_a_rehearsal_that_may_count_says_that_it_was_one(mode, clock, connect, buy, allow):
    connect(SANDBOX_KEY, environment=None)
    checkout, payment_id = buy()
    result = wait(mode, clock, payment_id=payment_id, checkout=checkout, allow_test_mode=allow)
    assert result["test_mode"] is True
    assert result["beneficiary_name"] == "Developer Tester"


def test_a_link_made_in_test_mode_stays_so_on_a_production_connection(mode, clock, connect, buy):
    connect(SANDBOX_KEY, environment=None)
    checkout, payment_id = buy()
    connect(KEY)
    with pytest.raises(AirflowFailException, match="was made in test mode"):
        wait(mode, clock, payment_id=payment_id, checkout=checkout)
    assert clock.sleeps == []


@pytest.mark.parametrize("with_checkout", [True, False])
def test_a_placeholder_on_a_production_connection_fails_whatever_is_allowed(mode, clock, buy, with_checkout):
    checkout, payment_id = buy(PLACEHOLDER)
    with pytest.raises(AirflowFailException, match="placeholder.*nothing was retired"):
        wait(
            mode,
            clock,
            payment_id=payment_id,
            checkout=checkout if with_checkout else None,
            allow_test_mode=True,
        )


# --- status words and layouts


def test_words_nobody_knows_are_waited_out_and_logged_once_each(mode, sandbox, clock, buy, logged):
    sandbox.state.change_switches(
        retirement_seconds=3000, status_words={"SUBMITTED": "PONDERING", "COMMITTED": "BREWING"}
    )
    checkout, payment_id = buy()
    wait(mode, clock, payment_id=payment_id, checkout=checkout)
    text = logged()
    assert len(polls(sandbox)) > 10
    # A rescheduled sensor is a new process for each poll; so are the worker that defers and the triggerer.
    most = {"poke": 1, "deferrable": 2, "reschedule": len(polls(sandbox))}[mode]
    assert 1 <= text.count("status is 'PONDERING'") <= most
    assert 1 <= text.count("status is 'BREWING'") <= most


def test_states_can_be_renamed(mode, sandbox, clock, buy):
    sandbox.state.change_switches(status_words={"COMPLETED": "burned for good"})
    checkout, payment_id = buy()
    result = wait(mode, clock, payment_id=payment_id, checkout=checkout, success_states=["BURNED_FOR_GOOD"])
    assert result["retirement_status"] == "burned for good"


def test_failed_states_can_be_renamed(mode, sandbox, clock, buy):
    sandbox.state.change_switches(status_words={"FAILED": "Gone Wrong"})
    checkout, payment_id = buy(FAILING)
    with pytest.raises(AirflowFailException, match="'Gone Wrong'"):
        wait(mode, clock, payment_id=payment_id, checkout=checkout, failed_states=["gone-wrong"])


@pytest.mark.parametrize("paid", ["COMPLETED", "SUCCEEDED"])
def test_a_paid_payment_is_no_retirement(mode, sandbox, clock, buy, paid):
    sandbox.state.change_switches(status_words={"PAID": paid})
    checkout, payment_id = buy(STUCK)
    with pytest.raises(AirflowSensorTimeout):
        wait(mode, clock, payment_id=payment_id, checkout=checkout, timeout=60)


def test_a_proof_that_comes_late_is_waited_for(mode, sandbox, clock, buy):
    sandbox.state.change_switches(proof_seconds=100)
    checkout, payment_id = buy()
    wait(mode, clock, payment_id=payment_id, checkout=checkout)
    assert clock.elapsed >= 103


# --- what is passed in


def test_the_checkout_may_be_json_text_or_missing(mode, clock, buy):
    checkout, payment_id = buy()
    first = wait(mode, clock, payment_id=payment_id, checkout=json.dumps(checkout))
    assert wait(mode, clock, payment_id=payment_id) == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"payment_id": ""}, "payment_id is not made of"),
        ({"payment_id": "../prices"}, "payment_id is not made of.*last part of the path"),
        ({"payment_id": "pay_1?x=1"}, "payment_id"),
        ({"payment_id": None}, "payment_id"),
        ({"payment_id": "p" * 256}, "payment_id"),
        ({"checkout": "no json"}, "checkout is not a mapping.*CarbonmarkCreateCheckoutOperator"),
        ({"checkout": "[1]"}, "checkout is not a mapping"),
        ({"checkout": 7}, "checkout is not a mapping"),
        ({"checkout": {}}, "checkout lacks beneficiary_name and quantity_tonnes"),
        ({"checkout": {"beneficiary_name": "A"}}, "checkout lacks quantity_tonnes"),
        ({"checkout": {"beneficiary_name": "A", "quantity_tonnes": "many"}}, "checkout quantity_tonnes"),
        (
            {"checkout": {"beneficiary_name": "A", "quantity_tonnes": "1", "payment_id": "pay_2"}},
            "payment_id is not the payment of this checkout, which is 'pay_2'.*'pay_1'",
        ),
        ({"allow_test_mode": "maybe"}, "allow_test_mode is neither true nor false"),
        ({"allow_test_mode": None}, "allow_test_mode"),
    ],
)
def test_bad_input_fails_without_a_retry_before_anything_is_asked(
    mode, sandbox, clock, connect, arguments, message
):
    with pytest.raises(AirflowFailException, match=message):
        wait(mode, clock, **{"payment_id": "pay_1"} | arguments)
    assert polls(sandbox) == []


@pytest.mark.parametrize("host", ["ftp://example.com", "http://example.com:port"])
def test_an_unusable_connection_fails_without_a_retry(mode, clock, connect, host):
    connect(host=host)
    with pytest.raises(AirflowFailException, match="connection 'carbonmark_default', host"):
        wait(mode, clock, payment_id="pay_1")


@pytest.mark.parametrize(
    ("first", "longest", "field"),
    [
        (0, 300, "poke_interval is no length"),
        (-1, 300, "poke_interval is no length"),
        (float("nan"), 300, "poke_interval is no length"),
        ("1", 300, "poke_interval is no length"),
        (True, 300, "poke_interval is no length"),
        (timedelta(0), 300, "poke_interval is no length"),
        (1, None, "max_wait is no length"),
        (1, float("inf"), "max_wait is no length"),
        (301, 300, "poke_interval is longer than max_wait"),
        (timedelta(minutes=2), timedelta(minutes=1), "poke_interval is longer than max_wait"),
    ],
)
def test_pauses_are_checked_when_the_dag_is_read(first, longest, field):
    with pytest.raises(InvalidInputError, match=field):
        CarbonmarkRetirementSensor(
            task_id="confirm", payment_id="pay_1", poke_interval=first, max_wait=longest
        )


@pytest.mark.parametrize(
    ("first", "longest"), [(10, 10), (10.0, 10.0), (timedelta(seconds=10), timedelta(seconds=10))]
)
def test_pauses_are_seconds_or_timedeltas(mode, clock, buy, first, longest):
    checkout, payment_id = buy(STUCK)
    pauses = {"poke_interval": first, "max_wait": longest}
    with pytest.raises(AirflowSensorTimeout):
        wait(mode, clock, payment_id=payment_id, checkout=checkout, timeout=60, **pauses)
    # The last one ends at the deadline.
    assert all(7.5 <= pause <= 10 for pause in clock.sleeps[:-1])


def test_pauses_come_from_the_default_arguments_as_those_of_any_sensor():
    with DAG("pauses", schedule=None, default_args={"poke_interval": timedelta(seconds=20), "max_wait": 40}):
        sensor = CarbonmarkRetirementSensor(task_id="confirm", payment_id="pay_1")
    assert sensor.poke_interval == 20
    assert sensor.max_wait == timedelta(seconds=40)


@pytest.mark.parametrize(
    "event", [{}, {"outcome": "waiting"}, {"outcome": "done", "reason": "?"}, {"outcome": None}]
)
def test_an_event_nobody_knows_fails_loudly(event):
    sensor = CarbonmarkRetirementSensor(task_id="confirm", payment_id="pay_1", deferrable=True)
    with pytest.raises(ValueError, match="doesn't know"):
        sensor.resume_execution("execute_complete", {"event": event}, make_context())


def test_every_parameter_may_come_from_upstream(connect):
    fields = ["carbonmark_conn_id", "payment_id", "checkout", "allow_test_mode"]
    assert sorted(CarbonmarkRetirementSensor.template_fields) == sorted(fields)
    sensor = CarbonmarkRetirementSensor(task_id="confirm", **dict.fromkeys(fields, "{{ x }}"))
    sensor.render_template_fields({"x": "rendered"})
    assert {getattr(sensor, field) for field in fields} == {"rendered"}


def test_a_wait_lasts_thirty_days_unless_told_otherwise():
    sensor = CarbonmarkRetirementSensor(task_id="confirm", payment_id="pay_1")
    assert timedelta(seconds=sensor.timeout) == timedelta(days=30)
