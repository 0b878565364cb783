"""GET /retirements and below: the retirement, where its credits come from, its certificate."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.integration.sandbox.conftest import Shopper


def retire(shopper: Shopper, **order: Any) -> str:
    """Return the transaction of a retirement."""
    shopper.switch(retirement_seconds=0)
    return shopper.payment(shopper.buy(**order))["retirement"]["transaction_hash"]


def retire_icr(shopper: Shopper, **order: Any) -> str:
    """Return the id of a retirement of credits of a known project."""
    return f"137-{retire(shopper, project_id='ICR-112', **order)}-0"


def test_a_retirement_is_found_by_its_id_and_by_its_transaction(shopper: Shopper) -> None:
    retirement_id = retire_icr(shopper)
    transaction = retirement_id.split("-")[1]
    retirement = shopper.http.get(f"/retirements/{retirement_id}").json()
    addresses = [retirement.pop(name) for name in ("beneficiaryAddress", "retiringAddress")]

    assert all(re.fullmatch("0x[0-9a-f]{40}", address) for address in addresses)
    assert retirement == {
        "id": retirement_id,
        "amount": 1.234,
        "hash": transaction,
        "hasProvenanceDetails": True,
        "beneficiaryName": "Example GmbH",
        "retirementMessage": "October 2026",
        "retiringName": "Carbonmark sandbox",
        "timestamp": 1_795_240_800,
        "token": {"tokenStandard": "erc1155", "symbol": "ICR-112-2019", "isExAnte": False, "tokenId": 1},
        "creditId": {"vintage": 2019, "projectId": "ICR-112"},
    }
    (listed,) = shopper.http.get("/retirements", params={"hash": transaction}).json()
    assert listed["id"] == retirement_id
    assert shopper.http.get("/retirements", params={"hash": "0x00"}).json() == []


@pytest.mark.parametrize("below", ["", "/provenance", "/certificate"])
def test_nothing_is_told_of_a_retirement_that_is_not_proven(shopper: Shopper, below: str) -> None:
    shopper.buy()
    answer = shopper.http.get(f"/retirements/137-0x00-0{below}")
    assert (answer.status_code, answer.json()["name"]) == (404, "NotFoundError")


def test_the_serial_numbers_are_on_the_record_of_origination(shopper: Shopper) -> None:
    records = shopper.http.get(f"/retirements/{retire_icr(shopper)}/provenance").json()

    serials = {each["transactionType"]: each["registrySerialNumbers"] for each in records}
    assert list(serials) == ["RETIREMENT", "TRANSFER", "ORIGINATION"]
    assert (serials["RETIREMENT"], serials["TRANSFER"]) == ([], [])
    (serial,) = serials["ORIGINATION"]
    first, last = map(int, serial.split("-")[:2])
    assert (last - first, serial.endswith("-ICR-SPECIMEN-ICR-112-2019")) == (1, True)


def test_credits_without_provenance_say_so(shopper: Shopper) -> None:
    path = f"/retirements/137-{retire(shopper, project_id='CMARK-3')}-0"

    assert shopper.http.get(path).json()["hasProvenanceDetails"] is False
    assert shopper.http.get(f"{path}/provenance").status_code == 404


def test_names_are_spelled_in_snake_case_when_switched(shopper: Shopper) -> None:
    retirement_id = retire_icr(shopper)
    shopper.switch(retirements_spelling="snake_case")
    retirement = shopper.http.get(f"/retirements/{retirement_id}").json()
    record = shopper.http.get(f"/retirements/{retirement_id}/provenance").json()[-1]

    assert retirement["credit_id"] == {"vintage": 2019, "project_id": "ICR-112"}
    assert len(record["registry_serial_numbers"]) == 1


def test_the_placeholder_of_test_mode_is_a_retirement_of_credits_unknown(shopper: Shopper) -> None:
    shopper.http.headers["authorization"] = "Bearer cm_api_sandbox_1"
    (retirement,) = shopper.http.get("/retirements", params={"hash": retire(shopper)}).json()

    assert (retirement["beneficiaryName"], retirement["creditId"]) == ("Developer Tester", None)


def test_a_certificate_is_a_document_that_comes_late(shopper: Shopper) -> None:
    shopper.switch(certificate_seconds=60)
    metadata = {"beneficiary_name": "Ä (b) GmbH", "retirement_message": "October\n2026\\10 ✓"}
    path = f"/retirements/{retire_icr(shopper, metadata=metadata)}/certificate"
    shopper.advance(59)
    early = shopper.http.get(path)
    shopper.advance(1)
    document = shopper.http.get(path)

    assert (early.status_code, document.headers["content-type"]) == (404, "application/pdf")
    content = document.content
    assert content.startswith(b"%PDF-")
    assert content.endswith(b"%%EOF\n")
    for line in (r"(1.234 t of CO2e retired for Ä \(b\) GmbH) '", "(October) '", r"(2026\\10 ?) '"):
        assert line.encode("cp1252") in content
    # Readers find the parts of the document by these places.
    start = int(content.split(b"startxref\n")[1].split()[0])
    assert content[start:].startswith(b"xref\n")
    for number, place in enumerate(re.findall(rb"(\d{10}) 00000 n", content), 1):
        assert content[int(place) :].startswith(b"%d 0 obj" % number)
    assert shopper.http.get(path).content == content
