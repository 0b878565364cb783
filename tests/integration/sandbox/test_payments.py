"""GET /payments/{id}: how a retirement goes, in every layout; certificates; test mode."""

from __future__ import annotations

import re
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.integration.sandbox.conftest import Shopper

PROOF = ("view_retirement_url", "transaction_hash", "on_chain_explorer_url")
BOUGHT = ("quantity_tonnes", "asset_price_source_id", "beneficiary_name", "retirement_message")


def at(answer: dict[str, Any], path: str) -> Any:
    for name in path.split("."):
        answer = answer[name]
    return answer


def test_a_retirement_is_submitted_committed_and_completed(shopper: Shopper) -> None:
    shopper.switch(retirement_seconds=30)
    payment_id = shopper.buy()
    seen = []
    for seconds in (9, 1, 19, 1):
        seen.append(shopper.payment(payment_id))
        shopper.advance(seconds)
    seen.append(shopper.payment(payment_id))

    statuses = [each["retirement"]["status"] for each in seen]
    assert statuses == ["SUBMITTED", "SUBMITTED", "COMMITTED", "COMMITTED", "COMPLETED"]
    assert {each["payment_status"] for each in seen} == {"PAID"}
    assert all(each["retirement"][name] is None for each in seen[:-1] for name in PROOF)
    assert re.fullmatch(r"0x[0-9a-f]{64}", seen[-1]["retirement"]["transaction_hash"])
    assert seen[-1]["retirement"]["completed_at"] == "2026-11-21T06:00:30.000Z"
    assert (seen[-1]["quantity_tonnes"], seen[-1]["beneficiary_name"]) == (1.234, "Example GmbH")


def test_a_listing_can_sell_out_between_payment_and_retirement(shopper: Shopper) -> None:
    listing = shopper.liquid_listing()
    payment_id = shopper.buy("4000 0000 0000 1067", asset_price_source_id=listing["sourceId"])
    (left,) = (
        each["liquidSupply"]
        for each in shopper.http.get("/prices").json()
        if each["sourceId"] == listing["sourceId"]
    )
    shopper.advance(3)
    paid = shopper.payment(payment_id)
    assert (left, paid["payment_status"], paid["retirement"]["status"]) == (0, "PAID", "FAILED")
    assert "sold out before the retirement" in paid["retirement"]["message"]
    assert paid["retirement"]["transaction_hash"] is None


def test_a_payment_that_is_confirmed_late_retires_only_then(shopper: Shopper) -> None:
    shopper.switch(processing_seconds=60, retirement_seconds=30)
    url = shopper.open_checkout()
    payment_id = shopper.pay(url, "4000 0000 0000 1075")
    said = []
    for seconds in (59, 1, 30):
        said.append(shopper.payment(payment_id))
        shopper.advance(seconds)
    done = shopper.payment(payment_id)

    assert [each["payment_status"] for each in said] == ["PROCESSING", "PROCESSING", "PAID"]
    assert [each["retirement"]["status"] for each in said] == [None, None, "SUBMITTED"]
    assert done["retirement"]["status"] == "COMPLETED"
    assert done["retirement"]["completed_at"] == "2026-11-21T06:01:30.000Z"


def test_a_payment_can_fail_after_the_buyer_was_sent_back(shopper: Shopper) -> None:
    shopper.switch(processing_seconds=60, status_words={"PROCESSING": "unpaid"})
    url = shopper.open_checkout()
    payment_id = shopper.pay(url, "4000 0000 0000 1083")
    page, said = shopper.http.get(url).text, shopper.payment(payment_id)
    shopper.advance(60)
    failed = shopper.payment(payment_id)

    assert (said["payment_status"], said["retirement"]["status"]) == ("unpaid", None)
    assert "This payment is being processed" in page
    assert (failed["payment_status"], failed["retirement"]["status"]) == ("FAILED", None)
    assert "This payment has failed" in shopper.http.get(url).text


@pytest.mark.parametrize("payment_id", ["pay_unknown", "%2e%2e", "x" * 5000])
def test_an_unknown_payment_is_not_found(shopper: Shopper, payment_id: str) -> None:
    assert shopper.http.get(f"/payments/{payment_id}").status_code == 404


def test_a_payment_announced_before_it_is_paid_says_so(shopper: Shopper) -> None:
    shopper.switch(checkout_layout="rich", checkout_seconds=60)
    checkout = shopper.http.post("/checkout", json=shopper.order()).json()
    waiting = shopper.payment(checkout["payment_id"])
    shopper.advance(60)
    expired = shopper.payment(checkout["payment_id"])

    assert (waiting["payment_status"], waiting["retirement"]["status"]) == ("AWAITING_PAYMENT", None)
    assert (expired["payment_status"], expired["retirement"]["status"]) == ("EXPIRED", None)


def test_a_payment_not_announced_is_unknown_until_it_is_paid(shopper: Shopper) -> None:
    shopper.open_checkout()
    payment_id = shopper.state()["checkouts"][0]["payment_id"]

    assert shopper.http.get(f"/payments/{payment_id}").status_code == 404


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
def test_the_card_decides_how_it_ends(
    shopper: Shopper, card: str, status: str, proven: bool, beneficiary: str, quantity: float
) -> None:
    payment_id = shopper.buy(card)
    shopper.advance(10**6)
    payment = shopper.payment(payment_id)

    assert payment["payment_status"] == "PAID"
    assert payment["retirement"]["status"] == status
    assert [payment["retirement"][name] is not None for name in PROOF] == [proven] * 3
    assert (payment["beneficiary_name"], payment["quantity_tonnes"]) == (beneficiary, quantity)


