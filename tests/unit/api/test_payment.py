"""Reading a payment in every layout of the assumed shapes, and with anything missing or odd."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from airflow_provider_carbonmark.api.models import Payment

HASH = "0x" + "ab" * 32
CERTIFICATE = f"https://app.carbonmark.com/retirements/id/137-{HASH}-0"
MOMENTS = ("2026-10-21T06:00:00Z", "2026-10-21T06:00:00", "2026-10-21T08:00:00+02:00", 1792562400)
NO_MOMENTS = ("yesterday", True, 1e300, "99999-01-01")
#: What a value is read as, where it is not read as it is.
MEANT = dict.fromkeys(MOMENTS, datetime(2026, 10, 21, 6, tzinfo=UTC)) | {" 12.345 ": Decimal("12.345")}


def beside_retirement(*names):
    return [f"{place}{name}" for place in ("retirement.", "order.", "") for name in names]


def bought(name):
    return [
        f"{place}{name}" for place in ("retirement.", "order.", "order.quote.", "", "quote.", "metadata.")
    ]


#: Each field, in which places it may be, in the order in which they count, and values that can be read, and that can't.
FIELDS = {
    "id": (["payment_id", "payment.id", "id"], ["pay_1"], [5]),
    "payment_status": (["payment_status", "payment.status", "status"], ["paid"], [5, True]),
    "retirement_status": (
        ["retirement.status", "retirement_status", "order.status", "order_status"],
        *(["Committed"], [5, True]),
    ),
    "certificate_url": (
        beside_retirement("view_retirement_url", "certificate_url"),
        *([CERTIFICATE], ["javascript:alert(1)", "/retirements/1", "pending", "https://", 5]),
    ),
    "transaction_hash": (beside_retirement("transaction_hash"), [HASH], [5]),
    "explorer_url": (
        beside_retirement("on_chain_explorer_url", "explorer_url"),
        *([f"https://polygonscan.com/tx/{HASH}"], ["javascript:alert(1)"]),
    ),
    "quantity_tonnes": (
        bought("quantity_tonnes"),
        *([Decimal("12.345"), " 12.345 "], ["many", True, "NaN", "Infinity"]),
    ),
    "asset_price_source_id": (bought("asset_price_source_id"), ["listing-1"], [5]),
    "beneficiary_name": (bought("beneficiary_name"), ["Acme"], [5]),
    "retirement_message": (bought("retirement_message"), ["For May"], [5]),
    "created_at": (
        ["created_at", "createdAt", "paid_at", "payment.created_at", "payment.paid_at"],
        *(MOMENTS, NO_MOMENTS),
    ),
    "retired_at": (beside_retirement("retired_at", "completed_at"), MOMENTS, NO_MOMENTS),
    "failure": (beside_retirement("message", "reason", "failure_reason", "error"), ["Sold out"], [5]),
}


def read(values, **fields):
    """Read an answer with values at places."""
    answer = dict(fields)
    for place, value in values.items():
        part = answer
        *parents, name = place.split(".")
        for parent in parents:
            part = part.setdefault(parent, {})
        part[name] = value
    return Payment.model_validate(answer)


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_is_found_wherever_it_is_and_what_cannot_be_read_counts_as_absent(field):
    places, good, odd = FIELDS[field]
    for place in places:
        found = [getattr(read({place: value}), field) for value in good]
        assert (place, found) == (place, [MEANT.get(value, value) for value in good])
        for value in (*odd, good[:1], {"word": good[0]}):
            assert getattr(read({place: value}), field) is None


@pytest.mark.parametrize("field", FIELDS)
def test_the_first_of_several_places_counts_and_a_blank_hides_none(field):
    places, (good, *_), _ = FIELDS[field]
    other = {"quantity_tonnes": 7, "certificate_url": "https://other.example"}.get(field, "other")
    for number, place in enumerate(places):
        for blank in (None, "", "  "):
            around = dict.fromkeys(places[:number], blank) | dict.fromkeys(places[number + 1 :], other)
            assert getattr(read(around | {place: good}), field) == MEANT.get(good, good), (place, blank)


@pytest.mark.parametrize("name", ["retirement", "order", "quote", "metadata", "payment"])
@pytest.mark.parametrize("part", [None, "", "COMPLETED", 5, True, [], ["COMPLETED"], {}])
def test_a_part_of_another_type_counts_as_absent(name, part):
    payment = read({name: part}, status="PAID", beneficiary_name="Acme")
    assert (payment.retirement_status, payment.payment_status) == (None, "PAID")
    assert payment.beneficiary_name == "Acme"


def test_a_payment_is_read_only_and_keeps_unknown_fields_and_the_whole_answer():
    answer = {"status": "PAID", "new": {"deep": [1]}, "retirement": {"status": "COMMITTED", "block": None}}
    payment = Payment.model_validate(answer)
    assert payment.model_extra == {"new": {"deep": [1]}}
    assert payment.answer == answer
    with pytest.raises(ValueError, match="frozen"):
        payment.payment_status = "COMPLETED"


names = st.sampled_from(
    sorted(
        {name for places, *_ in FIELDS.values() for place in places for name in place.split(".")} | {"answer"}
    )
)
scalars = st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False) | st.text(max_size=10)
json_values = (
    scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.text(max_size=5), scalars, max_size=2)
)


@given(st.dictionaries(names, json_values | st.dictionaries(names, json_values)))
def test_no_object_makes_reading_a_payment_fail(answer):
    assert Payment.model_validate(answer).answer == answer
