"""
What the pay address shows, and what whoever comes there says: that they want to pay, that nobody has, or that they have.

Looking changes nothing: mail scanners and prefetches come first. Only what is said makes the next link, one at most for the time that a link
can be paid; and whoever says so is in the ledger.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Final

from airflow_provider_carbonmark.api.errors import CarbonmarkError, InvalidInputError
from airflow_provider_carbonmark.api.markup import web_address
from airflow_provider_carbonmark.hooks.api_server import LOOK, SHOW
from airflow_provider_carbonmark.hooks.ledger import open_ledger
from airflow_provider_carbonmark.hooks.next_link import make_next_link, rule_out
from airflow_provider_carbonmark.hooks.payment_check import (
    Checked,
    Finding,
    bring_payment,
    parse_typed,
    take_checked,
)
from airflow_provider_carbonmark.hooks.return_url import InvalidTokenError
from airflow_provider_carbonmark.ledger.names import NoNextLinkError, Source, State
from airflow_provider_carbonmark.ledger.purchase import Payment
from airflow_provider_carbonmark.ledger.words import Words
from airflow_provider_carbonmark.web import waking

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.projects import Project
    from airflow_provider_carbonmark.ledger.purchase import Link, Purchase
    from airflow_provider_carbonmark.web.buyers.desk import Desk, Found

log = logging.getLogger(__name__)

#: Who says something without being signed in.
SOMEBODY: Final = "somebody who had the pay address"


class Said(StrEnum):
    """What somebody may say at the pay address."""

    PAY = "pay"
    NOBODY_PAID = "nobody-paid"
    I_PAID = "i-paid"


class Stands(StrEnum):
    """Where a purchase stands, for whoever comes to pay it."""

    NO_LINK = "no_link"
    TO_BE_PAID = "to_be_paid"
    IS_IT_PAID = "is_it_paid"
    NOTED = "noted"
    PAID = "paid"
    RETIRED = "retired"
    PAID_NOT_RETIRED = "paid_not_retired"
    CLOSED = "closed"

    @classmethod
    def of(cls, found: Found, now: datetime) -> Stands:
        purchase, link = found.purchase, found.purchase.link
        if purchase.state is State.LINK_MADE and link:
            if found.unverified():
                return cls.NOTED
            return cls.TO_BE_PAID if link.can_be_paid(now) else cls.IS_IT_PAID
        of_state = {
            State.PLANNED: cls.NO_LINK,
            State.PAID: cls.PAID,
            State.RETIRED: cls.RETIRED,
            State.PAID_NOT_RETIRED: cls.PAID_NOT_RETIRED,
        }
        return of_state.get(purchase.state, cls.CLOSED)


@dataclass(frozen=True)
class Sight:
    """
    What somebody gets to see.

    :param word: what came of what they said; None where nothing is to be told.
    """

    purchase: Purchase
    project: Project | None
    stands: Stands
    word: Words | None = None

    @property
    def link(self) -> Link | None:
        return self.purchase.link


@dataclass(frozen=True)
class Lead:
    """Where somebody is led: to an address, or back to the page that they came from where it is None."""

    url: str | None = None


class PayVisits:
    """
    Handles what comes to pay addresses, from anybody.

    Strangers are turned away: by what the key's checks raise, or with TurnedAwayError.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def look(self, token_text: str) -> Sight:
        """Return what there is to see. Changes nothing, and asks nobody but the ledger."""
        id = await self._desk.key.purchase(token_text)
        return await self._desk.to_its_end(("look", id), lambda: self._look(id))

    async def say(self, id: int, form: Mapping[str, str], said_by: str) -> Sight | Lead:
        """
        Take what somebody says.

        :param form: what they sent: ``said``, with ``link`` or ``payment_id``.
        """
        said = form.get("said")
        number = form.get("link", "")
        if said == Said.PAY:
            return await self._desk.to_its_end((said, id), lambda: self._pay(id))
        if said == Said.NOBODY_PAID and number.isascii() and number.isdigit() and len(number) < 4:
            key = (said, id, int(number))
            return await self._desk.to_its_end(key, lambda: self._next(id, int(number), said_by))
        if said == Said.I_PAID:
            typed = form.get("payment_id", "").strip()
            return await self._desk.to_its_end((said, id, typed), lambda: self._paid(id, typed, said_by))
        if said == SHOW:
            with suppress(InvalidTokenError):
                await self._desk.show(id, *await self._desk.key.text(form.get("text", "")))
        sight = await self._look(id)
        if said == LOOK:
            await self._wake_if_settled(sight)
        return sight

    async def _look(self, id: int, word: Words | None = None) -> Sight:
        return _sight(await self._desk.find(id), word)

    async def _wake_if_settled(self, sight: Sight) -> None:
        if sight.purchase.payment_id or sight.stands is Stands.CLOSED:
            await self._desk.wake(sight.purchase, sight.purchase.payment_id)

    async def _pay(self, id: int) -> Sight | Lead:
        found = await self._desk.find(id)
        if Stands.of(found, datetime.now(UTC)) is Stands.NOTED:
            return await self._rule_out(found)
        return _way_on(found)

    async def _rule_out(self, found: Found) -> Sight | Lead:
        """Ask again about what was brought; only what is ruled out lets somebody pay."""
        id = found.purchase.id
        try:
            await self._desk.carbonmark.run(partial(_rule_out, found.purchase))
        except NoNextLinkError as doubt:
            return await self._look(id, doubt.words)
        now = await self._desk.find(id)
        if now.purchase.payment_id:
            await self._desk.wake(now.purchase, now.purchase.payment_id)
            return Lead()
        return _way_on(replace(now, brought=[]))

    async def _next(self, id: int, number: int, said_by: str) -> Sight | Lead:
        await self._desk.find(id)
        try:
            await self._desk.carbonmark.run(partial(_next_link, id, number, said_by))
        except NoNextLinkError as refusal:
            sight = await self._look(id, refusal.words)
            await self._wake_if_settled(sight)
            return sight
        except Exception as error:
            # Ours to mend, such as a connection that is gone.
            trace = None if isinstance(error, CarbonmarkError) else error
            log.warning("Somebody asked for the next link of purchase %d: %s", id, error, exc_info=trace)
            word = Words("A new payment page can’t be made right now. Please try again later.")
            return await self._look(id, word)
        return await self._pay(id)

    async def _paid(self, id: int, typed: str, said_by: str) -> Sight | Lead:
        found = await self._desk.find(id)
        try:
            payment_id, reference = parse_typed(typed)
        except InvalidInputError:
            return await self._look(id, Words("That is no payment number."))
        purchase = found.purchase
        if purchase.link is None:
            return await self._look(id)
        payment = Payment(
            payment_id=payment_id,
            link=purchase.link.number,
            source=Source.ENTERED,
            brought_by=said_by,
            brought_at=datetime.now(UTC),
        )
        # Before anything is written: what doesn't exist, or is for something else, is no reason not to pay.
        told = await self._desk.check(purchase.link.conn_id, found, payment_id, payment.link)
        checked = await self._desk.ledger.run(partial(_take, purchase, payment, told, reference))
        log.info("%s brought payment %s for %s: %s", said_by, payment_id, purchase, checked.why)
        if checked.finding is Finding.THIS_PURCHASE:
            await self._desk.wake(purchase, payment_id)
            return Lead()
        return await self._look(id, _IS_PAID if purchase.payment_id else _WORDS[checked.finding])


