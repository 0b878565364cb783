"""Trouble while somebody pays: Carbonmark away, refusing or hanging. No link is lost, and none is made twice."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from airflow_provider_carbonmark.ledger import Ledger
from airflow_provider_carbonmark.ledger.names import State
from airflow_provider_carbonmark.web import waking
from airflow_provider_carbonmark.web.buyers import desk, paying
from tests.integration.web.buyers.parts import buyers, everything, id_of
from tests.integration.web.buyers.test_hangs import LIMITS, SOON
from tests.integration.web.buyers.test_pay import CLOSED, IS_IT_PAID, NOTED, PAID, TO_PAY, declined
from tests.integration.web.serving import title

NOWHERE = "http://127.0.0.1:9"
LATER = "This takes longer than usual"


def keys_sent(sandbox) -> list[str]:
    return [each["idempotency_key"] for each in sandbox.state.requests if each["path"] == "/checkout"]


# --- Carbonmark


@pytest.mark.parametrize(
    "change",
    [{"host": NOWHERE}, {"key": "cm_api_refused"}, None],
    ids=["away", "refused", "connection gone"],
)
def test_while_carbonmark_makes_none_the_page_says_so_and_the_next_press_makes_it(
    link, buyer, connect, sandbox, monkeypatch, change
):
    cost = link.purchase.cost_usd
    if change is None:
        monkeypatch.delenv("AIRFLOW_CONN_CARBONMARK_DEFAULT")
    else:
        connect(**change)
        if "key" in change:
            sandbox.state.change_switches(faults=[{"kind": "error", "status": 401, "path": "/quotes"}])
    page = buyer.nobody_paid(link.expired())
    assert (page.status_code, title(page)) == (200, IS_IT_PAID)
    assert "can’t be made right now" in page.text
    assert "carbonmark_default" not in page.text
    assert (link.purchase.cost_usd, len(link.ledger.links(link.number))) == (cost, 1)
    connect()
    sandbox.state.change_switches(faults=[])
    assert buyer.nobody_paid(link).headers["location"] == link.current
    assert len(sandbox.state.checkouts) == 2


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("/quotes", {"status": 503}),
        ("/quotes", {"kind": "html"}),
        ("/checkout", {"status": 429}),
        ("/checkout", {"kind": "drop"}),
        ("/checkout", {"kind": "bad_urls"}),
    ],
    ids=str,
)
def test_an_answer_that_is_none_leaves_the_cost_and_the_link_as_they_were(
    make_link, buyer, sandbox, listing, path, fault
):
    link = make_link(max_cost="100000")
    cost = link.purchase.cost_usd
    sandbox.state.listings[listing].purchase_price *= 2
    sandbox.state.change_switches(faults=[{"kind": "error", "path": path} | fault])
    page = buyer.nobody_paid(link.expired())
    assert title(page) == IS_IT_PAID
    # The current link's: somebody may have paid that one.
    assert link.purchase.cost_usd == cost
    assert link.purchase.state is State.LINK_MADE


@pytest.mark.parametrize("honoured", [True, False])
def test_a_page_that_was_made_and_never_stored_is_asked_for_with_the_same_key(link, buyer, sandbox, honoured):
    sandbox.state.change_switches(
        honour_idempotency_key=honoured,
        faults=[{"kind": "drop", "path": "/checkout", "after_work": True, "next": 2}],
    )
    link.expired()
    for _ in range(2):
        assert "can’t be made right now" in buyer.nobody_paid(link).text
        assert link.purchase.link.number == 1
    assert buyer.nobody_paid(link).headers["location"] == link.current
    _, *keys = keys_sent(sandbox)
    assert (len(keys), len(set(keys))) == (3, 1)
    assert len(sandbox.state.checkouts) == (2 if honoured else 4)
    assert link.current.endswith(list(sandbox.state.checkouts)[-1])


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


def test_a_server_that_died_after_it_asked_leaves_the_page_to_the_next(link, buyer, sandbox, monkeypatch):
    link.expired()
    with monkeypatch.context() as dying:
        dying.setattr(Ledger, "next_link_made", lambda *arguments, **more: 1 / 0)
        assert buyer.nobody_paid(link).status_code in (200, 503)
    before = everything(link.ledger)
    assert title(buyer.look(link)) == IS_IT_PAID
    assert everything(link.ledger) == before
    assert buyer.nobody_paid(link).headers["location"] == link.current
    # The service honours the key: what was made is what is handed out.
    assert len(sandbox.state.checkouts) == 2
