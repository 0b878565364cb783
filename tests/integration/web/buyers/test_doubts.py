"""Returns that are almost right: a payment that is another link's, ids that come in the wrong order, answers that Airflow refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from airflow.configuration import conf
from airflow.utils.session import create_session
from fastapi import HTTPException

from airflow_provider_carbonmark.operators.payment import PAID as HAS_PAID
from airflow_provider_carbonmark.web import visits, waking
from airflow_provider_carbonmark.web.link import LinkKey
from airflow_provider_carbonmark.web.token import Token, sign
from tests.integration.web.buyers.parts import Task, WaitingTask, needs_state_store, title
from tests.integration.web.buyers.test_attacks import token_for
from tests.integration.web.buyers.test_faults import errors, id_of, pay_twice, verified
from tests.integration.web.buyers.test_return import ALREADY, CANCELLED, PAID, UNCHECKED, UNKNOWN


def address(link, payment_id):
    """Return where a buyer of this link would come back with a payment."""
    return f"{conf.get('api', 'base_url')}/carbonmark/return/{token_for(link)}/{payment_id}"


@pytest.fixture
def july(make_link):
    return make_link(Task(run_id="july"))


@pytest.fixture
def august(make_link):
    """A link for just the same tonnes, listing and beneficiary as that of July."""
    return make_link(Task(run_id="august"), retirement_message="Cloud emissions of August 2026")


# --- one payment, two links


def test_one_payment_counts_for_one_link_whatever_runs_they_are_of(july, august, buyer, caplog):
    payment_id, _ = buyer.come_back(july)
    page = buyer.go(address(august, payment_id))
    assert (page.status_code, title(page)) == (404, UNKNOWN)
    assert august.record() is None
    # Somebody has a token of ours and a real payment: a person should know.
    (error,) = errors(caplog)
    assert payment_id in error
    assert "august" in error
    assert title(buyer.come_back(august)[1]) == PAID


def test_one_payment_counts_for_one_link_if_both_bring_it_at_once(july, august, buyer, monkeypatch):
    payment_id = id_of(buyer.pay(july))
    real, pages = waking.record_payment, []

    def meanwhile(link, *arguments, **more):
        if not pages:
            pages.append(None)
            pages.append(visits.returned(token_for(august), payment_id).page)
        return real(link, *arguments, **more)

    monkeypatch.setattr(waking, "record_payment", meanwhile)
    pages.append(title(buyer.go(address(july, payment_id))))
    assert pages == [None, visits.Page.PAID, UNKNOWN]
    assert august.record()["payment_id"] == payment_id
    assert july.record() is None


def test_a_payment_that_nobody_could_check_is_still_its_own_links(july, august, buyer, connect):
    url = buyer.pay(july)
    connect(host="http://127.0.0.1:9")
    buyer.go(address(august, id_of(url)))
    connect()
    assert title(buyer.go(url)) == PAID
    assert july.record() == verified(id_of(url))


@needs_state_store
def test_a_cleared_task_still_has_its_payment_to_itself(july, august, make_link, buyer):
    payment_id, _ = buyer.come_back(july)
    july.clear()
    make_link(july)
    assert title(buyer.go(address(august, payment_id))) == UNKNOWN


@pytest.mark.usefixtures("sandbox")
def test_where_carbonmark_tells_a_links_payment_no_other_is_taken_for_it(make_link, buyer, sandbox):
    sandbox.state.change_switches(checkout_layout="rich")
    july, august = make_link(Task(run_id="july")), make_link(Task(run_id="august"))
    other = id_of(buyer.pay(july))
    assert title(buyer.go(address(august, other))) == UNKNOWN
    assert august.record() is None
    payment_id, page = buyer.come_back(august)
    assert (title(page), august.record()) == (PAID, verified(payment_id))


# --- ids in the wrong order


def test_the_genuine_payment_takes_the_first_place_though_it_came_second(link, buyer, connect):
    url = buyer.pay(link)
    base, _, payment_id = url.rpartition("/")
    connect(host="http://127.0.0.1:9")
    buyer.go(f"{base}/pay_made_up")
    buyer.go(url)
    connect()
    assert [title(buyer.go(url)), title(buyer.go(url))] == [PAID, ALREADY]
    assert link.record() == verified(payment_id, "pay_made_up")


def test_a_second_payment_is_shown_to_nobody(link, buyer, sandbox):
    first, second = pay_twice(link, buyer, sandbox)
    buyer.go(first)
    page = buyer.go(second)
    assert title(page) == ALREADY
    assert id_of(first) not in page.text
    assert id_of(second) not in page.text


def test_a_payment_beside_one_that_was_entered_by_hand_is_reported(link, buyer, caplog):
    waiting = WaitingTask(link).ask().park()
    payload = waking.UpdateHITLDetailPayload(
        chosen_options=[HAS_PAID], params_input={"payment_id": "pay_by_hand"}
    )
    with create_session(scoped=False) as session:
        waking.update_hitl_detail(
            dag_id=waiting.where["dag_id"],
            dag_run_id=waiting.where["run_id"],
            task_id=waiting.where["task_id"],
            map_index=waiting.where["map_index"],
            update_hitl_detail_payload=payload,
            user=waking._Buyer("ada"),
            session=session,
        )
    payment_id, page = buyer.come_back(link)
    assert title(page) == PAID
    (error,) = errors(caplog)
    assert payment_id in error
    assert "pay_by_hand" in error


# --- waking


def test_a_request_made_between_the_record_and_the_look_for_waiting_tasks_is_answered(
    link, buyer, monkeypatch
):
    """The other server's transaction didn't see the request, and the task, when it looked, not the record."""
    real, waiting = waking.record_payment, []

    def recorded_then_asked(*arguments, **more):
        result = real(*arguments, **more)
        waiting.append(WaitingTask(link).ask().park())
        return result

    monkeypatch.setattr(waking, "record_payment", recorded_then_asked)
    payment_id, _ = buyer.come_back(link)
    assert waiting[0].answer.form == {"payment_id": payment_id}


@pytest.mark.parametrize(("status", "is_news"), [(400, True), (403, True), (404, False), (409, False)])
def test_an_answer_that_airflow_refuses_is_an_error_unless_the_request_is_gone(
    link, buyer, monkeypatch, caplog, status, is_news
):
    def refuse(**arguments):
        raise HTTPException(status, "no")

    monkeypatch.setattr(waking, "update_hitl_detail", refuse)
    WaitingTask(link).ask().park()
    payment_id, page = buyer.come_back(link)
    assert title(page) == PAID
    assert link.record() == verified(payment_id)
    assert any("can't be woken" in error for error in errors(caplog)) is is_news


# --- strangers, and what is out of order on our side


def test_trouble_on_our_side_sends_nobody_who_cancelled_to_wait_for_a_payment(
    link, buyer, sandbox, monkeypatch
):
    (checkout,) = sandbox.state.checkouts.values()
    monkeypatch.setattr(waking, "find_link", lambda link: 1 / 0)
    page = buyer.go(checkout.order.cancel_url)
    assert title(page) == CANCELLED
    assert "refresh" not in page.headers


@pytest.mark.parametrize("days", ["60 days", "0", "-1", ""])
def test_a_wrong_lifetime_is_said_where_links_are_made_and_strangers_notice_nothing(
    link, make_link, buyer, monkeypatch, addresses, caplog, days
):
    monkeypatch.setenv("AIRFLOW__CARBONMARK__RETURN_TOKEN_DAYS", days)
    assert title(buyer.go(f"{addresses}/return/junk/pay_1")) == UNKNOWN
    assert title(buyer.go(address(link, "pay_1"))) == (UNCHECKED if days == "" else UNKNOWN)
    assert errors(caplog) == []
    if days:
        with pytest.raises(Exception, match="return_token_days"):
            make_link(Task("another"))


@pytest.mark.parametrize("conn_id", ["x" * 201, "a b", "", "a\nb"])
def test_no_secrets_backend_is_asked_for_what_is_no_connection_id(
    link, buyer, addresses, monkeypatch, conn_id
):
    asked = []
    monkeypatch.setattr(waking, "find_connection", asked.append)
    token = sign(Token(conn_id, LinkKey(**link.where)), b"x" * 32)
    assert title(buyer.go(f"{addresses}/return/{token}/pay_1")) == UNKNOWN
    assert asked == []


@pytest.mark.parametrize(("seconds", "is_known"), [(240, True), (600, False)])
def test_a_worker_whose_clock_is_a_little_ahead_loses_no_buyer(link, buyer, seconds, is_known):
    url = buyer.pay(link)
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=seconds), tick=False):
        ahead = address(link, id_of(url))
    assert title(buyer.go(ahead)) == (PAID if is_known else UNKNOWN)
