"""GET /payments/{id}: how a retirement goes, certificates, test mode. Layouts and cards: tests/integration/api/test_retirements.py."""

from __future__ import annotations

import re

PROOF = ("view_retirement_url", "transaction_hash", "on_chain_explorer_url")


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


def test_a_certificate_shows_the_retirement_and_that_it_proves_nothing(shopper):
    shopper.switch(retirement_seconds=0)
    retirement = shopper.payment(shopper.buy(project_id="ICR-88"))["retirement"]
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