def test_all_of_test_mode_links_to_one_placeholder(shopper: Shopper) -> None:
    shopper.http.headers["authorization"] = "Bearer cm_api_sandbox_1"
    first, second = shopper.buy(), shopper.buy(quantity_tonnes=7)
    shopper.advance(3)
    payments = [shopper.payment(first), shopper.payment(second)]

    assert first != second
    assert payments[0]["retirement"] == payments[1]["retirement"]
    assert payments[0]["retirement"]["status"] == "COMPLETED"
    assert payments[0]["retirement"]["completed_at"].startswith("2024-")
    assert {each["beneficiary_name"] for each in payments} == {"Developer Tester"}
    assert {each["quantity_tonnes"] for each in payments} == {0.017}
    assert payments[0]["retirement_message"].startswith("TEST MODE")
    certificate = shopper.http.get(payments[0]["retirement"]["view_retirement_url"])
    assert certificate.status_code == 200
    assert "TEST MODE" in certificate.text
    assert "Do NOT" in certificate.text


@pytest.mark.parametrize(
    ("payment_at", "retirement_at", "proof_at", "bought_at"),
    [
        *product(
            ("status", "payment_status", "payment.status"),
            ("retirement.status", "retirement_status", "order.status", "order_status"),
            ("beside", "top"),
            ("top", "metadata", "quote", "retirement", "order"),
        )
    ],
)
def test_a_payment_comes_in_every_layout(
    shopper: Shopper, payment_at: str, retirement_at: str, proof_at: str, bought_at: str
) -> None:
    shopper.switch(
        retirement_seconds=0,
        payment_status_at=payment_at,
        retirement_status_at=retirement_at,
        proof_at=proof_at,
        bought_at=bought_at,
    )
    payment = shopper.payment(shopper.buy())
    proof_place = retirement_at.rpartition(".")[0] if proof_at == "beside" else ""

    assert (at(payment, payment_at), at(payment, retirement_at)) == ("PAID", "COMPLETED")
    places = {name: f"{proof_place}.{name}".strip(".") for name in PROOF}
    assert at(payment, places["transaction_hash"]).startswith("0x")
    assert at(payment, places["view_retirement_url"]).startswith(f"{shopper.url}/retirements/id/")
    bought = payment if bought_at == "top" else payment[bought_at]
    assert [bought[name] for name in BOUGHT] == [
        1.234,
        shopper.state()["checkouts"][0]["asset_price_source_id"],
        "Example GmbH",
        "October 2026",
    ]


@pytest.mark.parametrize(
    ("fields", "there"),
    [
        (["transaction_hash"], {"transaction_hash"}),
        (["certificate_url"], {"certificate_url"}),
        ([], set()),
    ],
)
def test_a_proof_consists_of_the_fields_wanted(shopper: Shopper, fields: list[str], there: set[str]) -> None:
    shopper.switch(retirement_seconds=0, proof_fields=fields)
    retirement = shopper.payment(shopper.buy())["retirement"]

    assert set(retirement) - {"status", "completed_at"} == there


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
def test_status_words_are_spelled_in_every_way(
    shopper: Shopper, spelling: str, waiting: str, completed: str
) -> None:
    shopper.switch(status_spelling=spelling, checkout_layout="rich", retirement_seconds=0)
    checkout = shopper.http.post("/checkout", json=shopper.order()).json()

    assert shopper.payment(checkout["payment_id"])["payment_status"] == waiting
    assert shopper.payment(shopper.pay(checkout["url"]))["retirement"]["status"] == completed


def test_metadata_can_be_repeated_whatever_was_really_retired(shopper: Shopper) -> None:
    shopper.switch(echo_metadata=True, bought_at="retirement", retirement_seconds=0)
    payment = shopper.payment(shopper.buy("4000000000001042"))

    assert payment["metadata"]["beneficiary_name"] == "Example GmbH"
    assert payment["retirement"]["beneficiary_name"] == "Developer Tester"


def test_a_certificate_shows_the_retirement_and_that_it_proves_nothing(shopper: Shopper) -> None:
    shopper.switch(retirement_seconds=0)
    source = shopper.liquid_listing(tonnes=150, project_id="ICR-88")["sourceId"]
    retirement = shopper.payment(shopper.buy(asset_price_source_id=source))["retirement"]
    certificate = shopper.http.get(retirement["view_retirement_url"])
    explorer = shopper.http.get(retirement["on_chain_explorer_url"])

    path = re.escape(f"{shopper.url}/retirements/id/")
    assert re.fullmatch(rf"{path}8453-0x[0-9a-f]{{64}}-0", retirement["view_retirement_url"])
    for shown in ("1.234 t", "Example GmbH", "October 2026", "ICR-88, vintage 2022", "Base"):
        assert shown in certificate.text
    assert "21 November 2026" in certificate.text
    assert "It proves nothing" in certificate.text
    assert retirement["transaction_hash"] in explorer.text


def test_there_is_no_certificate_before_the_retirement(shopper: Shopper) -> None:
    payment_id = shopper.buy()
    shopper.advance(3)
    url = shopper.payment(payment_id)["retirement"]["view_retirement_url"]

    assert shopper.http.get(url).status_code == 200
    assert shopper.http.get(f"{url}1").status_code == 404
    shopper.http.post("/sandbox/reset")
    assert shopper.http.get(url).status_code == 404
