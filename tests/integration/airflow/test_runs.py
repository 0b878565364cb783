"""What one run leaves open, another carries on: links that are passed on, payments that come back to the run that asked, fences."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_carbonmark.ledger.names import Run, State
from tests.integration.airflow.model import DAG_ID, SOMETHING_ELSE_CARD, DagRun, declined, paid
from tests.integration.airflow.parts import each_database
from tests.integration.airflow.points import Killed


@pytest.fixture
def link(dag_run, parked):
    """The link of the first run, which ends without anybody having paid."""
    dag_run.end()
    return parked


def finish(run, index=0):
    run.run("retirement", index)
    return run.run("record", index)


@each_database
def test_a_new_run_passes_the_link_on_and_awaits_what_comes_back_to_the_old_one(
    link, dag_run, second, ledger, airflow, buyer, sandbox
):
    (taken,) = second.plan()
    assert (taken["state"], taken["purchase"]) == ("link_made", link["purchase"])
    assert ledger.purchase(taken["purchase"]).handler == Run(DAG_ID, "second")
    assert second.run("checkout") == link
    second.park()
    # Whoever waits for the purchase's payment is woken, in whichever run.
    payment_id = buyer.pay(link, comes_back=False)
    assert airflow.come_back(link, payment_id) == [dag_run.task("payment"), second.task("payment")]
    assert second.run("payment", event=paid) == payment_id
    finish(second)
    assert [line.state for line in ledger.lines()] == [State.RETIRED]
    assert len(sandbox.state.checkouts) == 1


@pytest.mark.parametrize(("died_at", "times"), [("done", 1), ("succeed done", 2)])
def test_a_retirement_that_nobody_was_told_of_is_announced_by_the_next_run(
    link, dag_run, second, ledger, buyer, airflow, died_at, times
):
    payment_id = buyer.pay(link)
    for step in ("payment", "retirement"):
        dag_run.run(step)

    def die(point):
        if point == died_at:
            raise Killed

    dag_run.reach = die
    with pytest.raises(Killed):
        dag_run.run("record")
    assert ledger.purchase(link["purchase"]).to_announce
    (taken,) = second.plan()
    assert taken["state"] == "retired"
    assert second.link() == link
    assert second.run("payment") == payment_id
    finish(second)
    assert [event["payment_id"] for event in airflow.events] == [payment_id] * times
    assert not ledger.purchase(link["purchase"]).to_announce
    second.end()
    assert DagRun(airflow, "third").plan() == []


def test_the_old_run_may_wake_up_and_both_come_to_the_same_end(link, dag_run, second, ledger, buyer, sandbox):
    second.plan()
    second.link()
    second.park()
    dag_run.go_on()
    assert [each["purchase"] for each in dag_run.plan()] == [link["purchase"]]
    assert dag_run.link() == link
    buyer.pay(link)
    for run in (dag_run, second):
        run.run("payment")
    recorded = [finish(run) for run in (dag_run, second)]
    assert recorded[0] == recorded[1]
    assert len(sandbox.state.checkouts) == 1


def test_only_the_run_that_carries_a_purchase_on_may_decline_it(link, dag_run, second, ledger):
    second.plan()
    second.link()
    with pytest.raises(AirflowSkipException, match="handled by run 'second'"):
        dag_run.run("payment", event=declined)
    assert ledger.lines()[0].state is State.LINK_MADE
    with pytest.raises(AirflowSkipException, match="ada declined"):
        second.run("payment", event=declined)
    assert ledger.lines()[0].state is State.DECLINED


def test_a_purchase_that_another_run_planned_and_carries_on_is_skipped(dag_run, second, ledger, sandbox):
    (planned,) = dag_run.plan()
    second.plan()
    with pytest.raises(AirflowSkipException, match="handled by run 'first'"):
        second.run("checkout", purchase=planned)
    assert sandbox.state.checkouts == {}


@pytest.mark.parametrize("point", ["POST /checkout asked", "POST /checkout answered"])
def test_a_run_that_was_closed_while_it_asked_for_its_link_delivers_none(
    dag_run, second, ledger, buyer, point
):
    dag_run.plan()

    def overtake(reached):
        if reached == point:
            dag_run.end()
            second.plan()

    dag_run.reach = overtake
    with pytest.raises(AirflowFailException, match="can't get a link: Its run ended"):
        dag_run.run("checkout")
    assert dag_run.result("checkout") is None
    buyer.buy(second)
    assert [line.state for line in ledger.lines()] == [State.FAILED, State.RETIRED]


def test_what_was_retired_otherwise_than_asked_is_left_to_a_person_in_every_run(
    link, dag_run, second, ledger, buyer
):
    buyer.pay(link, SOMETHING_ELSE_CARD)
    dag_run.run("payment")
    for run in (dag_run, second):
        run.plan()
        run.link()
        run.run("payment")
        with pytest.raises(AirflowFailException, match="Something else was retired"):
            run.run("retirement")
    assert [line.state for line in ledger.lines()] == [State.PAID]


# --- what a task is given


@pytest.mark.parametrize("given", [None, {}, {"purchase": "1"}, {"purchase": True}])
@pytest.mark.parametrize(("step", "field"), [("checkout", "purchase"), ("record", "checkout")])
def test_what_is_no_purchase_fails_without_a_retry(dag_run, ledger, step, field, given):
    inputs = {field: given} | ({"retirement": {}} if step == "record" else {})
    with pytest.raises(
        AirflowFailException, match=f"{field} is about no purchase of the ledger.*Pass on what"
    ):
        dag_run.run(step, **inputs)


@pytest.mark.parametrize(
    ("retirement", "problem"),
    [
        (None, "retirement is not a mapping"),
        ({}, "payment_id is not made of"),
        ({"quantity_tonnes": "2"}, "asks for 1.234 t, but payment .* retired 2 t"),
        ({"quantity_tonnes": None}, "retired an untold number of t"),
        ({"payment_id": "pay_other"}, "if both are real, it was paid twice"),
        ({"test_mode": True}, "planned in production, its retirement is of test mode"),
    ],
)
def test_a_retirement_that_is_not_the_purchases_is_not_recorded(
    link, dag_run, ledger, buyer, retirement, problem
):
    buyer.pay(link)
    dag_run.run("payment")
    if retirement:
        retirement = dag_run.run("retirement") | retirement
    with pytest.raises(AirflowFailException, match=problem):
        dag_run.run("record", retirement=retirement)
    assert ledger.lines()[0].state is State.PAID


def test_a_payment_that_no_ledger_knows_of_is_followed_all_the_same(dag_run, link, ledger, buyer):
    checkout = {name: link[name] for name in ("beneficiary_name", "quantity_tonnes")}
    payment_id = buyer.pay(link, comes_back=False)
    assert dag_run.run("retirement", checkout=checkout, payment_id=payment_id)["payment_id"] == payment_id
    assert ledger.lines()[0].state is State.LINK_MADE


# --- the ledger itself


@pytest.mark.parametrize("is_empty", [True, False])
def test_what_is_planned_in_one_ledger_is_refused_by_another(
    dag_run, ledger, sandbox, monkeypatch, tmp_path, is_empty
):
    (planned,) = dag_run.plan()
    checkout = dag_run.link()
    monkeypatch.delenv("AIRFLOW__CARBONMARK__LEDGER_CONN_ID", raising=False)
    monkeypatch.setenv("AIRFLOW__CARBONMARK__LEDGER_PATH", str(other := tmp_path / "other.db"))
    if not is_empty:
        dag_run.plan()
    told = rf"Purchase {planned['purchase']} is in the ledger '{ledger.id}'.* in SQLite file {other}, is '(?!{ledger.id})[-\w]+'"
    for step, inputs in (("checkout", {"purchase": planned}), ("payment", {"checkout": checkout})):
        with pytest.raises(AirflowFailException, match=rf"{told}.*ledger_conn_id"):
            dag_run.run(step, **inputs)
    unnamed = {name: value for name, value in planned.items() if name != "ledger"}
    with pytest.raises(
        AirflowFailException,
        match=rf"The ledger in SQLite file {other} has no purchase {planned['purchase']}",
    ):
        dag_run.run("checkout", purchase=unnamed)
    assert len(sandbox.state.checkouts) == 1
