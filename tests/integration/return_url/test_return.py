"""A buyer comes back: what is recorded, who is woken, which page is shown."""

from __future__ import annotations

import json

import pytest
from airflow.models.connection import Connection
from airflow.models.xcom import XComModel
from airflow.sdk.execution_time.xcom import XCom
from airflow.utils.session import create_session
from sqlalchemy import select

from tests.integration.return_url.conftest import KEY
from tests.integration.return_url.parts import (
    HAS_STATE_STORE,
    PARKED,
    StateStore,
    Task,
    WaitingTask,
    needs_state_store,
    title,
)

PAID = "Thank you, your payment has arrived"
ALREADY = "A payment is already recorded"
UNCHECKED = "Your payment can’t be checked right now"
UNKNOWN = "This link is unknown"
CANCELLED = "Nothing was paid"


def test_the_payment_is_recorded_on_the_task_that_made_the_link(link, buyer):
    payment_id, page = buyer.come_back(link)
    assert (page.status_code, title(page)) == (200, PAID)
    assert "1.234 t CO₂e" in page.text
    assert "Acme GmbH" in page.text
    assert link.record() == {"payment_id": payment_id, "verified": True, "other_payment_ids": []}


def test_the_payment_id_is_plain_text_to_whoever_reads_the_xcom(link, buyer):
    payment_id, _ = buyer.come_back(link)
    with create_session(scoped=False) as session:
        row = session.scalar(select(XComModel).filter_by(key="payment_id", **link.where))
        assert row.value == payment_id
        assert XCom.deserialize_value(row) == payment_id
        assert XComModel.deserialize_value(row) == payment_id


def test_the_task_that_waits_is_answered_and_goes_on(link, buyer):
    waiting = WaitingTask(link).ask().park()
    payment_id, _ = buyer.come_back(link)
    assert waiting.answer.options == ["I have paid"]
    assert waiting.answer.form == {"payment_id": payment_id}
    assert waiting.answer.by == {"id": "carbonmark", "name": "Carbonmark return URL"}
    # Before 3.3 a trigger watches for the answer.
    assert waiting.state == ("scheduled" if PARKED == "awaiting_input" else "deferred")


def test_tasks_of_other_runs_that_wait_for_the_same_link_are_answered_too(link, buyer):
    waiting = [WaitingTask(link, run_id=run_id).ask().park() for run_id in ("2026-11", "2026-12")]
    payment_id, _ = buyer.come_back(link)
    assert [each.answer.form for each in waiting] == [{"payment_id": payment_id}] * 2


def test_the_buyer_needs_not_be_one_of_the_assigned_users(link, buyer):
    waiting = (
        WaitingTask(link, assigned=[{"id": "7", "name": "Zoë"}, {"id": "8", "name": "Max"}]).ask().park()
    )
    payment_id, page = buyer.come_back(link)
    assert title(page) == PAID
    assert waiting.answer.form == {"payment_id": payment_id}
    assert waiting.answer.by == {"id": "carbonmark", "name": "Carbonmark return URL"}


def test_a_request_made_but_not_parked_yet_is_answered(link, buyer):
    waiting = WaitingTask(link).ask()
    payment_id, _ = buyer.come_back(link)
    assert waiting.answer.form == {"payment_id": payment_id}
    assert waiting.state == "success"


def test_before_the_request_is_made_there_is_a_record_to_find(link, buyer):
    waiting = WaitingTask(link)
    payment_id, _ = buyer.come_back(link)
    assert waiting.ask().answer is None
    assert link.record()["payment_id"] == payment_id


def test_a_request_that_a_person_answered_before_stays_as_it_is(link, buyer):
    waiting = WaitingTask(link).ask().park()
    first_url = buyer.pay(link)
    buyer.go(first_url)
    answered = waiting.answer
    assert title(buyer.go(first_url)) == ALREADY
    assert waiting.answer == answered


def test_the_same_return_again_is_harmless(link, buyer):
    url = buyer.pay(link)
    assert title(buyer.go(url)) == PAID
    before = link.record()
    assert [title(buyer.go(url)) for _ in range(3)] == [ALREADY] * 3
    assert link.record() == before


def test_the_same_return_again_wakes_a_task_that_asked_since(link, buyer):
    payment_id, page = buyer.come_back(link)
    waiting = WaitingTask(link).ask().park()
    assert title(buyer.go(str(page.url))) == ALREADY
    assert waiting.answer.form == {"payment_id": payment_id}


def test_mapped_links_of_one_run_never_mix(make_link, buyer):
    links = [
        make_link(Task(map_index=index), beneficiary_name=f"Acme {index}", quantity_tonnes=f"{index + 1}.5")
        for index in range(3)
    ]
    waiting = [WaitingTask(link, map_index=2 - index).ask().park() for index, link in enumerate(links)]
    paid = {index: buyer.come_back(links[index])[0] for index in (2, 0, 1)}
    for index, link in enumerate(links):
        assert link.record()["payment_id"] == paid[index]
        assert waiting[index].answer.form == {"payment_id": paid[index]}


