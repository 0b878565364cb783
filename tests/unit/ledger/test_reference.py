"""What tells a purchase, in its message, from others that ask for just the same."""

from __future__ import annotations

import re

from hypothesis import given, strategies as st

from airflow_provider_carbonmark.ledger.purchase import reference_of, with_reference

NUMBERS = st.integers(1, 10**15 - 1)


@given(NUMBERS, NUMBERS)
def test_no_two_purchases_share_one(one: int, other: int) -> None:
    assert re.fullmatch("[0-9A-HJKMNP-TV-Z]{10}", reference_of(one))
    assert (reference_of(one) == reference_of(other)) is (one == other)


def test_it_stands_where_the_author_wants_it() -> None:
    assert (
        with_reference("Emissions of {months}, ref. {reference}", 7)
        == "Emissions of {months}, ref. 0000000007"
    )
