"""Payments in every layout and spelling the sandbox can speak, up to the verdict; the sensor's tests have every end they can have."""

from __future__ import annotations

from decimal import Decimal

import pytest

from airflow_provider_carbonmark.api.retirement import Outcome, RetirementRequest, judge


@pytest.fixture
def asked(order):
    return RetirementRequest(
        beneficiary_name="Acme GmbH",
        quantity_tonnes=Decimal("12.345"),
        asset_price_source_id=order["asset_price_source_id"],
        retirement_message="For October 2026",
    )


@pytest.fixture
def judged(call, order, pay, asked):
    """Return a function that buys with a card, and judges the payment then."""

    def judged(card_number="4242424242424242"):
        payment_id = pay(call("create_checkout", **order).url, card_number)
        return judge(call("get_payment", payment_id), asked, test_mode=False)

    return judged


@pytest.mark.parametrize("payment_status_at", ["status", "payment_status", "payment.status"])
@pytest.mark.parametrize(
    "retirement_status_at", ["retirement.status", "retirement_status", "order.status", "order_status"]
)
@pytest.mark.parametrize("bought_at", ["top", "metadata", "quote", "retirement", "order"])
def test_a_retirement_is_recognised_in_every_layout(
    judged, sandbox, payment_status_at, retirement_status_at, bought_at
):
    sandbox.state.change_switches(
        payment_status_at=payment_status_at, retirement_status_at=retirement_status_at, bought_at=bought_at
    )
    assert judged().outcome is Outcome.RETIRED
    assert judged("4000000000001059").outcome is Outcome.NOT_AS_ASKED


@pytest.mark.parametrize("proof_at", ["beside", "top"])
@pytest.mark.parametrize(
    "proof_field", ["view_retirement_url", "certificate_url", "transaction_hash", "on_chain_explorer_url"]
)
@pytest.mark.parametrize("retirement_status_at", ["retirement.status", "order.status", "order_status"])
def test_every_kind_of_proof_counts_wherever_it_is(
    judged, sandbox, proof_at, proof_field, retirement_status_at
):
    sandbox.state.change_switches(
        proof_at=proof_at, proof_fields=[proof_field], retirement_status_at=retirement_status_at
    )
    assert judged().outcome is Outcome.RETIRED


@pytest.mark.parametrize("spelling", ["UPPER_SNAKE", "lower_snake", "Title Words", "kebab-case", "camelCase"])
def test_status_words_count_in_every_spelling(judged, sandbox, spelling):
    sandbox.state.change_switches(status_spelling=spelling)
    assert judged().outcome is Outcome.RETIRED
    assert judged("4000000000001018").outcome is Outcome.FAILED


@pytest.mark.parametrize("bought_at", ["top", "retirement", "order", "quote"])
def test_a_placeholder_is_recognised_behind_the_echo_of_our_own_words(judged, sandbox, bought_at):
    sandbox.state.change_switches(echo_metadata=True, bought_at=bought_at)
    assert judged("4000000000001042").outcome is Outcome.NOT_AS_ASKED
