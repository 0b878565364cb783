"""Somebody at the pay address says that they have paid, and types a number: it is taken, brought elsewhere, held or refused; none is lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_carbonmark.ledger.names import Source, State
from tests.integration.conftest import NOWHERE
from tests.integration.web.buyers.parts import WaitingTask, errors, id_of
from tests.integration.web.buyers.test_pay import IS_IT_PAID, NOTED, PAID, SOMEBODY, TO_PAY, declined
from tests.integration.web.readers.parts import token_of
from tests.integration.web.serving import title


@pytest.mark.parametrize("can_be_paid", [True, False])
def test_the_number_is_taken_and_who_waits_goes_on(link, buyer, can_be_paid):
    waiting = WaitingTask(link).ask().park()
    payment_id = id_of(buyer.pay(link))
    if not can_be_paid:
        link.expired()
    led = buyer.paid(link, f"  {payment_id}\n")
    assert (led.status_code, led.headers["location"]) == (303, link.pay_url.rpartition("/")[2])
    assert (link.purchase.state, link.paid_with, waiting.answered_with) == (
        State.PAID,
        payment_id,
        payment_id,
    )
    (brought,) = link.ledger.payments(link.number)
    assert (brought.source, brought.brought_by) == (Source.ENTERED, SOMEBODY)
    assert title(buyer.look(link)) == PAID


def test_who_is_signed_in_is_who_brought_it(link, buyer):
    buyer.browser.cookies.set("_token", token_of("Ada"))
    buyer.paid(link, id_of(buyer.pay(link)))
    assert [each.brought_by for each in link.ledger.payments(link.number)] == ["Ada"]


def test_weeks_later_it_is_taken_for_an_earlier_link_too(link, buyer):
    payment_id = id_of(buyer.pay(link))
    buyer.nobody_paid(link.expired())
    link.was_asked_for(timedelta(days=30))
    buyer.paid(link, payment_id)
    assert link.paid_with == payment_id


@pytest.mark.parametrize("what", ["unknown", "unpaid", "failed", "something else", "paid already", "too old"])
def test_a_number_that_is_not_its_payments_is_refused_and_leaves_nothing(
    link, make_link, buyer, sandbox, what
):
    """Or whoever has the address could make the page say for ever that a payment is being checked."""
    payment_id = "pay_unknown"
    if what == "failed":
        sandbox.state.change_switches(processing_seconds=0)
        payment_id = id_of(buyer.pay(link, card_number="4000 0000 0000 1083"))
    elif what == "unpaid":
        (payment_id,) = (each.payment_id for each in sandbox.state.checkouts.values())
    elif what in ("something else", "paid already"):
        other = make_link(run_id="other", quantity_tonnes="2" if what == "something else" else "1.234")
        payment_id = id_of(buyer.go(buyer.pay(other)).url.path)
    elif what == "too old":
        payment_id = id_of(buyer.pay(link))
        link.was_asked_for(-timedelta(hours=3))
    page = buyer.paid(link, payment_id)
    assert (page.status_code, title(page)) == (200, TO_PAY)
    assert "There is no such payment yet" in page.text or "That payment is for something else" in page.text
    assert link.brought == {}
    assert buyer.say(link, "pay").status_code == 303


# --- whose it is


def test_another_open_purchases_number_is_brought_there_and_wakes_who_waits_there(make_link, buyer):
    here, there = make_link(run_id="here"), make_link(run_id="there", quantity_tonnes="2")
    waiting = WaitingTask(there).ask().park()
    payment_id = id_of(buyer.pay(there))
    page = buyer.paid(here, payment_id)
    assert "it has been noted there" in page.text
    for name in (str(there.number), there.purchase.reference, "2 t"):
        assert name not in page.text
    assert (here.paid_with, there.paid_with, waiting.answered_with) == (None, payment_id, payment_id)
    assert title(buyer.look(here)) == TO_PAY


def test_one_that_fits_two_is_held_until_it_comes_with_a_reference_whoever_says_that_nobody_paid(
    july, august, buyer
):
    payment_id = id_of(buyer.pay(july))
    page = buyer.paid(august, payment_id)
    assert "Write this one’s reference after the number" in page.text
    assert july.purchase.reference not in page.text
    page = buyer.nobody_paid(august.expired())
    assert (july.paid_with, august.paid_with) == (None, None)
    assert "which is for this or for another purchase" in page.text
    buyer.paid(july, f"{payment_id} {july.purchase.reference.lower()}")
    # Now that it is known to be July's, nothing is in August's way.
    assert buyer.nobody_paid(august).headers["location"] == august.current
    assert (july.paid_with, august.paid_with) == (payment_id, None)


def test_one_that_is_none_of_those_that_were_told_with_the_links_is_nobody_s(make_link, buyer, sandbox):
    sandbox.state.change_switches(checkout_layout="rich")
    july, august = make_link(run_id="july"), make_link(run_id="august")
    _, twin = map(id_of, buyer.pay_twice(july))
    assert "That payment is for something else" in buyer.paid(july, twin).text
    assert (july.paid_with, august.paid_with) == (None, None)


def test_messages_with_references_tell_them_apart(make_link, buyer):
    july, august = (make_link(run_id=run, retirement_message=f"For {run}") for run in ("july", "august"))
    payment_id = id_of(buyer.pay(july))
    buyer.paid(august, payment_id)
    assert (july.paid_with, august.paid_with) == (payment_id, None)


def test_a_second_payment_is_an_error_with_both_numbers(link, buyer, caplog):
    first, second = map(id_of, buyer.pay_twice(link))
    buyer.paid(link, first)
    buyer.paid(link, second)
    assert link.paid_with == first
    (error,) = errors(caplog)
    assert first in error
    assert second in error


# --- what can't be checked


def test_what_can_not_be_checked_is_noted(link, buyer, sandbox):
    payment_id = id_of(buyer.pay(link))
    sandbox.state.change_switches(faults=[{"kind": "error", "path": "/payments", "status": 503}])
    page = buyer.paid(link, payment_id)
    assert title(page) == title(buyer.look(link)) == NOTED
    assert "has been noted, and will be checked" in page.text
    assert link.brought == {payment_id: False}
    # Asked again, it counts.
    sandbox.state.change_switches(faults=[])
    waiting = WaitingTask(link).ask().park()
    assert buyer.say(link, "pay").status_code == 303
    assert (link.paid_with, waiting.answered_with) == (payment_id, payment_id)
    assert title(buyer.look(link)) == PAID


def test_what_says_too_little_is_noted_and_a_person_has_to_find_out(link, buyer, sandbox):
    sandbox.state.change_switches(bought_at="untold", retirement_seconds=3600)
    payment_id = id_of(buyer.pay(link))
    assert title(buyer.paid(link, payment_id)) == NOTED
    assert link.brought == {payment_id: False}
    for page in (buyer.say(link, "pay"), buyer.nobody_paid(link.expired())):
        assert title(page) == NOTED
        assert "Ask Carbonmark what it is for" in page.text
    assert len(sandbox.state.checkouts) == 1


@pytest.mark.parametrize("can_be_paid", [True, False])
def test_a_number_that_turns_out_to_be_none_bars_nobody_from_paying(link, buyer, connect, can_be_paid):
    connect(host=NOWHERE)
    buyer.paid(link, "pay_typo")
    assert "can’t be confirmed yet" in buyer.look(link).text
    assert "nobody can say yet" in buyer.say(link, "pay").text
    connect()
    if can_be_paid:
        assert buyer.say(link, "pay").headers["location"] == link.current
        return
    page = buyer.say(link.expired(), "pay")
    assert title(page) == IS_IT_PAID
    assert buyer.nobody_paid(link).headers["location"] == link.current


def test_saying_that_nobody_paid_what_is_found_to_be_paid_wakes_who_waits(link, buyer, connect):
    waiting = WaitingTask(link).ask().park()
    payment_id = id_of(buyer.pay(link))
    connect(host=NOWHERE)
    buyer.paid(link, payment_id)
    connect()
    page = buyer.nobody_paid(link.expired())
    assert title(page) == PAID
    assert (link.paid_with, waiting.answered_with) == (payment_id, payment_id)


def test_what_was_declined_can_be_said_to_be_paid(link, buyer):
    payment_id = id_of(buyer.pay(link))
    declined(link)
    buyer.paid(link, payment_id)
    assert (link.purchase.state, link.paid_with) == (State.PAID, payment_id)
    assert link.purchase.paid_at <= datetime.now(UTC)


def test_a_buyer_who_comes_back_settles_nothing_that_was_typed_and_held(july, august, buyer, caplog):
    typed = id_of(buyer.pay(july))
    buyer.paid(august, typed)
    payment_id, _ = buyer.come_back(august)
    assert (july.paid_with, august.paid_with) == (None, payment_id)
    buyer.paid(july, f"{typed} {july.purchase.reference}")
    assert july.paid_with == typed
