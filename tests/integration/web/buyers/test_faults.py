"""Trouble at the moment of return: Carbonmark down or slow of mind, payments that are not this link's, several servers at once."""

from __future__ import annotations

import httpx
import pytest
from airflow.configuration import conf

from airflow_provider_carbonmark.hooks.return_url import Token, sign
from airflow_provider_carbonmark.ledger.names import Source, State
from airflow_provider_carbonmark.web.buyers import desk, visits
from tests.integration.conftest import NOWHERE
from tests.integration.ledger.parts import NOW
from tests.integration.web.buyers.parts import (
    ALREADY,
    CANCELLED,
    PAID_PAGE,
    UNCHECKED,
    UNKNOWN,
    WaitingTask,
    errors,
    id_of,
)
from tests.integration.web.serving import title

# --- Carbonmark can't be asked


ERROR = {"kind": "error", "path": "/payments"}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (None, None),
        ({"timeout": "never"}, None),
        ({"host": NOWHERE}, None),
        ({}, ERROR | {"status": 503}),
        ({}, ERROR | {"status": 401}),
        ({}, ERROR | {"kind": "html"}),
    ],
    ids=str,
)
def test_what_can_not_be_checked_is_recorded_and_passed_on_and_the_next_look_verifies_it(
    link, buyer, connect, sandbox, monkeypatch, change, fault
):
    waiting = WaitingTask(link).ask().park()
    url = buyer.pay(link)
    if change is None:
        monkeypatch.delenv("AIRFLOW_CONN_CARBONMARK_DEFAULT")
    else:
        connect(**change)
    sandbox.state.change_switches(faults=[fault] if fault else [])
    for page in (buyer.go(url), buyer.go(url)):
        assert title(page) == UNCHECKED
        assert "has been noted" in page.text
        assert "refresh" not in page.headers
    assert link.brought == {id_of(url): False}
    assert link.purchase.state is State.LINK_MADE
    assert waiting.answered_with == id_of(url)
    connect()
    sandbox.state.change_switches(faults=[])
    assert [title(buyer.go(url)), title(buyer.go(url))] == [PAID_PAGE, ALREADY]
    assert link.brought == {id_of(url): True}


def test_an_unverified_payment_that_proves_genuine_stays_the_first(link, buyer, connect, caplog):
    first, second = buyer.pay_twice(link)
    connect(host=NOWHERE)
    buyer.go(first)
    connect()
    assert title(buyer.go(second)) == ALREADY
    assert link.paid_with == id_of(first)
    assert link.brought == {id_of(first): True, id_of(second): True}
    assert len(errors(caplog)) == 1


def test_while_nobody_can_check_a_flood_of_ids_is_bounded_and_its_log_too(link, buyer, connect, caplog):
    url = buyer.pay(link)
    base = url.rpartition("/")[0]
    connect(host=NOWHERE)
    for number in range(30):
        page = buyer.go(f"{base}/pay_{number}")
        assert ("has been noted" in page.text) is (number < 20)
    assert len(link.brought) == 20
    assert (
        len([each for each in caplog.records if each.levelname == "WARNING" and "pay_" in each.getMessage()])
        == 20
    )
    connect()
    assert title(buyer.go(url)) == PAID_PAGE
    assert link.paid_with == id_of(url)


# --- not known yet


def test_a_payment_that_is_not_known_yet_is_looked_for_again(link, buyer, sandbox):
    sandbox.state.change_switches(payment_visible_seconds=3600)
    url = buyer.pay(link)
    page = buyer.go(url)
    assert (page.status_code, title(page)) == (200, UNCHECKED)
    assert page.headers["refresh"] == "10; url=?look=1"
    assert link.brought == {}
    assert buyer.go(f"{url}?look=7").headers["refresh"] == "10; url=?look=8"
    last = buyer.go(f"{url}?look=30")
    assert "refresh" not in last.headers
    assert id_of(url) in last.text
    assert "refresh" not in buyer.go(f"{url}?look=999").headers
    for odd in ("x", "-1", "9999999", "²", ""):
        assert buyer.go(f"{url}?look={odd}").headers["refresh"] == "10; url=?look=1"
    httpx.post(f"{sandbox.url}/sandbox/clock", json={"advance_seconds": 3600}).raise_for_status()
    assert title(buyer.go(f"{url}?look=2")) == PAID_PAGE


def test_a_page_that_is_not_paid_yet_records_nothing(make_link, buyer, sandbox):
    sandbox.state.change_switches(checkout_layout="rich")
    link = make_link()
    page = buyer.go(f"{buyer.order_of(link).success_url}/{link.checkout['payment_id']}")
    assert title(page) == UNCHECKED
    assert link.brought == {}


# --- two payments, two links


