"""What the certificates will say, and what is told apart by it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.planning.dedication import Dedication


def test_every_field_is_filled_in_and_amounts_are_plain():
    dedication = Dedication("{entity} {{{month}}}", "{emitted_tonnes} {quantity_tonnes} {months}")
    facts = "a{month}b", "2026-10", ["2026-10"], Decimal("1.2E+3"), Decimal("12.300")
    assert dedication.of(*facts) == ("a{month}b {2026-10}", "1200 12.3 2026-10")


@pytest.mark.parametrize(
    ("months", "text"),
    [
        (["2026-10"], "2026-10"),
        (["2026-10", "2026-09"], "2026-09 to 2026-10"),
        (["2025-11", "2025-12", "2026-01", "2026-03"], "2025-11 to 2026-01, 2026-03"),
        (["2024-01", "2026-01"], "2024-01, 2026-01"),
    ],
)
def test_months_that_follow_each_other_are_told_as_one(months, text):
    assert Dedication("x", "{months}").of("a", months[0], months, Decimal(1), Decimal(1))[1] == text


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{name}", "has the unknown field 'name'"),
        ("{}", "has the unknown field ''"),
        ("{0}", "has the unknown field '0'"),
        ("{entity.__class__}", "has the unknown field 'entity.__class__'"),
        ("{entity[0]}", "has the unknown field 'entity[0]'"),
        ("{entity:>999999999}", "lays entity out"),
        ("{entity!r}", "lays entity out"),
        ("{entity", "has a single brace"),
        ("entity}", "has a single brace"),
        (None, "is not text"),
        # What can't be published, and why: tests/unit/api/test_inputs.py.
        ("", "is empty"),
        ("x" * 501, "has 501 characters"),
    ],
)
@pytest.mark.parametrize("field", ["beneficiary_name", "retirement_message"])
def test_a_template_that_cannot_be_filled_in_is_refused(field, template, problem):
    with pytest.raises(InvalidInputError) as caught:
        Dedication(**{"beneficiary_name": "x", "retirement_message": "x", field: template})
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field} {problem}")


def test_a_text_that_gets_too_long_is_refused():
    with pytest.raises(InvalidInputError, match="beneficiary_name has 264 characters"):
        Dedication("Example Corp, {entity}", "x").of("a" * 250, "2026-10", [], Decimal(1), Decimal(1))


def test_a_reference_tells_nothing_apart_and_is_left_to_the_ledger():
    dedication = Dedication("Corp", "Emissions of {months}, ref. {reference}")
    assert dedication.apart("a", "2026-10") == dedication.apart("b", "2026-09")
    texts = dedication.of("a", "2026-10", ["2026-10"], Decimal(1), Decimal(1))
    assert texts == ("Corp", "Emissions of 2026-10, ref. {reference}")


def test_whoever_is_named_has_no_reference():
    with pytest.raises(InvalidInputError, match="beneficiary_name has the unknown field 'reference'"):
        Dedication("Corp {reference}", "x")
