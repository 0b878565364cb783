"""What Carbonmark says of a payment id that somebody, who may be anybody, brings for a purchase."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from airflow_provider_carbonmark.api.errors import AccessDeniedError, CarbonmarkError, NotFoundError
from airflow_provider_carbonmark.api.inputs import parse_payment_id
from airflow_provider_carbonmark.api.retirement import describes, is_not_paid
from airflow_provider_carbonmark.api.retries import NO_RETRIES, is_passing
from airflow_provider_carbonmark.hooks.checkout import asked_for
from airflow_provider_carbonmark.ledger.names import Source, State

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.client import ClientSettings
    from airflow_provider_carbonmark.api.models import Payment as PaymentAnswer
    from airflow_provider_carbonmark.ledger.book import Ledger
    from airflow_provider_carbonmark.ledger.changes.bringing import Brought
    from airflow_provider_carbonmark.ledger.purchase import Link, Payment, Purchase

log = logging.getLogger(__name__)

# Seconds for the whole request: a person waits for the answer.
LONGEST_CHECK = 10.0
_WITH_REFERENCE = re.compile(r"(\S+)\s+([0-9A-Za-z]{10})")


class Finding(StrEnum):
    """What Carbonmark says of a payment id."""

    THIS_PURCHASE = "it is for this purchase"
    UNTOLD = "it exists, but nothing says what it is for"
    OTHER = "it is for something else"
    NOT_PAID = "it doesn't exist yet, or isn't paid"
    OUT_OF_REACH = "Carbonmark can't be asked"
    HELD = "it may be for several purchases, and nothing says for which"


@dataclass(frozen=True)
class Checked:
    """
    What Carbonmark says, and the same in words for the log.

    :param told: its answer, where there is one.
    """

    finding: Finding
    why: str
    told: PaymentAnswer | None = None


def parse_typed(text: str) -> tuple[str, str]:
    """
    Read what a person typed: a payment id, and the reference of the purchase that it is for, or empty.

    :raises InvalidInputError: when it is no payment id.
    """
    typed = _WITH_REFERENCE.fullmatch(text.strip())
    payment_id, reference = typed.groups() if typed else (text.strip(), "")
    return parse_payment_id(payment_id), reference.upper()


def take_payment(
    ledger: Ledger, purchase: Purchase, payment: Payment, settings: ClientSettings, reference: str = ""
) -> Checked:
    """Write down a payment that was brought for a purchase, ask Carbonmark what it is for, and write that down."""
    if (owner := ledger.paid_with(payment.payment_id)) not in (None, purchase.id):
        return Checked(Finding.OTHER, f"it is the payment of purchase {owner}")
    # Before Carbonmark is asked: whoever dies from here on leaves it to the next.
    bring_payment(ledger, purchase, payment, verified=False)
    links = ledger.links(purchase.id)
    checked = check_payment(settings, payment.payment_id, purchase, links, payment.link)
    return take_checked(ledger, purchase, payment, checked, reference)


def take_checked(
    ledger: Ledger, purchase: Purchase, payment: Payment, checked: Checked, reference: str = ""
) -> Checked:
    """
    Write down a payment that was brought for a purchase, if it is its payment, or if a person typed it and it is another open one's.

    What a person typed, and Carbonmark says is none or another's, is forgotten: it would bar others from paying.
    """
    is_typed = payment.source is Source.ENTERED
    if is_typed:
        checked = _find_its_purchase(ledger, checked, payment, purchase, reference)
    if checked.finding is Finding.THIS_PURCHASE:
        brought = bring_payment(ledger, purchase, payment, verified=True)
        if brought.second and brought.is_news:
            log.error("%s brought another payment: %s", payment.brought_by, brought.why)
        # Two purchases may ask for just the same, and the ledger knows whose the payment is.
        checked = Checked(Finding.THIS_PURCHASE if brought.is_its_own else Finding.OTHER, brought.why)
    if is_typed and checked.finding in (Finding.OTHER, Finding.NOT_PAID):
        ledger.forget_typed(purchase.id, payment.payment_id)
    return checked


def take_typed(
    ledger: Ledger, purchase: Purchase, payment_id: str, settings: ClientSettings
) -> Checked | None:
    """
    Ask once more whose payment it is that a person typed while nobody could say.

    :return: None where no person typed it, or the purchase is paid.
    """
    brought = ledger.payments(purchase.id) if purchase.payment_id is None else []
    typed = (each for each in brought if (each.payment_id, each.source) == (payment_id, Source.ENTERED))
    payment = next(typed, None)
    return take_payment(ledger, purchase, payment, settings) if payment else None


def bring_payment(ledger: Ledger, purchase: Purchase, payment: Payment, *, verified: bool) -> Brought:
    return ledger.bring(
        purchase.id,
        payment.link,
        payment.payment_id,
        source=payment.source,
        brought_by=payment.brought_by,
        verified=verified,
        now=datetime.now(UTC),
    )


def check_payment(
    settings: ClientSettings, payment_id: str, purchase: Purchase, links: Sequence[Link], number: int
) -> Checked:
    """
    Ask Carbonmark once.

    :param settings: of the connection that the link was made with.
    :param links: those of the purchase that the payment is said to be for; ``number`` is that of the link.
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
        return Checked(Finding.OUT_OF_REACH if out_of_reach else Finding.NOT_PAID, str(error))
    finding = _judge(payment, payment_id, purchase, links, number)
    return Checked(finding, finding.value, payment)


