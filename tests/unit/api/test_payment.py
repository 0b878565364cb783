"""Reading a payment in every layout of the assumed shapes, and with anything missing or odd."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from airflow_provider_carbonmark.api.models import Payment

HASH = "0x" + "ab" * 32
CERTIFICATE = f"https://app.carbonmark.com/retirements/id/137-{HASH}-0"
EXPLORER = f"https://polygonscan.com/tx/{HASH}"

STATUS_PLACES = [("status",), ("payment_status",), ("payment", "status")]
RETIREMENT_PLACES = [("retirement", "status"), ("retirement_status",), ("order", "status"), ("order_status",)]
PROOF_PLACES = [("retirement",), ("order",), ()]
BOUGHT_PLACES = [(), ("metadata",), ("quote",), ("retirement",), ("order",), ("order", "quote")]


def put(answer, place, value):
    *parents, name = place
    for parent in parents:
        answer = answer.setdefault(parent, {})
    answer[name] = value


def read(*places_and_values, **fields):
    answer = dict(fields)
    for place, value in places_and_values:
        put(answer, place, value)
    return Payment.model_validate(answer)


@pytest.mark.parametrize("place", STATUS_PLACES)
def test_the_payment_status_is_found_wherever_it_is(place):
    payment = read((place, "PAID"))
    assert payment.payment_status == "PAID"
    assert payment.retirement_status is None


@pytest.mark.parametrize("place", RETIREMENT_PLACES)
@pytest.mark.parametrize("paid_place", STATUS_PLACES)
def test_the_retirement_status_is_found_wherever_it_is(place, paid_place):
    payment = read((place, "Committed"), (paid_place, "paid"))
    assert (payment.retirement_status, payment.payment_status) == ("Committed", "paid")


@pytest.mark.parametrize("place", PROOF_PLACES)
@pytest.mark.parametrize("name", ["view_retirement_url", "certificate_url"])
def test_the_proof_is_found_wherever_it_is(place, name):
    payment = read(
        ((*place, name), CERTIFICATE),
        ((*place, "transaction_hash"), HASH),
        ((*place, "on_chain_explorer_url"), EXPLORER),
    )
    assert (payment.certificate_url, payment.transaction_hash, payment.explorer_url) == (
        CERTIFICATE,
        HASH,
        EXPLORER,
    )


@pytest.mark.parametrize("place", BOUGHT_PLACES)
@pytest.mark.parametrize("quantity", [Decimal("12.345"), "12.345", " 12.345 "])
def test_what_was_bought_is_found_wherever_it_is(place, quantity):
    payment = read(
        ((*place, "quantity_tonnes"), quantity),
        ((*place, "asset_price_source_id"), "listing-137-0x79a4"),
        ((*place, "beneficiary_name"), "Acme"),
        ((*place, "retirement_message"), "For October"),
    )
    assert payment.quantity_tonnes == Decimal("12.345")
    assert payment.asset_price_source_id == "listing-137-0x79a4"
    assert payment.beneficiary_name == "Acme"
    assert payment.retirement_message == "For October"


@pytest.mark.parametrize("blank", [None, "", "  "])
@pytest.mark.parametrize("place", BOUGHT_PLACES)
def test_a_blank_in_one_place_does_not_hide_a_value_in_another(place, blank):
    others = [((*other, "beneficiary_name"), blank) for other in BOUGHT_PLACES if other != place]
    assert read(*others, ((*place, "beneficiary_name"), "Acme")).beneficiary_name == "Acme"


@pytest.mark.parametrize("blank", [None, ""])
@pytest.mark.parametrize("place", RETIREMENT_PLACES)
def test_a_blank_retirement_status_does_not_hide_one_in_another_place(place, blank):
    others = [(other, blank) for other in RETIREMENT_PLACES if other != place]
    assert read(*others, (place, "COMPLETED")).retirement_status == "COMPLETED"


@pytest.mark.parametrize("name", ["retirement", "order", "quote", "metadata", "payment"])
@pytest.mark.parametrize("part", [None, "", "COMPLETED", 5, True, [], ["COMPLETED"], {}])
def test_a_part_of_another_type_counts_as_absent(name, part):
    payment = read(status="PAID", beneficiary_name="Acme", **{name: part})
    assert payment.retirement_status is None
    assert payment.payment_status == "PAID"
    assert payment.beneficiary_name == "Acme"


def test_what_was_retired_counts_before_the_echo_of_what_was_asked():
    payment = read(
        retirement={"beneficiary_name": "Developer Tester", "quantity_tonnes": Decimal("0.017")},
        beneficiary_name="Acme",
        metadata={"beneficiary_name": "Acme", "quantity_tonnes": 5},
    )
    assert payment.beneficiary_name == "Developer Tester"
    assert payment.quantity_tonnes == Decimal("0.017")


@pytest.mark.parametrize("name", ["message", "reason", "failure_reason", "error"])
@pytest.mark.parametrize("place", [("retirement",), ("order",), ()])
def test_what_the_service_says_of_a_failure_is_found_wherever_it_is(place, name):
    assert read(((*place, name), "Sold out")).failure == "Sold out"


@pytest.mark.parametrize("value", [5, True, ["COMPLETED"], {"word": "COMPLETED"}])
def test_a_status_that_is_no_text_counts_as_absent(value):
    payment = read(status=value, retirement_status=value)
    assert (payment.payment_status, payment.retirement_status) == (None, None)


@pytest.mark.parametrize("value", ["many", True, [5], {"tonnes": 5}, "NaN", "Infinity"])
def test_a_quantity_that_is_no_number_counts_as_absent(value):
    assert read(quantity_tonnes=value).quantity_tonnes is None


@pytest.mark.parametrize(
    "value", ["javascript:alert(1)", "/retirements/1", "pending", "https://", 5, ["https://a.b"]]
)
@pytest.mark.parametrize("name", ["view_retirement_url", "certificate_url", "on_chain_explorer_url"])
def test_an_address_that_is_not_http_counts_as_absent(name, value):
    payment = read(retirement={"status": "COMPLETED", name: value})
    assert (payment.certificate_url, payment.explorer_url) == (None, None)
    assert payment.retirement_status == "COMPLETED"


@pytest.mark.parametrize(
    "value", ["2026-10-21T06:00:00Z", "2026-10-21T06:00:00", "2026-10-21T08:00:00+02:00", 1792562400]
)
def test_the_time_of_retirement_is_aware(value):
    assert read(retirement={"completed_at": value}).retired_at == datetime(2026, 10, 21, 6, tzinfo=UTC)


@pytest.mark.parametrize("value", ["yesterday", True, {}, 1e300, "99999-01-01"])
def test_a_time_that_cannot_be_read_counts_as_absent(value):
    assert read(completed_at=value).retired_at is None


@pytest.mark.parametrize("place", [("id",), ("payment_id",), ("payment", "id")])
def test_the_id_is_found_wherever_it_is(place):
    assert read((place, "pay_1")).id == "pay_1"


def test_unknown_fields_are_kept_and_the_whole_answer_too():
    answer = {"status": "PAID", "new": {"deep": [1]}, "retirement": {"status": "COMMITTED", "block": None}}
    payment = Payment.model_validate(answer)
    assert payment.model_extra == {"new": {"deep": [1]}}
    assert payment.answer == answer


def test_a_payment_is_read_only():
    payment = read(status="PAID")
    with pytest.raises(ValueError, match="frozen"):
        payment.payment_status = "COMPLETED"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    [
        "id",
        "status",
        "payment_status",
        "payment",
        "retirement",
        "retirement_status",
        "order",
        "order_status",
        "quote",
        "metadata",
        "view_retirement_url",
        "certificate_url",
        "transaction_hash",
        "on_chain_explorer_url",
        "quantity_tonnes",
        "asset_price_source_id",
        "beneficiary_name",
        "retirement_message",
        "completed_at",
        "answer",
    ]
)


@given(st.dictionaries(names, json_values | st.dictionaries(names, json_values)))
def test_no_object_makes_reading_a_payment_fail(answer):
    assert Payment.model_validate(answer).answer == answer
