"""What no run sees to: reminders, payments whose run is gone, what needs a person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_carbonmark.hooks import api_server
from airflow_provider_carbonmark.ledger.names import Source
from airflow_provider_carbonmark.operators.housekeeping import CarbonmarkHousekeepingOperator
from airflow_provider_carbonmark.operators.notices import MAIL_SUBJECT
from airflow_provider_carbonmark.sensors.carbonmark import CarbonmarkRetirementSensor
from tests.integration.airflow.model import SOLD_OUT_CARD, housekeeper, make_operator, stated
from tests.integration.airflow.parts import Told, sqlite_only
from tests.integration.ledger.parts import expire

START = datetime.now(UTC)


@pytest.fixture(autouse=True)
def told_to_server(monkeypatch):
    """Who is told what by the API server: purchases, with their payments."""
    told: list[tuple[int, str | None]] = []
    monkeypatch.setattr(
        api_server, "tell_server", lambda ledger, purchase: told.append((purchase.id, purchase.payment_id))
    )
    return told


@sqlite_only
def test_what_waits_is_reminded_of_once_for_each_length_of_time(dag_run, review):
    dag_run.plan([stated("1.234", "api"), stated("1", "web")])
    for index in (0, 1):
        dag_run.link(index)
    notifier = Told(MAIL_SUBJECT)
    for days in (1, 6.9, 7.1, 8, 13, 21, 22, 40, 41):
        assert review(days, notifiers=notifier) == []
    assert sorted(notifier.told) == [
        f"Waiting for {days} days: Pay for {what}, 2026-10"
        for days in (21, 40, 7)
        for what in ("1 t CO2e, web", "1.234 t CO2e, api")
    ]


@sqlite_only
def test_a_reminder_that_fails_keeps_nothing_from_being_followed_and_is_made_again(dag_run, buyer, review):
    class Broken(Told):
        def notify(self, context: Any) -> None:
            raise ConnectionError("no mail today")

    dag_run.plan([stated("1.234", "api"), stated("1", "web")])
    dag_run.link(0)
    buyer.pay(dag_run.link(1))
    dag_run.end()
    assert len(review(8, notifiers=Broken(MAIL_SUBJECT))) == 1
    notifier = Told(MAIL_SUBJECT)
    review(8.5, notifiers=[notifier])
    assert len(notifier.told) == 1


@sqlite_only
@pytest.mark.parametrize("source", [Source.RETURNED, Source.ENTERED])
def test_what_nobody_could_confirm_is_asked_about_again_and_not_given_up_meanwhile(
    dag_run, parked, buyer, ledger, review, told_to_server, sandbox, logged, source
):
    number = parked["purchase"]
    payment_id = buyer.pay(parked, comes_back=False)
    ledger.bring(number, 1, payment_id, source=source, verified=False, now=START)
    sandbox.state.change_switches(bought_at="untold")
    notifier = Told(MAIL_SUBJECT)
    review(30, give_up_after=timedelta(days=1), notifiers=notifier)
    assert f"Payment {payment_id} was brought for it" in logged()
    # Its pay address leads nobody to pay once more.
    assert (ledger.purchase(number).state, len(notifier.told), told_to_server) == ("link_made", 1, [])
    sandbox.state.change_switches(bought_at="top")
    dag_run.end()
    (paid,) = review(31, give_up_after=timedelta(days=1))
    assert (paid["payment_id"], ledger.purchase(number).state) == (payment_id, "paid")


def follow(run, paid):
    """Do what the sample DAG does with what it is to follow."""
    sensor = CarbonmarkRetirementSensor(task_id="follow", deferrable=True, **paid)
    retirement = housekeeper(run.airflow, "follow").run(sensor)
    record = make_operator("record", {"checkout": paid["checkout"], "retirement": retirement})
    return housekeeper(run.airflow, "record").run(record)


@pytest.mark.parametrize("was_retired", [False, True])
@sqlite_only
def test_a_payment_whose_run_is_gone_is_followed_until_it_is_recorded_and_announced(
    dag_run, buyer, ledger, review, was_retired
):
    dag_run.plan()
    checkout = dag_run.link()
    payment_id = buyer.pay(checkout)
    if was_retired:
        dag_run.run("payment")
        retirement = dag_run.run("retirement")
        ledger.retired(checkout["purchase"], retirement, now=START, announcing=True)
    assert review() == []
    dag_run.end()
    (paid,) = review()
    assert (paid["payment_id"], paid["checkout"]["purchase"]) == (payment_id, checkout["purchase"])
    recorded = follow(dag_run, paid)
    assert recorded["state"] == "retired"
    (event,) = dag_run.airflow.events
    assert event["payment_id"] == payment_id
    assert review() == []


@pytest.mark.parametrize("end", ["paid", "declined", "failed"])
def test_a_parked_task_that_missed_the_payment_or_the_end_is_woken_until_its_run_is_over(
    dag_run, parked, buyer, ledger, review, told_to_server, end
):
    number = parked["purchase"]
    review()
    assert told_to_server == []
    if end == "paid":
        buyer.pay(parked)
    elif end == "declined":
        ledger.declined(number, ledger.purchase(number).handler, "no", now=datetime.now(UTC))
    else:
        expire(ledger, number)
        ledger.say_unpaid(number, 1, said_by="ada", now=datetime.now(UTC))
        ledger.ends_unpaid(number, "sold out", now=datetime.now(UTC))
    review()
    assert told_to_server == [(number, ledger.purchase(number).payment_id)]
    # The API server lets nobody in by then.
    review(70)
    dag_run.end()
    review()
    assert len(told_to_server) == 1


@sqlite_only
def test_nothing_is_given_up_unless_it_is_said_after_how_long_nor_while_it_can_be_paid(
    parked, ledger, review, told_to_server
):
    number = parked["purchase"]
    expire(ledger, number, START + timedelta(days=50))
    after = timedelta(days=45)
    for days, arguments in ((60, {}), (44, {"give_up_after": after}), (46, {"give_up_after": after})):
        review(days, **arguments)
        assert ledger.purchase(number).state == "link_made"
    review(51, give_up_after=after)
    given_up = ledger.purchase(number)
    assert (given_up.state, given_up.reason) == (
        "declined",
        "Nobody paid within 51 days, so it was given up (give_up_after)",
    )
    assert told_to_server == [(number, None)]


@sqlite_only
def test_what_needs_a_person_is_an_error_in_the_log(dag_run, buyer, ledger, review, logged):
    dag_run.plan([stated("1.234", "api"), stated("1", "web"), stated("2", "zoo")])
    sold_out, twice, late = map(dag_run.link, range(3))
    buyer.pay(late)
    first = buyer.pay(twice)
    buyer.pay(sold_out, SOLD_OUT_CARD)
    dag_run.run("payment", 0)
    with pytest.raises(Exception, match="sold out"):
        dag_run.run("retirement", 0)
    ledger.bring(twice["purchase"], 1, "pay_2", source=Source.RETURNED, verified=True, now=START)
    logged()
    review(15)
    text = logged()
    assert "is paid since" in text
    assert f"Paid twice: {first} ({twice['checkout_url']}) counts, and pay_2" in text
    assert "ask Carbonmark for the money back" in text


@pytest.mark.parametrize(
    "arguments", [{"remind_after": [timedelta(0)]}, {"give_up_after": 7}, {"remind_after": [7]}]
)
def test_what_is_no_length_of_time_is_refused(arguments):
    with pytest.raises(Exception, match="is no length of time"):
        CarbonmarkHousekeepingOperator(task_id="review", **arguments)
