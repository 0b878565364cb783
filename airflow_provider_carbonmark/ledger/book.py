"""
What was planned, bought and retired, in SQL: a row per purchase line, which is never deleted.

Nothing is planned twice. A planner reads, in one select, what is covered and the highest line number of each entity and month, works
out what is missing, and inserts it numbered from there on. Of two planners that saw the same, the unique constraint turns one away;
it reads again and finds the tonnes covered.

Every write, and a crash in the middle of it or right after it:

- Making the tables: one transaction, behind a lock. Where the database commits after each table, as MySQL does, the row that tells
  the version comes last; before it the ledger counts as not there, and the next write makes what is missing.
- :meth:`Ledger.plan` closes the lines that dead runs left without a link and plans them anew in one transaction: before its end
  nothing has happened, and the tonnes still count as covered; after it, the same run planning again finds what it planned.
  Taking up the links of dead runs is a second transaction; cut off before it, the same run does it when it plans again. What the
  run could not carry on, Airflow mapping only so many tasks, is refused in the first and left alone in the second.
- :meth:`Ledger.intend_link` comes before asking Carbonmark. A crash between the two, or before the answer is stored, leaves the request
  and its idempotency key, with which the next try asks again and gets the same link.
- :meth:`Ledger.link_made` comes before the link is delivered. A link that is not stored was seen by nobody; a line whose link is stored
  is never planned again, only taken up. A run that was declared dead and wakes up can't store its link any more.
- :meth:`Ledger.retired` marks the line as one to announce; :meth:`Ledger.announced` comes after Airflow has taken the asset's event. A
  crash between the two announces it once more, in the next run if this one is over; never not at all.
- Every other change sets state and facts of one line in one statement, if the line is still as it was read. A task that is
  cut off before it finds the line as it was and says it again; one that is cut off after it says it again without effect.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Engine, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from airflow_provider_carbonmark.ledger import planning, transitions
from airflow_provider_carbonmark.ledger.database import (
    OutrunError,
    has_schema,
    is_deadlock,
    is_there,
    make_schema,
    sqlite_file,
)
from airflow_provider_carbonmark.ledger.schema import (
    LedgerError,
    PurchaseLine,
    Run,
    State,
    purchases,
    rounded_up,
)

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.values import Coverage, Plan

log = logging.getLogger(__name__)

_ATTEMPTS = 20
_BUSY_MILLISECONDS = 30_000

_Result = TypeVar("_Result")


class Ledger:
    """
    The ledger in a database. Tables are made by the first write; before it, all reading gives nothing.

    :param engine: of a database with transactions that enforces unique keys; the first write tries that out. It is tested with
        PostgreSQL, SQLite and MariaDB. Every call takes a connection for its own time only.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._has_schema = False

    def plan(
        self,
        make: Callable[[Coverage], Plan],
        *,
        run: Run,
        months: Collection[str],
        test_mode: bool,
        is_over: Callable[[Run], bool],
        now: datetime,
        at_most: int = sys.maxsize,
    ) -> list[PurchaseLine]:
        """
        Write down what is to be bought, once, and take up what dead runs of the same DAG left open.

        :param make: works the plan out; called again when another planner was faster. What it raises passes, and nothing is written.
        :param run: the planning run.
        :param months: those whose emissions are planned, ``YYYY-MM``.
        :param test_mode: lines of the other mode are left alone.
        :param is_over: whether a run of the same DAG carries nothing on any more.
        :param at_most: lines that a run can carry on. Links of dead runs that don't fit are left to a later run, and the log says so.
        :return: the lines that this run planned, whatever became of them, then those it took up. Planning again moves none of the first.
        :raises LedgerError: when the run would have planned more lines than it can carry on, or others were faster 20 times: in
            either case nothing is written.
        """
        planning.check_months(months)
        self._make_schema()
        dead = self._dead(run, test_mode, is_over)
        scope = planning.Scope(run, tuple(months), test_mode, dead, at_most)
        doing = f"Planning {', '.join(months)} for run {run.run_id!r}"
        self._in_transaction(lambda connection: self._plan_once(connection, scope, make, now), doing)

        def take_up(connection: Connection) -> list[PurchaseLine]:
            planning.take_up(connection, scope, now)
            return planning.lines_of_run(connection, scope)

        return self._in_transaction(take_up, doing)

    def _plan_once(
        self,
        connection: Connection,
        scope: planning.Scope,
        make: Callable[[Coverage], Plan],
        now: datetime,
    ) -> None:
        reading = planning.close_and_read(connection, scope, now)
        made = planning.make_plan(make, scope, reading)
        try:
            planning.insert_plan(connection, scope, reading, made, now)
        except IntegrityError as clash:
            connection.rollback()
            if planning.was_outrun(connection, scope, reading):
                raise OutrunError(
                    "Another planner wrote lines of the same entities and months first"
                ) from clash
            raise

    def preview(
        self,
        make: Callable[[Coverage], Plan],
        *,
        run: Run,
        months: Collection[str],
        test_mode: bool,
        is_over: Callable[[Run], bool],
        at_most: int = sys.maxsize,
    ) -> Plan:
        """Give what :meth:`plan` would write now, or raise what it would; write nothing, not even tables or a file for them."""
        planning.check_months(months)
        dead = self._dead(run, test_mode, is_over)
        scope = planning.Scope(run, tuple(months), test_mode, dead, at_most)
        with self._reading() as connection:
            reading = planning.read_only(connection, scope) if connection else planning.Reading()
        return planning.make_plan(make, scope, reading)

    def _dead(self, run: Run, test_mode: bool, is_over: Callable[[Run], bool]) -> tuple[str, ...]:
        """Return which runs of the DAG hold open lines and are over; asked before any lock is held."""
        with self._reading() as connection:
            holders = planning.holders(connection, run, test_mode) if connection else []
        return tuple(run_id for run_id in holders if is_over(Run(run.dag_id, run_id)))

    def line(self, id: int) -> PurchaseLine:
        """Return a line. :raises LedgerError: when there is none with that id."""
        with self._reading() as connection:
            return _line(connection, id)

    def line_of_link(self, run: Run, task_id: str, map_index: int) -> PurchaseLine | None:
        """Return the line whose link a task made; None when it made none."""
        its_run = purchases.c.dag_id == run.dag_id, purchases.c.run_id == run.run_id
        query = select(purchases).where(*its_run, purchases.c.checkout.is_not(None))
        with self._reading() as connection:
            rows = connection.execute(query).all() if connection else []
        for line in map(PurchaseLine.from_row, rows):
            made = line.checkout or {}
            if (made.get("task_id"), made.get("map_index")) == (task_id, map_index):
                return line
        return None

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
        c = purchases.c
        wanted = (
            None if month is None else c.month == month,
            None if year is None else c.month.between(f"{year:04}-01", f"{year:04}-12"),
            None if test_mode is None else c.test_mode == test_mode,
            None if states is None else c.state.in_(states),
            None if dag_ids is None else c.dag_id.in_(dag_ids),
        )
        query = select(purchases).where(*(one for one in wanted if one is not None))
        with self._reading() as connection:
            rows = connection.execute(query).all() if connection else []
        # Sorted here: the databases don't agree on the order of letters.
        found = [PurchaseLine.from_row(row) for row in rows]
        return sorted(found, key=lambda line: (line.month, line.entity, line.test_mode, line.line))

    def quoted(self, id: int, run: Run, cost_usd: Decimal) -> PurchaseLine:
        """Write down what the line costs by the quote, USD, rounded up to 10^-9; only while it is planned."""
        # Whether Carbonmark rounds is not documented: price times quantity in floats has 17 digits.
        cost = rounded_up(cost_usd)
        return self._change(id, lambda line: transitions.quoted(line, run, cost))

    def intend_link(
        self, id: int, run: Run, request: Mapping[str, Any], idempotency_key: str
    ) -> PurchaseLine:
        """Write down what Carbonmark is about to be asked for; only while the line is planned."""
        return self._change(id, lambda line: transitions.link_intended(line, run, request, idempotency_key))

    def link_made(self, id: int, run: Run, checkout: Mapping[str, Any], *, now: datetime) -> PurchaseLine:
        """
        Write down the link before it is delivered.

        :param checkout: the dict of ``CarbonmarkCreateCheckoutOperator``.
        :return: the line; if it had a link, whoever made it, then with that one: deliver what the line says.
        """
        return self._change(id, lambda line: transitions.link_made(line, run, checkout, now))

    def claimed(self, id: int, payment_id: str) -> PurchaseLine:
        """Write down with which payment a person says to have paid, for the runs that come after; without effect on a paid line."""
        return self._change(id, lambda line: transitions.claimed(line, payment_id))

    def paid(self, id: int, payment_id: str, *, now: datetime) -> PurchaseLine:
        """Write down that somebody paid; the first payment id stays."""
        return self._pay(id, payment_id, lambda line: transitions.paid(line, payment_id, now))

    def retired(
        self, id: int, retirement: Mapping[str, Any], *, now: datetime, announcing: bool = False
    ) -> PurchaseLine:
        """
        Write down a proven retirement.

        :param retirement: what ``CarbonmarkRetirementSensor`` returned.
        :param announcing: whether the caller is about to tell others, and then says :meth:`announced`. If it never does, a later run
            takes the line up and announces it.
        :raises LedgerError: when it is of another payment, quantity or mode than the line.
        """
        payment_id = str(retirement.get("payment_id"))
        return self._pay(
            id, payment_id, lambda line: transitions.retired(line, retirement, now, announcing=announcing)
        )

    def announced(self, id: int) -> PurchaseLine:
        """Write down that whoever waits for retirements was told of this one."""
        return self._change(id, transitions.announced)

    def failed(self, id: int, reason: str, *, now: datetime, run: Run | None = None) -> PurchaseLine:
        """
        Write down that nothing will come of the line; its tonnes are no longer covered.

        :param run: the run that gives up a line that has no link; None says that Carbonmark failed a paid one.
        """
        return self._change(id, lambda line: transitions.failed(line, reason, now, run))

    def declined(self, id: int, run: Run, reason: str, *, now: datetime) -> PurchaseLine:
        """Write down that somebody declined to pay; its tonnes are no longer covered."""
        return self._change(id, lambda line: transitions.declined(line, run, reason, now))

    def _pay(
        self, id: int, payment_id: str, rule: Callable[[PurchaseLine], transitions.Changes]
    ) -> PurchaseLine:
        try:
            return self._change(id, rule)
        except IntegrityError as error:
            with self._reading() as connection:
                query = select(purchases).where(purchases.c.payment_id == payment_id)
                row = connection.execute(query).one_or_none() if connection else None
            if row is None:
                raise
            other = PurchaseLine.from_row(row)
            raise transitions.for_a_person(
                f"Line {id} can't have payment {payment_id!r}: it is that of {other}, which is {other.state}, and one payment "
                "buys one line; check at Carbonmark what it bought"
            ) from error

    def _change(self, id: int, rule: Callable[[PurchaseLine], transitions.Changes]) -> PurchaseLine:
        """Change a line by a rule, as one compare-and-set: if another was faster, the rule is asked again."""
        self._make_schema()

        def change(connection: Connection) -> PurchaseLine:
            line = _line(connection, id)
            changes = rule(line)
            if not changes:
                return line
            unchanged = (
                purchases.c.id == id,
                purchases.c.state == line.state,
                purchases.c.handler_run_id == line.handler.run_id,
            )
            if connection.execute(update(purchases).where(*unchanged).values(**changes)).rowcount != 1:
                raise OutrunError(f"Line {id} was changed meanwhile")
            return _line(connection, id)

        return self._in_transaction(change, f"Changing line {id}")

    def _make_schema(self) -> None:
        if self._has_schema:
            return
        with self._reading() as connection:
            found = connection is not None
        if not found:
            if file := sqlite_file(self._engine):
                file.parent.mkdir(parents=True, exist_ok=True)
            self._use_wal()
            with self._writing() as connection:
                make_schema(connection)
        self._has_schema = True

    def _use_wal(self) -> None:
        """Let SQLite's readers go on while somebody writes; the file remembers."""
        if self._engine.dialect.name == "sqlite":
            # Another process may be at it already, and SQLite doesn't always wait for that.
            with self._connected() as connection, suppress(OperationalError):
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                # Python's driver would begin a transaction only at the first change, after what it was based on was read.
                connection.execution_options(isolation_level="AUTOCOMMIT")
                connection.exec_driver_sql(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
            else:
                # A planner that is turned away must see, on reading again, what turned it away.
                connection.execution_options(isolation_level="READ COMMITTED")
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection | None]:
        """Give a connection, or None where there are no tables yet; makes none, nor a file for them."""
        if not is_there(self._engine):
            yield None
            return
        with self._connected() as connection:
            self._has_schema = self._has_schema or has_schema(connection)
            yield connection if self._has_schema else None

    def _in_transaction(self, act: Callable[[Connection], _Result], doing: str) -> _Result:
        """Act in a transaction; if another process was faster, once more, from the start."""
        for _ in range(_ATTEMPTS):
            try:
                with self._writing() as connection:
                    return act(connection)
            except OutrunError as outrun:
                log.info("%s; reading again", outrun)
        raise LedgerError(
            f"{doing}: others were faster {_ATTEMPTS} times; try again, with fewer runs at once"
        )

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Give a connection in a transaction that is all or nothing; on SQLite with the write lock from its start."""
        with self._connected() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.commit()
            except BaseException as error:
                connection.rollback()
                if isinstance(error, DBAPIError) and is_deadlock(error):
                    raise OutrunError("Another process held what was to be changed") from error
                raise


def _line(connection: Connection | None, id: int) -> PurchaseLine:
    query = select(purchases).where(purchases.c.id == id)
    row = connection.execute(query).one_or_none() if connection else None
    if row is None:
        raise LedgerError(f"The ledger has no line {id}: give the id of a line that it returned")
    return PurchaseLine.from_row(row)
