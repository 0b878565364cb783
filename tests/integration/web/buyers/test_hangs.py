"""Whatever hangs, a buyer gets a page in time, and a payment that was brought is not lost over it. The limits are short ones here."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from airflow_provider_carbonmark.web import waking
from airflow_provider_carbonmark.web.buyers import desk, visits
from airflow_provider_carbonmark.web.buyers.desk import Limits
from tests.integration.web.buyers.parts import (
    ALREADY,
    CANCELLED,
    PAID_PAGE,
    UNCHECKED,
    UNKNOWN,
    WaitingTask,
    buyers,
    id_of,
)
from tests.integration.web.serving import title

LIMITS = Limits(page=4.0, check=2.0, waking=2.0, hanging=0.3, stuck=5.0, key_again=60.0, key_retry=0.1)
#: What a page takes at most: far above the limits, as this machine may be busy, and far below what hangs.
SOON = 15.0


def test_a_deployment_s_limits_leave_time_for_the_page():
    limits = Limits()
    assert limits.check < limits.page <= 13
    assert limits.page + 2 <= 15


@pytest.fixture
def api_server(api_server):
    api_server.app = buyers.create_app(LIMITS)
    return api_server


@pytest.fixture
def soon(buyer):
    """Return a function that goes to an address and demands a page in time."""

    def soon(url: str) -> httpx.Response:
        started = time.monotonic()
        page = buyer.go(url)
        assert time.monotonic() - started < SOON
        return page

    return soon


def test_carbonmark_that_says_nothing_counts_as_out_of_reach(link, buyer, connect, silent, soon):
    waiting = WaitingTask(link).ask().park()
    url = buyer.pay(link)
    connect(host=f"http://127.0.0.1:{silent}")
    page = soon(url)
    assert title(page) == UNCHECKED
    assert "has been noted" in page.text
    assert link.brought == {id_of(url): False}
    assert waiting.is_answered().form == {"payment_id": id_of(url)}


def test_a_secrets_backend_that_hangs_loses_no_payment(link, buyer, monkeypatch, gate, soon):
    url = buyer.pay(link)
    monkeypatch.setattr(waking, "settings_of", gate.close(waking.settings_of))
    assert "has been noted" in soon(url).text
    assert link.brought == {id_of(url): False}
    gate.open()
    assert title(buyer.stay(url)) == PAID_PAGE


@pytest.mark.parametrize("knows_the_key", [True, False])
def test_a_ledger_that_says_nothing_makes_the_page_look_again(
    link, buyer, monkeypatch, silent, soon, knows_the_key
):
    url = buyer.pay(link)
    if knows_the_key:
        assert title(buyer.leave(link)) == CANCELLED
    with monkeypatch.context() as hanging:
        books = {"conn_type": "postgres", "host": "127.0.0.1", "port": silent, "login": "x", "schema": "x"}
        hanging.setenv("AIRFLOW_CONN_BOOKS", json.dumps(books))
        hanging.setenv("AIRFLOW__CARBONMARK__LEDGER_CONN_ID", "books")
        for _ in range(2):
            page = soon(url)
            assert (page.status_code, title(page)) == (200, UNCHECKED)
            assert page.headers["refresh"]
        if knows_the_key:
            assert title(soon(url.replace("/return/", "/return/x"))) == UNKNOWN
    # What hung hangs on, and nobody waits for that any more.
    assert title(buyer.stay(url)) == PAID_PAGE
    assert link.paid_with == id_of(url)


def test_a_payment_that_was_brought_in_time_is_recorded_and_told_though_the_page_gave_up(
    link, buyer, monkeypatch, gate, soon
):
    waiting = WaitingTask(link).ask().park()
    url = buyer.pay(link)
    monkeypatch.setattr(visits, "_bring", gate.close(visits._bring))
    assert title(soon(url)) == UNCHECKED
    assert link.paid_with is None
    gate.open()
    # Whoever looks again joins the first visit, or comes after it.
    assert title(buyer.stay(url)) in (PAID_PAGE, ALREADY)
    assert link.paid_with == id_of(url)
    assert waiting.is_answered().form == {"payment_id": id_of(url)}


@pytest.mark.parametrize(("module", "step"), [(waking, "_answer"), (desk, "_waiting")])
def test_what_hangs_while_somebody_is_woken_holds_up_no_buyer_and_they_are_woken_after_it(
    link, buyer, monkeypatch, gate, soon, module, step
):
    waiting = WaitingTask(link).ask().park()
    url = buyer.pay(link)
    monkeypatch.setattr(module, step, gate.close(getattr(module, step)))
    page = soon(url)
    assert title(page) == PAID_PAGE
    assert "goes on the next time it runs" in page.text
    assert link.paid_with == id_of(url)
    gate.open()
    assert title(buyer.stay(url)) == ALREADY
    assert waiting.is_answered().form == {"payment_id": id_of(url)}


def test_buyers_whose_checks_hang_keep_no_others_out(make_link, buyer, connect, monkeypatch, gate, soon):
    connect(conn_id="slow")
    slow, other = make_link(carbonmark_conn_id="slow"), make_link(run_id="other")
    base = buyer.pay(slow).rpartition("/")[0]
    monkeypatch.setattr(
        waking,
        "settings_of",
        gate.close(waking.settings_of, is_closed=lambda conn_id: conn_id == "slow"),
    )
    many = [f"{base}/pay_{number}" for number in range(25)]
    with ThreadPoolExecutor(len(many)) as people:
        pages = list(people.map(lambda url: httpx.get(url, timeout=60, trust_env=False), many))
    assert {title(page) for page in pages} == {UNCHECKED}
    assert title(soon(buyer.pay(other))) == PAID_PAGE


def test_strangers_are_turned_away_while_everything_hangs_and_take_nobody_s_place(
    link, buyer, monkeypatch, gate, soon
):
    url = buyer.pay(link)
    assert title(buyer.leave(link)) == CANCELLED
    base, _, payment_id = url.rpartition("/")
    with monkeypatch.context() as hanging:
        hanging.setattr(desk, "_find", gate.close(desk._find))
        assert title(soon(url)) == UNCHECKED
        threads = threading.active_count()
        for number in range(100):
            assert title(soon(f"{base}{number}/{payment_id}")) == UNKNOWN
        assert threading.active_count() <= threads
    gate.open()
    assert title(buyer.stay(url)) in (PAID_PAGE, ALREADY)
