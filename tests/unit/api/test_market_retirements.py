"""What the market tells of retirements, in the layouts that it may have, and what is none of ours."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from airflow_provider_carbonmark.api.errors import InvalidInputError, UnreadableAnswerError
from airflow_provider_carbonmark.api.models import Certificate, ProvenanceRecord, Retirement
from airflow_provider_carbonmark.api.retirement import is_told_as, retirement_id_in, transaction_in
from tests.unit.api.conftest import make_calls, outcome

HASH, OTHER = "0x" + "aB" * 32, "0x" + "cd" * 32
ID = f"137-{HASH}-0"
# seen: the market API's v6, whose ids were others.
V6 = {
    "id": "0x087a7afb",
    "amount": 12.345,
    "hash": HASH,
    "beneficiaryName": "Acme GmbH",
    "retiringName": "",
    "timestamp": 1_795_240_800,
    "credit": {"bridgeProtocol": "TOUCAN", "vintage": 2019},
}


def test_what_is_not_told_or_of_another_form_is_absent():
    told = outcome(make_calls().get_retirement(ID), V6)
    assert (told.id, told.retiring_name, told.bridge) == (None, None, "TOUCAN")
    assert (told.retired_at, told.quantity_tonnes) == (
        datetime(2026, 11, 21, 6, tzinfo=UTC),
        Decimal("12.345"),
    )
    record = ProvenanceRecord.model_validate(
        {"transactionType": "TRANSFER", "registrySerialNumbers": [None, "", "1-2-VCS"]}
    )
    assert record.registry_serial_numbers == [None, None, "1-2-VCS"]


@pytest.mark.parametrize(
    "answer",
    [
        V6 | {"hash": OTHER},
        V6 | {"id": f"137-{HASH}-1"},
        {"hash": HASH, "timestamp": 1},
        {"message": "not indexed yet"},
        [V6],
    ],
)
def test_another_retirement_or_one_that_tells_nothing_of_itself_is_no_answer(answer):
    assert isinstance(outcome(make_calls().get_retirement(ID), answer), UnreadableAnswerError)


def test_a_list_of_a_transaction_holds_nothing_of_another():
    listed = [V6, V6 | {"hash": OTHER}, {"id": ID.lower()}, {"amount": 1}, "junk"]
    told = outcome(make_calls().list_retirements(HASH), {"items": listed})
    assert [each.id or each.transaction_hash for each in told] == [HASH, ID.lower()]


@pytest.mark.parametrize("below", ["get_retirement", "get_provenance", "get_certificate"])
@pytest.mark.parametrize("given", ["", HASH, f"{ID}/../../x", f"137-{HASH}", None])
def test_what_is_no_id_of_a_retirement_gets_into_no_path(below, given):
    with pytest.raises(InvalidInputError, match="retirement_id"):
        next(getattr(make_calls(), below)(given))


@pytest.mark.parametrize(
    ("told", "is_it"),
    [
        ({"amount": 12.345, "beneficiaryName": " ACME  Gmbh"}, True),
        ({"amount": Decimal("12.3450000000000002"), "beneficiaryName": "Acme GmbH"}, True),
        ({"amount": "12.345"}, None),
        ({"beneficiaryName": "Acme GmbH"}, None),
        ({"amount": 12.346, "beneficiaryName": "Acme GmbH"}, False),
        ({"amount": 12.345, "beneficiaryName": "Acme"}, False),
        ({"amount": 1}, False),
    ],
)
def test_a_retirement_is_known_by_beneficiary_and_amount(told, is_it):
    assert is_told_as(Retirement.model_validate(told), "Acme GmbH", Decimal("12.345")) is is_it


@pytest.mark.parametrize(
    ("address", "found"),
    [
        (f"https://app.carbonmark.com/retirements/id/{ID}", ID),
        (f"https://app.carbonmark.com/retirements/id/{ID}/?lang=en", ID),
        ("https://app.carbonmark.com/retirements/0xabc/3", None),
        (f"https://app.carbonmark.com/?id={ID}", None),
        ("http://[", None),
        (None, None),
    ],
)
def test_the_address_of_a_certificates_page_ends_with_the_retirements_id(address, found):
    assert retirement_id_in(address) == found


def test_a_transaction_is_found_in_an_explorers_address():
    assert transaction_in(None, "", f"https://polygonscan.com/tx/{HASH}?a") == HASH
    assert transaction_in("0x12", None) is None


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (b"%PDF-1.7 \n%%EOF\r\n", "pdf"),
        (b"\x89PNG\r\n\x1a\n 1 IEND\xaeB`\x82", "png"),
        (b"\xff\xd8\xff\xe0 1 \xff\xd9", "jpg"),
        (b"%PDF-1.7 \n", None),
        (b"<html>%PDF-1.7 %%EOF", None),
        (b"%PDF-1.7 %%EOF" + b" " * 2000, None),
        (b"", None),
    ],
)
def test_a_certificate_is_a_whole_document_by_its_bytes(content, suffix):
    certificate = Certificate(content=content)
    assert bool(certificate.content_type) == bool(suffix)
    assert not suffix or certificate.suffix == suffix