# What may be the purchase's payment after all.
_KEPT: Final = (Finding.UNTOLD, Finding.OUT_OF_REACH, Finding.HELD)
_NOTED: Final = Words("The payment has been noted, and will be checked.")
# Without a word on other purchases: whoever has the address may know of this one only.
_WORDS: Final = {
    Finding.OTHER: Words(
        "That payment is for something else. If it is for another purchase of yours, it has been noted there."
    ),
    Finding.HELD: Words(
        "That payment may be for this or for another purchase. Write this one’s reference after the number if it is for this one."
    ),
    Finding.NOT_PAID: Words(
        "There is no such payment yet. Look at the number again, or come back in a few minutes."
    ),
    Finding.UNTOLD: _NOTED,
    Finding.OUT_OF_REACH: _NOTED,
}
_IS_PAID: Final = Words(
    "It is paid already. If that is another payment, please tell those who sent you here: it was paid twice."
)


def _sight(found: Found, word: Words | None = None) -> Sight:
    return Sight(found.purchase, found.project, Stands.of(found, datetime.now(UTC)), word)


def _way_on(found: Found) -> Sight | Lead:
    """Return the payment page where that can be paid, else what there is to see."""
    sight = _sight(found)
    url = web_address(sight.link.url) if sight.link and sight.stands is Stands.TO_BE_PAID else None
    return Lead(url) if url else sight


def _next_link(id: int, number: int, said_by: str) -> Purchase:
    with open_ledger() as ledger:
        return make_next_link(ledger, id, number, waking.settings_of, said_by)


def _rule_out(purchase: Purchase) -> None:
    with open_ledger() as ledger:
        rule_out(ledger, purchase, waking.settings_of)


def _take(purchase: Purchase, payment: Payment, told: Checked, reference: str) -> Checked:
    with open_ledger() as ledger:
        if (owner := ledger.paid_with(payment.payment_id)) not in (None, purchase.id):
            return Checked(Finding.OTHER, f"it is the payment of purchase {owner}")
        checked = take_checked(ledger, purchase, payment, told, reference)
        if checked.finding in _KEPT:
            bring_payment(ledger, purchase, payment, verified=False)
        return checked
