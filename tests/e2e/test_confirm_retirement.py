from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.buyer import GOOD_CARD, STUCK_CARD
from tests.e2e.conftest import Bought
from tests.e2e.processes import wait_until
from tests.e2e.stand import CONFIRM_RETIREMENT, Stand

pytestmark = pytest.mark.e2e

Buy = Callable[[str], Bought]


def retirement_task(stand: Stand, run_id: str) -> dict[str, Any]:
    task = stand.airflow.api.task_instance(CONFIRM_RETIREMENT, run_id, "retirement")
    assert task is not None
    return task


def wait_for_polls(stand: Stand, payment_id: str, more: int) -> None:
    """Wait until a payment was asked for a few times more."""
    goal = stand.polls(payment_id) + more
    wait_until(lambda: stand.polls(payment_id) >= goal, what=f"{more} more polls", timeout=120)


def start_waiting(stand: Stand, bought: Bought) -> str:
    """Start the wait for a retirement, and return the run's id once the triggerer has asked for it."""
    run_id = stand.start_confirmation(bought.payment_id, bought.checkout)
    stand.airflow.api.wait_for_task(CONFIRM_RETIREMENT, run_id, "retirement", state="deferred")
    wait_for_polls(stand, bought.payment_id, 1)
    return run_id


@pytest.mark.parametrize(("outcome", "reason"), [("failed", "FAILED"), ("something_else", "beneficiary")])
def test_what_is_not_the_retirement_that_was_asked_for_fails_without_a_retry(
    stand: Stand, buy: Buy, outcome: str, reason: str
) -> None:
    bought = buy(STUCK_CARD)
    run_id = start_waiting(stand, bought)
    stand.sandbox.control("PATCH", f"payments/{bought.payment_id}", {"outcome": outcome})

    assert stand.airflow.api.wait_for_run(CONFIRM_RETIREMENT, run_id) == "failed"
    task = retirement_task(stand, run_id)
    assert task["try_number"] == 1
    assert reason in stand.airflow.api.log(CONFIRM_RETIREMENT, run_id, task)


def test_a_rehearsal_counts_only_where_the_run_allows_it(stand: Stand, buy: Buy) -> None:
    bought = buy(GOOD_CARD)
    conf = {"payment_id": bought.payment_id, "checkout": bought.checkout}
    run_id = stand.airflow.api.trigger(CONFIRM_RETIREMENT, conf)

    assert stand.airflow.api.wait_for_run(CONFIRM_RETIREMENT, run_id) == "failed"
    log = stand.airflow.api.log(CONFIRM_RETIREMENT, run_id, retirement_task(stand, run_id))
    assert "allow_test_mode" in log


def test_a_wait_goes_on_when_the_service_is_killed_and_comes_back(stand: Stand, buy: Buy) -> None:
    bought = buy(STUCK_CARD)
    run_id = start_waiting(stand, bought)

    stand.sandbox.process.kill()
    stand.sandbox.start()
    # It has forgotten the payment, which a wait takes for one that is not there yet.
    wait_for_polls(stand, bought.payment_id, 2)

    assert retirement_task(stand, run_id)["state"] == "deferred"
