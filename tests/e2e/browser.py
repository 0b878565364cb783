"""A person with a real browser: at Airflow's pages they find the link, at the payment page they pay it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal
from urllib.parse import quote

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.e2e.buyer import GOOD_CARD
from tests.e2e.processes import PATIENCE

# Debian's package; Playwright's own download is not needed.
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDE = {"width": 1280, "height": 900}
# A phone held upright.
NARROW = {"width": 390, "height": 844}
# Airflow's interface asks its API again every few seconds, and the machine may be busy.
MILLISECONDS = int(60_000 * PATIENCE)


@contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """
    Start a browser, and end it on leaving.

    :param flags: more of its own options.
    :raises RuntimeError: when there is none, with the remedy.
    """
    if shutil.which(CHROMIUM) is None:
        raise RuntimeError(
            f"There is no browser at {CHROMIUM}. `make test` installs Debian's; otherwise set CHROMIUM to the path of one."
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])
        try:
            yield browser
        finally:
            browser.close()


class Person:
    """
    Somebody at a browser window of their own.

    :param browser: the browser.
    :param airflow: address of the Airflow.
    :param viewport: size of the window.
    :param scheme: whether they like it ``light`` or ``dark``.
    """

    def __init__(
        self,
        browser: Browser,
        airflow: str,
        viewport: dict[str, int] = WIDE,
        scheme: Literal["light", "dark"] = "light",
    ) -> None:
        self._context = browser.new_context(viewport=viewport, color_scheme=scheme)
        self._context.set_default_timeout(MILLISECONDS)
        self.airflow = airflow
        self.page = self._context.new_page()

    def close(self) -> None:
        self._context.close()

    def open_offsets(self) -> Page:
        """Click on the ledger's page in Airflow's menu; it opens in a tab of its own."""
        self.page.goto(f"{self.airflow}/")
        self.page.get_by_role("button", name="Browse").click()
        with self.page.expect_popup() as opened:
            self.page.get_by_role("menuitem", name="Carbon offsets").click()
        opened.value.wait_for_load_state()
        return opened.value

    def open_request(self, subject: str) -> None:
        """Go from the list of Required Actions to the one with this subject."""
        self.page.goto(f"{self.airflow}/required_actions")
        self.page.get_by_role("link", name=subject, exact=True).click()
        self._expect_form()

    def open_request_of_run(self, dag_id: str, run_id: str, label: str) -> None:
        """Open the Required Actions on a run's page, and there the one of a mapped task with this label."""
        self.page.goto(f"{self.airflow}{quote(f'/dags/{dag_id}/runs/{run_id}/required_actions')}")
        self.page.get_by_role("dialog").get_by_text(label, exact=True).first.click()
        self._expect_form()

    def _expect_form(self) -> None:
        expect(self.page.get_by_role("button", name="I have paid")).to_be_visible(timeout=MILLISECONDS)

    def expect_text(self, text: str) -> None:
        """Wait until the page that is open says something."""
        expect(self.page.get_by_text(text)).to_be_visible(timeout=MILLISECONDS)

    def open_payment_page(self) -> Page:
        """Follow the link in the request, and press the button on the page that it leads to."""
        page = self.open_pay_address()
        press(page, GO)
        return page

    def open_pay_address(self) -> Page:
        """Follow the link in the request."""
        return follow(self.page)

    def answer(self, option: str, payment_id: str = "") -> None:
        """Fill in the form of the request that is open, and choose an option."""
        if payment_id:
            self.page.locator("[name*=payment_id]").first.fill(payment_id)
        with self.page.expect_response(lambda answer: answer.request.method == "PATCH") as answered:
            self.page.get_by_role("button", name=option).click()
        if not answered.value.ok:
            raise AssertionError(f"Airflow doesn't take the answer: {answered.value.text()}")


#: What the pay address' buttons say.
GO = "Go to the payment page"
NOBODY_PAID = "Nobody has paid: make a new payment page"


def follow(page: Page) -> Page:
    """Follow the link in a request that is open; from Airflow 3.3 on it opens in a tab of its own."""
    link = page.get_by_role("link", name="Open the payment page")
    if link.get_attribute("target") != "_blank":
        with page.expect_navigation():
            link.click()
        return page
    with page.context.expect_page() as opened:
        link.click()
    opened.value.wait_for_load_state()
    return opened.value


def press(page: Page, name: str) -> None:
    """Press a page's button, and go where that leads."""
    with page.expect_navigation():
        page.get_by_role("button", name=name).click()


def pay_with(page: Page, card: str = GOOD_CARD) -> None:
    """Pay on the sandbox's payment page with a card, by way of the pay address where the page is that, and go where that leads."""
    if page.get_by_role("button", name=GO).count():
        press(page, GO)
    page.get_by_label(re.compile("card number", re.I)).fill(card)
    page.get_by_role("button", name=re.compile("^Pay")).click()
    page.wait_for_load_state()


def heading(page: Page) -> str:
    """Return a page's headline."""
    return page.locator("h1").first.inner_text()