def _find_its_purchase(
    ledger: Ledger, checked: Checked, payment: Payment, purchase: Purchase, reference: str
) -> Checked:
    """
    Look whether a payment that a person typed under one purchase is another's: then it is brought there, and what waits for it is told.

    From month to month, listing, tonnes and beneficiary are alike. What agrees with several that are to be paid, and tells no message,
    is held until the person says which one it is for.
    """
    if checked.told is None or checked.finding is Finding.NOT_PAID:
        return checked
    # Imported late: a DAG file doesn't need it.
    from airflow_provider_carbonmark.hooks.api_server import tell_server

    is_its_own = checked.finding is Finding.THIS_PURCHASE
    others = _others_it_may_be_for(ledger, checked.told, payment.payment_id, purchase)
    if is_its_own:
        others = [each for each in others if each.state is State.LINK_MADE]
        if not others or reference == purchase.reference:
            return checked
    if said := [each for each in others if each.reference == reference]:
        others = said
    if not others:
        return checked
    if is_its_own and not said or len(others) > 1:
        names = [purchase, *others] if is_its_own else others
        which = "; ".join(f"{each}: enter {payment.payment_id} {each.reference}" for each in names)
        return Checked(
            Finding.HELD,
            f"{Finding.HELD}. Say which one, by its reference after the id: {which}",
            checked.told,
        )
    other = others[0]
    for_other = replace(payment, link=other.link.number if other.link else 0)
    brought = bring_payment(ledger, other, for_other, verified=True)
    tell_server(ledger, brought.purchase)
    return Checked(Finding.OTHER, f"it is the payment of {other}, and was brought there", checked.told)


def _others_it_may_be_for(
    ledger: Ledger, told: PaymentAnswer, payment_id: str, purchase: Purchase
) -> list[Purchase]:
    """Return the other purchases without a payment that a payment describes, as far as it tells of itself."""
    names = ("quantity_tonnes", "asset_price_source_id")
    alike = ledger.payable_like({name: getattr(told, name) for name in names}, test_mode=purchase.test_mode)
    others = ((each, ledger.links(each.id)) for each in alike if each.id != purchase.id)
    return [
        each
        for each, links in others
        if _judge(told, payment_id, each, links, each.link.number if each.link else 0)
        is Finding.THIS_PURCHASE
    ]


def _judge(
    payment: PaymentAnswer, payment_id: str, purchase: Purchase, links: Sequence[Link], number: int
) -> Finding:
    if is_not_paid(payment):
        return Finding.NOT_PAID
    # assumed: the service may tell the payment's id when it makes the link; then no other payment is the link's.
    told = {link.number: link.payment_id for link in links if link.payment_id}
    is_told = payment_id in told.values()
    if number in told and not is_told:
        return Finding.OTHER
    described = describes(payment, asked_for(purchase, links))
    if described is False:
        return Finding.OTHER
    return Finding.THIS_PURCHASE if described or is_told else Finding.UNTOLD
