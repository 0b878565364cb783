"""
What a buyer's return means: who may say so, what Carbonmark says of it, what gets recorded, who is woken.

Runs in the API server, called by anybody. Nothing is looked up before a token's signature holds. Then the payment is checked, recorded
in one transaction of the ledger, and only then told to anybody. A payment is recorded if Carbonmark knows it, or can't be asked: then
the sensor's own check decides, so that no real payment is lost. Whatever hangs, a visit goes on to its end when its page has given up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import parse_payment_id
from airflow_provider_carbonmark.hooks.ledger import open_ledger
from airflow_provider_carbonmark.hooks.payment_check import Finding, check_payment
from airflow_provider_carbonmark.hooks.return_url import InvalidTokenError, Token, lifetime
from airflow_provider_carbonmark.hooks.runs import deployment
from airflow_provider_carbonmark.ledger.bringing import Meaning
from airflow_provider_carbonmark.ledger.purchase import LedgerError, Payment, Purchase, Source, Task
from airflow_provider_carbonmark.web import waking
from airflow_provider_carbonmark.web.ledger_key import LedgerKey, NoKeyError
from airflow_provider_carbonmark.web.threads import Threads

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.bringing import Brought

log = logging.getLogger(__name__)

# Buyers at once. They have threads of their own, so that a slow Carbonmark doesn't hold up Airflow's API, nor those who need the ledger.
_AT_ONCE: Final = 10
_HANGING: Final = 40
# Visits that may wait for what hangs. Each is of somebody with a link of ours; the same visit again waits for the first.
_MOST_UNDER_WAY: Final = 500
_MOST_REMEMBERED: Final = 1000
# Of the ids that nobody could check when they came, so many are asked about again before another one takes their place.
_ASKED_AGAIN: Final = 3


class TooManyVisitsError(Exception):
    """More buyers wait for what hangs than are let in."""


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
    :param purchase: what it is about; None for strangers.
    :param recorded: whether the payment is recorded, for the page that says that it can't be checked.
    :param told: whether what waits for the payment knows of it.
    """

    page: Page
    purchase: Purchase | None = None
    recorded: bool = False
    told: bool = True


UNKNOWN_LINK = Visit(Page.UNKNOWN_LINK)


@dataclass(frozen=True)
class Limits:
    """
    How long something may take, in seconds.

    :param page: until a buyer is shown a page.
    :param check: until Carbonmark counts as out of reach.
    :param waking: until the page says that nobody was told.
    :param hanging: until a thread counts as hanging, and makes room for another.
    :param key_again: between two readings of the ledger's key, where there is one.
    :param key_retry: the same, where there is none.
    """

    page: float = 13.0
    check: float = 8.0
    waking: float = 3.0
    hanging: float = 15.0
    key_again: float = 60.0
    key_retry: float = 2.0


