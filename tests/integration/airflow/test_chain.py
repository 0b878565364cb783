"""A run's chain of tasks: what each writes into the ledger, that again changes nothing, and that green means bought."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, Asset
from sqlalchemy import create_engine, text

from airflow_provider_carbonmark.hooks.checkout import checkout_of
from airflow_provider_carbonmark.ledger.names import Run, State
from airflow_provider_carbonmark.operators.ledger import CARBONMARK_RETIREMENTS
from airflow_provider_carbonmark.planning import ListingFilter
from tests.integration.airflow.model import (
    CHAIN,
    FAILING_CARD,
    MONTH,
    DagRun,
    declined,
    make_operator,
    paid,
    stated,
)
from tests.integration.airflow.parts import each_database

TWO = [stated("1", "api"), stated("2", "web")]


def live(sandbox):
    return list(sandbox.state.checkouts.values())


@each_database
def test_a_purchase_goes_from_its_plan_to_its_recorded_retirement(dag_run, ledger, buyer, sandbox):
    (planned,) = dag_run.plan()
    assert (planned["entity"], planned["months"], planned["state"]) == ("web", [MONTH], "planned")
    assert planned["quantity_tonnes"] == "1.234"
    number = planned["purchase"]
    # As it was when it was planned.
    base_price = sandbox.state.listings[planned["asset_price_source_id"]].as_price()["baseUnitPrice"]
    (line,) = ledger.lines()
    assert line.base_unit_price_usd == ledger.purchase(number).base_unit_price_usd == base_price
    assert base_price < line.unit_price_usd

    checkout = dag_run.run("checkout")
    assert ledger.purchase(number).cost_usd > 0
    (page,) = live(sandbox)
    assert page.order.quantity == Decimal("1.234")
    assert page.order.metadata.beneficiary_name == checkout["beneficiary_name"] == "Example Corp, web"
    assert page.order.metadata.retirement_message == f"Emissions of web in {MONTH}: 1.234 t CO2e"
    assert (checkout["purchase"], checkout["ledger"]) == (number, ledger.id)
    made = ledger.purchase(number)
    assert (made.state, checkout_of(ledger, made)) == (State.LINK_MADE, checkout)
    assert (made.link.url, made.link.conn_id) == (checkout["checkout_url"], "carbonmark_default")
    assert made.link.made_by == dag_run.task("checkout")

    dag_run.park()
    payment_id = buyer.pay(checkout)
    assert dag_run.run("payment", event=paid) == payment_id
    made = ledger.purchase(number)
    assert (made.state, made.payment_id) == (State.PAID, payment_id)

    retirement = dag_run.run("retirement")
    recorded = dag_run.run("record")
    made = ledger.purchase(number)
    assert made.state is State.RETIRED
    assert recorded == made.to_json()
    assert made.certificate_url == retirement["certificate_url"]
    assert made.transaction_hash == retirement["transaction_hash"]
    assert dag_run.airflow.events == [
        {
            "for_whom": f"web, {MONTH}",
            "entities": 1,
            "months": [MONTH],
            "allocations": [{"entity": "web", "month": MONTH, "quantity_tonnes": "1.234"}],
            "quantity_tonnes": "1.234",
            "payment_id": payment_id,
            "test_mode": False,
        }
    ]


@pytest.mark.parametrize("outlets", [None, Asset("mine"), [Asset("mine")]])
def test_an_authors_own_outlets_are_kept(outlets):
    operator = make_operator("record", {"checkout": {}, "retirement": {}, "outlets": outlets})
    assert operator.outlets == [CARBONMARK_RETIREMENTS, *([Asset("mine")] if outlets else [])]


def test_puro_s_credits_get_a_link_only_with_the_consumption_that_the_dag_says(dag_run, ledger, sandbox):
    (planned,) = dag_run.plan("0.2", filters=ListingFilter(registries=["PUR"]))
    with pytest.raises(AirflowFailException, match="country_of_consumption_code"):
        dag_run.run("checkout")
    assert ledger.purchase(planned["purchase"]).state is State.PLANNED
    # As templates give them.
    consumption = {
        "country_of_consumption_code": "DE",
        "consumption_period_start": "1790812800",
        "consumption_period_end": "1793491199",
    }
    assert dag_run.run("checkout", metadata={"consumption_metadata": consumption})["quantity_tonnes"] == "1"
    (page,) = live(sandbox)
    assert page.order.metadata.consumption_metadata == consumption


def without_number(result):
    """Leave out a quote's own number: each quote has a new one, and none is asked for once there is a link."""
    return result | {"uuid": None} if isinstance(result, dict) and "uuid" in result else result


@each_database
def test_every_step_again_gives_the_same_and_changes_nothing(dag_run, ledger, buyer, sandbox):
    planned = dag_run.plan()
    for number, step in enumerate(CHAIN):
        if step == "payment":
            dag_run.park()
            buyer.pay(dag_run.result("checkout"))
        dag_run.run(step)
        before = ledger.lines()
        assert [each["purchase"] for each in dag_run.plan()] == [each["purchase"] for each in planned]
        for again in CHAIN[: number + 1]:
            result = dag_run.result(again)
            assert without_number(dag_run.run(again)) == without_number(result)
        assert ledger.lines() == before
    assert len(live(sandbox)) == 1


# --- green means bought: what the last task says, whatever became of the tasks before it


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


@pytest.mark.parametrize(("month", "emitted"), [(MONTH, "1.234"), ("2026-09", "0")])
def test_links_that_wait_in_another_run_are_told_with_where_and_since_when(
    dag_run, second, logged, month, emitted
):
    dag_run.plan([stated("1.234", month=month)])
    link = dag_run.link()
    assert second.plan(emitted) == []
    logged()
    assert second.run("bought") == []
    told = logged()
    assert f"1.234 t of web, {month} waits to be paid since {datetime.now(UTC):%Y-%m-%d}" in told
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


def test_what_is_carried_over_is_told_with_its_reason(dag_run, buyer, monkeypatch, logged):
    dag_run.plan("1")
    buyer.buy(dag_run)
    monkeypatch.setenv("AIRFLOW__CARBONMARK__MINIMUM_PAYMENT_USD", "1000")
    dag_run.plan()
    logged()
    assert len(dag_run.run("bought")) == 1
    assert "0.234 t of web, 2026-10 is not bought yet, carried over: " in logged()


def test_what_is_planned_anew_though_it_is_not_stated_any_more_is_to_be_bought(dag_run, second, sandbox):
    dag_run.plan()
    dag_run.end()
    (anew,) = second.plan([stated("0", "api")])
    sandbox.state.listings[anew["asset_price_source_id"]].liquid_supply = Decimal(0)
    with pytest.raises(AirflowFailException):
        second.link()
    assert "1.234 t of web, 2026-10, which failed" in not_bought(second)


def test_what_was_declined_and_failed_when_it_was_bought_again_is_not_taken_for_declined(
    dag_run, parked, second, sandbox
):
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
