"""What Carbonmark says of a payment id that somebody, who may be anybody, brings for a purchase."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING

from airflow_provider_carbonmark.api.errors import AccessDeniedError, CarbonmarkError, NotFoundError
from airflow_provider_carbonmark.api.retirement import describes, is_not_paid
from airflow_provider_carbonmark.api.retries import NO_RETRIES, is_passing
from airflow_provider_carbonmark.hooks.checkout import asked_for

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.client import ClientSettings
    from airflow_provider_carbonmark.api.models import Payment
    from airflow_provider_carbonmark.ledger.purchase import Purchase

# Seconds for the whole request: a person waits for the answer.
LONGEST_CHECK = 10.0


class Finding(StrEnum):
    """What Carbonmark says of a payment id."""

    THIS_PURCHASE = "it is for this purchase"
    UNTOLD = "it exists, but nothing says what it is for"
    OTHER = "it is for something else"
    NOT_PAID = "it doesn't exist yet, or isn't paid"
    OUT_OF_REACH = "Carbonmark can't be asked"


def check_payment(settings: ClientSettings, payment_id: str, purchase: Purchase) -> tuple[Finding, str]:
    """
    Ask Carbonmark once; return what it says, and the same in words for the log.

    :param settings: of the connection that the link was made with.
    :param payment_id: the payment, whoever says so.
    :param purchase: the purchase that it is said to be for.
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
    finding = _judge(payment, payment_id, purchase)
    return finding, finding.value


def _judge(payment: Payment, payment_id: str, purchase: Purchase) -> Finding:
    if is_not_paid(payment):
        return Finding.NOT_PAID
    # assumed: the service may tell the payment's id when it makes the link; then no other payment is the link's.
    told = purchase.link.payment_id if purchase.link else None
    if told and told != payment_id:
        return Finding.OTHER
    described = describes(payment, asked_for(purchase))
    if described is False:
        return Finding.OTHER
    return Finding.THIS_PURCHASE if described or told else Finding.UNTOLD
