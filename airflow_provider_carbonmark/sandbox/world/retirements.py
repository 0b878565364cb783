"""The registry's side of a retirement, as the market API tells it: the retirement, where its credits come from, a document."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta
from decimal import ROUND_UP
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from airflow_provider_carbonmark.sandbox.world.market import plain

if TYPE_CHECKING:
    from airflow_provider_carbonmark.sandbox.world.market import Listing
    from airflow_provider_carbonmark.sandbox.world.records import ProvenRetirement, Retirement

NOBODY = "0x" + 40 * "0"
#: Registries whose credits come without provenance (assumed: some do, since there is a field that says so).
WITHOUT_PROVENANCE = ("CMARK",)


def _address(of: str) -> str:
    return "0x" + hashlib.sha256(of.encode()).hexdigest()[:40]


def has_provenance(listing: Listing | None) -> bool:
    return listing is not None and listing.registry not in WITHOUT_PROVENANCE


def _epoch(moment: datetime | None, days_before: int = 0) -> int | None:
    return int((moment - timedelta(days=days_before)).timestamp()) if moment else None


def retirement_answer(proven: ProvenRetirement) -> dict[str, Any]:
    """Lay out the answer of GET /retirements/{id} (seen, v6: amount and timestamp are numbers; doc: token, creditId)."""
    retirement, transaction, listing = proven
    return {
        "id": transaction.retirement_id,
        "amount": retirement.quantity_tonnes,
        "hash": transaction.hash,
        "hasProvenanceDetails": has_provenance(listing),
        "beneficiaryAddress": _address(retirement.beneficiary_name),
        "beneficiaryName": retirement.beneficiary_name,
        "retirementMessage": retirement.retirement_message,
        "retiringAddress": _address("sandbox"),
        "retiringName": "Carbonmark sandbox",
        "timestamp": _epoch(retirement.completed_at),
        "token": listing.token if listing else None,
        "creditId": listing.credit_id if listing else None,
    }


def provenance_answer(retirement: Retirement, listing: Listing) -> list[dict[str, Any]]:
    """Lay out the answer of GET /retirements/{id}/provenance (seen, v6: the last record first; amounts, times are numbers)."""
    token, issuer, owner = _address(listing.credit), _address(listing.hash), _address("sandbox")
    whole = int(retirement.quantity_tonnes.to_integral_value(ROUND_UP))
    first = int(listing.hash[-6:], 16)
    # Made up, in the manner of Verra's.
    serial = f"{first}-{first + whole - 1}-{listing.registry}-SPECIMEN-{listing.project_id}-{listing.vintage}"

    def record(kind: str, sender: str, receiver: str, *serials: str, days_before: int = 0) -> dict[str, Any]:
        at = _epoch(retirement.completed_at, days_before)
        return {
            "id": f"{token}{_address(kind)[2:]}",
            "transactionType": kind,
            "registrySerialNumbers": serials,
            "token": token,
            "sender": sender,
            "receiver": receiver,
            "originalAmount": whole if serials else retirement.quantity_tonnes,
            "remainingAmount": 0,
            "createdAt": at,
            "updatedAt": at,
        }

    return [
        record("RETIREMENT", owner, NOBODY),
        record("TRANSFER", issuer, owner),
        record("ORIGINATION", NOBODY, issuer, serial, days_before=90),
    ]


def in_snake_case(value: Any) -> Any:
    """Return JSON with its names spelled as ``registry_serial_numbers``."""
    if isinstance(value, dict):
        return {re.sub("([A-Z])", r"_\1", name).lower(): in_snake_case(item) for name, item in value.items()}
    return [in_snake_case(item) for item in value] if isinstance(value, list) else value


def certificate_document(retirement: Retirement) -> bytes:
    """Return the certificate as a PDF of one page, the same bytes each time."""
    said = [
        "Specimen of a retirement certificate, issued by a sandbox. It proves nothing.",
        f"{plain(retirement.quantity_tonnes)} t of CO2e retired for {retirement.beneficiary_name}",
        *retirement.retirement_message.splitlines(),
    ]
    lines = [re.sub(r"([\\()])", r"\\\1", line) for text in said for line in wrap(text, 90)]
    shown = "".join(f"({line}) '\n" for line in lines).encode("cp1252", "replace")
    content = b"BT /F1 11 Tf 16 TL 50 790 Td\n" + shown + b"ET"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%b\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
    ]
    document, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(document))
        document += b"%d 0 obj%b\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n%b" % (len(objects) + 1, table)
    end = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(document))
    return document + head + end