class Visits:
    """Handles what buyers' browsers ask for. Belongs to one event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._ledger, self._carbonmark, self._airflow = (
            Threads(_AT_ONCE, hanging=_HANGING, seconds=limits.hanging) for _ in range(3)
        )
        self._key = LedgerKey(
            lambda: self._ledger.run(_signing_key), again=limits.key_again, retry=limits.key_retry
        )
        self._waker = waking.Waker()
        self._turned_away: set[Token] = set()
        self._under_way: dict[tuple[Token, str], asyncio.Task[Visit]] = {}
        self._being_woken: set[asyncio.Task[bool]] = set()

    async def returned(self, token_text: str, payment_id: str) -> Visit:
        """
        Handle a buyer who comes back from paying.

        :param token_text: the token, from anybody.
        :param payment_id: the payment id, from anybody.
        """
        try:
            parse_payment_id(payment_id)
            token = await self._key.token(token_text)
        except (InvalidTokenError, InvalidInputError):
            # Anybody can cause this, as often as they like: not a line in the log.
            return UNKNOWN_LINK
        except NoKeyError:
            return Visit(Page.UNCHECKED)
        return await self._to_its_end((token, payment_id), lambda: self._returned(token, payment_id))

    async def cancelled(self, token_text: str) -> Visit:
        """
        Handle a buyer who left the payment page unpaid.

        :param token_text: the token, from anybody.
        """
        try:
            token = await self._key.token(token_text)
        except InvalidTokenError:
            return UNKNOWN_LINK
        except NoKeyError:
            return Visit(Page.CANCELLED)
        return await self._to_its_end((token, ""), lambda: self._cancelled(token))

    async def _to_its_end(
        self, key: tuple[Token, str], visit: Callable[[], Coroutine[Any, Any, Visit]]
    ) -> Visit:
        """
        Wait for a visit, which goes on when nobody waits any more, and which the same buyer's next look joins.

        :raises TooManyVisitsError: when too many are under way.
        """
        under_way = self._under_way.get(key)
        if under_way is None:
            if len(self._under_way) >= _MOST_UNDER_WAY:
                raise TooManyVisitsError
            under_way = self._under_way[key] = asyncio.create_task(visit())
            under_way.add_done_callback(partial(self._ended, key))
        return await asyncio.shield(under_way)

    def _ended(self, key: tuple[Token, str], visit: asyncio.Task[Visit]) -> None:
        del self._under_way[key]
        if not visit.cancelled() and (error := visit.exception()):
            log.error("A buyer's return to %s could not be handled", key[0], exc_info=error)

    async def _cancelled(self, token: Token) -> Visit:
        found = await self._find(token)
        if found is None:
            return UNKNOWN_LINK
        page = Page.ALREADY_RECORDED if found.purchase.payment_id or found.brought else Page.CANCELLED
        return Visit(page, found.purchase)

    async def _returned(self, token: Token, payment_id: str) -> Visit:
        found = await self._find(token)
        if found is None:
            return UNKNOWN_LINK
        purchase = found.purchase
        if purchase.payment_id == payment_id:
            return Visit(Page.ALREADY_RECORDED, purchase, told=await self._wake(purchase, payment_id))
        finding, why = await self._check(token, purchase, payment_id)
        if finding is Finding.NOT_PAID:
            return Visit(Page.UNCHECKED, purchase)
        if finding is Finding.OTHER:
            log.info("A buyer came back to %s with payment %s: %s", purchase, payment_id, why)
            return UNKNOWN_LINK
        is_verified = finding is Finding.THIS_PURCHASE
        if is_verified and purchase.payment_id is None:
            await self._verify_late(token, found, payment_id)
        brought = await self._bring(token, payment_id, is_verified=is_verified, why=why)
        if brought.is_first and (entered := found.unverified(besides=payment_id, source=Source.ENTERED)):
            log.error(
                "%s was paid with %s, but somebody entered %s for it: if both are real, it was paid twice",
                *(purchase, payment_id, " and ".join(entered)),
            )
        if brought.meaning is Meaning.ANOTHERS:
            return UNKNOWN_LINK
        if brought.meaning is Meaning.TOO_MANY:
            return Visit(Page.UNCHECKED, purchase)
        told = await self._wake(purchase, brought.purchase.payment_id or payment_id)
        if brought.purchase.payment_id is not None and not brought.is_first:
            return Visit(Page.ALREADY_RECORDED, purchase, told=told)
        page = Page.UNCHECKED if finding is Finding.OUT_OF_REACH else Page.PAID
        return Visit(page, purchase, recorded=True, told=told)

    async def _find(self, token: Token) -> Found | None:
        """Return the purchase of a token of ours; None, and a line in the log, when its buyer can't be let in."""
        try:
            return await self._ledger.run(partial(_find, token))
        except (LedgerError, InvalidInputError) as refusal:
            # The token is ours, so somebody may have paid; whoever has it can come as often as they like.
            is_news = token not in self._turned_away and len(self._turned_away) < _MOST_REMEMBERED
            if is_news:
                self._turned_away.add(token)
            level = logging.WARNING if is_news else logging.DEBUG
            log.log(level, "A buyer came back to %s and is turned away: %s", token, refusal)
            return None

    async def _check(self, token: Token, purchase: Purchase, payment_id: str) -> tuple[Finding, str]:
        def ask() -> tuple[Finding, str]:
            return check_payment(waking.settings_of(token.conn_id), payment_id, purchase)

        try:
            async with asyncio.timeout(self._limits.check):
                return await self._carbonmark.run(ask)
        except Exception as error:
            # The connection, mostly: gone, or changed to something that can't be used. A buyer has paid all the same.
            return Finding.OUT_OF_REACH, f"Carbonmark can't be asked ({error!r})"

    async def _verify_late(self, token: Token, found: Found, payment_id: str) -> None:
        """Ask again about ids that couldn't be checked when they came: they may be the payment, before another one takes its place."""
        for earlier in found.unverified(besides=payment_id)[:_ASKED_AGAIN]:
            finding, why = await self._check(token, found.purchase, earlier)
            if finding is Finding.THIS_PURCHASE:
                await self._bring(token, earlier, is_verified=True, why=why)

    async def _bring(self, token: Token, payment_id: str, *, is_verified: bool, why: str) -> Brought:
        brought = await self._ledger.run(partial(_bring, token, payment_id, is_verified=is_verified))
        if brought.is_news:
            _report(brought, why)
        return brought

    async def _wake(self, purchase: Purchase, payment_id: str) -> bool:
        """Wake every task of this Airflow that waits for a purchase; return whether none is left that could not be."""

        def wake() -> bool:
            try:
                return self._waker.wake(_waiting(purchase.id), payment_id)
            except Exception as error:
                self._waker.failed(purchase, payment_id, error)
                return False

        # It goes on when the page waits no longer: nobody else may ever wake them.
        under_way = asyncio.create_task(self._airflow.run(wake))
        self._being_woken.add(under_way)
        under_way.add_done_callback(self._being_woken.discard)
        try:
            async with asyncio.timeout(self._limits.waking):
                return await asyncio.shield(under_way)
        except TimeoutError as error:
            self._waker.failed(purchase, payment_id, error)
            return False


