"""
What is known and said of single purchases: each write one transaction, which first locks the purchase.

:mod:`~airflow_provider_carbonmark.ledger.book` says what a crash in the middle of each leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from airflow_provider_carbonmark.api.inputs import parse_payment_id
from airflow_provider_carbonmark.ledger.changes import bringing, linking, transitions
from airflow_provider_carbonmark.ledger.names import Run, Source, Task
from airflow_provider_carbonmark.ledger.purchase import Link, Order, Payment, Purchase
from airflow_provider_carbonmark.ledger.tables.columns import rounded_up
from airflow_provider_carbonmark.ledger.tables.database import Database
from airflow_provider_carbonmark.ledger.tables.rows import (
    change_purchase,
    find_purchases,
    lock_purchase,
    no_purchase,
    read_links,
    read_payments,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection, Engine

    from airflow_provider_carbonmark.ledger.changes.bringing import Brought
    from airflow_provider_carbonmark.ledger.limits import Limits

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Purchases:
    """The purchases in a ledger."""

    def __init__(self, engine: Engine, deployment: str = "") -> None:
        self._database = Database(engine, deployment)
        self._deployment = deployment

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return self._database.place

    @property
    def id(self) -> str:
        """What tells it from other ledgers; empty where nothing was ever written."""
        identity = self._database.identity()
        return identity.ledger if identity else ""

    def purchase(self, id: int) -> Purchase:
        """Return a purchase. :raises LedgerError: when there is none with that number."""
        return self.purchases([id])[0]

    def purchases(self, ids: Collection[int]) -> list[Purchase]:
        """Return purchases, by number. :raises LedgerError: when there is none with one of these."""
        with self._database.reading() as connection:
            if connection is None and ids:
                raise no_purchase(min(ids), self.place)
            return find_purchases(connection, ids) if connection else []

    def purchase_of(self, task: Task) -> Purchase | None:
        """Return what a task ordered; the latest, when it ordered something else since. None when it ordered nothing."""
        return self._read(None, linking.purchase_of, task)

    def given_up(self, task: Task) -> list[Purchase]:
        """Return what a task ordered before, and gave up for what it orders now; the latest last."""
        return self._read([], linking.given_up, task)

    def links(self, id: int) -> list[Link]:
        """Return the links of a purchase, by number; one beyond the current is asked for, or was not needed."""
        return self._read([], read_links, id)

    def payable_like(self, payment: Mapping[str, Any], *, test_mode: bool) -> list[Purchase]:
        """
        Return the purchases with links and without a payment that ask for what a payment tells of itself, by number.

        :param payment: ``quantity_tonnes`` and ``asset_price_source_id``, each None where it is not told.
        """
        return self._read([], bringing.payable_like, payment, test_mode)

    def payments(self, id: int) -> list[Payment]:
        """Return the payment ids that were brought for a purchase, in the order that they came."""
        return self._read([], read_payments, id)

    def forget_typed(self, id: int, payment_id: str) -> None:
        """Forget that a person typed a payment id for a purchase: it is not its payment. One that was found to be stays."""
        self._write("Forgetting what is no payment", bringing.forget_typed, id, payment_id)

    def paid_with(self, payment_id: str) -> int | None:
        """Return the purchase that a payment counts for; None when it counts for none."""
        return self._read(None, bringing.paid_with, payment_id)

    def waiting(self, id: int) -> list[Task]:
        """Return the tasks that said that they wait for a purchase's payment, the first that did first."""
        return self._read([], bringing.waiting, id)

    def order(
        self, task: Task, order: Order, *, test_mode: bool, now: datetime, instead_of: Purchase | None = None
    ) -> Purchase:
        """
        Write down what a task is to buy where no plan says so; what it ordered before, if it did, stays its order.

        :param instead_of: what it ordered before, which is unpaid and to be given up for this.
        :return: the task's order.
        :raises LedgerError: when somebody brought a payment for that meanwhile.
        """
        doing = f"Ordering for task {task.task_id!r}"
        return self._write(doing, linking.order, task, order, test_mode, now, instead_of)

    def quoted(self, id: int, run: Run, cost_usd: Decimal, limits: Limits | None = None) -> Purchase:
        """
        Write down what the purchase costs by the quote, USD, rounded up to 10^-9; only while it is planned.

        :param limits: of all that its run buys.
        :raises LimitsPassedError: when it would pass one of them; nothing is written, so that it counts for nothing.
        """
        # Whether Carbonmark rounds is not documented: price times quantity in floats has 17 digits.
        cost = rounded_up(cost_usd)
        return self._write_cost(id, lambda purchase: transitions.quoted(purchase, run, cost), limits)

    def ask_link(
        self,
        id: int,
        task: Task,
        request_of: Callable[[int], Mapping[str, Any]],
        *,
        conn_id: str,
        limits: Mapping[str, Any] | None = None,
        now: datetime,
    ) -> Link:
        """
        Write down what Carbonmark is about to be asked for; only while the purchase is planned.

        :param request_of: makes the request for a link's number; the same number gives the same request.
        :param conn_id: the connection that it will be asked with.
        :param limits: what this and each link after it may cost, plain JSON.
        :return: the link to ask for. Its key is that of an earlier try when that sent the same within half an hour and never saw an
            answer: a service that honours the key would refuse it with another request, and answer with an expired page later on.
        :raises HasLinkError: when the purchase has its link.
        """
        doing = f"Asking for the link of purchase {id}"
        return self._write(doing, linking.ask_link, id, task, request_of, conn_id, limits, now)

    def link_made(
        self,
        id: int,
        run: Run,
        asked: Link,
        *,
        url: str,
        payment_id: str | None = None,
        expires_at: datetime | None = None,
        now: datetime,
    ) -> Purchase:
        """
        Write down the link before it is delivered.

        :param asked: what :meth:`ask_link` returned.
        :return: the purchase; if it had a link, whoever made it, then with that one: deliver what the purchase says.
        """
        answer = {"url": url, "payment_id": payment_id, "expires_at": expires_at, "made_at": now}
        return self._write(f"Storing the link of purchase {id}", linking.link_made, id, run, asked, answer)

    def say_unpaid(self, id: int, number: int, *, said_by: str, now: datetime) -> Purchase:
        """
        Write down that somebody said that nobody paid the current link, which can't be paid any more; who said so first stays.

        :param number: that link's number.
        :raises NoNextLinkError: when it can be paid, is paid, or is not to be paid.
        :raises HasLinkError: when another link followed.
        """
        doing = f"Writing down what was said of purchase {id}"
        return self._write(doing, linking.say_unpaid, id, number, said_by, now)

    def requoted(self, id: int, after: int, cost_usd: Decimal, limits: Limits | None = None) -> Purchase:
        """
        Write down what the link after the current one would cost, likewise; without effect once it is made.

        :raises LimitsPassedError: likewise.
        """
        cost = rounded_up(cost_usd)
        return self._write_cost(id, lambda purchase: transitions.requoted(purchase, after, cost), limits)

    def ask_next_link(
        self,
        id: int,
        after: int,
        request_of: Callable[[Link, int], Mapping[str, Any]],
        *,
        cost_usd: Decimal,
        now: datetime,
    ) -> Link:
        """
        Write down what Carbonmark is about to be asked for in place of the current link.

        :param after: the current link's number, of which somebody said that nobody paid it.
        :param request_of: makes the request of that link and the next one's number; the same gives the same.
        :return: the link to ask for; one that was asked for in the same words keeps its key, as in :meth:`ask_link`.
        :raises NoNextLinkError: as :meth:`say_unpaid`.
        :raises HasLinkError: likewise.
        """
        doing = f"Asking for link {after + 1} of purchase {id}"
        cost = rounded_up(cost_usd)
        return self._write(doing, linking.ask_next_link, id, after, request_of, cost, now)

    def next_link_made(
        self,
        id: int,
        asked: Link,
        *,
        url: str,
        payment_id: str | None = None,
        expires_at: datetime | None = None,
        now: datetime,
    ) -> Purchase:
        """
        Put the next link into the place of the current one, before anybody sees it.

        :param asked: what :meth:`ask_next_link` returned.
        :return: the purchase; lead people only to the link that it says. It keeps the one it has where it was paid or declined
            meanwhile, or has its next link from somebody else.
        """
        answer = {"url": url, "payment_id": payment_id, "expires_at": expires_at, "made_at": now}
        return self._write(
            f"Storing link {asked.number} of purchase {id}", linking.next_link_made, id, asked, answer
        )

    def ends_unpaid(self, id: int, reason: str, *, now: datetime) -> Purchase:
        """Write down that what nobody paid, as somebody said, can't be bought any more; its tonnes are no longer covered."""
        return self._change(id, lambda purchase: transitions.ends_unpaid(purchase, reason, now))

    def awaits(self, id: int, task: Task, *, now: datetime) -> None:
        """Write down that a task waits for a purchase's payment, to be woken when it comes."""
        self._write(f"Waiting for the payment of purchase {id}", bringing.awaits, id, task, now)

    def bring(
        self,
        id: int,
        link: int,
        payment_id: str,
        *,
        source: Source,
        brought_by: str | None = None,
        verified: bool,
        now: datetime,
    ) -> Brought:
        """
        Write down a payment that somebody brought for a link, and what it means for the purchase, in one transaction.

        :param link: the link's number.
        :param verified: whether Carbonmark said that it is for this link: then, if it is the first, the purchase is paid with it.
        :raises LedgerError: when the purchase never had such a link.
        """
        payment = Payment(
            payment_id=parse_payment_id(payment_id),
            link=link,
            source=source,
            brought_by=brought_by,
            brought_at=now,
            verified_at=now if verified else None,
        )
        doing = f"Recording payment {payment_id!r} of purchase {id}"
        return self._write(doing, bringing.bring, id, payment, now)

    def paid(self, id: int, payment_id: str, *, now: datetime) -> Purchase:
        """
        Write down that a purchase's link is paid, as Carbonmark says to a task that follows the payment; the first payment id stays.

        :raises LedgerError: when it is paid with another payment, or the payment is another purchase's.
        """
        purchase = self.purchase(id)
        if purchase.payment_id == payment_id:
            return purchase
        current = purchase.link.number if purchase.link else 0
        of_links = (each.link for each in self.payments(id) if each.payment_id == payment_id)
        number = next(of_links, current)
        brought = self.bring(id, number, payment_id, source=Source.WATCHED, verified=True, now=now)
        return brought.checked()

    def payment_failed(self, id: int, payment_id: str) -> Purchase:
        """Write down that the payment that a purchase was paid with failed after all, and is none: it is what it was before."""
        doing = f"Taking payment {payment_id!r} of purchase {id} back"
        return self._write(doing, bringing.payment_failed, id, payment_id)

    def retired(
        self, id: int, retirement: Mapping[str, Any], *, now: datetime, announcing: bool = False
    ) -> Purchase:
        """
        Write down a proven retirement.

        :param retirement: what ``CarbonmarkRetirementSensor`` returned.
        :param announcing: whether the caller is about to tell others, and then says :meth:`announced`. If it never does, a later run
            takes the purchase up and announces it.
        :raises LedgerError: when it is of another payment, quantity or mode than the purchase.
        """
        purchase = self.purchase(id)
        if transitions.retired(purchase, retirement, now, announcing=announcing):
            self.paid(id, str(retirement.get("payment_id")), now=now)
        return self._change(
            id, lambda purchase: transitions.retired(purchase, retirement, now, announcing=announcing)
        )

    def credits_told(self, id: int, project_id: str, vintage: int | None) -> Purchase:
        """Write down which credits were bought, as far as no plan said so."""
        told = {"project_id": project_id, "registry": project_id.partition("-")[0], "vintage": vintage}
        return self._change(id, lambda purchase: {} if purchase.project_id else told)

    def announced(self, id: int) -> Purchase:
        """Write down that whoever waits for retirements was told of this one."""
        return self._change(id, transitions.announced)

    def reminded(self, id: int, *, now: datetime) -> Purchase:
        """Write down that somebody was reminded of a purchase that waits to be paid."""
        return self._change(id, lambda purchase: {"reminded_at": now})

    def failed(self, id: int, reason: str, *, now: datetime, run: Run | None = None) -> Purchase:
        """
        Write down that nothing will come of the purchase; its tonnes are no longer covered.

        :param run: the run that gives up a purchase that has no link; None says that Carbonmark failed a paid one.
        """
        return self._change(id, lambda purchase: transitions.failed(purchase, reason, now, run))

    def declined(self, id: int, run: Run, reason: str, *, now: datetime) -> Purchase:
        """Write down that somebody declined to pay; its tonnes are no longer covered."""
        return self._change(id, lambda purchase: transitions.declined(purchase, run, reason, now))

    def _change(self, id: int, rule: Callable[[Purchase], transitions.Changes]) -> Purchase:
        def change(connection: Connection) -> Purchase:
            purchase = lock_purchase(connection, id)
            return change_purchase(connection, purchase, rule(purchase))

        return self._write(f"Changing purchase {id}", change)

    def _write_cost(
        self, id: int, rule: Callable[[Purchase], transitions.Changes], limits: Limits | None
    ) -> Purchase:
        return self._write(f"Writing down what purchase {id} costs", linking.write_cost, id, rule, limits)

    def _read(self, otherwise: T, query: Callable[[Connection, *Ts], T], *args: *Ts) -> T:
        """Return what a query finds; something else where nothing was ever written."""
        with self._database.reading() as connection:
            return query(connection, *args) if connection else otherwise

    def _write(self, doing: str, act: Callable[[Connection, *Ts], T], *args: *Ts) -> T:
        """Act in a transaction of its own."""
        return self._database.in_transaction(lambda connection: act(connection, *args), doing)
