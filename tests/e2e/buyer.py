"""A buyer's browser: opens a payment page, fills in its form, and goes where it is sent."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import urlsplit

import httpx

from tests.e2e.processes import PATIENCE

GOOD_CARD = "4242 4242 4242 4242"
STUCK_CARD = "4000 0000 0000 1026"
#: The headlines of the pages that a buyer comes back to.
THANKS, ALREADY = "Thank you, your payment has arrived", "A payment is already recorded"
UNCHECKED = "Your payment can’t be checked right now"


class PaymentRefused(Exception):
    """The payment page does not let the buyer through; the message is what it says."""


@dataclass(frozen=True)
class Paid:
    """Where a buyer's browser is after paying; the last part of that address alone tells the payment's id."""

    payment_id: str
    url: str
    title: str
    page: str


def pay(checkout_url: str, card: str = GOOD_CARD, *, come_back: bool = True) -> Paid:
    """
    Pay a link as a person with a browser does.

    :param card: its number decides how it ends; the payment page lists the test cards.
    :param come_back: whether the browser opens the address it is sent to.
    :raises PaymentRefused: when the page does not send the buyer on.
    """
    with httpx.Client(timeout=30 * PATIENCE, trust_env=False) as browser:
        page = _Page.read(browser.get(checkout_url))
        if "card_number" not in page.fields:
            raise PaymentRefused(page.text)
        answer = browser.post(checkout_url, data=page.fields | {"card_number": card})
        if not answer.is_redirect:
            raise PaymentRefused(_Page.read(answer).problem)
        if not come_back:
            url = answer.headers["Location"]
            return Paid(url.rsplit("/", 1)[-1], url, "", "")
        landed = browser.get(answer.headers["Location"], follow_redirects=True).raise_for_status()
        title = _Page.read(landed).title
        return Paid(landed.url.path.rsplit("/", 1)[-1], str(landed.url), title, landed.text)


def open_page(url: str) -> httpx.Response:
    return httpx.get(url, timeout=60 * PATIENCE, trust_env=False)


def is_expired(pay_url: str) -> bool:
    """Tell whether the pay address asks if anybody has paid."""
    return "Has anybody paid?" in open_page(pay_url).text


def next_page(pay_url: str) -> str:
    """
    Say at a pay address, by its button, that nobody has paid, and return where that leads.

    :raises PaymentRefused: when it leads nowhere.
    """
    with httpx.Client(timeout=30 * PATIENCE, trust_env=False) as browser:
        page = _Page.read(browser.get(pay_url))
        here = urlsplit(pay_url)
        answer = browser.post(pay_url, data=page.fields, headers={"Origin": f"{here.scheme}://{here.netloc}"})
        if not answer.is_redirect:
            raise PaymentRefused(_Page.read(answer).problem)
        return answer.headers["Location"]


class _Page(HTMLParser):
    """A page's form as a browser would send it with its first button, and what the page says."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.text = ""
        self.problem = ""
        self.title = ""
        self._alert = False
        self._title = False

    @classmethod
    def read(cls, response: httpx.Response) -> _Page:
        page = cls()
        page.feed(response.text)
        page.problem = page.problem or f"HTTP {response.status_code}: {page.text}"
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self._alert = attributes.get("role") == "alert"
        self._title = tag == "title"
        if tag in ("input", "button") and (name := attributes.get("name")):
            self.fields.setdefault(name, attributes.get("value") or "")

    def handle_endtag(self, tag: str) -> None:
        self._alert = self._title = False

    def handle_data(self, data: str) -> None:
        self.text = f"{self.text} {data.strip()}".strip()
        if self._title:
            self.title += data.strip()
        if self._alert:
            self.problem += data.strip()