@dataclass(frozen=True)
class Found:
    """
    A purchase as the ledger has it.

    :param brought: the payments that were brought for it, in the order that they came.
    """

    purchase: Purchase
    brought: list[Payment]

    def unverified(self, *, besides: str, source: Source | None = None) -> list[str]:
        """Return the payment ids that nobody could check."""
        return [
            each.payment_id
            for each in self.brought
            if each.verified_at is None and each.payment_id != besides and source in (None, each.source)
        ]


def _signing_key() -> bytes | None:
    with open_ledger() as ledger:
        return ledger.signing_key()


def _find(token: Token) -> Found:
    """
    Return the purchase of a token of ours.

    :raises LedgerError: when there is none, or its buyer comes too late.
    """
    with open_ledger() as ledger:
        purchase = ledger.purchase(token.purchase)
        brought = ledger.payments(purchase.id)
    link = purchase.link
    if link is None or (link.number, link.conn_id) != (token.link, token.conn_id):
        raise LedgerError(f"{purchase} has no such link of this connection")
    # Not what a worker's clock said of the time when the token was made: that may be ahead.
    if datetime.now(UTC) > (ended := link.asked_at + lifetime()):
        raise LedgerError(f"the time of {purchase} ended at {ended} ([carbonmark] return_token_days)")
    return Found(purchase, brought)


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


def _waiting(purchase: int) -> list[Task]:
    """Return the tasks of this Airflow that wait; those of another one look into the ledger themselves."""
    with open_ledger() as ledger:
        return [task for task in ledger.waiting(purchase) if task.run.deployment == deployment()]


def _report(brought: Brought, why: str) -> None:
    """Say in the log what a person may want to know, once."""
    purchase, payment_id = brought.purchase, brought.payment.payment_id
    if brought.meaning in (Meaning.SECOND, Meaning.ANOTHERS):
        is_second = brought.meaning is Meaning.SECOND
        problem = (
            f"it is paid with {purchase.payment_id}, so somebody paid twice" if is_second else brought.why
        )
        log.error(
            "A buyer came back to %s with payment %s, which must be looked at: %s",
            *(purchase, payment_id, problem),
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
