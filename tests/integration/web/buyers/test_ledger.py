"""A buyer comes back from the link of a planned purchase: the ledger knows at once, whatever became of the task that waited."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from airflow.configuration import conf
from sqlalchemy import NullPool, create_engine

from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook
from airflow_provider_carbonmark.ledger import Ledger
from airflow_provider_carbonmark.ledger.schema import Run, State
from airflow_provider_carbonmark.operators.ledger import CarbonmarkCheckoutLineOperator
from airflow_provider_carbonmark.web.link import LinkKey
from airflow_provider_carbonmark.web.token import Token, sign, signing_key
from tests.integration.airflow.model import ledger_environment
from tests.integration.ledger import parts
from tests.integration.web.buyers.parts import (
    HAS_STATE_STORE,
    RUN,
    StateStore,
    Task,
    WaitingTask,
    forget_all,
    title,
)
from tests.integration.web.buyers.test_faults import errors, id_of, pay_twice
from tests.integration.web.buyers.test_return import ALREADY, CANCELLED, PAID, UNCHECKED, UNKNOWN

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


# --- links that only the ledger knows


def lose(link):
    """Do what a worker's death right after the ledger had the link does: Airflow never hears of it."""
    link.clear()
    if HAS_STATE_STORE:
        StateStore(link).delete("carbonmark_checkout")


def test_a_link_whose_task_died_before_airflow_knew_of_it_is_known_by_the_ledger(link, ledger, buyer):
    url = buyer.pay(link)
    lose(link)
    waiting = WaitingTask(link, run_id="the next").ask().park()
    assert [title(buyer.go(url)), title(buyer.go(url))] == [PAID, ALREADY]
    assert (the_line(ledger).state, the_line(ledger).payment_id) == (State.PAID, id_of(url))
    assert link.record()["payment_id"] == id_of(url)
    assert waiting.answer.form == {"payment_id": id_of(url)}


def test_a_link_whose_run_was_deleted_is_known_by_the_ledger(link, ledger, buyer):
    url = buyer.pay(link)
    forget_all()
    waiting = WaitingTask(link, run_id="the next").ask().park()
    assert [title(buyer.go(url)), title(buyer.go(url))] == [PAID, ALREADY]
    assert (the_line(ledger).state, the_line(ledger).payment_id) == (State.PAID, id_of(url))
    assert waiting.answer.form == {"payment_id": id_of(url)}


def test_what_can_not_be_checked_and_has_no_task_to_be_recorded_on_is_looked_for_again(
    link, ledger, buyer, connect
):
    url = buyer.pay(link)
    forget_all()
    connect(host="http://127.0.0.1:9")
    page = buyer.go(url)
    assert title(page) == UNCHECKED
    assert "has been noted" not in page.text
    assert page.headers["refresh"]
    connect()
    assert title(buyer.go(url)) == PAID


def test_cancelling_a_link_that_only_the_ledger_knows_offers_the_way_back(link, buyer, sandbox):
    (checkout,) = sandbox.state.checkouts.values()
    way_back = link.checkout["checkout_url"]
    lose(link)
    page = buyer.go(checkout.order.cancel_url)
    assert title(page) == CANCELLED
    assert f'href="{way_back}"' in page.text


def test_a_token_of_another_connection_opens_no_link_of_the_ledger(link, buyer, connect, caplog):
    connect("other", key="cm_api_22222222")
    token = sign(Token("other", LinkKey(**link.where)), signing_key(CarbonmarkHook("other").connection))
    payment_id = id_of(buyer.pay(link))
    lose(link)
    base = conf.get("api", "base_url")
    assert title(buyer.go(f"{base}/carbonmark/return/{token}/{payment_id}")) == UNKNOWN
