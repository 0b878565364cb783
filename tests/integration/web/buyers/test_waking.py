"""Waking the task that waits, by what Airflow calls itself when a person answers; and what is said where that can't be done."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from airflow.api_fastapi.core_api.routes.public import hitl
from airflow.models.taskinstance import TaskInstance
from fastapi import HTTPException
from sqlalchemy.exc import OperationalError

from airflow_provider_carbonmark.hooks.api_server import show_again, tell_server
from airflow_provider_carbonmark.hooks.return_url import sign_text
from airflow_provider_carbonmark.ledger.names import Source
from airflow_provider_carbonmark.web import waking
from airflow_provider_carbonmark.web.buyers import visits
from tests.integration.conftest import NOWHERE
from tests.integration.web.buyers.parts import (
    ALREADY,
    PAID_PAGE,
    WaitingTask,
    errors,
    id_of,
)
from tests.integration.web.buyers.test_pay import declined
from tests.integration.web.serving import title

NOT_TOLD = "could not be told right now and goes on the next time it runs"
KEEPS_TRIES = hasattr(TaskInstance, "working_set")


def unexpected(
    *, dag_id, dag_run_id, task_id, update_hitl_detail_payload, user, session, region, map_index=-1
):
    raise AssertionError("called without the region that it asks for")


def broken(**arguments):
    raise OperationalError("SELECT", {}, Exception("gone"))


@pytest.mark.parametrize("changed", [unexpected, None, broken], ids=["signature", "moved", "failing"])
def test_where_nobody_can_be_woken_the_payment_is_recorded_and_a_person_hears_of_it_once(
    make_link, buyer, monkeypatch, caplog, changed
):
    links = [make_link(index, beneficiary_name=f"Acme {index}") for index in range(2)]
    waiting = [WaitingTask(link, map_index=index).ask().park() for index, link in enumerate(links)]
    with monkeypatch.context() as other_version:
        if changed:
            other_version.setattr(hitl, "update_hitl_detail", changed)
        else:
            other_version.delattr(hitl, "update_hitl_detail")
        for link in links:
            url = buyer.pay(link)
            for expected in (PAID_PAGE, ALREADY):
                page = buyer.go(url)
                assert title(page) == expected
                assert NOT_TOLD in page.text
            assert link.paid_with == id_of(url)
    assert [each.answer for each in waiting] == [None, None]
    (error,) = errors(caplog)
    assert "can't be woken" in error
    assert links[0].paid_with in error
    # The buyer's next look wakes it, where that is possible again.
    assert title(buyer.go(url)) == ALREADY
    assert waiting[1].answered_with == id_of(url)


@pytest.mark.parametrize(("status", "is_told"), [(400, False), (403, False), (404, True), (409, True)])
def test_an_answer_that_airflow_refuses_is_an_error_unless_the_request_is_gone(
    link, buyer, monkeypatch, caplog, status, is_told
):
    def refuse(**arguments):
        raise HTTPException(status, "no")

    monkeypatch.setattr(hitl, "update_hitl_detail", refuse)
    WaitingTask(link).ask().park()
    payment_id, page = buyer.come_back(link)
    assert title(page) == PAID_PAGE
    assert (NOT_TOLD in page.text) is not is_told
    assert bool(errors(caplog)) is not is_told
    assert link.paid_with == payment_id


def test_one_that_can_not_be_woken_keeps_no_other_from_being(link, buyer, monkeypatch):
    real = hitl.update_hitl_detail

    def fails_for_the_first(**arguments):
        if arguments["dag_run_id"] == "first":
            raise RuntimeError("no")
        return real(**arguments)

    # As the real one, so that it is asked what that is asked.
    fails_for_the_first.__signature__ = __import__("inspect").signature(real)
    monkeypatch.setattr(hitl, "update_hitl_detail", fails_for_the_first)
    waiting = [WaitingTask(link, run_id=run_id).ask().park() for run_id in ("first", "second")]
    payment_id, page = buyer.come_back(link)
    assert [each.answered_with for each in waiting] == [None, payment_id]
    assert NOT_TOLD in page.text


def test_a_task_that_says_that_it_waits_right_after_the_payment_was_recorded_is_woken(
    link, buyer, monkeypatch
):
    """The task looked for a payment before there was one, and asks; the server reads who waits after it committed."""
    real, waiting = visits._bring, []

    def recorded_then_asked(*arguments, **more):
        brought = real(*arguments, **more)
        waiting.append(WaitingTask(link).ask().park())
        return brought

    monkeypatch.setattr(visits, "_bring", recorded_then_asked)
    payment_id, _ = buyer.come_back(link)
    assert waiting[0].answered_with == payment_id


@pytest.mark.skipif(not KEEPS_TRIES, reason="from Airflow 3.4, every try is a row")
def test_of_a_task_s_tries_the_live_one_is_answered(link, buyer):
    earlier = WaitingTask(link, try_number=1, working_set=None, state="failed").ask()
    live = WaitingTask(link, try_number=2).ask().park()
    payment_id, page = buyer.come_back(link)
    assert title(page) == PAID_PAGE
    assert (earlier.answer, live.answered_with) == (None, payment_id)


# --- what tasks tell the server


@pytest.mark.parametrize("is_paid", [True, False])
def test_what_a_task_found_to_be_paid_or_ended_wakes_who_waits(link, is_paid):
    waiting = WaitingTask(link).ask().park()
    if is_paid:
        link.ledger.bring(
            link.number, 1, "pay_1", source=Source.WATCHED, verified=True, now=datetime.now(UTC)
        )
    else:
        declined(link)
    tell_server(link.ledger, link.purchase)
    assert (waiting.answer is not None, waiting.answered_with) == (True, "pay_1" if is_paid else None)


@pytest.mark.parametrize("reachable", ["for tasks", "for people", "neither"])
def test_the_server_is_told_where_it_can_be_reached(link, api_server, monkeypatch, caplog, reachable):
    waiting = WaitingTask(link).ask().park()
    declined(link)
    addresses = {"CORE__EXECUTION_API_SERVER_URL": "for tasks", "API__BASE_URL": "for people"}
    for name, whose in addresses.items():
        url = api_server.url if whose == reachable else NOWHERE
        monkeypatch.setenv(f"AIRFLOW__{name}", f"{url}/execution/" if whose == "for tasks" else url)
    tell_server(link.ledger, link.purchase)
    assert (waiting.answer is None) is (reachable == "neither")
    assert ("could not be told" in caplog.text) is (reachable == "neither")


def test_an_open_request_is_shown_with_the_text_that_its_task_has_for_it_now(make_link):
    link = make_link()
    asks, answered, another = (WaitingTask(link, map_index=index).ask().park() for index in range(3))
    waking.Waker().wake([answered.task], None)
    text = "**There is a new payment page.**\n\n" + "円" * 1000
    for each in (asks, answered):
        show_again(link.ledger, link.purchase, each.task, text)
    assert [each.request["body"] for each in (asks, answered, another)] == [text, None, None]
    assert asks.answer is None


def test_nobody_but_a_task_changes_what_people_are_asked(link, buyer):
    waiting = WaitingTask(link).ask().park()
    texts = [sign_text(waiting.task, "Pay me", key) for key in (b"", b"secret", b"\x00" * 32)]
    for text in (*texts, link.pay_url.rpartition("/")[2], "", "Pay me"):
        buyer.say(link, "show", text=text)
    assert waiting.request["body"] is None


@pytest.mark.parametrize("trouble", ["another Airflow", "a long text"])
def test_a_request_that_can_not_be_shown_otherwise_keeps_its_text_and_the_task_s_log_has_the_other(
    link, monkeypatch, caplog, trouble
):
    waiting = WaitingTask(link).ask().park()
    text = "There is a new payment page."
    if trouble == "another Airflow":
        monkeypatch.delattr(waking, "show")
    else:
        text += random.Random(11).randbytes(10_000).hex()
    show_again(link.ledger, link.purchase, waiting.task, text)
    assert "keeps the text that it had, since the API server can't be told another" in caplog.text
    assert text in caplog.text
    assert waiting.request["body"] is None
