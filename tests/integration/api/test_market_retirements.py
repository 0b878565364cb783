"""What the market tells of retirements, with both clients."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from airflow_provider_carbonmark.api.errors import NotFoundError, TransportError, UnreadableAnswerError
from airflow_provider_carbonmark.api.retirement import retirement_id_in


@pytest.fixture
def retired(call, sandbox, order):
    """The id of a retirement, as the address of its certificate's page tells it, and the payment for it."""
    payment = call("get_payment", sandbox.pay(call("create_checkout", **order).url))
    sandbox.state.requests.clear()
    return retirement_id_in(payment.certificate_url), payment


@pytest.mark.parametrize("spelling", ["camelCase", "snake_case"])
def test_a_retirement_and_where_its_credits_come_from_are_read_in_either_spelling(
    call, sandbox, order, retired, spelling
):
    retirement_id, payment = retired
    sandbox.state.change_switches(retirements_spelling=spelling, shared_transactions=True)
    told = call("get_retirement", retirement_id)
    assert (told.id, told.transaction_hash) == (retirement_id, payment.transaction_hash)
    assert (told.beneficiary_name, told.quantity_tonnes) == ("Acme GmbH", Decimal("12.345"))
    assert told.retiring_name == "Carbonmark sandbox"
    listing = sandbox.state.listings[order["asset_price_source_id"]]
    assert (told.project_id, told.vintage) == (listing.project_id, listing.vintage)
    assert timedelta(0) <= payment.retired_at - told.retired_at < timedelta(seconds=1)
    (other, listed) = call("list_retirements", payment.transaction_hash)
    assert (listed, other.beneficiary_name) == (told, "Somebody Else Ltd.")
    *others, origin = call("get_provenance", retirement_id)
    assert (origin.transaction_type, len(origin.registry_serial_numbers)) == ("ORIGINATION", 1)
    assert [each.registry_serial_numbers for each in others] == [[], []]
    assert not any(each["has_key"] for each in sandbox.state.requests)


def test_a_certificate_is_not_there_at_first(call, sandbox, retired):
    retirement_id, _ = retired
    sandbox.state.change_switches(certificate_seconds=60)
    with pytest.raises(NotFoundError):
        call("get_certificate", retirement_id)
    sandbox.state.advance_clock(60)
    certificate = call("get_certificate", retirement_id)
    assert (certificate.content_type, certificate.suffix) == ("application/pdf", "pdf")
    assert b"12.345 t of CO2e retired for Acme GmbH" in certificate.content


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("html", UnreadableAnswerError),
        ("redirect", UnreadableAnswerError),
        ("oversized_chunked", UnreadableAnswerError),
        ("drop_mid_body", TransportError),
    ],
)
def test_what_comes_instead_of_a_certificate_or_is_a_part_of_it_is_none(call, sandbox, retired, kind, error):
    sandbox.state.change_switches(faults=[{"kind": kind}])
    with pytest.raises(error):
        call("get_certificate", retired[0])
