"""What the sandbox says of a payment in each layout and spelling, and for each card, is what the client reads and the verdict is about."""

from __future__ import annotations

from decimal import Decimal
from functools import reduce

import pytest

from airflow_provider_carbonmark.api.retirement import Outcome, RetirementRequest, is_unpaid, judge
from tests.integration.api.conftest import ONE_CLIENT

pytestmark = ONE_CLIENT


@pytest.fixture
def buy(call, order, sandbox):
    """Return a function that buys with a card, and gives the payment and the verdict on it."""
    asked = RetirementRequest(
        beneficiary_name="Acme GmbH",
        quantity_tonnes=Decimal("12.345"),
        asset_price_source_id=order["asset_price_source_id"],
        retirement_message="For October 2026",
    )

    def buy(card="4242424242424242", **layout):
        sandbox.state.change_switches(**layout)
        payment = call("get_payment", sandbox.pay(call("create_checkout", **order).url, card))
        return payment, judge(payment, asked, test_mode=False).outcome

    return buy


# Each place of each part at least once: tests/unit/api/test_payment.py has all that are read.
@pytest.mark.parametrize(
    ("payment_at", "retirement_at", "proof_at", "proof", "bought_at"),
    [
        ("status", "retirement.status", "beside", "retirement.view_retirement_url", "top"),
        ("payment_status", "retirement_status", "top", "certificate_url", "metadata"),
        ("payment.status", "order.status", "beside", "order.transaction_hash", "quote"),
        ("status", "order_status", "beside", "on_chain_explorer_url", "retirement"),
        ("payment_status", "order.status", "top", "view_retirement_url", "order"),
    ],
)
def test_a_retirement_is_recognised_in_every_layout(
    buy, order, payment_at, retirement_at, proof_at, proof, bought_at
):
    layout = {
        "payment_status_at": payment_at,
        "retirement_status_at": retirement_at,
        "proof_at": proof_at,
        "proof_fields": [proof.rpartition(".")[2]],
        "bought_at": bought_at,
    }
    payment, outcome = buy(**layout)

    def at(path):
        return reduce(lambda part, name: part[name], path.split("."), payment.answer)

    assert outcome is Outcome.RETIRED
    assert (at(payment_at), at(retirement_at)) == ("PAID", "COMPLETED")
    assert at(proof).startswith(("0x", "http://127.0.0.1"))
    kinds = ("view_retirement_url", "certificate_url", "transaction_hash", "on_chain_explorer_url")
    assert [kind for kind in kinds if f"'{kind}'" in str(payment.answer)] == layout["proof_fields"]
    place = "" if bought_at == "top" else f"{bought_at}."
    assert at(f"{place}quantity_tonnes") == Decimal(order["quantity_tonnes"])
    assert at(f"{place}asset_price_source_id") == order["asset_price_source_id"]
    for name, told in order["metadata"].items():
        assert at(f"{place}{name}") == told
    assert buy("4000000000001059", **layout)[1] is Outcome.NOT_AS_ASKED


@pytest.mark.parametrize(
    ("card", "status", "is_proven", "bought", "ends"),
    [
        ("4242424242424242", "COMPLETED", True, ("Acme GmbH", "12.345"), Outcome.RETIRED),
        ("4000000000001018", "FAILED", False, ("Acme GmbH", "12.345"), Outcome.FAILED),
        ("4000000000001067", "FAILED", False, ("Acme GmbH", "12.345"), Outcome.FAILED),
        ("4000000000001026", "SUBMITTED", False, ("Acme GmbH", "12.345"), Outcome.WAITING),
        ("4000000000001034", "COMPLETED", False, ("Acme GmbH", "12.345"), Outcome.WAITING),
        ("4000000000001042", "COMPLETED", True, ("Developer Tester", "0.017"), Outcome.NOT_AS_ASKED),
        ("4000000000001059", "COMPLETED", True, ("Somebody Else Ltd.", "13.345"), Outcome.NOT_AS_ASKED),
    ],
)
def test_the_card_decides_how_it_ends(buy, card, status, is_proven, bought, ends):
    payment, outcome = buy(card)
    assert outcome is ends
    assert (payment.payment_status, payment.retirement_status) == ("PAID", status)
    proof = (payment.certificate_url, payment.transaction_hash, payment.explorer_url)
    assert [each is not None for each in proof] == [is_proven] * 3
    assert (payment.beneficiary_name, str(payment.quantity_tonnes)) == bought


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
def test_status_words_count_in_every_spelling(buy, call, order, spelling, waiting, completed):
    payment, outcome = buy(status_spelling=spelling, checkout_layout="rich")
    assert (payment.retirement_status, outcome) == (completed, Outcome.RETIRED)
    unpaid = call("get_payment", call("create_checkout", **order).payment_id)
    assert (unpaid.payment_status, is_unpaid(unpaid)) == (waiting, True)


@pytest.mark.parametrize("bought_at", ["top", "retirement", "order", "quote"])
def test_a_placeholder_is_recognised_behind_the_echo_of_our_own_words(buy, order, bought_at):
    payment, outcome = buy("4000000000001042", echo_metadata=True, bought_at=bought_at)
    assert payment.answer["metadata"] == order["metadata"]
    assert outcome is Outcome.NOT_AS_ASKED
