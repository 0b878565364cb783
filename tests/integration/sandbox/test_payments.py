"""GET /payments/{id}: how a retirement goes, in every layout; certificates; test mode."""

from __future__ import annotations

import re
from functools import reduce

import pytest

PROOF = ("view_retirement_url", "transaction_hash", "on_chain_explorer_url")
BOUGHT = ("quantity_tonnes", "asset_price_source_id", "beneficiary_name", "retirement_message")


def statuses(payment):
    return payment["payment_status"], payment["retirement"]["status"]


def test_a_retirement_is_submitted_committed_and_completed(shopper):
    shopper.switch(retirement_seconds=30)
    payment_id = shopper.buy()
    seen = []
    for seconds in (9, 1, 19, 1, 0):
        seen.append(shopper.payment(payment_id))
        shopper.advance(seconds)
    *unproven, done = seen

    expected = ["SUBMITTED", "SUBMITTED", "COMMITTED", "COMMITTED", "COMPLETED"]
    assert [statuses(each) for each in seen] == [("PAID", status) for status in expected]
    assert all(each["retirement"][name] is None for each in unproven for name in PROOF)
    assert re.fullmatch(r"0x[0-9a-f]{64}", done["retirement"]["transaction_hash"])
    assert done["retirement"]["completed_at"] == "2026-11-21T06:00:30.000Z"
    assert (done["quantity_tonnes"], done["beneficiary_name"]) == (1.234, "Example GmbH")


def test_a_listing_can_sell_out_between_payment_and_retirement(shopper):
    source = shopper.liquid_listing()["sourceId"]
    payment_id = shopper.buy("4000 0000 0000 1067", asset_price_source_id=source)
    (left,) = (
        each["liquidSupply"] for each in shopper.http.get("/prices").json() if each["sourceId"] == source
    )
    shopper.advance(3)
    paid = shopper.payment(payment_id)
    assert (left, *statuses(paid)) == (0, "PAID", "FAILED")
    assert "sold out before the retirement" in paid["retirement"]["message"]
    assert paid["retirement"]["transaction_hash"] is None


def test_a_payment_that_is_confirmed_late_retires_only_then(shopper):
    shopper.switch(processing_seconds=60, retirement_seconds=30)
    payment_id = shopper.buy("4000 0000 0000 1075")
    said = []
    for seconds in (59, 1, 30, 0):
        said.append(shopper.payment(payment_id))
        shopper.advance(seconds)

    late = ("PROCESSING", None)
    assert list(map(statuses, said)) == [late, late, ("PAID", "SUBMITTED"), ("PAID", "COMPLETED")]
    assert said[-1]["retirement"]["completed_at"] == "2026-11-21T06:01:30.000Z"


def test_a_payment_can_fail_after_the_buyer_was_sent_back(shopper):
    shopper.switch(processing_seconds=60, status_words={"PROCESSING": "unpaid"})
    url = shopper.open_checkout()
    payment_id = shopper.pay(url, "4000 0000 0000 1083")
    for status, page in (
        ("unpaid", "This payment is being processed"),
        ("FAILED", "This payment has failed"),
    ):
        assert statuses(shopper.payment(payment_id)) == (status, None)
        assert page in shopper.http.get(url).text
        shopper.advance(60)


def test_a_payment_is_unknown_until_it_is_paid_but_where_it_was_announced(shopper):
    shopper.open_checkout()
    unpaid = shopper.state()["checkouts"][0]["payment_id"]
    for payment_id in (unpaid, "pay_unknown", "%2e%2e", "x" * 5000):
        assert shopper.http.get(f"/payments/{payment_id}").status_code == 404

    shopper.switch(checkout_layout="rich", checkout_seconds=60)
    announced = shopper.checkout()["payment_id"]
    assert statuses(shopper.payment(announced)) == ("AWAITING_PAYMENT", None)
    shopper.advance(60)
    assert statuses(shopper.payment(announced)) == ("EXPIRED", None)


@pytest.mark.parametrize(
    ("card", "status", "proven", "beneficiary", "quantity"),
    [
        ("4242424242424242", "COMPLETED", True, "Example GmbH", 1.234),
        ("4000000000001018", "FAILED", False, "Example GmbH", 1.234),
        ("4000000000001026", "SUBMITTED", False, "Example GmbH", 1.234),
        ("4000000000001034", "COMPLETED", False, "Example GmbH", 1.234),
        ("4000000000001042", "COMPLETED", True, "Developer Tester", 0.017),
        ("4000000000001059", "COMPLETED", True, "Somebody Else Ltd.", 2.234),
    ],
)
def test_the_card_decides_how_it_ends(shopper, card, status, proven, beneficiary, quantity):
    payment_id = shopper.buy(card)
    shopper.advance(10**6)
    payment = shopper.payment(payment_id)

    assert statuses(payment) == ("PAID", status)
    assert [payment["retirement"][name] is not None for name in PROOF] == [proven] * 3
    assert (payment["beneficiary_name"], payment["quantity_tonnes"]) == (beneficiary, quantity)


