"""The whole loop in a real browser: from Required Actions to the payment page, back to Airflow, to the certificate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.browser import NARROW, Person, chromium, heading, pay_with
from tests.e2e.buyer import DECLINED_CARD, pay
from tests.e2e.purchase import Purchase
from tests.e2e.stand import MONTHLY_OFFSET, Stand

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

pytestmark = pytest.mark.e2e

THANKS = "Thank you, your payment has arrived"
ALREADY = "A payment is already recorded"
NOTHING_PAID = "Nothing was paid"

Buy = Callable[..., Purchase]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def person(browser: Browser, stand: Stand) -> Iterator[Person]:
    person = Person(browser, stand.airflow.url)
    yield person
    person.close()


def decline(person: Person, bought: Purchase) -> None:
    person.open_request(bought.subject)
    person.answer("Decline")


def pay_and_be_cut_off(route: Route) -> None:
    """Let the payment through, and fail where the browser is sent next."""
    route.fetch(max_redirects=0)
    route.abort("addressunreachable")


def test_a_buyer_pays_from_required_actions_and_the_run_ends_with_the_certificate(
    person: Person, purchase: Buy
) -> None:
    bought = purchase().wait_until_parked()
    person.open_request(bought.subject)
    page = person.open_payment_page()
    pay_with(page)

    assert page.url.startswith(f"{bought.stand.airflow.return_url}/carbonmark/return/")
    assert heading(page) == THANKS
    payment_id = bought.expect_certificate()
    assert payment_id in page.content()


def test_three_links_of_one_run_are_paid_in_another_order(
    person: Person, stand: Stand, emitted: Callable[..., dict[str, Any]]
) -> None:
    three = {"browser-a": "0.001", "browser-b": "0.054", "browser-c": "0.061"}
    run_id = stand.start_month(emitted({"2026-10": three}, beneficiary="In a browser ({entity})"))
    offered = {link["entity"]: link for link in stand.links(run_id)}
    assert len(offered) == 3

    for entity in sorted(offered, reverse=True):
        person.open_request_of_run(MONTHLY_OFFSET, run_id, f"{entity} 2026-10")
        page = person.open_payment_page()
        assert f"In a browser ({entity})" in page.content()
        pay_with(page)
        assert heading(page) == THANKS
        assert f"In a browser ({entity})" in page.content()
    stand.expect_success(MONTHLY_OFFSET, run_id)

    assert {
        bought["entity"]: (bought["beneficiary_name"], bought["quantity_tonnes"])
        for bought in stand.retired(run_id)
    } == {entity: (f"In a browser ({entity})", tonnes) for entity, tonnes in three.items()}


def test_a_buyer_who_cancels_can_still_pay(person: Person, purchase: Buy) -> None:
    bought = purchase().wait_until_parked()
    person.open_request(bought.subject)
    page = person.open_payment_page()
    page.get_by_role("button", name="Cancel").click()

    assert heading(page) == NOTHING_PAID
    page.get_by_role("link", name="Back to the payment page").click()
    pay_with(page)
    assert heading(page) == THANKS
    bought.expect_certificate()


def test_a_declined_card_leaves_the_request_open_for_another_card(person: Person, purchase: Buy) -> None:
    bought = purchase().wait_until_parked()
    person.open_request(bought.subject)
    page = person.open_payment_page()
    pay_with(page, DECLINED_CARD)

    assert "declined" in page.get_by_role("alert").inner_text()
    assert bought.payments() == []
    pay_with(page)
    assert heading(page) == THANKS
    bought.expect_certificate()


def test_declining_in_the_form_skips_the_rest(person: Person, purchase: Buy) -> None:
    bought = purchase().wait_until_parked()
    bought.answer_parked(lambda: decline(person, bought))
    bought.stand.expect_success(bought.dag_id, bought.run_id)

    assert bought.task("payment")["state"] == bought.task("retirement")["state"] == "skipped"
    assert "Anonymous declined to pay for 0.5 t CO2e" in bought.log("payment")
    assert bought.payments() == []


def test_declining_in_the_form_fails_the_run_where_the_author_wants_that(
    person: Person, purchase: Buy
) -> None:
    bought = purchase("await_payment_or_fail").wait_until_parked()
    bought.answer_parked(lambda: decline(person, bought))
    bought.expect_failure()

    assert "declined to pay" in bought.log("payment")


def test_an_id_entered_by_hand_does_where_the_browser_can_not_come_back(
    person: Person, purchase: Buy
) -> None:
    bought = purchase().wait_until_parked()
    person.open_request(bought.subject)
    page = person.open_payment_page()
    page.route("**/pay/*", pay_and_be_cut_off)
    pay_with(page)
    (payment_id,) = bought.payments()
    assert bought.task("payment")["state"] == "awaiting_input"

    def enter() -> None:
        person.open_request(bought.subject)
        person.answer("I have paid", payment_id=f" {payment_id}")

    bought.answer_parked(enter)

    assert bought.expect_certificate(recorded=False) == payment_id


def test_saying_paid_without_an_id_asks_again_and_the_return_still_counts(
    person: Person, purchase: Buy
) -> None:
    bought = purchase().wait_until_parked()
    person.open_request(bought.subject)
    person.answer("I have paid")
    bought.wait_until_asked_again()
    pay(bought.link)

    bought.expect_certificate()


def test_coming_back_again_changes_nothing(person: Person, purchase: Buy) -> None:
    bought = purchase().wait_until_parked()
    first = pay(bought.link)
    bought.expect_certificate()
    page = person.page
    page.goto(first.url)
    assert heading(page) == ALREADY
    page.reload()
    assert heading(page) == ALREADY
    page.goto(bought.link)
    page.get_by_role("link").first.click()

    assert heading(page) == ALREADY
    assert bought.expect_certificate() == first.payment_id


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_page_fits_a_phone_and_loads_nothing_from_elsewhere(
    browser: Browser, stand: Stand, purchase: Buy, scheme: Any
) -> None:
    person = Person(browser, stand.airflow.url, NARROW, scheme=scheme)
    bought = purchase().wait_until_parked()
    cancelled = stand.sandbox.control("GET", "state")["checkouts"][-1]["cancel_url"]
    asked: list[str] = []
    person.page.on("request", lambda request: asked.append(request.url))
    complaints: list[str] = []
    # Chromium says so of every page with this status, and of the page for unknown links rightly.
    usual = "the server responded with a status of 404"
    person.page.on("console", lambda said: None if usual in said.text else complaints.append(said.text))
    visited = []

    def visit(url: str, title: str) -> None:
        person.page.goto(url)
        visited.append(person.page.url)
        assert heading(person.page) == title
        width = person.page.evaluate("document.documentElement.scrollWidth")
        assert width <= NARROW["width"], title

    stand.sandbox.control("PATCH", "switches", {"payment_visible_seconds": 3600})
    visit(cancelled, NOTHING_PAID)
    paid = pay(bought.link)
    visit(paid.url, "Your payment can’t be checked right now")
    stand.sandbox.control("POST", "clock", {"advance_seconds": 3600})
    visit(paid.url, THANKS)
    visit(paid.url, ALREADY)
    visit(cancelled, ALREADY)
    visit(paid.url.replace("/return/", "/return/x"), "This link is unknown")

    assert [url for url in asked if url not in visited and not url.endswith("/favicon.ico")] == []
    assert complaints == []
    person.close()
    bought.expect_certificate()
