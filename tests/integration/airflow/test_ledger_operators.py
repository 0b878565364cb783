"""From the plan to the recorded retirement of a purchase: what each task writes into the ledger, and that again changes nothing."""

from __future__ import annotations

from decimal import Decimal

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, Asset

from airflow_provider_carbonmark.hooks.checkout import checkout_of
from airflow_provider_carbonmark.ledger.purchase import State
from airflow_provider_carbonmark.operators.ledger import CARBONMARK_RETIREMENTS
from airflow_provider_carbonmark.planning import ListingFilter
from tests.integration.airflow.model import CHAIN, MONTH, make_operator, paid


def live(sandbox):
    return list(sandbox.state.checkouts.values())


def test_a_purchase_goes_from_its_plan_to_its_recorded_retirement(dag_run, ledger, buyer, sandbox):
    (planned,) = dag_run.plan()
    assert (planned["entity"], planned["months"], planned["state"]) == ("web", [MONTH], "planned")
    assert planned["quantity_tonnes"] == "1.234"
    number = planned["purchase"]

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


def test_each_recorded_retirement_is_an_asset_event_that_says_what_it_is(dag_run, airflow, buyer):
    dag_run.plan()
    recorded = buyer.buy(dag_run)
    assert airflow.events == [
        {
            "for_whom": f"web, {MONTH}",
            "entities": 1,
            "months": [MONTH],
            "allocations": [{"entity": "web", "month": MONTH, "quantity_tonnes": "1.234"}],
            "quantity_tonnes": "1.234",
            "payment_id": recorded["payment_id"],
            "test_mode": False,
        }
    ]


@pytest.mark.parametrize("outlets", [None, [], Asset("mine"), [Asset("mine")]])
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
