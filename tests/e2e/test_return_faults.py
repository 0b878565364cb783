"""Processes are killed and Carbonmark is out of reach while a buyer comes back; each time one payment is recorded and retired."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.e2e.buyer import STUCK_CARD, THANKS, open_page, pay
from tests.e2e.processes import wait_until
from tests.e2e.purchase import Purchase

if TYPE_CHECKING:
    from tests.e2e.stand import Stand

pytestmark = pytest.mark.e2e

Buy = Callable[..., Purchase]


def switch(stand: Stand, **changes: object) -> None:
    stand.sandbox.control("PATCH", "switches", changes)


def test_an_api_server_killed_while_it_handles_a_return_loses_nothing(stand: Stand, purchase: Buy) -> None:
    bought = purchase().wait_until_parked()
    paid = pay(bought.link, come_back=False)
    server = stand.airflow.return_server
    switch(stand, latency=5)
    with ThreadPoolExecutor(1) as browser:
        answer = browser.submit(open_page, paid.url)
        wait_until(lambda: stand.polls(paid.payment_id), what="Carbonmark to be asked", timeout=30)
        stand.airflow.processes[server].kill()
        assert isinstance(answer.exception(60), httpx.TransportError)
    switch(stand, latency=0)
    stand.airflow.restart(server)
    assert bought.task("payment")["state"] == "awaiting_input"

    # What a person does whose browser shows an error.
    assert THANKS in open_page(paid.url).text
    assert bought.expect_certificate() == paid.payment_id


@pytest.mark.parametrize("killed", ["scheduler", "triggerer"])
def test_a_kill_while_the_task_is_parked_loses_nothing(stand: Stand, purchase: Buy, killed: str) -> None:
    bought = purchase().wait_until_parked()
    link = bought.link
    stand.airflow.processes[killed].kill()
    paid = pay(link)
    assert paid.title == THANKS
    stand.airflow.restart(killed)

    assert bought.expect_certificate() == paid.payment_id


def test_a_kill_of_all_that_runs_tasks_while_the_sensor_waits_loses_nothing(
    stand: Stand, purchase: Buy
) -> None:
    bought = purchase().wait_until_parked()
    paid = pay(bought.link, STUCK_CARD)
    bought.wait_until("retirement", "deferred")
    # The scheduler takes its workers with it.
    for name in ("scheduler", "triggerer"):
        stand.airflow.processes[name].kill()
    stand.sandbox.control("PATCH", f"payments/{paid.payment_id}", {"outcome": "retired"})
    stand.airflow.restart("scheduler", "triggerer")

    assert bought.expect_certificate() == paid.payment_id
    assert bought.task("retirement")["try_number"] == 1


def test_a_worker_killed_between_request_and_park_is_replaced_by_one_that_finds_the_payment(
    stand: Stand, purchase: Buy, tmp_path: Path
) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    bought = purchase(hold=str(hold))
    bought.wait_until_asked()
    stand.airflow.processes["scheduler"].kill()
    paid = pay(bought.link)
    assert paid.title == THANKS
    stand.airflow.restart("scheduler")

    assert bought.expect_certificate() == paid.payment_id
    assert bought.task("payment")["try_number"] >= 2
