"""
What all visits of buyers share: who may say what, what the ledger and Carbonmark say of it, who is woken.

Runs in the API server, called by anybody. Nothing is looked up before a token's signature holds. Whatever hangs, a visit goes on to its end
when its page has given up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.hooks.ledger import open_ledger
from airflow_provider_carbonmark.hooks.payment_check import Checked, Finding, check_payment
from airflow_provider_carbonmark.hooks.return_url import lifetime
from airflow_provider_carbonmark.hooks.runs import is_of_this_airflow
from airflow_provider_carbonmark.ledger.names import OPEN, LedgerError
from airflow_provider_carbonmark.web import waking
from airflow_provider_carbonmark.web.buyers.ledger_key import LedgerKey
from airflow_provider_carbonmark.web.buyers.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Hashable

    from airflow_provider_carbonmark.hooks.return_url import Token
    from airflow_provider_carbonmark.ledger.names import Source, Task
    from airflow_provider_carbonmark.ledger.projects import Project
    from airflow_provider_carbonmark.ledger.purchase import Link, Payment, Purchase

log = logging.getLogger(__name__)

T = TypeVar("T")

# Buyers at once. They have threads of their own, so that a slow Carbonmark doesn't hold up Airflow's API, nor those who need the ledger.
_AT_ONCE: Final = 10
_HANGING: Final = 40
# Visits that may wait for what hangs. Each is of somebody with a link of ours; the same visit again waits for the first.
_MOST_UNDER_WAY: Final = 500
_MOST_REMEMBERED: Final = 1000


class TooManyVisitsError(Exception):
    """More buyers wait for what hangs than are let in."""


class TurnedAwayError(Exception):
    """Whoever comes has no link of ours, or comes too late for it: they are told no more than strangers."""


@dataclass(frozen=True)
class Limits:
    """
    How long something may take, in seconds.

    :param page: until a buyer is shown a page.
    :param check: until Carbonmark counts as out of reach.
    :param waking: until the page says that nobody was told.
    :param hanging: until a thread counts as hanging, and makes room for another.
    :param stuck: until nobody waits any longer for a visit, or for the key, whose connection may be dead: the next look begins another.
    :param key_again: between two readings of the ledger's key, where there is one.
    :param key_retry: the same, where there is none.
    """

    page: float = 13.0
    check: float = 8.0
    waking: float = 3.0
    hanging: float = 15.0
    stuck: float = 60.0
    key_again: float = 60.0
    key_retry: float = 2.0


@dataclass(frozen=True)
class Found:
    """
    A purchase as the ledger has it.

    :param project: what the market says of its project; None where nothing is known.
    :param brought: the payments that were brought for it, in the order that they came.
    """

    purchase: Purchase
    project: Project | None
    links: list[Link]
    brought: list[Payment]

    def unverified(self, *, besides: str = "", source: Source | None = None) -> list[Payment]:
        """Return the payments that nobody could check."""
        return [
            each
            for each in self.brought
            if each.verified_at is None and each.payment_id != besides and source in (None, each.source)
        ]


class Desk:
    """Where buyers are served. Belongs to one event loop."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.ledger, self.carbonmark, self._airflow = (
            Threads(_AT_ONCE, hanging=_HANGING, seconds=limits.hanging) for _ in range(3)
        )
        self.key = LedgerKey(self._read_key, again=limits.key_again, retry=limits.key_retry)
        self._waker = waking.Waker()
        self._turned_away: set[Hashable] = set()
        self._visits: set[asyncio.Task[Any]] = set()
        self._under_way: dict[Hashable, asyncio.Task[Any]] = {}
        self._being_woken: set[asyncio.Task[bool]] = set()

    async def to_its_end(self, key: Hashable, visit: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """
        Wait for a visit, which goes on when nobody waits any more, and which the same buyer's next look joins.

        :param key: what tells it from other visits.
        :raises TooManyVisitsError: when too many are under way.
        """
        under_way = self._under_way.get(key)
        if under_way is None:
            if len(self._visits) >= _MOST_UNDER_WAY:
                raise TooManyVisitsError
            under_way = self._under_way[key] = asyncio.create_task(visit())
            self._visits.add(under_way)
            under_way.add_done_callback(partial(self._ended, key))
            asyncio.get_running_loop().call_later(self.limits.stuck, self._let_go, key, under_way)
        # Not asyncio.shield: since Python 3.14 it logs what a visit ends with when its page has given up, those turned away included.
        await asyncio.wait((under_way,))
        found: T = under_way.result()
        return found

    def _let_go(self, key: Hashable, visit: asyncio.Task[Any]) -> None:
        if self._under_way.get(key) is visit:
            del self._under_way[key]

    def _ended(self, key: Hashable, visit: asyncio.Task[Any]) -> None:
        self._visits.discard(visit)
        self._let_go(key, visit)
        error = None if visit.cancelled() else visit.exception()
        if error and not isinstance(error, TurnedAwayError):
            log.error("A buyer's visit to %s could not be handled", key, exc_info=error)

    async def _read_key(self) -> bytes | None:
        # Everybody waits for the same reading.
        async with asyncio.timeout(self.limits.stuck):
            return await self.ledger.run(_signing_key)

    async def find(self, purchase: int, token: Token | None = None) -> Found:
        """
        Return a purchase.

        :param token: of the return URL that the buyer came to; None for the pay address.
        :raises TurnedAwayError: when its buyer can't be let in; the log says why.
        """
        try:
            return await self.ledger.run(partial(_find, purchase, token))
        except (LedgerError, InvalidInputError) as refusal:
            # The token is ours, so somebody may have paid; whoever has it can come as often as they like.
            key = token or purchase
            is_news = key not in self._turned_away and len(self._turned_away) < _MOST_REMEMBERED
            if is_news:
                self._turned_away.add(key)
            level = logging.WARNING if is_news else logging.DEBUG
            log.log(level, "A buyer came to %s and is turned away: %s", key, refusal)
            raise TurnedAwayError from refusal

    async def check(self, conn_id: str, found: Found, payment_id: str, number: int) -> Checked:
        """Ask Carbonmark, in time, about a payment that is said to be for the link of this number."""

        def ask() -> Checked:
            return check_payment(waking.settings_of(conn_id), payment_id, found.purchase, found.links, number)

        try:
            async with asyncio.timeout(self.limits.check):
                return await self.carbonmark.run(ask)
        except Exception as error:
            # The connection, mostly: gone, or changed to something that can't be used. A buyer has paid all the same.
            return Checked(Finding.OUT_OF_REACH, f"Carbonmark can't be asked ({error!r})")

    async def wake(self, purchase: Purchase, payment_id: str | None) -> bool:
        """
        Wake every task of this Airflow that waits for a purchase; return whether none is left that could not be.

        :param payment_id: the payment; None where the purchase has ended without one.
        """

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
            async with asyncio.timeout(self.limits.waking):
                return await asyncio.shield(under_way)
        except TimeoutError as error:
            self._waker.failed(purchase, payment_id, error)
            return False

    async def show(self, purchase: int, task_key: str, text: str) -> None:
        """Have the open request of a task that waits for a purchase shown with another text; raise what that fails of."""

        def show() -> None:
            for task in _waiting(purchase):
                if task.key == task_key:
                    waking.show(task, text)

        await self._airflow.run(show)


def _signing_key() -> bytes | None:
    with open_ledger() as ledger:
        return ledger.signing_key()


def _find(id: int, token: Token | None) -> Found:
    """
    Return a purchase of ours.

    :raises LedgerError: when there is none, or its buyer comes too late.
    """
    with open_ledger() as ledger:
        purchase = ledger.purchase(id)
        links, brought = ledger.links(id), ledger.payments(id)
        project = next(iter(ledger.projects([purchase.project_id or ""])), None)
    if token is None:
        over = purchase.retired_at or purchase.failed_at or purchase.declined_at
        begun = None if purchase.state in OPEN else over
    else:
        link = next((each for each in links if each.number == token.link), None)
        if link is None or link.conn_id != token.conn_id:
            raise LedgerError(f"{purchase} has no such link of this connection")
        # Not what a worker's clock said of the time when the token was made: that may be ahead.
        begun = link.asked_at
    if begun and datetime.now(UTC) > (ended := begun + lifetime()):
        raise LedgerError(f"the time of {purchase} ended at {ended} ([carbonmark] return_token_days)")
    return Found(purchase, project, links, brought)


def _waiting(purchase: int) -> list[Task]:
    """Return the tasks of this Airflow that wait; those of another one look into the ledger themselves."""
    with open_ledger() as ledger:
        return [task for task in ledger.waiting(purchase) if is_of_this_airflow(task.run)]
