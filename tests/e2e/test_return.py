"""Buyers in a real browser who take another way than straight from Required Actions to the payment page and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.browser import NARROW, Person, heading, pay_with
from tests.e2e.buyer import ALREADY, THANKS, UNCHECKED, pay
from tests.e2e.purchase import Purchase
from tests.e2e.stand import MONTHLY_OFFSET, Stand

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.e2e

NOTHING_PAID = "Nothing was paid"

Buy = Callable[..., Purchase]


def test_three_links_of_one_run_are_paid_in_another_order(
    person: Person, stand: Stand, emitted: Callable[..., dict[str, Any]]
) -> None:
    three = {"browser-a": "0.001", "browser-b": "0.054", "browser-c": "0.061"}
    run_id = stand.start_month(emitted({"2026-10": three}, beneficiary="In a browser ({entity})"))
    offered = {link["entity"]: link for link in stand.links(run_id)}
    assert len(offered) == 3

    for entity in sorted(offered, reverse=True):
        person.open_request_of_run(MONTHLY_OFFSET, run_id, f"{entity}, 2026-10")
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
    visit(paid.url, UNCHECKED)
    stand.sandbox.control("POST", "clock", {"advance_seconds": 3600})
    visit(paid.url, THANKS)
    visit(paid.url, ALREADY)
    visit(cancelled, ALREADY)
    visit(paid.url.replace("/return/", "/return/x"), "This link is unknown")

    assert [url for url in asked if url not in visited and not url.endswith("/favicon.ico")] == []
    assert complaints == []
    person.close()
    bought.expect_certificate()
