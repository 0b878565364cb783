"""The hosted payment page, and where it leads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from html import unescape

import pytest

from airflow_provider_carbonmark.sandbox.world.cards import CARDS
from tests.integration.sandbox.conftest import CONSUMPTION, GOOD_CARD


def test_the_page_says_what_is_paid_for_and_that_nothing_is_bought(shopper):
    page = shopper.http.get(shopper.open_checkout(project_id="ICR-112", quantity_tonnes=12.345))
    text = unescape(page.text)

    assert page.status_code == 200
    for shown in (
        *("12.345 t", "ICR-112, vintage 2019", "$3.78", "$46.67", "Example GmbH", "October 2026"),
        "nothing is bought here",
    ):
        assert shown in text
    assert all(card.spaced_number in text and card.what_happens in text for card in CARDS)
    # The form as it comes pays.
    assert f'value="{GOOD_CARD}"' in page.text


@pytest.mark.parametrize(
    ("project_id", "quantity_tonnes", "shown"),
    [
        *(
            ("PUR-4411", 20, "Pay $19,651.80<"),
            ("VCS-191", 0.001, "Pay $0.01<"),
            ("ICR-112", 1, "Pay $3.78<"),
        ),
        ("CMARK-7", 1, "ex-ante"),
    ],
)
def test_money_is_written_in_whole_cents_and_a_promise_is_called_one(
    shopper, project_id, quantity_tonnes, shown
):
    order = {"project_id": project_id, "quantity_tonnes": quantity_tonnes}
    url = shopper.open_checkout(consumption_metadata=CONSUMPTION, **order)
    assert shown in shopper.http.get(url).text


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"card_number": "4000000000000002"}, "Your card was declined."),
        ({"card_number": "4000-0000-0000-9995"}, "Your card has insufficient funds."),
        *(({"card_number": each}, "only the test cards") for each in ("5555 5555 5555 4444", "<script>")),
        ({"expiry": "10/26"}, "Your card has expired."),
        *(({"expiry": each}, "The expiry is a month and a year") for each in ("13/34", "soon")),
        ({"cvc": "12"}, "The CVC is three or four digits."),
    ],
)
def test_a_declined_card_shows_why_and_leaves_the_checkout_payable(shopper, form, said):
    url = shopper.open_checkout()
    answer = shopper.http.post(url, data={"card_number": GOOD_CARD, **form})

    assert answer.status_code == 402
    assert said in answer.text.partition('role="alert">')[2]
    assert shopper.state()["payments"] == []
    # A card is good until the end of its month.
    assert shopper.http.post(url, data={"card_number": GOOD_CARD, "expiry": "11/2026"}).status_code == 303


def test_a_paid_checkout_says_so_leads_on_and_makes_no_second_payment(shopper):
    url = shopper.open_checkout()
    payment_id = shopper.pay(url)
    page = shopper.http.get(url)

    assert page.status_code == 200
    assert "This checkout is paid" in page.text
    assert f'href="http://buyer.test/thanks/{payment_id}"' in page.text
    assert shopper.pay(url) == shopper.pay(url, "4000000000000002") == payment_id
    assert len(shopper.state()["payments"]) == 1


def test_an_expired_checkout_says_so_to_who_opens_it_and_leaves_who_pays_it_in_doubt(shopper):
    shopper.switch(checkout_seconds=60)
    url = shopper.open_checkout()
    shopper.advance(60)
    opened, paid = shopper.http.get(url), shopper.http.post(url)

    assert (opened.status_code, paid.status_code) == (410, 410)
    assert "has expired. Nothing was charged." in opened.text
    assert "Either you completed this payment already, or this page timed out." in paid.text
    assert "charged." not in paid.text.partition("<main>")[2]
    assert shopper.state()["payments"] == []


def test_a_page_opened_in_time_can_be_paid_late_for_as_long_as_switched(shopper):
    shopper.switch(checkout_seconds=60, late_payment_seconds=10)
    in_time, too_late = shopper.open_checkout(), shopper.open_checkout()
    shopper.advance(69)
    assert shopper.http.get(in_time).status_code == 410
    shopper.pay(in_time)
    shopper.advance(1)

    assert shopper.http.post(too_late).status_code == 410
    assert len(shopper.state()["payments"]) == 1


def test_a_browser_that_never_comes_back_stays_on_a_page_that_leads_nowhere(shopper):
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


def test_an_unknown_checkout_has_a_page_that_says_so(shopper):
    for answer in (shopper.http.get("/pay/cs_unknown"), shopper.http.post("/pay/cs_unknown")):
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/html")
        assert "There is no such checkout." in answer.text


def test_what_a_buyer_is_told_is_escaped_everywhere(shopper):
    shopper.switch(retirement_seconds=0)
    nasty = "<script>alert(1)</script>\"'"
    url = shopper.open_checkout(metadata={"beneficiary_name": nasty, "retirement_message": nasty})
    pages = [shopper.http.get(url).text]
    retirement = shopper.payment(shopper.pay(url))["retirement"]
    addresses = (url, retirement["view_retirement_url"], retirement["on_chain_explorer_url"])
    pages += [shopper.http.get(address).text for address in (*addresses, "/returned/%3Cscript%3E")]

    assert all("<script" not in page for page in pages)
    assert "&lt;script&gt;" in pages[0]


def test_pages_load_nothing_from_elsewhere_and_run_no_scripts(shopper):
    for path in ("/", shopper.open_checkout(), "/returned/pay_1", "/cancelled", "/pay/unknown"):
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


def test_the_buyer_is_sent_back_to_their_own_site_and_can_still_pay_after_cancelling(shopper):
    back = {"success_url": f"{shopper.url}/returned", "cancel_url": f"{shopper.url}/cancelled"}
    url = shopper.open_checkout(**back)
    cancelled = shopper.http.post(url, data={"action": "cancel"}, follow_redirects=True)
    returned = shopper.http.post(url, data={"card_number": GOOD_CARD}, follow_redirects=True)
    payment_id = shopper.state()["payments"][0]["id"]

    assert [each.history[0].status_code for each in (cancelled, returned)] == [303, 303]
    assert (cancelled.url, returned.url) == (back["cancel_url"], f"{back['success_url']}/{payment_id}")
    assert "You cancelled. Nothing was charged." in cancelled.text
    assert f'Payment id: <code id="payment-id">{payment_id}</code>' in returned.text
    assert "airflow dags trigger carbonmark_confirm_retirement" in returned.text


def test_a_checkout_paid_by_many_at_once_is_paid_once(shopper):
    url = shopper.open_checkout()
    with ThreadPoolExecutor(16) as pool:
        ids = set(pool.map(shopper.pay, [url] * 32))

    assert len(ids) == 1
    assert len(shopper.state()["payments"]) == 1


def test_buyers_who_pay_at_once_cannot_buy_more_than_there_is(shopper):
    source = shopper.liquid_listing()["sourceId"]
    urls = [shopper.open_checkout(asset_price_source_id=source, quantity_tonnes=1) for _ in range(12)]
    shopper.http.patch(f"/sandbox/listings/{source}", json={"supply": 5, "liquid_supply": 5})
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(shopper.http.post, urls))

    assert sorted(answer.status_code for answer in answers) == [303] * 5 + [409] * 7
    assert len(shopper.state()["payments"]) == 5
    refused = next(answer.text for answer in answers if answer.status_code == 409)
    assert "Only 0 t of" in refused
    assert "Nothing was charged." in refused