def test_links_of_two_runs_never_mix(make_link, buyer):
    august, september = make_link(Task(run_id="august")), make_link(Task(run_id="september"))
    payment_id, _ = buyer.come_back(september)
    assert august.record() is None
    assert september.record()["payment_id"] == payment_id


@pytest.mark.parametrize("secret", [None, "a secret of its own, 32 characters"])
def test_a_secret_of_its_own_outlives_a_change_of_the_api_key(make_link, buyer, connect, secret):
    connect(return_url_secret=secret)
    link = make_link()
    url = buyer.pay(link)
    connect(key="cm_api_99999999", return_url_secret=secret)
    assert title(buyer.go(url)) == (PAID if secret else UNKNOWN)
    assert bool(link.record()) is bool(secret)


def test_the_connection_may_come_from_the_database(make_link, buyer, connect, monkeypatch, sandbox):
    connect("in_database")
    link = make_link(carbonmark_conn_id="in_database")
    url = buyer.pay(link)
    monkeypatch.delenv("AIRFLOW_CONN_IN_DATABASE")
    assert title(buyer.go(url)) == UNKNOWN
    extra = json.dumps({"market_url": sandbox.url, "environment": "production"})
    with create_session(scoped=False) as session:
        session.add(
            Connection(
                conn_id="in_database", conn_type="carbonmark", host=sandbox.url, password=KEY, extra=extra
            )
        )
    try:
        assert title(buyer.go(url)) == PAID
    finally:
        with create_session(scoped=False) as session:
            session.delete(session.query(Connection).filter_by(conn_id="in_database").one())


# --- a cleared task


@needs_state_store
def test_a_link_is_known_while_its_task_runs_again(link, buyer):
    url = buyer.pay(link)
    link.clear()
    assert title(buyer.go(url)) == PAID
    assert link.record()["payment_id"] == url.rpartition("/")[2]


@needs_state_store
def test_a_cleared_task_tells_its_payment_again(link, make_link, buyer):
    payment_id, _ = buyer.come_back(link)
    link.clear()
    make_link(link)
    assert link.record() == {"payment_id": payment_id, "verified": True, "other_payment_ids": []}


def test_a_rehearsal_with_a_test_key_is_recorded_though_its_retirement_is_the_placeholder(
    make_link, buyer, connect
):
    connect(key="cm_api_sandbox_rehearsal", environment="test")
    link = make_link()
    payment_id, page = buyer.come_back(link)
    assert title(page) == PAID
    assert "This was a test: nothing is retired." in page.text
    assert link.record() == {"payment_id": payment_id, "verified": False, "other_payment_ids": []}


@needs_state_store
def test_the_payment_of_a_link_replaced_since_is_recorded_and_reported(make_link, buyer, sandbox, caplog):
    sandbox.state.change_switches(checkout_layout="rich")
    link = make_link()
    old = link.checkout
    make_link(link, quantity_tonnes="2")
    link.push("return_value", old)
    url = buyer.pay(link)
    caplog.clear()
    assert title(buyer.go(url)) == PAID
    assert link.record() == {
        "payment_id": url.rpartition("/")[2],
        "verified": False,
        "other_payment_ids": [],
    }
    (error,) = (each for each in caplog.records if each.levelname == "ERROR")
    assert "before its input changed" in error.getMessage()


# --- leaving the page unpaid


def test_leaving_unpaid_records_nothing_and_offers_the_way_back(link, buyer, sandbox):
    (checkout,) = sandbox.state.checkouts.values()
    page = buyer.go(checkout.order.cancel_url)
    assert (page.status_code, title(page)) == (200, CANCELLED)
    assert f'href="{link.checkout["checkout_url"]}"' in page.text
    assert link.record() is None


def test_leaving_a_paid_page_says_that_it_is_paid(link, buyer, sandbox):
    buyer.come_back(link)
    (checkout,) = sandbox.state.checkouts.values()
    page = buyer.go(checkout.order.cancel_url)
    assert title(page) == ALREADY
    assert "href" not in page.text


@pytest.mark.parametrize("address", ["javascript:alert(1)", "", None, "ftp://example.com/x"])
def test_no_way_back_is_offered_but_to_a_web_address(link, buyer, sandbox, address):
    (checkout,) = sandbox.state.checkouts.values()
    changed = {**link.checkout, "checkout_url": address}
    link.push("return_value", changed)
    link_store_too(link, changed)
    page = buyer.go(checkout.order.cancel_url)
    assert title(page) == CANCELLED
    assert "href" not in page.text


def link_store_too(link, checkout) -> None:
    if HAS_STATE_STORE:
        kept = link.kept("carbonmark_checkout")
        kept["made"][-1]["checkout"] = checkout
        StateStore(link).set("carbonmark_checkout", kept)
