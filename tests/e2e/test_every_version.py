"""What must work on each supported Airflow: a parked payment ends by the buyer's return, by the form, or by a decline; a month is bought."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import NullPool, create_engine

from airflow_provider_carbonmark.hooks.ledger import DEFAULT_FILE
from airflow_provider_carbonmark.ledger import Ledger
from tests.e2e.buyer import pay
from tests.e2e.conftest import checkouts_for
from tests.e2e.processes import wait_until
from tests.e2e.purchase import Purchase
from tests.e2e.stand import MONTHLY_OFFSET

if TYPE_CHECKING:
    from tests.e2e.stand import Stand

pytestmark = pytest.mark.e2e

THANKS = "Thank you, your payment has arrived"

Buy = Callable[..., Purchase]


def test_a_buyer_comes_back_and_the_run_ends_with_the_certificate(purchase: Buy) -> None:
    bought = purchase().wait_until_parked()
    paid = pay(bought.link)

    assert paid.title == THANKS
    assert bought.expect_certificate() == paid.payment_id


def test_a_buyer_who_comes_back_before_the_task_starts_is_found(purchase: Buy) -> None:
    bought = purchase(pays="before")
    bought.expect_certificate()

    assert bought.stand.airflow.api.requests(bought.dag_id, bought.run_id) == []


def test_a_buyer_who_comes_back_between_request_and_park_is_found(purchase: Buy) -> None:
    purchase(pays="notifier").expect_certificate()


def test_an_id_entered_in_the_form_is_taken(purchase: Buy) -> None:
    bought = purchase().wait_until_parked()
    paid = pay(bought.link, come_back=False)
    bought.answer_parked(lambda: bought.answer("I have paid", payment_id=paid.payment_id))

    assert bought.expect_certificate(recorded=False) == paid.payment_id


def test_declining_in_the_form_skips_the_rest(purchase: Buy) -> None:
    bought = purchase().wait_until_parked()
    bought.answer_parked(lambda: bought.answer("Decline"))
    bought.stand.expect_success(bought.dag_id, bought.run_id)

    assert bought.task("payment")["state"] == bought.task("retirement")["state"] == "skipped"


def test_a_wait_that_nobody_ends_fails_after_its_timeout(purchase: Buy) -> None:
    bought = purchase("await_payment_briefly").wait_until_parked()
    bought.expect_failure()

    assert "Nobody paid or declined within 0:00:04" in bought.log("payment")
    assert len(checkouts_for(bought.stand, bought.beneficiary)) == 1


def test_a_month_is_bought_recorded_and_told_to_whoever_waits_for_retirements(
    stand: Stand, emitted: Callable[..., dict[str, Any]]
) -> None:
    run_id = stand.start_month(emitted({"2026-10": {"every-version": "0.02"}}))
    (link,) = stand.links(run_id)
    paid = pay(link["checkout"]["checkout_url"])
    stand.expect_success(MONTHLY_OFFSET, run_id)

    (bought,) = stand.retired(run_id)
    assert bought["payment_id"] == paid.payment_id
    events = stand.airflow.api.get("assets/events", source_dag_id=MONTHLY_OFFSET, source_run_id=run_id)
    assert [event["extra"]["payment_id"] for event in events["asset_events"]] == [paid.payment_id]
    ledger = Ledger(create_engine(f"sqlite:///{stand.airflow.home / DEFAULT_FILE}", poolclass=NullPool))
    # The worker says so once Airflow has the task's success.
    wait_until(lambda: not ledger.line(bought["id"]).to_announce, what="the announcement", timeout=60)
