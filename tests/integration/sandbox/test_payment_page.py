"""The hosted payment page, and where it leads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from html import unescape

import httpx
import pytest

from airflow_provider_carbonmark.sandbox.cards import CARDS
from tests.integration.sandbox.conftest import CONSUMPTION, GOOD_CARD, Shopper


def test_the_page_says_what_is_paid_for_and_that_nothing_is_bought(shopper: Shopper) -> None:
    source = shopper.liquid_listing(tonnes=19, project_id="ICR-112")["sourceId"]
    page = shopper.http.get(shopper.open_checkout(asset_price_source_id=source, quantity_tonnes=12.345))
    text = unescape(page.text)

    assert page.status_code == 200
    for shown in (
        "12.345 t",
        "ICR-112, vintage 2019",
        "$3.78",
        "$46.67",
        "Example GmbH",
        "October 2026",
        "nothing is bought here",
    ):
        assert shown in text
    assert all(card.spaced_number in text and card.what_happens in text for card in CARDS)
    # The form as it comes pays.
    assert f'value="{GOOD_CARD}"' in page.text


@pytest.mark.parametrize(
    ("project_id", "quantity", "total"),
    [("PUR-4411", 20, "$19,651.80"), ("VCS-191", 0.001, "$0.01"), ("ICR-112", 1, "$3.78")],
)
def test_money_is_written_in_whole_cents(
    shopper: Shopper, project_id: str, quantity: float, total: str
) -> None:
    source = shopper.liquid_listing(tonnes=quantity, project_id=project_id)["sourceId"]
    url = shopper.open_checkout(
        asset_price_source_id=source, quantity_tonnes=quantity, consumption_metadata=CONSUMPTION
    )

    assert f"Pay {total}<" in shopper.http.get(url).text


def test_the_page_says_that_ex_ante_credits_are_a_promise(shopper: Shopper) -> None:
    source = shopper.liquid_listing(tonnes=1, project_id="CMARK-7")["sourceId"]

    assert "ex-ante" in shopper.http.get(shopper.open_checkout(asset_price_source_id=source)).text


def test_cancelling_leads_back_and_leaves_the_checkout_payable(shopper: Shopper) -> None:
    url = shopper.open_checkout()
    answer = shopper.http.post(url, data={"action": "cancel"})

    assert (answer.status_code, answer.headers["location"]) == (303, "http://buyer.test/no")
    assert shopper.pay(url)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"card_number": "4000000000000002"}, "Your card was declined."),
        ({"card_number": "4000-0000-0000-9995"}, "Your card has insufficient funds."),
        ({"card_number": "5555 5555 5555 4444"}, "only the test cards"),
        ({"card_number": "<script>"}, "only the test cards"),
        ({"expiry": "10/26"}, "Your card has expired."),
        ({"expiry": "13/34"}, "The expiry is a month and a year"),
        ({"expiry": "soon"}, "The expiry is a month and a year"),
        ({"cvc": "12"}, "The CVC is three or four digits."),
    ],
)
def test_a_declined_card_shows_why_and_leaves_the_checkout_payable(
    shopper: Shopper, form: dict[str, str], said: str
) -> None:
    url = shopper.open_checkout()
    answer = shopper.http.post(url, data={"card_number": GOOD_CARD, **form})

    assert answer.status_code == 402
    assert f'role="alert">{said}' in answer.text or said in answer.text.partition('role="alert">')[2]
    assert shopper.state()["payments"] == []
    assert shopper.pay(url)


def test_a_card_is_good_until_the_end_of_its_month(shopper: Shopper) -> None:
    answer = shopper.http.post(shopper.open_checkout(), data={"card_number": GOOD_CARD, "expiry": "11/2026"})

    assert answer.status_code == 303


def test_paying_again_makes_no_second_payment(shopper: Shopper) -> None:
    url = shopper.open_checkout()
    first = shopper.pay(url)

    assert shopper.pay(url) == first
    assert shopper.pay(url, "4000000000000002") == first
    assert len(shopper.state()["payments"]) == 1


def test_a_paid_checkout_says_so_and_leads_on(shopper: Shopper) -> None:
    url = shopper.open_checkout()
    payment_id = shopper.pay(url)
    page = shopper.http.get(url)

    assert page.status_code == 200
    assert "This checkout is paid" in page.text
    assert f'href="http://buyer.test/thanks/{payment_id}"' in page.text


def test_an_expired_checkout_says_so_to_who_opens_it_and_leaves_who_pays_it_in_doubt(
    shopper: Shopper,
) -> None:
    shopper.switch(checkout_seconds=60)
    url = shopper.open_checkout()
    shopper.advance(60)
    opened, paid = shopper.http.get(url), shopper.http.post(url)

    assert (opened.status_code, paid.status_code) == (410, 410)
    assert "has expired. Nothing was charged." in opened.text
    assert "Either you completed this payment already, or this page timed out." in paid.text
    assert "charged." not in paid.text.partition("<main>")[2]
    assert shopper.state()["payments"] == []


def test_a_page_opened_in_time_can_be_paid_late_for_as_long_as_switched(shopper: Shopper) -> None:
    shopper.switch(checkout_seconds=60, late_payment_seconds=10)
    in_time, too_late = shopper.open_checkout(), shopper.open_checkout()
    shopper.advance(69)
    assert shopper.http.get(in_time).status_code == 410
    shopper.pay(in_time)
    shopper.advance(1)

    assert shopper.http.post(too_late).status_code == 410
    assert len(shopper.state()["payments"]) == 1


def test_a_browser_that_never_comes_back_stays_on_a_page_that_leads_nowhere(shopper: Shopper) -> None:
    url = shopper.open_checkout()
    form = {"card_number": "4000 0000 0000 1091"}
    pages = [shopper.http.post(url, data=form), shopper.http.get(url), shopper.http.post(url)]
    (payment,) = shopper.state()["payments"]

    assert payment["payment_status"] == "PAID"
    for page in pages:
        assert page.status_code == 200
        assert "This checkout is paid" in page.text
        assert payment["id"] not in page.text
        assert "buyer.test" not in page.text


def test_an_unknown_checkout_has_a_page_that_says_so(shopper: Shopper) -> None:
    for answer in (shopper.http.get("/pay/cs_unknown"), shopper.http.post("/pay/cs_unknown")):
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/html")
        assert "There is no such checkout." in answer.text


def test_a_listing_that_sold_out_before_paying_charges_nothing(shopper: Shopper) -> None:
    source = shopper.liquid_listing()["sourceId"]
    url = shopper.open_checkout(asset_price_source_id=source)
    shopper.http.patch(f"/sandbox/listings/{source}", json={"liquid_supply": 1})
    answer = shopper.http.post(url, data={"card_number": GOOD_CARD})

    assert answer.status_code == 409
    assert "Only 1 t of" in answer.text
    assert "Nothing was charged." in answer.text
    assert shopper.state()["payments"] == []


def test_what_a_buyer_is_told_is_escaped_everywhere(shopper: Shopper) -> None:
    shopper.switch(retirement_seconds=0)
    nasty = "<script>alert(1)</script>\"'"
    url = shopper.open_checkout(metadata={"beneficiary_name": nasty, "retirement_message": nasty})
    pages = [shopper.http.get(url).text]
    retirement = shopper.payment(shopper.pay(url))["retirement"]
    pages += [
        shopper.http.get(address).text
        for address in (url, retirement["view_retirement_url"], retirement["on_chain_explorer_url"])
    ]
    pages.append(shopper.http.get("/returned/%3Cscript%3E").text)

    assert all("<script" not in page for page in pages)
    assert "&lt;script&gt;" in pages[0]


def test_pages_load_nothing_from_elsewhere_and_run_no_scripts(shopper: Shopper) -> None:
    paths = ["/", shopper.open_checkout(), "/returned/pay_1", "/cancelled", "/pay/unknown"]
    for path in paths:
        page = shopper.http.get(path)
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self';")
        assert "frame-ancestors 'none'" in policy
        assert "<script" not in page.text
        assert 'href="/style.css"' in page.text
        assert "src=" not in page.text
    style = shopper.http.get("/style.css")
    assert style.headers["content-type"].startswith("text/css")
    assert "url(" not in style.text


def test_the_buyers_own_site_shows_the_payment_id_and_how_to_confirm_it(shopper: Shopper) -> None:
    url = shopper.open_checkout(success_url=f"{shopper.url}/returned", cancel_url=f"{shopper.url}/cancelled")
    cancelled = shopper.http.post(url, data={"action": "cancel"}, follow_redirects=True)
    returned = shopper.http.post(url, data={"card_number": GOOD_CARD}, follow_redirects=True)
    payment_id = shopper.state()["payments"][0]["id"]

    assert (cancelled.status_code, returned.status_code) == (200, 200)
    assert "You cancelled. Nothing was charged." in cancelled.text
    assert f'Payment id: <code id="payment-id">{payment_id}</code>' in returned.text
    assert "airflow dags trigger carbonmark_confirm_retirement" in returned.text


def test_a_checkout_paid_by_many_at_once_is_paid_once(shopper: Shopper) -> None:
    url = shopper.open_checkout()
    with ThreadPoolExecutor(16) as pool:
        ids = set(pool.map(shopper.pay, [url] * 32))

    assert len(ids) == 1
    assert len(shopper.state()["payments"]) == 1


def test_buyers_who_pay_at_once_cannot_buy_more_than_there_is(shopper: Shopper) -> None:
    source = shopper.liquid_listing()["sourceId"]
    urls = [shopper.open_checkout(asset_price_source_id=source, quantity_tonnes=1) for _ in range(12)]
    shopper.http.patch(f"/sandbox/listings/{source}", json={"supply": 5, "liquid_supply": 5})

    def pay(url: str) -> int:
        return httpx.post(url, data={"card_number": GOOD_CARD}).status_code

    with ThreadPoolExecutor(12) as pool:
        statuses = sorted(pool.map(pay, urls))

    assert statuses == [303] * 5 + [409] * 7
    assert len(shopper.state()["payments"]) == 5
