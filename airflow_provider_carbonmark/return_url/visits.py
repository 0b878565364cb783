"""
What a buyer's return means: who may say so, what Carbonmark says of it, what gets recorded.

Runs in the API server, called by anybody. A payment is recorded only under a valid token of the link it belongs to, and only
if Carbonmark knows it, or can't be reached: then the sensor's own check decides, so that no real payment is lost.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_provider_carbonmark.api.client import CarbonmarkClient
from airflow_provider_carbonmark.api.errors import (
    AccessDeniedError,
    CarbonmarkError,
    InvalidInputError,
    NotFoundError,
)
from airflow_provider_carbonmark.api.inputs import parse_payment_id, parse_quantity, parse_url
from airflow_provider_carbonmark.api.retirement import RetirementRequest, describes, is_not_paid
from airflow_provider_carbonmark.api.retries import NO_RETRIES, is_passing
from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkConnection, CarbonmarkHook
from airflow_provider_carbonmark.hooks.purchase_line import record_paid
from airflow_provider_carbonmark.return_url import airflow_records
from airflow_provider_carbonmark.return_url.token import InvalidTokenError, Token, read, signing_key
from airflow_provider_carbonmark.return_url.urls import token_seconds

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.models import Payment
    from airflow_provider_carbonmark.return_url.airflow_records import Link
    from airflow_provider_carbonmark.return_url.link import PaymentRecord

log = logging.getLogger(__name__)

# A person waits for the page.
LONGEST_CHECK = 10.0


class Page(StrEnum):
    """The pages a buyer may see."""

    PAID = "paid"
    ALREADY_RECORDED = "already_recorded"
    UNCHECKED = "unchecked"
    CANCELLED = "cancelled"
    UNKNOWN_LINK = "unknown_link"


class Finding(StrEnum):
    """What Carbonmark says of a payment id."""

    THIS_LINK = "it is for this link"
    OLDER_LINK = "it is for a link that the task made before its input changed"
    UNTOLD = "it exists, but nothing says what it is for"
    OTHER = "it is for something else"
    NOT_PAID = "it doesn't exist yet, or isn't paid"
    OUT_OF_REACH = "Carbonmark can't be asked"


@dataclass(frozen=True)
class Visit:
    """
    What a buyer gets to see.

    :param page: which page.
    :param checkout: the checkout that it is about; None for strangers.
    :param recorded: whether the payment is recorded, for the page that says that it can't be checked.
    """

    page: Page
    checkout: dict[str, Any] | None = None
    recorded: bool = False


UNKNOWN_LINK = Visit(Page.UNKNOWN_LINK)


def returned(token_text: str, payment_id: str) -> Visit:
    """
    Handle a buyer who comes back from paying.

    :param token_text: the token, from anybody.
    :param payment_id: the payment id, from anybody.
    """
    try:
        parse_payment_id(payment_id)
        token, connection = _read_token(token_text)
        link = _find_link(token)
    except (InvalidTokenError, InvalidInputError) as refusal:
        return _refuse(type(refusal).__name__)
    record = link.record
    if record and record.knows(payment_id) and (record.verified or payment_id != record.payment_id):
        _keep_books(link.checkouts[-1], record)
        airflow_records.wake(token.link, record.payment_id)
        return Visit(Page.ALREADY_RECORDED, link.checkouts[-1])
    finding, why = _ask(connection, payment_id, link)
    log.debug("Payment %s of %s: %s", payment_id, token.link, why)
    if finding is Finding.NOT_PAID:
        return Visit(Page.UNCHECKED, link.checkouts[-1])
    if finding is Finding.OTHER or airflow_records.is_recorded_elsewhere(token.link, payment_id):
        return _refuse(finding)
    if record and not record.verified and finding is Finding.THIS_LINK and payment_id != record.payment_id:
        _verify_late(token, connection, link, record.payment_id)
    return _record(token, link, payment_id, finding, why)


def cancelled(token_text: str) -> Visit:
    """
    Handle a buyer who left the payment page unpaid.

    :param token_text: the token, from anybody.
    """
    try:
        token, _ = _read_token(token_text)
        link = _find_link(token)
    except InvalidTokenError as refusal:
        return _refuse(type(refusal).__name__)
    checkout = link.checkouts[-1]
    return Visit(Page.ALREADY_RECORDED if link.record else Page.CANCELLED, checkout)


def way_back(checkout: dict[str, Any]) -> str | None:
    """Return the address of the payment page; None when it is none that may be offered."""
    try:
        return parse_url(checkout["checkout_url"], "checkout_url")
    except InvalidInputError:
        return None


def _refuse(why: str) -> Visit:
    # Anybody can cause this line, as often as they like.
    log.debug("A return is refused: %s", why)
    return UNKNOWN_LINK


def _read_token(text: str) -> tuple[Token, CarbonmarkConnection]:
    connections: dict[str, CarbonmarkConnection] = {}

    def key_of(conn_id: str) -> bytes | None:
        connection = airflow_records.find_connection(conn_id)
        # Not any other connection: its password may be a weak one that was never meant to sign anything.
        if connection is None or connection.conn_type != CarbonmarkHook.conn_type:
            return None
        connections[conn_id] = CarbonmarkConnection.of(connection)
        return signing_key(connections[conn_id])

    try:
        token = read(text, key_of, token_seconds())
    except InvalidInputError:
        raise InvalidTokenError from None
    return token, connections[token.conn_id]


def _find_link(token: Token) -> Link:
    link = airflow_records.find_link(token.link)
    if link is None:
        # The token is ours, so somebody may have paid for it.
        log.warning("A buyer came back to a link whose run is gone: %s", token.link)
        raise InvalidTokenError
    if link.conn_id != token.conn_id:
        raise InvalidTokenError
    return link


def _ask(connection: CarbonmarkConnection, payment_id: str, link: Link) -> tuple[Finding, str]:
    """Ask Carbonmark once; return what it says, and the same in words for the log."""
    settings = replace(connection.settings, timeout=min(connection.settings.timeout, LONGEST_CHECK))
    try:
        with CarbonmarkClient(settings, retries=NO_RETRIES) as client:
            payment = client.get_payment(payment_id)
    except CarbonmarkError as error:
        # Carbonmark's errors name themselves (seen); a bare 404 is some server's on the way.
        stranger = isinstance(error, NotFoundError) and error.code is None
        out_of_reach = stranger or is_passing(error) or isinstance(error, AccessDeniedError)
        return Finding.OUT_OF_REACH if out_of_reach else Finding.NOT_PAID, str(error)
    finding = _judge(payment, link)
    return finding, finding.value


def _judge(payment: Payment, link: Link) -> Finding:
    if is_not_paid(payment):
        return Finding.NOT_PAID
    latest, *older = [describes(payment, _asked(checkout)) for checkout in reversed(link.checkouts)]
    if latest is False:
        return Finding.OLDER_LINK if True in older else Finding.OTHER
    return Finding.THIS_LINK if latest else Finding.UNTOLD


def _asked(checkout: dict[str, Any]) -> RetirementRequest:
    return RetirementRequest(
        beneficiary_name=checkout["beneficiary_name"],
        quantity_tonnes=parse_quantity(checkout["quantity_tonnes"]),
        asset_price_source_id=checkout["asset_price_source_id"],
        retirement_message=checkout["retirement_message"],
    )


def _verify_late(token: Token, connection: CarbonmarkConnection, link: Link, payment_id: str) -> None:
    """Ask again about a payment that couldn't be checked when it came, before another takes its place."""
    if _ask(connection, payment_id, link)[0] is Finding.THIS_LINK:
        airflow_records.record_payment(token.link, payment_id, verified=True)


