"""What Carbonmark says of a payment id that somebody, who may be anybody, brings for a link."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_provider_carbonmark.api.errors import AccessDeniedError, CarbonmarkError, NotFoundError
from airflow_provider_carbonmark.api.inputs import parse_quantity
from airflow_provider_carbonmark.api.retirement import RetirementRequest, describes, is_not_paid
from airflow_provider_carbonmark.api.retries import NO_RETRIES, is_passing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_carbonmark.api.client import ClientSettings
    from airflow_provider_carbonmark.api.models import Payment

# Seconds for the whole request: a person waits for the answer.
LONGEST_CHECK = 10.0


class Finding(StrEnum):
    """What Carbonmark says of a payment id."""

    THIS_LINK = "it is for this link"
    OLDER_LINK = "it is for a link that the task made before its input changed"
    UNTOLD = "it exists, but nothing says what it is for"
    OTHER = "it is for something else"
    NOT_PAID = "it doesn't exist yet, or isn't paid"
    OUT_OF_REACH = "Carbonmark can't be asked"


def asked_for(checkout: Mapping[str, Any]) -> RetirementRequest:
    """
    Return what a checkout asks for.

    :param checkout: what ``CarbonmarkCreateCheckoutOperator`` returned.
    :raises InvalidInputError: when its quantity is none.
    """
    return RetirementRequest(
        beneficiary_name=checkout["beneficiary_name"],
        quantity_tonnes=parse_quantity(checkout["quantity_tonnes"], "checkout quantity_tonnes"),
        asset_price_source_id=checkout.get("asset_price_source_id"),
        retirement_message=checkout.get("retirement_message"),
    )


def check_payment(
    settings: ClientSettings, payment_id: str, checkouts: Sequence[Mapping[str, Any]]
) -> tuple[Finding, str]:
    """
    Ask Carbonmark once; return what it says, and the same in words for the log.

    :param settings: of the connection that the link was made with.
    :param payment_id: the payment, whoever says so.
    :param checkouts: the task's checkouts, the latest last.
    """
    # Imported late: a DAG file needs no client.
    from airflow_provider_carbonmark.api.client import CarbonmarkClient

    settings = replace(settings, timeout=min(settings.timeout, LONGEST_CHECK))
    try:
        with CarbonmarkClient(settings, retries=NO_RETRIES) as client:
            payment = client.get_payment(payment_id)
    except CarbonmarkError as error:
        # Carbonmark's errors name themselves (seen); a bare 404 is some server's on the way.
        stranger = isinstance(error, NotFoundError) and error.code is None
        out_of_reach = stranger or is_passing(error) or isinstance(error, AccessDeniedError)
        return Finding.OUT_OF_REACH if out_of_reach else Finding.NOT_PAID, str(error)
    finding = _judge(payment, payment_id, checkouts)
    return finding, finding.value


def _judge(payment: Payment, payment_id: str, checkouts: Sequence[Mapping[str, Any]]) -> Finding:
    if is_not_paid(payment):
        return Finding.NOT_PAID
    latest, *older = [_is_for(payment, payment_id, checkout) for checkout in reversed(checkouts)]
    if latest is False:
        return Finding.OLDER_LINK if True in older else Finding.OTHER
    return Finding.THIS_LINK if latest else Finding.UNTOLD


def _is_for(payment: Payment, payment_id: str, checkout: Mapping[str, Any]) -> bool | None:
    # assumed: the service may tell the payment's id when it makes the link; then no other payment is the link's.
    told = checkout.get("payment_id")
    if told and told != payment_id:
        return False
    described = describes(payment, asked_for(checkout))
    return True if told and described is None else described