def test_all_of_test_mode_links_to_one_placeholder(shopper):
    shopper.http.headers["authorization"] = "Bearer cm_api_sandbox_1"
    first, second = shopper.buy(), shopper.buy(quantity_tonnes=7)
    shopper.advance(3)
    one, other = shopper.payment(first), shopper.payment(second)

    assert first != second
    assert one["retirement"] == other["retirement"]
    assert one["retirement"]["status"] == "COMPLETED"
    assert one["retirement"]["completed_at"].startswith("2024-")
    for payment in (one, other):
        assert (payment["beneficiary_name"], payment["quantity_tonnes"]) == ("Developer Tester", 0.017)
    assert one["retirement_message"].startswith("TEST MODE")
    certificate = shopper.http.get(one["retirement"]["view_retirement_url"])
    assert certificate.status_code == 200
    assert "TEST MODE" in certificate.text
    assert "Do NOT" in certificate.text


# Each place of each part at least once.
@pytest.mark.parametrize("proof_at", ["beside", "top"])
@pytest.mark.parametrize(
    ("payment_at", "retirement_at", "bought_at"),
    [
        *(("status", "retirement.status", "top"), ("payment_status", "retirement_status", "metadata")),
        *(("payment.status", "order.status", "quote"), ("status", "order_status", "retirement")),
        ("payment_status", "order.status", "order"),
    ],
)
def test_a_payment_comes_in_every_layout(shopper, payment_at, retirement_at, proof_at, bought_at):
    shopper.switch(
        retirement_seconds=0,
        payment_status_at=payment_at,
        retirement_status_at=retirement_at,
        proof_at=proof_at,
        bought_at=bought_at,
    )
    payment = shopper.payment(shopper.buy())

    def at(path):
        return reduce(lambda part, name: part[name], path.split("."), payment)

    assert (at(payment_at), at(retirement_at)) == ("PAID", "COMPLETED")
    place = f"{retirement_at.rpartition('.')[0]}." if proof_at == "beside" and "." in retirement_at else ""
    assert at(f"{place}transaction_hash").startswith("0x")
    assert at(f"{place}view_retirement_url").startswith(f"{shopper.url}/retirements/id/")
    bought = payment if bought_at == "top" else payment[bought_at]
    source = shopper.state()["checkouts"][0]["asset_price_source_id"]
    assert [bought[name] for name in BOUGHT] == [1.234, source, "Example GmbH", "October 2026"]


@pytest.mark.parametrize("fields", [["transaction_hash"], ["certificate_url"], []])
def test_a_proof_consists_of_the_fields_wanted(shopper, fields):
    shopper.switch(retirement_seconds=0, proof_fields=fields)
    retirement = shopper.payment(shopper.buy())["retirement"]
    assert set(retirement) == {"status", "completed_at", *fields}


@pytest.mark.parametrize(
    ("spelling", "waiting", "completed"),
    [
        ("UPPER_SNAKE", "AWAITING_PAYMENT", "COMPLETED"),
        ("lower_snake", "awaiting_payment", "completed"),
        ("Title Words", "Awaiting Payment", "Completed"),
        ("kebab-case", "awaiting-payment", "completed"),
        ("camelCase", "awaitingPayment", "completed"),
    ],
)
def test_status_words_are_spelled_in_every_way(shopper, spelling, waiting, completed):
    shopper.switch(status_spelling=spelling, checkout_layout="rich", retirement_seconds=0)
    checkout = shopper.checkout()
    assert statuses(shopper.payment(checkout["payment_id"])) == (waiting, None)
    assert statuses(shopper.payment(shopper.pay(checkout["url"])))[1] == completed


def test_metadata_can_be_repeated_whatever_was_really_retired(shopper):
    shopper.switch(echo_metadata=True, bought_at="retirement", retirement_seconds=0)
    payment = shopper.payment(shopper.buy("4000000000001042"))
    assert payment["metadata"]["beneficiary_name"] == "Example GmbH"
    assert payment["retirement"]["beneficiary_name"] == "Developer Tester"


def test_a_certificate_shows_the_retirement_and_that_it_proves_nothing(shopper):
    shopper.switch(retirement_seconds=0)
    source = shopper.liquid_listing(tonnes=150, project_id="ICR-88")["sourceId"]
    retirement = shopper.payment(shopper.buy(asset_price_source_id=source))["retirement"]
    url = retirement["view_retirement_url"]
    certificate = shopper.http.get(url).text

    path = re.escape(f"{shopper.url}/retirements/id/")
    assert re.fullmatch(rf"{path}8453-0x[0-9a-f]{{64}}-0", url)
    for shown in (
        *("1.234 t", "Example GmbH", "October 2026", "ICR-88, vintage 2022", "Base", "21 November 2026"),
        "It proves nothing",
    ):
        assert shown in certificate
    assert retirement["transaction_hash"] in shopper.http.get(retirement["on_chain_explorer_url"]).text
    assert shopper.http.get(f"{url}1").status_code == 404
