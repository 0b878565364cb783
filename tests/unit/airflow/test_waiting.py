"""What every wait shares: its terms, its pace, and what one poll means."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from airflow_provider_carbonmark.api.errors import AccessDeniedError, NotFoundError, TransportError
from airflow_provider_carbonmark.api.models import Payment
from airflow_provider_carbonmark.api.retirement import Outcome, RetirementRequest
from airflow_provider_carbonmark.api.waiting import (
    NOT_FOUND_GRACE,
    WaitTerms,
    next_pause,
    weigh,
)

TERMS = WaitTerms(payment_id="pay_1")

texts = st.text(max_size=30)
quantities = st.integers(1, 10**15 - 1).map(lambda grams: Decimal(grams).scaleb(-3))
terms = st.builds(
    WaitTerms,
    payment_id=texts,
    asked=st.none()
    | st.builds(
        RetirementRequest,
        beneficiary_name=st.none() | texts,
        quantity_tonnes=st.none() | quantities,
        asset_price_source_id=st.none() | texts,
        retirement_message=st.none() | texts,
    ),
    test_mode=st.booleans(),
    allow_test_mode=st.booleans(),
    success_states=st.lists(texts, max_size=3).map(tuple),
    failed_states=st.lists(texts, max_size=3).map(tuple),
)


@given(terms)
def test_terms_survive_being_stored_as_json(terms):
    assert WaitTerms.from_json(json.loads(json.dumps(terms.to_json()))) == terms


@given(
    waited=st.floats(-1e6, 1e9),
    first=st.floats(0.01, 1e4),
    longest=st.floats(0.01, 1e6),
)
def test_a_pause_is_at_least_three_quarters_of_the_first_and_never_longer_than_the_longest(
    waited, first, longest
):
    shortest = 0.75 * min(first, longest)
    assert shortest * (1 - 1e-9) <= next_pause(waited, first, longest) <= longest


def test_pauses_grow_by_half_each_from_the_first_to_the_longest(monkeypatch):
    monkeypatch.setattr("airflow_provider_carbonmark.api.waiting.random.uniform", lambda low, high: high)
    waited, pauses = 0.0, []
    for _ in range(20):
        pauses.append(next_pause(waited, 1, 300))
        waited += pauses[-1]
    assert pauses[:4] == [1, 1.5, 2.25, 3.375]
    assert pauses[-2:] == [300, 300]
    assert pauses == sorted(pauses)


def test_waits_that_began_together_do_not_stay_together():
    assert len({next_pause(100, 1, 300) for _ in range(10)}) > 1


@pytest.mark.parametrize(
    ("answer", "waited", "outcome"),
    [
        # Which is which: tests/unit/api/test_retries.py.
        (TransportError("reset"), 1e9, Outcome.WAITING),
        (NotFoundError("404", status=404), NOT_FOUND_GRACE - 0.1, Outcome.WAITING),
        (NotFoundError("404", status=404), NOT_FOUND_GRACE, Outcome.UNTOLD),
        (AccessDeniedError("401", status=401), 0, Outcome.UNTOLD),
        (Payment(payment_status="PAID"), 0, Outcome.WAITING),
        (Payment(payment_status="REFUNDED"), 0, Outcome.PAYMENT_FAILED),
    ],
)
def test_trouble_is_waited_out_and_what_cannot_mend_ends_the_wait(answer, waited, outcome):
    verdict = weigh(answer, TERMS, test_mode=False, waited=waited)
    assert verdict.outcome is outcome
    assert verdict.reason
