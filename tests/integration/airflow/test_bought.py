"""Green means bought: what a run's last task says, whatever became of the tasks before it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from sqlalchemy import create_engine, text

from airflow_provider_carbonmark.ledger.purchase import Run
from tests.integration.airflow.model import FAILING_CARD, MONTH, DagRun, declined, stated
from tests.integration.airflow.parts import sqlite_only

pytestmark = sqlite_only

TWO = [stated("1", "api"), stated("2", "web")]


@pytest.fixture
def second(airflow):
    """Another run of the DAG, while the first goes on."""
    return DagRun(airflow, "second")


def not_bought(run: DagRun) -> str:
    with pytest.raises(AirflowFailException, match="Not bought: ") as failure:
        run.run("bought")
    return str(failure.value)


def test_what_is_retired_and_what_a_person_declined_is_green_and_the_first_is_handed_on(dag_run, buyer):
    dag_run.plan(TWO)
    buyer.buy(dag_run, 0)
    dag_run.link(1)
    dag_run.park(1)
    with pytest.raises(AirflowSkipException, match="ada declined"):
        dag_run.run("payment", 1, event=declined)
    (retired,) = dag_run.run("bought")
    assert (retired["entity"], retired["state"]) == ("api", "retired")
    assert retired["certificate_url"]


def test_one_part_of_several_that_is_sold_out_before_its_link_is_named(dag_run, sandbox, buyer):
    first, second = dag_run.plan(TWO)
    buyer.buy(dag_run, 0)
    sandbox.state.listings[second["asset_price_source_id"]].liquid_supply = Decimal(0)
    with pytest.raises(AirflowFailException):
        dag_run.link(1)
    assert f"2 t of web, {MONTH}, which failed" in not_bought(dag_run)
    # All of its tasks are skipped when they are cleared, and what is missing is missing still.
    with pytest.raises(AirflowSkipException):
        dag_run.link(1)
    assert "web" in not_bought(dag_run)
    dag_run.plan(TWO)
    buyer.buy(dag_run, 2)
    assert {each["entity"] for each in dag_run.run("bought")} == {"api", "web"}


def test_what_is_paid_and_not_retired_is_named(dag_run, buyer):
    dag_run.plan()
    buyer.pay(dag_run.link(), FAILING_CARD)
    dag_run.run("payment")
    with pytest.raises(AirflowFailException):
        dag_run.run("retirement")
    told = not_bought(dag_run)
    assert (
        f"1.234 t of web, {MONTH}, which is paid and not retired: The status of the retirement is 'FAILED'"
        in told
    )
    assert "ask Carbonmark for the money back" in told


@pytest.mark.parametrize("marked", ["checkout", "payment"])
def test_a_task_that_was_marked_by_hand_bought_nothing(dag_run, marked):
    (planned,) = dag_run.plan()
    if marked == "payment":
        dag_run.link()
    told = not_bought(dag_run)
    assert "1.234 t of web" in told
    assert f"clear its tasks (purchase {planned['purchase']})" in told


def test_links_that_wait_in_another_run_are_told_with_where_and_since_when(dag_run, second, logged):
    dag_run.plan()
    link = dag_run.link()
    assert second.plan() == []
    logged()
    assert second.run("bought") == []
    told = logged()
    assert f"1.234 t of web, {MONTH} waits to be paid since {datetime.now(UTC):%Y-%m-%d}" in told
    assert f"in run 'first' of 'offset': {link['pay_url']}" in told


def test_what_another_run_planned_and_made_no_link_for_is_not_bought(dag_run, second):
    dag_run.plan()
    assert second.plan() == []
    assert "planned in run 'first' of 'offset': clear its tasks there" in not_bought(second)


def test_what_nobody_carries_on_since_its_dag_is_gone_is_named_and_can_be_taken_over(
    airflow, ledger, dag_run, buyer, logged, url
):
    (planned,) = dag_run.plan()
    link = dag_run.link()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE carbonmark_purchases SET dag_id = 'gone', handler_dag_id = 'gone'"))
    engine.dispose()
    renamed = DagRun(airflow, "renamed")
    assert renamed.plan() == []
    assert "run 'first' of the DAG 'gone', which is over: nobody carries it on" in logged()
    assert "is link_made in run 'first' of 'gone'" in not_bought(renamed)
    (taken,) = renamed.plan(take_over_from=["gone"])
    assert (taken["purchase"], renamed.link()) == (planned["purchase"], link)
    assert ledger.purchase(taken["purchase"]).handler == Run("offset", "renamed")
    buyer.buy(renamed)
    assert len(renamed.run("bought")) == 1


def test_what_is_carried_over_is_told_with_its_reason(dag_run, monkeypatch, logged):
    monkeypatch.setenv("AIRFLOW__CARBONMARK__MINIMUM_PAYMENT_USD", "1000")
    assert dag_run.plan() == []
    logged()
    assert dag_run.run("bought") == []
    assert "1.234 t of web, 2026-10 is not bought yet, carried over: " in logged()


def test_what_was_declined_and_failed_when_it_was_bought_again_is_not_taken_for_declined(
    dag_run, second, sandbox
):
    dag_run.plan()
    dag_run.link()
    dag_run.park()
    with pytest.raises(AirflowSkipException):
        dag_run.run("payment", event=declined)
    (anew,) = second.plan()
    sandbox.state.listings[anew["asset_price_source_id"]].liquid_supply = Decimal(0)
    with pytest.raises(AirflowFailException):
        second.link()
    assert "web, 2026-10, which failed" in not_bought(second)


def test_a_preview_is_green_and_where_nothing_was_planned_it_is_said(dag_run):
    with pytest.raises(AirflowFailException, match="Nothing was planned"):
        dag_run.run("bought")
    dag_run.plan(preview=True)
    assert dag_run.run("bought") == []
