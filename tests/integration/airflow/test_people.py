"""What people enter, decline and come back with: the right payment is followed, and none is lost."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest.mock import patch

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_carbonmark.ledger import Ledger
from airflow_provider_carbonmark.operators.payment import PAID
from tests.integration.airflow.model import FAILING_CARD, FIELD, answer, body, declined, stated, states
from tests.integration.conftest import NOWHERE

NOW = datetime(2026, 11, 23, 6, tzinfo=UTC)


def entering(payment_id):
    return answer(PAID, payment_id)


UNUSABLE = "ada has paid but gave no usable payment id, so it is asked for again"


@pytest.mark.parametrize(
    ("typed", "told", "said"),
    [
        ("pay_typo", "Carbonmark knows of no payment pay_typo that is paid.", "is not this link's"),
        ("see mail", "“see mail” is no payment id.", UNUSABLE),
        *((nothing, "Enter the payment id, too.", UNUSABLE) for nothing in (None, " ", FIELD)),
    ],
)
def test_an_id_that_was_typed_wrong_is_said_to_be_wrong_and_leaves_nothing(
    dag_run, parked, ledger, buyer, logged, typed, told, said
):
    payment_id = buyer.pay(parked, comes_back=False)
    dag_run.park(event=entering(typed))
    assert body(dag_run).startswith(f"**{told}")
    assert said in logged()
    # Or whoever opens the pay address would be told not to pay.
    assert ledger.payments(parked["purchase"]) == []
    dag_run.run("payment", event=entering(payment_id))
    assert (states(ledger), ledger.lines()[0].payment_id) == (["paid"], payment_id)


def test_a_payment_counts_once_though_two_purchases_ask_for_just_the_same(dag_run, ledger, buyer):
    dag_run.plan([stated("1.234", "web", "2026-09"), stated("1.234", "web", "2026-10")])
    other = buyer.buy(dag_run, 0)["payment_id"]
    payment_id = buyer.pay(dag_run.link(1), comes_back=False)
    dag_run.park(1)
    dag_run.park(1, event=entering(other))
    assert ledger.payments(dag_run.result("checkout", 1)["purchase"]) == []
    # Nor does it stay in the way when the task is tried again.
    dag_run.park(1)
    assert dag_run.run("payment", 1, event=entering(payment_id)) == payment_id
    assert states(ledger) == ["retired", "paid"]


def test_the_id_of_another_purchases_payment_is_refused_though_carbonmark_cannot_be_asked(
    dag_run, ledger, buyer, connect
):
    dag_run.plan([stated("1.234", "api"), stated("1", "web")])
    other = buyer.pay(dag_run.link(1))
    dag_run.link()
    dag_run.park()
    connect(host=NOWHERE)
    dag_run.park(event=entering(other))
    assert states(ledger) == ["link_made", "paid"]


def test_an_id_that_was_entered_is_followed_by_the_next_run_if_its_own_died(
    dag_run, parked, second, ledger, buyer, connect
):
    payment_id = buyer.pay(parked, comes_back=False)
    connect(host=NOWHERE)
    assert dag_run.run("payment", event=entering(payment_id)) == payment_id
    dag_run.end()
    assert states(ledger) == ["link_made"]
    # Nobody is asked to pay once more, whether Carbonmark can be asked by now or not.
    connect()
    second.plan()
    connect(host=NOWHERE)
    second.link()
    assert second.run("payment") == payment_id
    connect()
    assert second.run("payment") == payment_id
    assert states(ledger) == ["paid"]
    second.run("retirement")
    second.run("record")
    assert states(ledger) == ["retired"]


def test_declining_does_not_lose_a_payment_whose_id_was_entered(dag_run, parked, ledger, buyer, sandbox):
    payment_id = buyer.pay(parked, comes_back=False)
    sandbox.state.change_switches(bought_at="untold")
    assert dag_run.run("payment", event=entering(payment_id)) == payment_id
    # Carbonmark doesn't say what that payment is for, so somebody may look at it once more, but not buy anew.
    dag_run.park()
    assert payment_id in body(dag_run)
    assert dag_run.run("payment", event=declined) == payment_id
    assert states(ledger) == ["link_made"]


def test_a_failed_payment_that_does_not_say_what_it_was_for_fails_no_purchase_but_its_own(
    dag_run, parked, ledger, buyer, sandbox
):
    payment_id = buyer.pay(parked, FAILING_CARD, comes_back=False)
    sandbox.state.change_switches(bought_at="untold")
    dag_run.run("payment", event=entering(payment_id))
    with pytest.raises(AirflowFailException, match="Nothing says that it is the payment of this purchase"):
        dag_run.run("retirement")
    assert states(ledger) == ["link_made"]
    ledger.paid(parked["purchase"], payment_id, now=NOW)
    with pytest.raises(AirflowFailException, match="is 'FAILED'"):
        dag_run.run("retirement")
    assert states(ledger) == ["paid_not_retired"]


def test_declining_in_the_moment_in_which_the_buyer_comes_back_does_not_lose_the_payment(
    dag_run, parked, ledger, buyer
):
    payment_id = buyer.pay(parked, comes_back=False)
    real = Ledger.declined

    def late(self, *arguments, **more):
        dag_run.airflow.come_back(parked, payment_id)
        return real(self, *arguments, **more)

    with patch.object(Ledger, "declined", late):
        assert dag_run.run("payment", event=declined) == payment_id
    assert states(ledger) == ["paid"]


# --- what a buyer came back with while Carbonmark could not be asked


def come_back(dag_run, *payment_ids):
    for payment_id in payment_ids:
        dag_run.airflow.come_back(dag_run.result("checkout"), payment_id, verified=False)


def test_it_is_passed_on_while_carbonmark_cannot_be_asked_and_goes_before_what_was_typed(
    dag_run, parked, ledger, buyer, connect
):
    payment_id = buyer.pay(parked, comes_back=False)
    connect(host=NOWHERE)
    assert dag_run.run("payment", event=entering("pay_typed")) == "pay_typed"
    come_back(dag_run, payment_id)
    assert dag_run.run("payment") == payment_id
    connect()
    dag_run.run("retirement")
    assert (states(ledger), ledger.lines()[0].payment_id) == (["paid"], payment_id)


@pytest.mark.parametrize("reach", ["before it parks", "while it is parked"])
def test_what_carbonmark_rules_out_is_not_passed_on(dag_run, ledger, buyer, reach):
    dag_run.plan([stated("1.234", "api"), stated("1", "web")])
    other = buyer.pay(dag_run.link(1), comes_back=False)
    payment_id = buyer.pay(dag_run.link(), comes_back=False)
    if reach == "before it parks":
        come_back(dag_run, "pay_none", other)
        dag_run.park()
    else:
        dag_run.park()
        come_back(dag_run, "pay_none", other)
        for wrong in ("pay_none", other):
            dag_run.park(event=entering(wrong))
    # Whatever came before it, the one that Carbonmark confirms is the one.
    come_back(dag_run, payment_id)
    assert dag_run.run("payment") == payment_id
    # An id that a person typed here is brought to the purchase that it is for.
    assert states(ledger) == ["paid", "link_made" if reach == "before it parks" else "paid"]


def test_of_ids_that_were_typed_the_last_is_followed(dag_run, parked, ledger, connect):
    connect(host=NOWHERE)
    for typed in ("pay_typo", "pay_right"):
        assert dag_run.run("payment", event=entering(typed)) == typed
    assert dag_run.run("payment") == "pay_right"
    assert states(ledger) == ["link_made"]
