"""
What a buyer's return means: who may say so, what Carbonmark says of it, what gets recorded, who is woken.

The payment is checked, recorded in one transaction of the ledger, and only then told to anybody. It is recorded if Carbonmark knows it,
or can't be asked: then the sensor's own check decides, so that no real payment is lost.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Final

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import parse_payment_id
from airflow_provider_carbonmark.hooks.ledger import open_ledger
from airflow_provider_carbonmark.hooks.payment_check import Finding
from airflow_provider_carbonmark.ledger.changes.bringing import Meaning
from airflow_provider_carbonmark.ledger.names import Source
from airflow_provider_carbonmark.web.buyers.desk import TurnedAwayError

if TYPE_CHECKING:
    from airflow_provider_carbonmark.hooks.return_url import Token
    from airflow_provider_carbonmark.ledger.changes.bringing import Brought
    from airflow_provider_carbonmark.ledger.purchase import Purchase
    from airflow_provider_carbonmark.web.buyers.desk import Desk, Found

log = logging.getLogger(__name__)

# Of the ids that nobody could check when they came, so many are asked about again before another one takes their place.
_ASKED_AGAIN: Final = 3


class Page(StrEnum):
    """The pages a buyer may see."""

    PAID = "paid"
    ALREADY_RECORDED = "already_recorded"
    UNCHECKED = "unchecked"
    CANCELLED = "cancelled"
    UNKNOWN_LINK = "unknown_link"
    PAY = "pay"
    ELSEWHERE = "elsewhere"
    LATER = "later"


@dataclass(frozen=True)
class Visit:
    """
    What a buyer gets to see.

    :param purchase: what it is about; None for strangers.
    :param recorded: whether the payment is recorded, for the page that says that it can't be checked.
    :param told: whether what waits for the payment knows of it.
    """

    page: Page
    purchase: Purchase | None = None
    recorded: bool = False
    told: bool = True


UNKNOWN_LINK = Visit(Page.UNKNOWN_LINK)


class Visits:
    """
    Handles the returns of buyers' browsers. Tokens and payment ids are from anybody.

    Strangers are turned away: by what the key's checks raise, or with TurnedAwayError.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def returned(self, token_text: str, payment_id: str) -> Visit:
        """Handle a buyer who comes back from paying."""
        try:
            parse_payment_id(payment_id)
        except InvalidInputError:
            raise TurnedAwayError from None
        token = await self._desk.key.token(token_text)
        return await self._desk.to_its_end((token, payment_id), lambda: self._returned(token, payment_id))

    async def cancelled(self, token_text: str) -> Visit:
        """Handle a buyer who left the payment page unpaid."""
        token = await self._desk.key.token(token_text)
        return await self._desk.to_its_end((token, ""), lambda: self._cancelled(token))

    async def _cancelled(self, token: Token) -> Visit:
        found = await self._desk.find(token.purchase, token)
        page = Page.ALREADY_RECORDED if found.purchase.payment_id or found.brought else Page.CANCELLED
        return Visit(page, found.purchase)

    async def _returned(self, token: Token, payment_id: str) -> Visit:
        found = await self._desk.find(token.purchase, token)
        purchase = found.purchase
        if purchase.payment_id == payment_id:
            return Visit(Page.ALREADY_RECORDED, purchase, told=await self._desk.wake(purchase, payment_id))
        checked = await self._desk.check(token.conn_id, found, payment_id, token.link)
        finding, why = checked.finding, checked.why
        if finding is Finding.NOT_PAID:
            return Visit(Page.UNCHECKED, purchase)
        if finding is Finding.OTHER:
            log.info("A buyer came back to %s with payment %s: %s", purchase, payment_id, why)
            raise TurnedAwayError
        is_verified = finding is Finding.THIS_PURCHASE
        if is_verified and purchase.payment_id is None:
            await self._verify_late(token, found, payment_id)
        brought = await self._bring(token, payment_id, is_verified=is_verified, why=why)
        if brought.is_first and (entered := found.unverified(besides=payment_id, source=Source.ENTERED)):
            log.error(
                "%s was paid with %s, but somebody entered %s for it: if both are real, it was paid twice",
                *(purchase, payment_id, " and ".join(each.payment_id for each in entered)),
            )
        if brought.meaning is Meaning.ANOTHERS:
            raise TurnedAwayError
        if brought.meaning is Meaning.TOO_MANY:
            return Visit(Page.UNCHECKED, purchase)
        told = await self._desk.wake(purchase, brought.purchase.payment_id or payment_id)
        if brought.purchase.payment_id is not None and not brought.is_first:
            return Visit(Page.ALREADY_RECORDED, purchase, told=told)
        page = Page.UNCHECKED if finding is Finding.OUT_OF_REACH else Page.PAID
        return Visit(page, purchase, recorded=True, told=told)

    async def _verify_late(self, token: Token, found: Found, payment_id: str) -> None:
        """Ask again about ids that couldn't be checked when they came: they may be the payment, before another one takes its place."""
        # What was typed may be another purchase's that asks for just the same; only who typed it can tell.
        returned = found.unverified(besides=payment_id, source=Source.RETURNED)
        for earlier in returned[:_ASKED_AGAIN]:
            checked = await self._desk.check(token.conn_id, found, earlier.payment_id, token.link)
            if checked.finding is Finding.THIS_PURCHASE:
                await self._bring(token, earlier.payment_id, is_verified=True, why=checked.why)

    async def _bring(self, token: Token, payment_id: str, *, is_verified: bool, why: str) -> Brought:
        brought = await self._desk.ledger.run(partial(_bring, token, payment_id, is_verified=is_verified))
        if brought.is_news:
            _report(brought, why)
        return brought


def _bring(token: Token, payment_id: str, *, is_verified: bool) -> Brought:
    with open_ledger() as ledger:
        return ledger.bring(
            token.purchase,
            token.link,
            payment_id,
            source=Source.RETURNED,
            verified=is_verified,
            now=datetime.now(UTC),
        )


def _report(brought: Brought, why: str) -> None:
    """Say in the log what a person may want to know, once."""
    purchase, payment_id = brought.purchase, brought.payment.payment_id
    if brought.second or brought.meaning is Meaning.ANOTHERS:
        log.error(
            "A buyer came back to %s with payment %s, which must be looked at: %s",
            *(purchase, payment_id, brought.why),
        )
        return
    level = logging.INFO if brought.is_its_own else logging.WARNING
    log.log(level, "A buyer came back to %s with payment %s: %s", purchase, payment_id, why)
    if brought.is_first and purchase.reason and not purchase.allocations:
        # What a plan bought is taken up by its next run; this is nobody's.
        log.error(
            "Payment %s of %s must be looked at, it was given up before: %s",
            payment_id,
            purchase,
            purchase.reason,
        )
