"""Payments in every layout the sandbox can speak, and every end they can have, up to the verdict."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from pydantic import SecretStr

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

    def judged(card_number="4242424242424242", *, call=call, test_mode=False, asked=asked):
        payment_id = pay(call("create_checkout", **order).url, card_number)
        return judge(call("get_payment", payment_id), asked, test_mode=test_mode)

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


@pytest.mark.parametrize(
    ("card_number", "outcome"),
    [
        ("4242424242424242", Outcome.RETIRED),
        ("4000000000001018", Outcome.FAILED),
        ("4000000000001026", Outcome.WAITING),
        ("4000000000001034", Outcome.WAITING),
        ("4000000000001042", Outcome.NOT_AS_ASKED),
        ("4000000000001059", Outcome.NOT_AS_ASKED),
    ],
)
def test_every_end_of_a_payment_is_recognised(judged, card_number, outcome):
    assert judged(card_number).outcome is outcome


def test_a_payment_called_completed_is_not_a_retirement(judged, sandbox):
    sandbox.state.change_switches(status_words={"PAID": "COMPLETED"}, retirement_seconds=60)
    assert judged().outcome is Outcome.WAITING


def test_a_retirement_is_waited_for_from_submitted_to_its_proof(call, sandbox, order, pay, asked):
    sandbox.state.change_switches(retirement_seconds=3, proof_seconds=3)
    payment_id = pay(call("create_checkout", **order).url)
    seen = []
    for seconds in (0, 1.5, 1.5, 3.5):
        sandbox.state.advance_clock(seconds)
        payment = call("get_payment", payment_id)
        seen.append((payment.retirement_status, judge(payment, asked, test_mode=False).outcome))
    assert seen == [
        ("SUBMITTED", Outcome.WAITING),
        ("COMMITTED", Outcome.WAITING),
        ("COMPLETED", Outcome.WAITING),
        ("COMPLETED", Outcome.RETIRED),
    ]


def test_a_test_key_ends_with_the_placeholder_in_test_mode_only(judged, call):
    tester = call.using(api_key=SecretStr("cm_api_sandbox_1"))
    assert judged(call=tester).outcome is Outcome.NOT_AS_ASKED
    rehearsal = judged(call=tester, test_mode=True)
    assert rehearsal.outcome is Outcome.RETIRED
    assert "nothing was retired" in rehearsal.reason


@pytest.mark.parametrize("bought_at", ["top", "retirement", "order", "quote"])
def test_a_placeholder_is_recognised_behind_the_echo_of_our_own_words(judged, sandbox, bought_at):
    sandbox.state.change_switches(echo_metadata=True, bought_at=bought_at)
    assert judged("4000000000001042").outcome is Outcome.NOT_AS_ASKED


def test_a_retirement_of_another_quantity_than_asked_is_refused(judged, asked):
    verdict = judged(asked=replace(asked, quantity_tonnes=Decimal("12.344")))
    assert verdict.outcome is Outcome.NOT_AS_ASKED
    assert "12.345 instead of 12.344" in verdict.reason


def test_a_refund_ends_the_wait(call, sandbox, order, pay, asked):
    payment_id = pay(call("create_checkout", **order).url)
    sandbox.state.find_checkout(next(iter(sandbox.state.checkouts))).payment.payment_status = "REFUNDED"
    assert judge(call("get_payment", payment_id), asked, test_mode=False).outcome is Outcome.FAILED