def test_a_second_payment_is_recorded_beside_the_first_and_reported_once(link, buyer, caplog):
    waiting = WaitingTask(link).ask().park()
    first, second = buyer.pay_twice(link)
    assert title(buyer.go(first)) == PAID_PAGE
    for _ in range(2):
        page = buyer.go(second)
        assert title(page) == ALREADY
        assert id_of(first) not in page.text
        assert id_of(second) not in page.text
    assert link.paid_with == waiting.answered_with == id_of(first)
    assert link.brought == {id_of(first): True, id_of(second): True}
    (error,) = errors(caplog)
    assert id_of(first) in error
    assert id_of(second) in error


def test_a_payment_beside_one_that_was_entered_by_hand_is_reported(link, buyer, caplog):
    entered = {"source": Source.ENTERED, "brought_by": "ada", "verified": False, "now": NOW}
    link.ledger.bring(link.number, 1, "pay_by_hand", **entered)
    payment_id, page = buyer.come_back(link)
    assert (title(page), link.paid_with) == (PAID_PAGE, payment_id)
    (error,) = errors(caplog)
    assert payment_id in error
    assert "pay_by_hand" in error


def address(link, payment_id):
    """Return where a buyer of this link would come back with a payment."""
    token = sign(Token(link.number, 1, "carbonmark_default"), link.ledger.signing_key())
    return f"{conf.get('api', 'base_url')}/carbonmark/return/{token}/{payment_id}"


def test_one_payment_counts_for_one_link(july, august, buyer, caplog):
    payment_id, _ = buyer.come_back(july)
    page = buyer.go(address(august, payment_id))
    assert (page.status_code, title(page)) == (404, UNKNOWN)
    assert august.paid_with is None
    # Somebody has a token of ours and a real payment: a person should know.
    (error,) = errors(caplog)
    assert payment_id in error
    assert title(buyer.come_back(august)[1]) == PAID_PAGE


def test_one_payment_counts_for_one_link_if_both_bring_it_at_once(july, august, buyer, monkeypatch):
    payment_id = id_of(buyer.pay(july))
    real, pages = visits._bring, []

    def meanwhile(*arguments, **more):
        if not pages:
            pages.append(None)
            pages.append(title(httpx.get(address(august, payment_id), timeout=60, trust_env=False)))
        return real(*arguments, **more)

    monkeypatch.setattr(visits, "_bring", meanwhile)
    pages.append(title(buyer.go(address(july, payment_id))))
    assert pages == [None, PAID_PAGE, UNKNOWN]
    assert (july.paid_with, august.paid_with) == (None, payment_id)


def test_a_payment_that_nobody_could_check_is_still_its_own_links(july, august, buyer, connect):
    url = buyer.pay(july)
    connect(host=NOWHERE)
    buyer.go(address(august, id_of(url)))
    connect()
    assert title(buyer.go(url)) == PAID_PAGE
    assert july.paid_with == id_of(url)


def test_where_carbonmark_tells_a_links_payment_no_other_is_taken_for_it(make_link, buyer, sandbox):
    sandbox.state.change_switches(checkout_layout="rich")
    july, august = make_link(run_id="july"), make_link(run_id="august")
    assert title(buyer.go(address(august, id_of(buyer.pay(july))))) == UNKNOWN
    assert august.brought == {}
    payment_id, page = buyer.come_back(august)
    assert (title(page), august.paid_with) == (PAID_PAGE, payment_id)


# --- our side in trouble


def test_a_ledger_that_is_away_makes_the_page_look_again_and_leads_nobody_who_left_astray(
    link, buyer, monkeypatch
):
    url = buyer.pay(link)
    buyer.leave(link)
    with monkeypatch.context() as away:
        away.setenv("AIRFLOW__CARBONMARK__LEDGER_CONN_ID", "no_such_connection")
        page, left = buyer.go(url), buyer.leave(link)
        assert (page.status_code, title(page)) == (200, UNCHECKED)
        assert page.headers["refresh"]
        assert "no_such" not in page.text
        assert title(left) == CANCELLED
        assert "refresh" not in left.headers
    assert title(buyer.go(url)) == PAID_PAGE


def test_killed_before_the_record_or_after_it_the_next_visit_says_it_again(link, buyer, monkeypatch):
    waiting = WaitingTask(link).ask().park()
    url = buyer.pay(link)
    for module, step, is_recorded in ((visits, "_bring", False), (desk, "_waiting", True)):
        with monkeypatch.context() as dying:
            dying.setattr(module, step, lambda *arguments, **more: 1 / 0)
            buyer.go(url)
        assert bool(link.paid_with) is is_recorded
        assert waiting.answer is None
    assert title(buyer.go(url)) == ALREADY
    assert link.paid_with == waiting.answered_with == id_of(url)
