"""Waking the task that waits, by what Airflow calls itself when a person answers; and what is said where that can't be done."""

from __future__ import annotations

import pytest
from airflow.api_fastapi.core_api.routes.public import hitl
from airflow.models.taskinstance import TaskInstance
from fastapi import HTTPException
from sqlalchemy.exc import OperationalError

from airflow_provider_carbonmark.web import visits
from tests.integration.web.buyers.parts import (
    ALREADY,
    PAID_PAGE,
    WaitingTask,
    errors,
    id_of,
)
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
