"""
A payment outlives its links: in a real browser, by the pay address and by the form, on each supported Airflow.

All purchases are started at once, since most of their time is waiting. Where a link is to expire, the ledger is told that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from airflow_provider_carbonmark.ledger.names import State
from tests.e2e.airflow_api import PARKED
from tests.e2e.browser import GO, NOBODY_PAID, Person, heading, pay_with, press
from tests.e2e.buyer import ALREADY, THANKS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.e2e.purchase import Purchase
    from tests.e2e.stand import Stand

pytestmark = pytest.mark.e2e

TO_PAY, IS_IT_PAID, PAID = "Pay for carbon credits", "Has anybody paid?", "The credits are retired"
MINUTE = 60

Open = Callable[["Purchase"], "Page"]


@pytest.fixture(scope="module")
def started(purchase: Callable[..., Purchase]) -> dict[str, Purchase]:
    names = ("at once", "page", "form", "browsers", "typing", "old link")
    return {name: purchase() for name in names}


@pytest.fixture
def open_pay(browser: Browser, stand: Stand) -> Iterator[Open]:
    """Return a function that opens a purchase's pay address in a browser of its own."""
    people: list[Person] = []

    def open_pay(bought: Purchase) -> Page:
        people.append(Person(browser, stand.airflow.url))
        page = people[-1].page
        page.goto(bought.pay_url)
        return page

    yield open_pay
    for each in people:
        each.close()


def test_it_can_be_paid_at_once(started: dict[str, Purchase], open_pay: Open) -> None:
    bought = started["at once"].wait_until_parked()
    page = open_pay(bought)
    assert heading(page) == TO_PAY
    assert bought.beneficiary in page.content()
    press(page, GO)
    assert page.url == bought.link
    pay_with(page)
    assert heading(page) == THANKS

    bought.expect_certificate()
    page.goto(bought.pay_url)
    assert heading(page) == PAID
    assert page.get_by_role("link").get_attribute("href") == bought.recorded.certificate_url


def test_after_the_link_s_end_the_page_makes_the_next(started: dict[str, Purchase], open_pay: Open) -> None:
    bought = started["page"].wait_until_parked()
    bought.expire()
    page = open_pay(bought)
    assert heading(page) == IS_IT_PAID
    press(page, NOBODY_PAID)
    assert page.url != bought.link
    pay_with(page)
    assert heading(page) == THANKS
    bought.expect_certificate(links=2)


def test_after_the_link_s_end_the_form_makes_the_next_and_says_what_came_of_each_answer(
    started: dict[str, Purchase], person: Person
) -> None:
    bought = started["form"].wait_until_parked()
    bought.expire()
    bought.answer("I have paid", payment_id="pay_typo")
    bought.wait_until_asked_again()
    person.open_request(bought.subject)
    person.expect_text("Carbonmark knows of no payment pay_typo that is paid.")

    person.answer("Make a new link")
    bought.wait_until_asked_again()
    link = bought.recorded.link
    assert link is not None
    assert link.number == 2
    person.open_request(bought.subject)
    person.expect_text("There is a new payment page.")
    person.expect_text(f"The payment page can be used until {link.expires_at:%Y-%m-%d %H:%M} UTC")
    page = person.open_payment_page()
    assert page.url == link.url
    pay_with(page)
    bought.expect_certificate(links=2)


def test_pressed_twice_in_two_browsers_at_once_it_is_the_same_link(
    stand: Stand, started: dict[str, Purchase], open_pay: Open
) -> None:
    bought = started["browsers"].wait_until_parked()
    bought.expire()
    pages = [open_pay(bought) for _ in range(2)]
    # Slow enough that the second presses before the first is answered.
    stand.sandbox.control("PATCH", "switches", {"latency": 1})
    for page in pages:
        page.get_by_role("button", name=NOBODY_PAID).dblclick(no_wait_after=True)
    for page in pages:
        page.wait_for_url(f"{stand.sandbox.url}/pay/*")
    stand.sandbox.control("PATCH", "switches", {"latency": 0})
    assert pages[0].url == pages[1].url
    pages[0].go_back()
    press(pages[0], GO)
    assert pages[0].url == pages[1].url
    pay_with(pages[1])
    assert heading(pages[1]) == THANKS
    bought.expect_certificate(links=2)


def test_a_link_that_expires_while_the_buyer_types_the_card_is_followed_by_another(
    stand: Stand, started: dict[str, Purchase], open_pay: Open
) -> None:
    bought = started["typing"].wait_until_parked()
    bought.expire()
    page = open_pay(bought)
    # Other links are good for a day: they mind no clock that is put forward by a minute.
    stand.sandbox.control("PATCH", "switches", {"checkout_seconds": MINUTE})
    press(page, NOBODY_PAID)
    stand.sandbox.control("POST", "clock", {"advance_seconds": MINUTE})
    pay_with(page)
    assert "this page timed out" in page.content()
    assert bought.payments() == []

    bought.expire()
    stand.sandbox.control("PATCH", "switches", {"checkout_seconds": 24 * 60 * MINUTE})
    page.goto(bought.pay_url)
    press(page, NOBODY_PAID)
    pay_with(page)
    assert heading(page) == THANKS
    bought.expect_certificate(links=3)


def test_what_is_paid_at_the_old_link_although_nobody_has_was_said_counts(
    started: dict[str, Purchase], open_pay: Open
) -> None:
    bought = started["old link"].wait_until_parked()
    old = open_pay(bought)
    press(old, GO)
    bought.expire()
    new = open_pay(bought)
    press(new, NOBODY_PAID)
    assert new.url != old.url
    pay_with(old)
    assert heading(old) == THANKS
    bought.expect_certificate(links=2)

    # Who then pays the other link all the same is told so, and a person is.
    paid = bought.recorded.payment_id
    pay_with(new)
    assert heading(new) == ALREADY
    assert (bought.recorded.state, bought.recorded.payment_id) == (State.RETIRED, paid)
    assert len(bought.payments()) == 2
    assert bought.task("payment")["state"] not in PARKED
