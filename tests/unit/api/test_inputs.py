from __future__ import annotations

import json
from decimal import Decimal, localcontext

import pytest
from hypothesis import example, given, strategies as st

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import (
    MAX_BENEFICIARY_NAME,
    parse_payment_id,
    parse_quantity,
    parse_text,
    parse_url,
)
from tests.unit.api.conftest import make_calls

CALLS = make_calls()
# Every step of 0.001 t from 0.001 t to a billion tonnes.
steps = st.integers(1, 10**12)


@given(steps)
@example(12_345)
@example(1)
@example(999_999_999_999)
@example(10**12)
def test_a_quantity_has_one_spelling_and_is_written_without_noise(thousandths):
    exact = Decimal(thousandths).scaleb(-3)
    text = f"{thousandths // 1000}.{thousandths % 1000:03}"
    (spelling,) = {str(parse_quantity(each)) for each in (exact, text, text + "000", float(text))}
    assert Decimal(spelling) == exact
    assert "E" not in spelling
    request = next(CALLS.create_quote(asset_price_source_id="listing-1", quantity_tonnes=exact))
    written = json.loads(request.content, parse_float=str, parse_int=str)["quantity_tonnes"]
    assert Decimal(written) == exact
    assert "e" not in written.lower()
    assert len(written.partition(".")[2]) <= 3


@given(steps, st.integers(1, 9), st.integers(4, 30))
def test_a_quantity_finer_than_a_kilogram_is_refused(thousandths, digit, place):
    quantity = f"{Decimal(thousandths).scaleb(-3):.3f}" + "0" * (place - 4) + str(digit)
    with pytest.raises(InvalidInputError, match=r"finer than 0\.001 t"):
        parse_quantity(quantity)


@pytest.mark.parametrize(
    ("value", "quantity"),
    [(5, "5"), ("5.000", "5"), (" 7 ", "7"), ("1E+3", "1000"), (Decimal("1E1"), "10"), (1e3, "1000")],
)
def test_a_quantity_may_come_in_many_forms(value, quantity):
    assert str(parse_quantity(value)) == quantity


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        *((value, "finer than 0.001 t") for value in ("0.0001", 0.1 + 0.2, "1e-999999")),
        *((value, "not above zero") for value in (0, "-0", "-1")),
        *((value, "a trillion tonnes or more") for value in ("1e999999", 10**12)),
        *((value, "not finite") for value in (float("nan"), float("inf"), Decimal("sNaN"), "-Infinity")),
        *(
            (value, "not a decimal number")
            for value in (True, None, "", "five", "1,5", "1_000", "１２", b"5")
        ),
    ],
)
def test_a_quantity_that_makes_no_sense_is_refused_with_field_value_and_remedy(value, problem):
    with pytest.raises(InvalidInputError, match=problem) as caught:
        parse_quantity(value, "emitted_tonnes")
    assert caught.value.field == "emitted_tonnes"
    assert "emitted_tonnes is " in str(caught.value)
    assert repr(value) in str(caught.value)
    assert "steps of 0.001" in caught.value.remedy


def test_a_quantity_does_not_depend_on_the_precision_of_the_thread():
    with localcontext(prec=3):
        assert parse_quantity("123456789.123") == Decimal("123456789.123")


@pytest.mark.parametrize(
    "url",
    [
        *("https://example.com", "http://localhost:8080/airflow/paid", "https://[::1]:8443/x"),
        *("https://müller.example/paid", "  https://example.com/paid  "),
    ],
)
def test_a_web_address_stays_as_it_is(url):
    assert parse_url(url, "success_url", takes_suffix=True) == url.strip()


@pytest.mark.parametrize(
    "url",
    [
        *(None, 5, "", "   ", "example.com/paid", "/paid", "ftp://example.com", "javascript:alert(1)"),
        *("https://", "https:///paid", "https://example.com:port", "https://example.com:99999"),
        *("https://exa mple.com", "https://example.com/a\nb", "java\nscript:alert(1)"),
        *("https://[::1", "https://evil.example\\@example.com", "https://example.com/\ud800"),
        *("https://example..com", f"https://{'a' * 64}.example"),
    ],
)
def test_what_is_no_web_address_is_refused(url):
    with pytest.raises(InvalidInputError, match="cancel_url"):
        parse_url(url, "cancel_url")


@pytest.mark.parametrize("end", ["/", "/paid/", "/paid?run=1", "/paid?", "/#a"])
def test_an_address_that_a_payment_id_is_added_to_has_nothing_at_its_end(end):
    url = f"https://example.com{end}"
    assert parse_url(url, "cancel_url") == url
    with pytest.raises(InvalidInputError, match="payment_id"):
        parse_url(url, "success_url", takes_suffix=True)


@pytest.mark.parametrize("payment_id", ["pay_123", "0f0e8a0e-9f0a-4d3e-8c49-8f0a3b1e2d3c", "a", "x" * 255])
def test_a_payment_id_stays_as_it_is(payment_id):
    assert parse_payment_id(payment_id) == payment_id


@pytest.mark.parametrize(
    "payment_id",
    [None, 5, "", "..", "../prices", "a?b", "a#b", "a%2Fb", "a b", "a\n", "é", "x" * 256, '"pay_1"'],
)
def test_what_could_change_the_path_is_no_payment_id(payment_id):
    with pytest.raises(InvalidInputError, match="payment_id"):
        parse_payment_id(payment_id)


@given(st.text())
def test_a_payment_id_never_changes_the_path(text):
    try:
        request = next(CALLS.get_payment(text))
    except InvalidInputError:
        return
    assert request.url.raw_path == f"/base/payments/{text}".encode()


def test_a_text_is_kept_without_the_white_space_around_it_and_may_be_as_long_as_the_limit():
    assert parse_text("  Müller & Söhne 🌳\nline two\t ", "name", 50) == "Müller & Söhne 🌳\nline two"
    assert parse_text("x" * 255, "beneficiary_name", 255) == "x" * 255


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        *((value, "is empty") for value in ("", " \n ")),
        *((value, "is not text") for value in (None, 5)),
        ("x" * 10_000, "has 10000 characters"),
        *((value, "control characters") for value in ("a\x00b", "a\x1b[31mb", "a\ud800b")),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_text_that_cannot_be_published_is_refused(value, problem):
    with pytest.raises(InvalidInputError, match=problem) as caught:
        parse_text(value, "beneficiary_name", MAX_BENEFICIARY_NAME)
    assert caught.value.field == "beneficiary_name"
    assert len(str(caught.value)) < 250
