"""What is recorded of the payments of a link."""

from __future__ import annotations

import json

from hypothesis import given, strategies as st

from airflow_provider_carbonmark.web.link import MAX_OTHER_IDS, PaymentRecord

ids = st.sampled_from([f"pay_{number}" for number in range(30)])
returns = st.lists(st.tuples(ids, st.booleans()), max_size=80)


def after(first: tuple[str, bool], *more: tuple[str, bool]) -> PaymentRecord:
    record = PaymentRecord(*first)
    for payment_id, verified in more:
        record = record.with_payment(payment_id, verified=verified)
    return record


def test_the_first_payment_stays():
    assert after(("a", True), ("b", True)) == PaymentRecord("a", True, ("b",))
    assert after(("a", True), ("b", False)) == PaymentRecord("a", True, ("b",))
    assert after(("a", False), ("b", False)) == PaymentRecord("a", False, ("b",))


def test_a_payment_that_nobody_verified_gives_way_to_one_that_is():
    assert after(("a", False), ("b", True)) == PaymentRecord("b", True, ("a",))


def test_another_one_that_is_verified_later_takes_the_first_place_and_leaves_the_others():
    assert after(("a", False), ("b", False), ("b", True)) == PaymentRecord("b", True, ("a",))


def test_the_same_again_changes_nothing_but_may_verify():
    assert after(("a", False), ("a", False)) == PaymentRecord("a", False)
    assert after(("a", False), ("a", True)) == PaymentRecord("a", True)
    assert after(("a", True), ("a", False)) == PaymentRecord("a", True)


@given(st.tuples(ids, st.booleans()), returns)
def test_whatever_comes_the_record_is_bounded_and_a_verified_payment_stays(first, more):
    record = PaymentRecord(*first)
    for payment_id, verified in more:
        before, record = record, record.with_payment(payment_id, verified=verified)
        if before.verified:
            assert (record.payment_id, record.verified) == (before.payment_id, True)
        if verified:
            assert record.verified
        assert len(record.other_payment_ids) <= MAX_OTHER_IDS
        assert len({record.payment_id, *record.other_payment_ids}) == 1 + len(record.other_payment_ids)
        assert record.knows(payment_id) or len(record.other_payment_ids) == MAX_OTHER_IDS


@given(st.tuples(ids, st.booleans()), returns)
def test_a_record_survives_json(first, more):
    record = after(first, *more)
    assert PaymentRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
