"""
What was planned, linked, paid and retired, in SQL. Nothing is ever deleted, and nothing is bought twice or forgotten.

Nothing is planned twice: a planner reads, in one select, what is covered and the highest line number of each entity and month, works
out what is missing, and inserts it numbered from there on. Of two planners that saw the same, the unique constraint turns one away;
it reads again and finds the tonnes covered.

Every write, and a crash in the middle of it or right after it:

- :meth:`Ledger.plan` closes the purchases that dead runs left without a link and plans them anew in one transaction: before its end
  nothing has happened, and the tonnes still count as covered; after it, the same run planning again finds what it planned.
  Taking up the links of dead runs is a second transaction; cut off before it, the same run does it when it plans again. What the
  run could not carry on, Airflow mapping only so many tasks, is refused in the first and left alone in the second.
- :meth:`Ledger.order` is one transaction: a task that is tried again finds its order.
- :meth:`Ledger.ask_link` comes before asking Carbonmark. A crash between the two, or before the answer is stored, leaves the request
  and its idempotency key, with which the next try asks again and gets the same link.
- :meth:`Ledger.link_made` comes before the link is delivered. A link that is not stored was seen by nobody; a purchase whose link is
  stored is never planned again, only taken up. A run that was declared dead and wakes up can't store its link any more.
- :meth:`Ledger.bring` is one transaction, before anything else is told of a payment. Cut off before it, the buyer's next visit, or the
  task that follows the payment, brings it again; after it, the task that waits finds it whenever it runs.
- :meth:`Ledger.retired` marks the purchase as one to announce; :meth:`Ledger.announced` comes after Airflow has taken the asset's
  event. A crash between the two announces it once more, in the next run if this one is over; never not at all.
- Every other change is one transaction that first locks the purchase. A task that is cut off before its end finds the purchase as it
  was and says it again; one that is cut off after it says it again without effect.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from sqlalchemy import Connection, Engine, select

from airflow_provider_carbonmark.api.inputs import parse_payment_id
from airflow_provider_carbonmark.ledger import bringing, coverage, linking, planning, transitions
from airflow_provider_carbonmark.ledger.columns import rounded_up
from airflow_provider_carbonmark.ledger.database import Database
from airflow_provider_carbonmark.ledger.purchase import (
    Link,
    Order,
    Payment,
    Purchase,
    PurchaseLine,
    Run,
    Source,
    State,
    Task,
)
from airflow_provider_carbonmark.ledger.rows import (
    LINE_COLUMNS,
    LINES,
    change_purchase,
    find_purchases,
    in_states,
    line_of,
    lock_purchase,
    no_purchase,
    read_payments,
)
from airflow_provider_carbonmark.ledger.schema import allocations

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.bringing import Brought
    from airflow_provider_carbonmark.ledger.values import Coverage, Plan

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Ledger:
    """
    The ledger in a database. Tables are made by the first write; before it, all reading gives nothing.

    :param engine: of a database with transactions that enforces unique keys; tested with PostgreSQL, SQLite and MariaDB.
    :param deployment: which Airflow opens it, of several that may share it.
    """

    def __init__(self, engine: Engine, deployment: str = "") -> None:
        self._database = Database(engine, deployment)

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return self._database.place

    @property
    def id(self) -> str:
        """What tells it from other ledgers; empty where nothing was ever written."""
        identity = self._database.identity()
        return identity.ledger if identity else ""

    def signing_key(self) -> bytes | None:
        """Return what the addresses that buyers come back to are signed with; None where nothing was ever written."""
        identity = self._database.identity()
        return identity.signing_key if identity else None

    def reading(self) -> AbstractContextManager[Connection | None]:
        """Give a connection to ask in SQL (:mod:`~airflow_provider_carbonmark.ledger.queries`); None where nothing was ever written."""
        return self._database.reading()

    def plan(
        self,
        make: Callable[[Coverage], Plan],
        *,
        run: Run,
        months: Collection[str],
        test_mode: bool,
        is_over: Callable[[Run, datetime], bool],
        now: datetime,
        at_most: int = sys.maxsize,
        catch_up: bool = True,
        take_over: Collection[str] = (),
    ) -> list[Purchase]:
        """
        Write down what is to be bought, once, and take up what dead runs of the same DAG left open.

        What a run closes is planned anew in the same transaction.

        :param make: works the plan out; called again when another planner was faster. What it raises passes, and nothing is written.
        :param run: the planning run.
        :param months: those whose emissions are planned, ``YYYY-MM``.
        :param test_mode: purchases of the other mode are left alone.
        :param is_over: whether a run of the same DAG, which holds purchases since that time, carries nothing on any more.
        :param at_most: purchases that a run can carry on. Links of dead runs that don't fit are left to a later run, and the log
            says so.
        :param catch_up: whether to plan also what is missing of earlier months that the DAG planned, whatever the cause.
        :param take_over: other DAGs, renamed or removed, whose dead runs are taken for those of this one.
        :return: the purchases that this run planned, whatever became of them, then those it took up. Planning again moves none of
            the first.
        :raises LedgerError: when the run would have planned more than it can carry on, or others were faster 20 times: in either
            case nothing is written.
        """
        scope = self._scope(run, months, test_mode, is_over, at_most, catch_up, take_over)
        doing = f"Planning {', '.join(months)} for run {run.run_id!r}"
        self._write(doing, planning.plan_once, scope, make, now)

        def take_up(connection: Connection) -> list[Purchase]:
            planning.take_up(connection, scope, now)
            return planning.purchases_of_run(connection, scope)

        return self._write(doing, take_up)

    def preview(
        self,
        make: Callable[[Coverage], Plan],
        *,
        run: Run,
        months: Collection[str],
        test_mode: bool,
        is_over: Callable[[Run, datetime], bool],
        at_most: int = sys.maxsize,
        catch_up: bool = True,
        take_over: Collection[str] = (),
    ) -> Plan:
        """Give what :meth:`plan` would write now, or raise what it would; write nothing, not even tables or a file for them."""
        scope = self._scope(run, months, test_mode, is_over, at_most, catch_up, take_over)
        return planning.make_plan(make, scope, self._read(coverage.Reading(), coverage.read_only, scope))

    def _scope(
        self,
        run: Run,
        months: Collection[str],
        test_mode: bool,
        is_over: Callable[[Run, datetime], bool],
        at_most: int,
        catch_up: bool,
        take_over: Collection[str],
    ) -> coverage.Scope:
        """Say who plans what. Which runs hold open purchases and are over is asked before any lock is held."""
        coverage.check_months(months)
        scope = coverage.Scope(run, tuple(months), test_mode, (), at_most, catch_up, tuple(take_over))
        holders: dict[Run, datetime] = self._read({}, coverage.holders, run, test_mode, scope.dag_ids)
        return replace(scope, dead=tuple(one for one, since in holders.items() if is_over(one, since)))

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
        return self._read(None, linking.ordered, task)

    def given_up(self, task: Task) -> list[Purchase]:
        """Return what a task ordered before, and gave up for what it orders now; the latest last."""
        return self._read([], linking.given_up, task)

    def run_costs(self, run: Run, *, test_mode: bool) -> tuple[Decimal, Mapping[str, Decimal]]:
        """Return what the purchases cost that a run planned, in all and by entity; USD, as quoted last."""
        nothing: tuple[Decimal, Mapping[str, Decimal]] = (Decimal(0), {})
        return self._read(nothing, coverage.run_costs, run, test_mode)

    def payments(self, id: int) -> list[Payment]:
        """Return the payment ids that were brought for a purchase, in the order that they came."""
        return self._read([], read_payments, id)

    def waiting(self, id: int) -> list[Task]:
        """Return the tasks that said that they wait for a purchase's payment."""
        return self._read([], bringing.waiting, id)

    def lines(
        self,
        *,
        month: str | None = None,
        year: int | None = None,
        test_mode: bool | None = None,
        states: Collection[State] | None = None,
        dag_ids: Collection[str] | None = None,
    ) -> list[PurchaseLine]:
        """
        Return the lines, ``restated`` ones too, by month, entity and line; None lets all through, an empty collection none.

        :param year: all its months, such as 2026.
        :param dag_ids: the DAGs whose runs planned them.
        """
        c = allocations.c
        wanted = (
            None if month is None else c.month == month,
            None if year is None else c.month.between(f"{year:04}-01", f"{year:04}-12"),
            None if test_mode is None else c.test_mode == test_mode,
            None if states is None else in_states(states),
            None if dag_ids is None else c.dag_id.in_(dag_ids),
        )
        query = select(*LINE_COLUMNS).select_from(LINES).where(*(one for one in wanted if one is not None))

        def read(connection: Connection) -> list[PurchaseLine]:
            return [line_of(row) for row in connection.execute(query)]

        lines: list[PurchaseLine] = self._read([], read)
        # Sorted here: the databases don't agree on the order of letters.
        return sorted(lines, key=lambda line: (line.month, line.entity, line.test_mode, line.line))

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
        return self._write(doing, linking.order_once, task, order, test_mode, now, instead_of)

    def quoted(self, id: int, run: Run, cost_usd: Decimal) -> Purchase:
        """Write down what the purchase costs by the quote, USD, rounded up to 10^-9; only while it is planned."""
        # Whether Carbonmark rounds is not documented: price times quantity in floats has 17 digits.
        cost = rounded_up(cost_usd)
        return self._change(id, lambda purchase: transitions.quoted(purchase, run, cost))

    def ask_link(
        self,
        id: int,
        task: Task,
        request_of: Callable[[int], Mapping[str, Any]],
        *,
        conn_id: str,
        now: datetime,
    ) -> Link:
        """
        Write down what Carbonmark is about to be asked for; only while the purchase is planned.

        :param request_of: makes the request for a link's number; the same number gives the same request.
        :param conn_id: the connection that it will be asked with.
        :return: the link to ask for. Its key is that of an earlier try when that sent the same and never saw an answer: a service
            that honours the key would refuse it with another request.
        :raises HasLinkError: when the purchase has its link.
        """
        doing = f"Asking for the link of purchase {id}"
        return self._write(doing, linking.ask_link, id, task, request_of, conn_id, now)

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
        return self._write(f"Storing the link of purchase {id}", linking.store_link, id, run, asked, answer)

    def awaits(self, id: int, task: Task, *, now: datetime) -> None:
        """Write down that a task waits for a purchase's payment, to be woken when it comes."""
        self._write(f"Waiting for the payment of purchase {id}", bringing.say_waits, id, task, now)

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
        transitions.paid(purchase, payment_id, now)
        if purchase.payment_id == payment_id:
            return purchase
        number = purchase.link.number if purchase.link else 0
        brought = self.bring(id, number, payment_id, source=Source.WATCHED, verified=True, now=now)
        return brought.checked()

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

    def announced(self, id: int) -> Purchase:
        """Write down that whoever waits for retirements was told of this one."""
        return self._change(id, transitions.announced)

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

    def _read(self, otherwise: T, query: Callable[[Connection, *Ts], T], *args: *Ts) -> T:
        """Return what a query finds; something else where nothing was ever written."""
        with self._database.reading() as connection:
            return query(connection, *args) if connection else otherwise

    def _write(self, doing: str, act: Callable[[Connection, *Ts], T], *args: *Ts) -> T:
        """Act in a transaction of its own."""
        return self._database.in_transaction(lambda connection: act(connection, *args), doing)
