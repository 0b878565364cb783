"""Trouble while somebody pays: Carbonmark away, refusing or hanging. No link is lost, and none is made twice."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from airflow_provider_carbonmark.ledger.names import State
from airflow_provider_carbonmark.web import waking
from airflow_provider_carbonmark.web.buyers import desk, paying
from tests.integration.conftest import NOWHERE
from tests.integration.web.buyers.parts import buyers, id_of
from tests.integration.web.buyers.test_hangs import LIMITS, SOON
from tests.integration.web.buyers.test_pay import CLOSED, IS_IT_PAID, NOTED, PAID, TO_PAY, declined
from tests.integration.web.serving import title

LATER = "This takes longer than usual"


# --- Carbonmark


REFUSED = {"kind": "error", "status": 401, "path": "/quotes"}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"host": NOWHERE}, None),
        ({"key": "cm_api_refused"}, REFUSED),
        (None, None),
        ({}, {"kind": "error", "status": 503, "path": "/quotes"}),
        ({}, {"kind": "html", "path": "/quotes"}),
        ({}, {"kind": "error", "status": 429, "path": "/checkout"}),
        ({}, {"kind": "drop", "path": "/checkout"}),
        ({}, {"kind": "bad_urls", "path": "/checkout"}),
    ],
    ids=str,
)
def test_while_carbonmark_makes_none_the_page_says_so_and_the_next_press_makes_it(
    make_link, buyer, connect, sandbox, listing, monkeypatch, change, fault
):
    link = make_link(max_cost="100000")
    cost = link.purchase.cost_usd
    listing.purchase_price *= 2
    if change is None:
        monkeypatch.delenv("AIRFLOW_CONN_CARBONMARK_DEFAULT")
    else:
        connect(**change)
    sandbox.state.change_switches(faults=[fault] if fault else [])
    page = buyer.nobody_paid(link.expired())
    assert (page.status_code, title(page)) == (200, IS_IT_PAID)
    assert "can’t be made right now" in page.text
    assert "carbonmark_default" not in page.text
    # The current link's: somebody may have paid that one.
    assert (link.purchase.cost_usd, link.purchase.state) == (cost, State.LINK_MADE)
    assert link.purchase.link.number == 1
    asked_for = [each for each in sandbox.state.requests if each["path"] == "/checkout"]
    assert len(link.ledger.links(link.number)) == len(asked_for)
    connect()
    sandbox.state.change_switches(faults=[])
    assert buyer.nobody_paid(link).headers["location"] == link.current
    assert len(sandbox.state.checkouts) == 2


# --- what hangs


@pytest.fixture
def in_short(api_server):
    api_server.app = buyers.create_app(LIMITS)


@pytest.mark.usefixtures("in_short")
def test_carbonmark_that_says_nothing_makes_the_page_say_later_and_loses_no_number(
    link, buyer, connect, silent
):
    payment_id = id_of(buyer.pay(link))
    connect(host=f"http://127.0.0.1:{silent}", timeout=20)
    page = buyer.nobody_paid(link.expired())
    assert (page.status_code, title(page)) == (503, LATER)
    assert title(buyer.paid(link, payment_id)) == NOTED
    assert link.brought == {payment_id: False}


@pytest.mark.usefixtures("in_short")
def test_the_link_is_made_though_the_page_gave_up_and_the_next_press_joins(
    link,
    buyer,
    sandbox,
    monkeypatch,
    gate,
):
    link.expired()
    monkeypatch.setattr(waking, "settings_of", gate.close(waking.settings_of))
    for _ in range(3):
        assert title(buyer.nobody_paid(link)) == LATER
    with ThreadPoolExecutor(1) as person:
        pressed = person.submit(buyer.nobody_paid, link)
        gate.open()
        assert pressed.result().headers["location"] == link.current
    assert (len(link.ledger.links(link.number)), len(sandbox.state.checkouts)) == (2, 2)


@pytest.mark.usefixtures("in_short")
def test_a_ledger_that_hangs_makes_the_page_say_later(link, buyer, monkeypatch, gate):
    assert title(buyer.look(link)) == TO_PAY
    monkeypatch.setattr(desk, "_find", gate.close(desk._find))
    started = time.monotonic()
    page = buyer.look(link)
    assert time.monotonic() - started < SOON
    assert (page.status_code, title(page)) == (503, LATER)


def test_a_ledger_that_is_away_says_nothing_of_itself(link, buyer, monkeypatch):
    assert title(buyer.look(link)) == TO_PAY
    with monkeypatch.context() as away:
        away.setenv("AIRFLOW__CARBONMARK__LEDGER_CONN_ID", "no_such_connection")
        for page in (buyer.look(link), buyer.say(link, "pay"), buyer.nobody_paid(link)):
            assert (page.status_code, title(page)) == (503, LATER)
            assert "no_such" not in page.text
    assert title(buyer.look(link)) == TO_PAY


# --- somebody else meanwhile


def test_what_is_paid_in_the_moment_in_which_the_next_is_made_is_shown_as_paid(
    link, buyer, sandbox, monkeypatch
):
    url, real = buyer.pay(link), paying._next_link

    def paid_meanwhile(*arguments):
        httpx.get(url, timeout=60, trust_env=False)
        return real(*arguments)

    monkeypatch.setattr(paying, "_next_link", paid_meanwhile)
    page = buyer.nobody_paid(link.expired())
    assert title(page) == PAID
    assert (link.paid_with, len(sandbox.state.checkouts)) == (id_of(url), 1)


def test_what_is_declined_while_the_page_is_made_leads_nobody_there(link, buyer, sandbox, monkeypatch):
    asked, go_on = threading.Event(), threading.Event()
    real = sandbox.state.open_checkout

    def open_checkout(*arguments, **more):
        asked.set()
        go_on.wait(60)
        return real(*arguments, **more)

    link.expired()
    monkeypatch.setattr(sandbox.state, "open_checkout", open_checkout)
    with ThreadPoolExecutor(1) as person:
        pressed = person.submit(buyer.nobody_paid, link)
        assert asked.wait(60)
        declined(link)
        go_on.set()
        page = pressed.result()
    assert (page.status_code, title(page)) == (200, CLOSED)
    assert link.purchase.link.number == 1
