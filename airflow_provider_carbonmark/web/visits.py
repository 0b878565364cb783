"""
What a buyer's return means: who may say so, what Carbonmark says of it, what gets recorded.

Runs in the API server, called by anybody. A payment is recorded only under a valid token of the link it belongs to, and only
if Carbonmark knows it, or can't be reached: then the sensor's own check decides, so that no real payment is lost.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import parse_payment_id
from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkConnection, CarbonmarkHook
from airflow_provider_carbonmark.hooks.payment_check import Finding, check_payment
from airflow_provider_carbonmark.hooks.purchase_line import find_line_of_link, record_paid
from airflow_provider_carbonmark.web import waking
from airflow_provider_carbonmark.web.link import PaymentRecord
from airflow_provider_carbonmark.web.token import InvalidTokenError, Token, read, signing_key
from airflow_provider_carbonmark.web.urls import token_seconds
from airflow_provider_carbonmark.web.waking import Link

if TYPE_CHECKING:
    from airflow_provider_carbonmark.web.waking import Recorded

log = logging.getLogger(__name__)

# Airflow's own limit, and what its ids are made of: nothing else reaches a secrets backend.
_CONN_ID = re.compile(r"[\w#!()\-.:/\\]{1,200}")


class Page(StrEnum):
    """The pages a buyer may see."""

    PAID = "paid"
    ALREADY_RECORDED = "already_recorded"
    UNCHECKED = "unchecked"
    CANCELLED = "cancelled"
    UNKNOWN_LINK = "unknown_link"


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
    if record and record.verified and record.knows(payment_id):
        waking.wake(token.link, record.payment_id)
        _keep_books(link.checkouts[-1], record)
        return Visit(Page.ALREADY_RECORDED, link.checkouts[-1])
    finding, why = check_payment(connection.settings, payment_id, link.checkouts)
    log.debug("Payment %s of %s: %s", payment_id, token.link, why)
    if finding is Finding.NOT_PAID:
        return Visit(Page.UNCHECKED, link.checkouts[-1])
    if finding is Finding.OTHER:
        return _refuse(finding)
    if not link.has_task:
        return _record_in_ledger(token, link, payment_id, finding)
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


def _refuse(why: str) -> Visit:
    # Anybody can cause this line, as often as they like.
    log.debug("A return is refused: %s", why)
    return UNKNOWN_LINK


def _read_token(text: str) -> tuple[Token, CarbonmarkConnection]:
    connections: dict[str, CarbonmarkConnection] = {}

    def key_of(conn_id: str) -> bytes | None:
        if not _CONN_ID.fullmatch(conn_id):
            return None
        connection = waking.find_connection(conn_id)
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
    link = waking.find_link(token.link)
    if link is None or not link.checkouts:
        link = _find_in_ledger(token, link)
    if link is None:
        # The token is ours, so somebody may have paid for it.
        log.warning("A buyer came back to a link whose run is gone: %s", token.link)
        raise InvalidTokenError
    if link.conn_id != token.conn_id:
        raise InvalidTokenError
    return link


def _find_in_ledger(token: Token, known: Link | None) -> Link | None:
    """
    Return a link that Airflow doesn't know, or not any more, as the ledger has it.

    Its run was deleted, or its task cleared (before 3.3), or its worker died as soon as the link was in the ledger, from where another
    run delivered it.
    """
    line = find_line_of_link(token.link.to_json())
    if line is None or line.checkout is None:
        return None
    paid = PaymentRecord(line.payment_id, verified=True) if line.payment_id else None
    conn_id = (line.link_request or {}).get("carbonmark_conn_id")
    return Link(conn_id, (line.checkout,), (known and known.record) or paid, has_task=known is not None)


def _verify_late(token: Token, connection: CarbonmarkConnection, link: Link, payment_id: str) -> None:
    """Ask again about a payment that couldn't be checked when it came, before another takes its place."""
    if check_payment(connection.settings, payment_id, link.checkouts)[0] is Finding.THIS_LINK:
        waking.record_payment(token.link, payment_id, verified=True)


def _record(token: Token, link: Link, payment_id: str, finding: Finding, why: str) -> Visit:
    checkout = link.checkouts[-1]
    verified = finding is Finding.THIS_LINK
    recorded = waking.record_payment(token.link, payment_id, verified=verified)
    if recorded is None:
        # Whoever brings it has a token of ours and a real payment, and may have paid for this very link.
        log.error(
            "Payment %s, which a buyer brought to %s, is another link's already. If a buyer paid for each, they must be told apart at "
            "Carbonmark",
            *(payment_id, token.link),
        )
        return UNKNOWN_LINK
    record = recorded.record
    waking.wake(token.link, record.payment_id)
    _keep_books(checkout, record)
    if recorded.is_news:
        _report(token, recorded, payment_id, finding, why)
    if payment_id != record.payment_id:
        return Visit(Page.ALREADY_RECORDED, checkout)
    if finding is Finding.OUT_OF_REACH:
        return Visit(Page.UNCHECKED, checkout, recorded=True)
    return Visit(Page.PAID, checkout)


def _record_in_ledger(token: Token, link: Link, payment_id: str, finding: Finding) -> Visit:
    """Record a payment where there is no task any more to record it on; what can't be checked has to come again."""
    checkout = link.checkouts[-1]
    record = PaymentRecord(payment_id, verified=finding is Finding.THIS_LINK)
    if _keep_books(checkout, record):
        waking.wake(token.link, payment_id)
        return Visit(Page.PAID, checkout)
    return Visit(Page.ALREADY_RECORDED if link.record else Page.UNCHECKED, checkout)


def _keep_books(checkout: dict[str, Any], record: PaymentRecord) -> bool:
    """
    Write a payment into the ledger as well, if Carbonmark said that it is for this link and the link is that of a planned purchase.

    The task that waits does so too, but somebody may have declined before the buyer paid after all, or its run may be over. A server
    that is killed before this line, or a ledger that is away, leaves it to that task and to the buyer's next visit.

    :return: whether there is nothing left to write.
    """
    if not record.verified:
        return False
    try:
        record_paid(checkout, record.payment_id)
    except Exception:
        log.exception("Payment %s is not in the ledger", record.payment_id)
        return False
    return True


def _report(token: Token, recorded: Recorded, payment_id: str, finding: Finding, why: str) -> None:
    """Say in the log what a person may want to know, once: the record is bounded, and so are these lines."""
    record = recorded.record
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
    if recorded.entered:
        log.error(
            "%s was paid with %s, but somebody entered %s for it: if both are real, it was paid twice",
            token.link,
            record.payment_id,
            " and ".join(recorded.entered),
        )
