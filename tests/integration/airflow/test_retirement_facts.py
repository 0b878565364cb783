"""What the market tells of retirements: learnt after the proof and never in its way, and filled in by housekeeping."""

from __future__ import annotations

import pytest

from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook
from airflow_provider_carbonmark.hooks.facts.retirements import learn_of_retirements
from airflow_provider_carbonmark.ledger import Ledger
from airflow_provider_carbonmark.operators import housekeeping
from airflow_provider_carbonmark.sandbox import api
from airflow_provider_carbonmark.sandbox.world import records
from airflow_provider_carbonmark.sensors.carbonmark import CarbonmarkRetirementSensor
from tests.integration.airflow.parts import asked, make_context

RETIREMENTS = "/retirements"
API = f"{RETIREMENTS}/137-"


@pytest.mark.parametrize("proof", ["view_retirement_url", "transaction_hash", "on_chain_explorer_url"])
def test_what_is_told_is_kept_whatever_the_proof_tells_of_the_retirement(retire, ledger, sandbox, proof):
    sandbox.state.change_switches(proof_fields=[proof], shared_transactions=True)
    (number,) = retire("web")
    (facts,) = ledger.retirements([number])
    purchase = ledger.purchase(number)
    transaction = sandbox.state.checkout_of(purchase.payment_id).transaction
    assert facts.retirement_id == transaction.retirement_id
    assert facts.retired_at == purchase.retired_at.replace(microsecond=0)
    assert (facts.retiring_name, facts.bridge, facts.certificate_sha256) == ("Carbonmark sandbox", None, None)
    (serial,) = facts.serial_numbers
    assert serial.endswith(f"-SPECIMEN-{purchase.project_id}-{purchase.vintage}")


@pytest.mark.parametrize("kind", ["drop", "wrong_types"])
def test_what_cant_be_read_stands_in_no_ones_way_and_is_read_by_housekeeping(
    retire, ledger, sandbox, review, kind
):
    sandbox.state.change_switches(faults=[{"kind": kind, "path": API}])
    (number,) = retire("web")
    assert ledger.purchase(number).state == "retired"
    assert ledger.retirements([number]) == []
    sandbox.state.change_switches(faults=[])
    review()
    assert len(ledger.retirements([number])) == 1


def test_whatever_breaks_after_the_proof_the_retirement_is_recorded(retire, ledger, monkeypatch, logged):
    def breaks(*arguments):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(Ledger, "keep_retirements", breaks)
    (number,) = retire("web")
    assert ledger.purchase(number).state == "retired"
    assert "the disk is full" in logged()


def test_serial_numbers_that_come_late_are_asked_for_for_a_month(
    retire, ledger, sandbox, review, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(api, "has_provenance", lambda listing: False)
        numbers = retire("web", "api")
        review(29)
        sandbox.state.requests.clear()
        review(31)
        assert asked(sandbox, RETIREMENTS) == []
    assert [facts.serial_numbers for facts in ledger.retirements(numbers)] == [(), ()]
    monkeypatch.setattr(housekeeping, "RETIREMENTS_A_DAY", 1)
    for known in (1, 2):
        review()
        assert sum(bool(facts.serial_numbers) for facts in ledger.retirements(numbers)) == known


def test_of_what_no_plan_made_the_market_tells_which_credits_it_was(buy, listing, ledger, review):
    checkout, payment_id = buy()
    sensor = CarbonmarkRetirementSensor(task_id="wait", payment_id=payment_id, checkout=checkout)
    sensor.execute(make_context())
    review()
    purchase = ledger.purchase(checkout["purchase"])
    assert (purchase.project_id, purchase.registry) == (listing.project_id, listing.registry)
    assert purchase.vintage == listing.vintage
    assert len(ledger.projects([listing.project_id])) == 1
    assert ledger.credits_told(purchase.id, "VCS-1", None) == purchase


def test_a_rehearsal_has_no_facts(dag_run, buyer, ledger, sandbox, review, connect):
    connect(environment="test")
    dag_run.plan()
    buyer.pay(dag_run.link())
    dag_run.run("payment")
    dag_run.run("retirement", allow_test_mode=True)
    assert dag_run.run("record")["state"] == "retired"
    review()
    assert asked(sandbox, RETIREMENTS) == []


@pytest.mark.parametrize("proof", ["view_retirement_url", "transaction_hash"])
def test_nothing_is_kept_of_a_retirement_that_may_be_anothers(
    retire, ledger, sandbox, monkeypatch, logged, proof
):
    sandbox.state.change_switches(proof_fields=[proof], shared_transactions=True)
    if proof == "transaction_hash":
        # Two that are alike.
        monkeypatch.setattr(records.Retirement, "of_somebody_else", lambda self: self)
    else:
        answer = api.retirement_answer
        monkeypatch.setattr(api, "retirement_answer", lambda proven: answer(proven) | {"amount": 2})
    (number,) = retire("web")
    assert ledger.retirements([number]) == []
    says = {
        "transaction_hash": "of which 2 fit",
        "view_retirement_url": "that it is 2 t for 'Example Corp, web'",
    }
    assert says[proof] in logged()


def test_a_market_that_is_out_of_reach_is_asked_once(retire, ledger, sandbox, logged):
    sandbox.state.change_switches(faults=[{"kind": "drop", "path": API}])
    numbers = retire("a", "b", "c")
    assert len(numbers) == 3
    sandbox.state.requests.clear()
    learn_of_retirements(ledger, CarbonmarkHook(), numbers)
    assert len(asked(sandbox, RETIREMENTS)) == 1
    assert "Not asked for the retirement of 2 purchases" in logged()
