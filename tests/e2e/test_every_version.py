"""What must work on each supported Airflow: a parked payment ends by the buyer's return, by the form, or by a decline."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.buyer import pay
from tests.e2e.conftest import checkouts_for
from tests.e2e.purchase import Purchase

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
