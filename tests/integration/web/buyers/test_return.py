"""A buyer comes back: what is recorded, who is woken, which page is shown."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from urllib.parse import urljoin

import pytest
from airflow.models.connection import Connection
from airflow.utils.session import create_session

from airflow_provider_carbonmark.ledger.names import Run, Source, State
from tests.integration.conftest import KEY
from tests.integration.ledger.parts import NOW
from tests.integration.web.buyers.parts import (
    ALREADY,
    CANCELLED,
    DAG_ID,
    PAID_PAGE,
    PARKED,
    RUN_ID,
    UNKNOWN,
    WaitingTask,
    errors,
    forget_all,
    id_of,
)
from tests.integration.web.serving import title

BUYER = {"id": "carbonmark", "name": "Carbonmark return URL"}


def test_the_payment_is_in_the_ledger_and_the_page_says_what_was_bought(link, buyer):
    payment_id, page = buyer.come_back(link)
    assert (page.status_code, title(page)) == (200, PAID_PAGE)
    for said in ("1.234 t CO₂e", "Acme GmbH", payment_id):
        assert said in page.text
    assert "could not be told" not in page.text
    assert (link.purchase.state, link.paid_with) == (State.PAID, payment_id)
    (payment,) = link.ledger.payments(link.number)
    assert (payment.source, payment.brought_by, payment.link) == (Source.RETURNED, None, 1)
    assert payment.verified_at is not None


# --- who is woken


@pytest.mark.parametrize(
    ("is_parked", "about"),
    [
        (True, {}),
        (True, {"assigned": [{"id": "7", "name": "Zoë"}, {"id": "8", "name": "Max"}]}),
        # Of dag.test() that shares this Airflow's database.
        (True, {"deployment": "(test a-laptop 4711)"}),
        (False, {}),
    ],
    ids=str,
)
def test_the_task_that_waits_is_answered_by_a_buyer_whoever_it_is_assigned_to_and_goes_on(
    link, buyer, is_parked, about
):
    waiting = WaitingTask(link, **about).ask()
    if is_parked:
        waiting.park()
    payment_id, _ = buyer.come_back(link)
    assert (waiting.answer.options, waiting.answer.form) == (["I have paid"], {"payment_id": payment_id})
    assert waiting.answer.by == BUYER
    # Before 3.3 a trigger watches for the answer.
    goes_on = "scheduled" if PARKED == "awaiting_input" else "deferred"
    assert waiting.state == (goes_on if is_parked else "success")


def test_tasks_of_other_runs_that_wait_for_the_same_link_are_answered_too(link, buyer):
    waiting = [WaitingTask(link, run_id=run_id).ask().park() for run_id in ("2026-11", "2026-12")]
    payment_id, _ = buyer.come_back(link)
    assert [each.answered_with for each in waiting] == [payment_id] * 2


def test_tasks_of_another_airflow_on_the_same_ledger_are_left_to_it(link, buyer):
    # Its run may well have the name of one of ours, which waits for something else.
    theirs = WaitingTask(link, deployment="america").ask().park()
    _, page = buyer.come_back(link)
    assert title(page) == PAID_PAGE
    assert theirs.answer is None


def test_the_same_return_again_changes_nothing_but_wakes_who_asked_since(link, buyer, sandbox):
    waiting = WaitingTask(link).ask().park()
    url = buyer.pay(link)
    assert title(buyer.go(url)) == PAID_PAGE
    before, answered, asked = link.purchase, waiting.answer, len(sandbox.state.requests)
    later = WaitingTask(link, run_id="later").ask().park()
    page = buyer.go(url)
    assert title(page) == ALREADY
    assert id_of(url) not in page.text
    assert (link.purchase, waiting.answer, len(sandbox.state.requests)) == (before, answered, asked)
    assert later.answered_with == id_of(url)


def test_mapped_links_of_one_run_never_mix(make_link, buyer):
    links = [
        make_link(index, beneficiary_name=f"Acme {index}", quantity_tonnes=f"{index + 1}.5")
        for index in range(3)
    ]
    waiting = [WaitingTask(link, map_index=2 - index).ask().park() for index, link in enumerate(links)]
    paid = {index: buyer.come_back(links[index])[0] for index in (2, 0, 1)}
    for index, link in enumerate(links):
        assert link.paid_with == waiting[index].answered_with == paid[index]


# --- what outlives what


def test_a_deleted_run_loses_nothing(link, make_link, buyer):
    url = buyer.pay(link)
    forget_all()
    waiting = WaitingTask(link, run_id="the next").ask().park()
    assert [title(buyer.go(url)), title(buyer.go(url))] == [PAID_PAGE, ALREADY]
    assert waiting.answered_with == link.paid_with == id_of(url)
    assert make_link().checkout == link.checkout


def test_a_changed_api_key_turns_no_buyer_away(link, buyer, connect):
    url = buyer.pay(link)
    connect(key="cm_api_99999999")
    assert title(buyer.go(url)) == PAID_PAGE


def test_the_connection_may_come_from_the_database(make_link, buyer, connect, monkeypatch, sandbox):
    connect(conn_id="in_database")
    link = make_link(carbonmark_conn_id="in_database")
    url = buyer.pay(link)
    monkeypatch.delenv("AIRFLOW_CONN_IN_DATABASE")
    extra = json.dumps({"market_url": sandbox.url, "environment": "production"})
    kept = {"conn_type": "carbonmark", "host": sandbox.url, "password": KEY, "extra": extra}
    with create_session(scoped=False) as session:
        session.add(Connection(conn_id="in_database", **kept))
    try:
        assert title(buyer.go(url)) == PAID_PAGE
    finally:
        with create_session(scoped=False) as session:
            session.delete(session.query(Connection).filter_by(conn_id="in_database").one())


def test_days_are_counted_from_when_the_link_was_asked_for(link, buyer, monkeypatch, caplog):
    url = buyer.pay(link)
    link.was_asked_for(timedelta(days=61))
    # The token is ours, so a person should know; whoever has it can come as often as they like.
    assert [title(buyer.go(url)) for _ in range(3)] == [UNKNOWN] * 3
    (said,) = (each.getMessage() for each in caplog.records if "turned away" in each.getMessage())
    assert str(link.number) in said
    assert "return_token_days" in said
    assert link.brought == {}
    monkeypatch.setenv("AIRFLOW__CARBONMARK__RETURN_TOKEN_DAYS", "90")
    assert title(buyer.go(url)) == PAID_PAGE


def test_a_worker_whose_clock_is_ahead_turns_no_early_buyer_away(link, buyer):
    link.was_asked_for(-timedelta(hours=1))
    assert title(buyer.come_back(link)[1]) == PAID_PAGE


@pytest.mark.parametrize("days", ["60 days", "0", "-1"])
def test_a_wrong_lifetime_is_said_where_links_are_made_and_in_the_log(
    link, make_link, buyer, monkeypatch, caplog, days
):
    url = buyer.pay(link)
    monkeypatch.setenv("AIRFLOW__CARBONMARK__RETURN_TOKEN_DAYS", days)
    assert title(buyer.go(url)) == UNKNOWN
    assert "return_token_days" in caplog.text
    with pytest.raises(Exception, match="return_token_days"):
        make_link(run_id="another")


# --- rehearsals, purchases of a plan, and those that were given up


def test_a_rehearsal_is_recorded_though_its_retirement_is_the_placeholder(make_link, buyer, connect):
    connect(key="cm_api_sandbox_rehearsal", environment="test")
    link = make_link()
    waiting = WaitingTask(link).ask().park()
    payment_id, page = buyer.come_back(link)
    assert title(page) == PAID_PAGE
    assert "This was a test: nothing is retired." in page.text
    assert link.brought == {payment_id: False}
    assert waiting.answered_with == payment_id


def test_a_link_that_is_paid_after_it_was_declined_is_paid(follow, buyer, caplog):
    planned = follow()
    planned.ledger.declined(planned.number, Run(DAG_ID, RUN_ID), "too dear", now=NOW)
    assert "href" not in buyer.leave(planned).text
    payment_id, page = buyer.come_back(planned)
    assert title(page) == PAID_PAGE
    assert (planned.purchase.state, planned.paid_with) == (State.PAID, payment_id)
    assert errors(caplog) == []


def test_the_payment_of_a_link_that_its_task_replaced_since_is_recorded_and_reported(
    make_link, buyer, sandbox, caplog
):
    sandbox.state.change_switches(checkout_layout="rich")
    old = make_link()
    new = make_link(quantity_tonnes="2")
    assert new.number != old.number
    payment_id, page = buyer.come_back(old)
    assert title(page) == PAID_PAGE
    assert (old.paid_with, new.paid_with) == (payment_id, None)
    (error,) = errors(caplog)
    assert payment_id in error
    assert "given up" in error


# --- leaving the page unpaid


def test_leaving_unpaid_records_nothing_and_offers_the_way_back(link, buyer):
    page = buyer.leave(link)
    assert (page.status_code, title(page)) == (200, CANCELLED)
    way_back = re.search('href="([^"]+)"', page.text)
    assert urljoin(buyer.order_of(link).cancel_url, way_back[1]) == link.checkout["pay_url"]
    assert link.brought == {}


def test_leaving_a_paid_page_says_that_it_is_paid(link, buyer):
    buyer.come_back(link)
    page = buyer.leave(link)
    assert title(page) == ALREADY
    assert "href" not in page.text
