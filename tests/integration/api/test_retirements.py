"""Payments in the layouts and spellings the sandbox can speak, up to the verdict; the sensor's tests have every end they can have."""

from __future__ import annotations

from decimal import Decimal

import pytest

from airflow_provider_carbonmark.api.retirement import Outcome, RetirementRequest, judge
from tests.integration.api.conftest import ONE_CLIENT

pytestmark = ONE_CLIENT


@pytest.fixture
def judged(call, order, pay, sandbox):
    """Return a function that buys with a card, and judges the payment in a layout then."""
    asked = RetirementRequest(
        beneficiary_name="Acme GmbH",
        quantity_tonnes=Decimal("12.345"),
        asset_price_source_id=order["asset_price_source_id"],
        retirement_message="For October 2026",
    )

    def judged(card_number="4242424242424242", **layout):
        sandbox.state.change_switches(**layout)
        payment_id = pay(call("create_checkout", **order).url, card_number)
        return judge(call("get_payment", payment_id), asked, test_mode=False).outcome

    return judged


# Each place of each part, and each part in two neighbourhoods: tests/unit/api/test_payment.py has all places alone.
@pytest.mark.parametrize("payment_status_at", ["status", "payment_status", "payment.status"])
@pytest.mark.parametrize(
    ("retirement_status_at", "bought_at"),
    [
        *(("retirement.status", "top"), ("retirement_status", "metadata"), ("order.status", "quote")),
        *(("order_status", "retirement"), ("retirement.status", "order")),
    ],
)
def test_a_retirement_is_recognised_in_every_layout(
    judged, payment_status_at, retirement_status_at, bought_at
):
    layout = {
        "payment_status_at": payment_status_at,
        "retirement_status_at": retirement_status_at,
        "bought_at": bought_at,
    }
    assert judged(**layout) is Outcome.RETIRED
    assert judged("4000000000001059", **layout) is Outcome.NOT_AS_ASKED


@pytest.mark.parametrize("proof_at", ["beside", "top"])
@pytest.mark.parametrize(
    ("proof_field", "retirement_status_at"),
    [
        *(("view_retirement_url", "retirement.status"), ("certificate_url", "order.status")),
        *(("transaction_hash", "order_status"), ("on_chain_explorer_url", "order.status")),
    ],
)
def test_every_kind_of_proof_counts_wherever_it_is(judged, proof_at, proof_field, retirement_status_at):
    layout = {
        "proof_at": proof_at,
        "proof_fields": [proof_field],
        "retirement_status_at": retirement_status_at,
    }
    assert judged(**layout) is Outcome.RETIRED


@pytest.mark.parametrize("spelling", ["UPPER_SNAKE", "lower_snake", "Title Words", "kebab-case", "camelCase"])
def test_status_words_count_in_every_spelling(judged, spelling):
    assert judged(status_spelling=spelling) is Outcome.RETIRED
    assert judged("4000000000001018") is Outcome.FAILED


@pytest.mark.parametrize("bought_at", ["top", "retirement", "order", "quote"])
def test_a_placeholder_is_recognised_behind_the_echo_of_our_own_words(judged, bought_at):
    placeholder = judged("4000000000001042", echo_metadata=True, bought_at=bought_at)
    assert placeholder is Outcome.NOT_AS_ASKED
