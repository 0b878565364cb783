"""The buyer comes back at every moment but the usual one: in each gap of the waiting task, and when there is no such task."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.e2e.buyer import Paid, pay
from tests.e2e.purchase import Purchase

if TYPE_CHECKING:
    from tests.e2e.stand import Stand

pytestmark = pytest.mark.e2e

THANKS = "Thank you, your payment has arrived"
ALREADY = "A payment is already recorded"

Buy = Callable[..., Purchase]


@pytest.mark.parametrize("moment", ["before", "look 1", "notifier", "look 2"])
def test_a_buyer_who_comes_back_in_a_gap_is_found(purchase: Buy, moment: str) -> None:
    bought = purchase(pays=moment)
    bought.expect_certificate()

    if moment == "before":
        # Nobody is asked for what is paid already.
        assert bought.stand.airflow.api.requests(bought.dag_id, bought.run_id) == []


def test_a_buyer_who_comes_back_after_the_timeout_is_found_when_the_task_is_cleared(purchase: Buy) -> None:
    bought = purchase("await_payment_briefly").wait_until_parked()
    bought.expect_failure()
    assert "Nobody paid or declined within 0:00:04" in bought.log("payment")

    assert pay(bought.link).title == THANKS
    bought.clear("payment")
    bought.expect_certificate()


def test_a_buyer_who_comes_back_after_a_decline_is_found_when_the_task_is_cleared(purchase: Buy) -> None:
    bought = purchase("await_payment_or_fail").wait_until_parked()
    bought.answer_parked(lambda: bought.answer("Decline"))
    bought.expect_failure()

    assert pay(bought.link).title == THANKS
    assert bought.task("payment")["state"] == "failed"
    bought.clear("payment")
    bought.expect_certificate()


def test_a_buyer_who_comes_back_while_a_cleared_task_waits_for_its_turn_is_found(
    purchase: Buy, stand: Stand
) -> None:
    bought = purchase().wait_until_parked()
    link = bought.link
    stand.airflow.processes["scheduler"].kill()
    bought.clear("payment")

    assert pay(link).title == THANKS
    stand.airflow.restart("scheduler")
    bought.expect_certificate()


def test_a_task_cleared_while_it_waits_asks_again_and_goes_on_when_the_buyer_comes(purchase: Buy) -> None:
    bought = purchase().wait_until_parked()
    bought.clear("payment")
    bought.wait_for_try("payment", 2)
    bought.wait_until_parked()
    pay(bought.link)

    bought.expect_certificate()


@pytest.mark.parametrize("downstream", [False, True], ids=["alone", "with what follows"])
def test_a_checkout_cleared_after_the_payment_gives_link_and_payment_again(
    purchase: Buy, downstream: bool
) -> None:
    bought = purchase().wait_until_parked()
    paid = pay(bought.link)
    bought.expect_certificate()
    bought.clear("checkout", downstream=downstream)
    bought.wait_for_try("checkout", 2)

    assert bought.expect_certificate() == paid.payment_id
    assert pay_page_says_paid(bought.link)


def test_a_checkout_cleared_between_link_and_payment_keeps_its_link(purchase: Buy) -> None:
    bought = purchase().wait_until_parked()
    link = bought.link
    bought.clear("checkout")
    bought.wait_for_try("payment", 2)
    bought.wait_until_parked()
    assert bought.link == link
    pay(link)

    bought.expect_certificate()


def test_a_whole_run_cleared_after_the_payment_ends_with_the_same_payment(purchase: Buy) -> None:
    bought = purchase().wait_until_parked()
    paid = pay(bought.link)
    bought.expect_certificate()
    bought.clear_all()
    bought.wait_for_try("payment", 2)

    assert bought.expect_certificate() == paid.payment_id


def test_browsers_that_come_back_at_once_to_every_api_server_leave_one_record(
    purchase: Buy, stand: Stand
) -> None:
    bought = purchase().wait_until_parked()
    paid = pay_without_return(bought)
    addresses = [paid.url.replace(stand.airflow.return_url, url) for url in stand.airflow.urls]
    with ThreadPoolExecutor(8) as browsers:
        answers = list(
            browsers.map(
                lambda number: httpx.get(addresses[number % len(addresses)], timeout=60, trust_env=False),
                range(8),
            )
        )

    assert {answer.status_code for answer in answers} == {200}
    assert sum(THANKS in answer.text for answer in answers) >= 1
    assert bought.expect_certificate() == paid.payment_id


def test_the_payments_of_two_links_of_one_run_never_mix(purchase: Buy) -> None:
    first, second = purchase().wait_until_parked(), purchase().wait_until_parked()
    paid = pay_without_return(first)
    addresses = [pay_without_return(second).url, paid.url]
    # The right token with the payment of somebody else's link.
    token = addresses[0].rpartition("/")[0]
    stranger = httpx.get(f"{token}/{paid.payment_id}", timeout=60, trust_env=False)

    assert (stranger.status_code, "This link is unknown" in stranger.text) == (404, True)
    assert second.task("payment")["state"] == "awaiting_input"
    for url in addresses:
        assert THANKS in httpx.get(url, timeout=60, trust_env=False).text
    assert first.expect_certificate() == paid.payment_id
    assert second.expect_certificate() != paid.payment_id


def pay_without_return(bought: Purchase) -> Paid:
    """Pay, and return where the browser would have gone."""
    return pay(bought.link, come_back=False)


def pay_page_says_paid(link: str) -> bool:
    return "card_number" not in httpx.get(link, trust_env=False).text