def _record(token: Token, link: Link, payment_id: str, finding: Finding, why: str) -> Visit:
    checkout = link.checkouts[-1]
    verified = finding is Finding.THIS_LINK
    record, is_news = airflow_records.record_payment(token.link, payment_id, verified=verified)
    _keep_books(checkout, record)
    airflow_records.wake(token.link, record.payment_id)
    if is_news:
        _report(token, record, payment_id, finding, why)
    if payment_id != record.payment_id:
        return Visit(Page.ALREADY_RECORDED, checkout)
    if finding is Finding.OUT_OF_REACH:
        return Visit(Page.UNCHECKED, checkout, recorded=True)
    return Visit(Page.PAID, checkout)


def _keep_books(checkout: dict[str, Any], record: PaymentRecord) -> None:
    """
    Write a payment into the ledger as well, if Carbonmark said that it is for this link and the link is that of a planned purchase.

    The task that waits does so too, but somebody may have declined before the buyer paid after all, or its run may be over. A server
    that is killed before this line, or a ledger that is away, leaves it to that task and to the buyer's next visit.
    """
    if not record.verified:
        return
    try:
        record_paid(checkout, record.payment_id)
    except Exception:
        log.exception("Payment %s is recorded in Airflow, but not in the ledger", record.payment_id)


def _report(token: Token, record: PaymentRecord, payment_id: str, finding: Finding, why: str) -> None:
    """Say in the log what a person may want to know, once: the record is bounded, and so are these lines."""
    level = logging.INFO if finding is Finding.THIS_LINK else logging.WARNING
    log.log(level, "A buyer came back to %s with payment %s: %s", token.link, payment_id, why)
    if finding is Finding.OLDER_LINK:
        log.error("Payment %s of %s must be looked at: %s", payment_id, token.link, why)
    if payment_id != record.payment_id:
        others = ", ".join(record.other_payment_ids)
        log.error(
            "%s was paid with %s, and more payments came for it, which must be looked at: %s",
            token.link,
            record.payment_id,
            others,
        )
