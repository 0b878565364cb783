"""A buyer comes back from the link of a planned purchase: the ledger knows at once, whatever became of the task that waited."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import NullPool, create_engine

from airflow_provider_carbonmark.offsets.ledger import Ledger, Run, State
from airflow_provider_carbonmark.operators.ledger import CarbonmarkCheckoutLineOperator
from tests.integration.airflow.model import ledger_environment
from tests.integration.offsets import parts
from tests.integration.return_url.parts import RUN, Task, WaitingTask, title
from tests.integration.return_url.test_faults import errors, id_of, pay_twice
from tests.integration.return_url.test_return import ALREADY, PAID, UNCHECKED

ITS_RUN = Run(RUN["dag_id"], RUN["run_id"])


@pytest.fixture
def ledger(url, monkeypatch):
    """The ledger that this Airflow is configured with, read past it; one of each kind."""
    for name, value in ledger_environment(url).items():
        monkeypatch.setenv(name, value)
    return Ledger(create_engine(url, poolclass=NullPool))


@pytest.fixture
def link(ledger, make_link, listing):
    """The link of a line of the ledger, which nobody has paid yet."""
    planned = parts.line(tonnes="1.234", asset_price_source_id=listing, cost_usd=Decimal(1))
    (line,) = parts.plan(ledger, parts.buying(planned), ITS_RUN)
    task = Task()
    operator = CarbonmarkCheckoutLineOperator(task_id="checkout", line=line.to_json())
    task.finish(operator.execute(task.context()))
    return task


def the_line(ledger):
    (line,) = ledger.lines()
    return line


def decline(ledger):
    ledger.declined(the_line(ledger).id, ITS_RUN, "too dear", now=datetime.now(UTC))


def test_the_line_is_paid_once_the_buyer_is_back(link, ledger, buyer):
    waiting = WaitingTask(link).ask().park()
    payment_id, page = buyer.come_back(link)
    assert title(page) == PAID
    assert (the_line(ledger).state, the_line(ledger).payment_id) == (State.PAID, payment_id)
    assert waiting.answer.form == {"payment_id": payment_id}


def test_a_link_that_is_paid_after_it_was_declined_covers_its_tonnes_again(link, ledger, buyer):
    decline(ledger)
    payment_id, _ = buyer.come_back(link)
    assert (the_line(ledger).state, the_line(ledger).payment_id) == (State.PAID, payment_id)
    link.clear()
    assert the_line(ledger).payment_id == payment_id
    # The next run carries it on to its retirement, and buys nothing.
    wants = parts.Buyer({"web": "1.234"})
    (taken,) = parts.plan(ledger, wants, parts.SECOND, is_over=parts.everybody)
    assert (taken.state, taken.handler) == (State.PAID, parts.SECOND)


def test_what_can_not_be_checked_is_not_for_the_books_until_it_can_be(link, ledger, buyer, connect):
    url = buyer.pay(link)
    connect(host="http://127.0.0.1:9")
    assert title(buyer.go(url)) == UNCHECKED
    assert the_line(ledger).state is State.LINK_MADE
    connect()
    assert title(buyer.go(url)) == PAID
    assert (the_line(ledger).state, the_line(ledger).payment_id) == (State.PAID, id_of(url))


def test_of_two_payments_the_books_have_the_one_that_is_recorded(link, ledger, buyer, sandbox, caplog):
    first, second = pay_twice(link, buyer, sandbox)
    assert [title(buyer.go(url)) for url in (first, second)] == [PAID, ALREADY]
    assert the_line(ledger).payment_id == id_of(first) == link.record()["payment_id"]
    assert len(errors(caplog)) == 1


def test_a_ledger_that_is_away_loses_no_payment_and_has_it_when_the_buyer_looks_again(
    link, ledger, buyer, monkeypatch, caplog
):
    url = buyer.pay(link)
    with monkeypatch.context() as away:
        away.setenv("AIRFLOW__CARBONMARK__LEDGER_CONN_ID", "no_such_connection")
        assert title(buyer.go(url)) == PAID
        assert link.record()["payment_id"] == id_of(url)
        (error,) = errors(caplog)
        assert id_of(url) in error
        assert "not in the ledger" in error
    assert the_line(ledger).state is State.LINK_MADE
    assert title(buyer.go(url)) == ALREADY
    assert (the_line(ledger).state, the_line(ledger).payment_id) == (State.PAID, id_of(url))


def test_a_payment_that_the_ledger_refuses_is_left_to_a_person(link, ledger, buyer, caplog):
    ledger.paid(the_line(ledger).id, "pay_before", now=datetime.now(UTC))
    payment_id, page = buyer.come_back(link)
    assert title(page) == PAID
    assert the_line(ledger).payment_id == "pay_before"
    assert any(payment_id in error and "pay_before" in error for error in errors(caplog))
