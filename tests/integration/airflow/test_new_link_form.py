"""The form's third choice: a new link, by the rule of the pay address, for those whose browser reaches Airflow only."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_carbonmark.ledger.names import Source, State
from airflow_provider_carbonmark.operators.payment import NEW_LINK, PARKING
from tests.integration.airflow.model import answer, body, declined
from tests.integration.airflow.parts import make_context, sqlite_only
from tests.integration.conftest import NOWHERE
from tests.integration.ledger.parts import expire

pytestmark = sqlite_only

LATE_CARD, FAILING_LATE_CARD = "4000000000001075", "4000000000001083"
new_link = answer(NEW_LINK)


def until(ledger, id: int) -> str:
    return f"can be used until {ledger.purchase(id).link.expires_at:%Y-%m-%d %H:%M} UTC"


def test_while_the_link_can_be_paid_it_says_until_when_and_parks_again(dag_run, parked, ledger, sandbox):
    dag_run.park(event=new_link)
    assert (
        f"There is no new link. The payment page {until(ledger, parked['purchase'])}, so there is no other"
        in body(dag_run)
    )
    assert len(sandbox.state.checkouts) == 1


def test_after_its_end_it_parks_again_with_the_new_link_and_its_end(dag_run, parked, ledger):
    expire(ledger, parked["purchase"])
    dag_run.park(event=new_link)
    first, second = ledger.links(parked["purchase"])
    assert (first.unpaid_said_by, second.url in body(dag_run)) == ("ada", False)
    assert body(dag_run).startswith("**There is a new payment page.**\n")
    assert parked["pay_url"] in body(dag_run)
    assert until(ledger, parked["purchase"]) in body(dag_run)


def test_where_airflow_s_address_is_not_known_it_shows_the_new_link_itself(
    checkout_operator, ledger, monkeypatch, dag_run
):
    monkeypatch.delenv("AIRFLOW__API__BASE_URL")
    checkout = checkout_operator().execute(make_context())
    assert checkout["pay_url"] is None
    with pytest.raises(PARKING):
        dag_run.run("payment", checkout=checkout)
    assert f"if nobody paid there, choose “{NEW_LINK}” and load this page again" in body(dag_run)
    expire(ledger, checkout["purchase"])
    with pytest.raises(PARKING):
        dag_run.run("payment", event=new_link, checkout=checkout)
    assert ledger.purchase(checkout["purchase"]).link.url in body(dag_run)
    assert checkout["checkout_url"] not in body(dag_run)


def test_an_author_s_own_text_gets_the_link_and_its_end_when_it_is_shown_again(dag_run, parked, ledger):
    expire(ledger, parked["purchase"])
    with pytest.raises(PARKING):
        dag_run.run("payment", event=new_link, body="As agreed.")
    assert body(dag_run).endswith("\nAs agreed.")
    for told in ("There is a new payment page.", parked["pay_url"], until(ledger, parked["purchase"])):
        assert told in body(dag_run)


def test_once_it_is_paid_the_payment_goes_on(dag_run, parked, ledger, buyer, sandbox):
    payment_id = buyer.pay(parked)
    expire(ledger, parked["purchase"])
    assert dag_run.run("payment", event=new_link) == payment_id
    assert len(sandbox.state.checkouts) == 1


def test_what_is_sold_out_ends(dag_run, parked, ledger, sandbox):
    source = ledger.purchase(parked["purchase"]).asset_price_source_id
    sandbox.state.listings[source].liquid_supply = Decimal(0)
    expire(ledger, parked["purchase"])
    with pytest.raises(AirflowSkipException, match="Nobody paid it, and it can't be bought any more"):
        dag_run.run("payment", event=new_link)
    assert ledger.purchase(parked["purchase"]).state is State.FAILED


def test_while_carbonmark_is_away_it_says_so_and_parks_again(dag_run, parked, ledger, connect):
    expire(ledger, parked["purchase"])
    connect(host=NOWHERE)
    dag_run.park(event=new_link)
    assert "There is no new link." in body(dag_run)
    connect()
    dag_run.park(event=new_link)
    assert ledger.purchase(parked["purchase"]).link.number == 2


def test_an_id_that_is_entered_with_it_is_taken(dag_run, parked, ledger, buyer, sandbox):
    """Whoever has one has paid, whichever button they press."""
    payment_id = buyer.pay(parked, comes_back=False)
    expire(ledger, parked["purchase"])
    assert dag_run.run("payment", event=answer(NEW_LINK, payment_id)) == payment_id
    assert len(sandbox.state.checkouts) == 1


def test_what_was_entered_and_nobody_can_confirm_is_in_its_way(
    dag_run, parked, ledger, buyer, connect, sandbox
):
    payment_id = buyer.pay(parked, comes_back=False)
    expire(ledger, parked["purchase"])
    about = {"source": Source.ENTERED, "brought_by": "ada", "verified": False, "now": datetime.now(UTC)}
    ledger.bring(parked["purchase"], 1, payment_id, **about)
    sandbox.state.change_switches(bought_at="untold", retirement_seconds=3600)
    dag_run.park(event=new_link)
    assert f"There is no new link. Payment {payment_id} was brought for it on" in body(dag_run)
    assert len(sandbox.state.checkouts) == 1


# --- payments that confirm late


@pytest.mark.parametrize(
    "words",
    [{}, {"PROCESSING": "complete"}, {"PROCESSING": "requires_action"}, {"PROCESSING": "Settling"}],
    ids=str,
)
def test_a_payment_that_is_under_way_for_days_is_waited_for_whatever_word_leaves_it_open(
    clock, dag_run, parked, buyer, sandbox, words
):
    sandbox.state.change_switches(processing_seconds=14 * 86400, status_words=words)
    payment_id = buyer.pay(parked, LATE_CARD)
    assert dag_run.run("payment") == payment_id
    pauses = {"poke_interval": timedelta(hours=1), "max_wait": timedelta(hours=12)}
    assert dag_run.run("retirement", deferrable=False, **pauses)["payment_id"] == payment_id
    assert clock.elapsed >= 14 * 86400


def test_a_payment_that_fails_after_all_leaves_the_purchase_to_be_paid_by_the_next_link(
    dag_run, parked, ledger, buyer, sandbox
):
    failed = buyer.pay(parked, FAILING_LATE_CARD)
    assert ledger.purchase(parked["purchase"]).state is State.PAID
    assert dag_run.run("payment") == failed
    sandbox.state.advance_clock(3600)
    with pytest.raises(AirflowFailException, match="Nothing was taken, and it can be paid as before"):
        dag_run.run("retirement")
    assert ledger.purchase(parked["purchase"]).state is State.LINK_MADE
    # Its task, cleared, asks people again instead of following what has failed.
    dag_run.park()
    purchase = ledger.purchase(parked["purchase"])
    assert (purchase.state, purchase.payment_id) == (State.LINK_MADE, None)
    expire(ledger, parked["purchase"])
    dag_run.park(event=new_link)
    second = ledger.purchase(parked["purchase"]).link
    payment_id = buyer.pay({**parked, "checkout_url": second.url})
    assert dag_run.run("payment") == payment_id != failed
    dag_run.run("retirement")
    assert dag_run.run("record")["state"] == "retired"


def test_declining_after_a_new_link_says_not_to_pay_that_one(dag_run, parked, ledger):
    expire(ledger, parked["purchase"])
    dag_run.park(event=new_link)
    with pytest.raises(AirflowSkipException) as skipped:
        dag_run.run("payment", event=declined)
    current = ledger.purchase(parked["purchase"]).link.url
    assert re.search(f"Nobody should pay the link any more: .*{re.escape(current)}", str(skipped.value))
