"""
What was planned, linked, paid and retired, in SQL. Nothing is bought twice or forgotten.

Nothing is ever deleted but payment ids that are none, or failed after all.

Nothing is planned twice: a planner reads, in one select, what is covered and the highest line number of each entity and month, works
out what is missing, and inserts it numbered from there on. Of two planners that saw the same, the unique constraint turns one away;
it reads again and finds the tonnes covered.

Every write, and a crash in the middle of it or right after it:

- :meth:`Ledger.plan` closes the purchases that dead runs left without a link and plans them anew in one transaction: before its end
  nothing has happened, and the tonnes still count as covered; after it, the same run planning again finds what it planned.
  Taking up the links of dead runs is a second transaction; cut off before it, the same run does it when it plans again. What the
  run could not carry on, Airflow mapping only so many tasks, is refused in the first and left alone in the second.
- :meth:`Ledger.order` is one transaction: a task that is tried again finds its order.
- :meth:`Ledger.quoted` holds a price against the limits in the transaction that writes it: one that is refused was never written.
- :meth:`Ledger.ask_link` comes before asking Carbonmark. A crash between the two, or before the answer is stored, leaves the request
  and its idempotency key, with which the next try asks again and gets the same link; half an hour later, with another key and for another.
- :meth:`Ledger.link_made` comes before the link is delivered. A link that is not stored was seen by nobody; a purchase whose link is
  stored is never planned again, only taken up. A run that was declared dead and wakes up can't store its link any more.
- :meth:`Ledger.ask_next_link` and :meth:`Ledger.next_link_made` are the same for each link after the first. Until the second of them
  the purchase keeps the link that it has; after it, the other is the current one. Nobody saw what was made in between.
- :meth:`Ledger.bring` is one transaction, before anything else is told of a payment. Cut off before it, the buyer's next visit, or the
  task that follows the payment, brings it again; after it, the task that waits finds it whenever it runs.
- :meth:`Ledger.retired` marks the purchase as one to announce; :meth:`Ledger.announced` comes after Airflow has taken the asset's
  event. A crash between the two announces it once more, in the next run if this one is over; never not at all.
- :meth:`Ledger.keep_projects` and :meth:`Ledger.keep_retirements` are one transaction each; what is not kept is missing, and asked again.
- Every other change is one transaction that first locks the purchase. A task that is cut off before its end finds the purchase as it
  was and says it again; one that is cut off after it says it again without effect.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Table, and_, select

from airflow_provider_carbonmark.ledger import invariants, projects, retirements
from airflow_provider_carbonmark.ledger.changes import files, planning
from airflow_provider_carbonmark.ledger.changes.purchases import Purchases
from airflow_provider_carbonmark.ledger.questions import cancellations, coverage, open_ends
from airflow_provider_carbonmark.ledger.tables.rows import LINE_COLUMNS, LINES, in_states, line_of
from airflow_provider_carbonmark.ledger.tables.schema import (
    allocations,
    metadata,
    origins,
    source_files,
    versions,
)

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.changes.files import FileOfRun
    from airflow_provider_carbonmark.ledger.invariants import Broken
    from airflow_provider_carbonmark.ledger.names import Run, State
    from airflow_provider_carbonmark.ledger.projects import Project
    from airflow_provider_carbonmark.ledger.purchase import Purchase, PurchaseLine
    from airflow_provider_carbonmark.ledger.questions.cancellations import Cancellation
    from airflow_provider_carbonmark.ledger.questions.coverage import Scope
    from airflow_provider_carbonmark.ledger.questions.open_ends import SecondPayment
    from airflow_provider_carbonmark.ledger.retirements import RetirementFacts
    from airflow_provider_carbonmark.ledger.values import Coverage, Plan


class Ledger(Purchases):
    """
    The ledger in a database. Tables are made by the first write; before it, all reading gives nothing.

    :param engine: of a database with transactions that enforces unique keys; tested with PostgreSQL, SQLite and MariaDB.
    :param deployment: which Airflow opens it, of several that may share it.
    """

    def signing_key(self) -> bytes | None:
        """Return what the addresses that buyers come back to are signed with; None where nothing was ever written."""
        identity = self._database.identity()
        return identity.signing_key if identity else None

    @property
    def version(self) -> int:
        """Which version its tables are of; 0 where nothing was ever written."""
        identity = self._database.identity()
        return identity.version if identity else 0

    def reading(self) -> AbstractContextManager[Connection | None]:
        """Give a connection to ask in SQL (:mod:`~airflow_provider_carbonmark.ledger.questions.queries`); None where nothing was ever written."""
        return self._database.reading()

    def plan(self, make: Callable[[Coverage], Plan], scope: Scope) -> list[Purchase]:
        """
        Write down what is to be bought, once, and take up what dead runs of the same DAG left open.

        What a run closes is planned anew in the same transaction.

        :param make: works the plan out; called again when another planner was faster. What it raises passes, and nothing is written.
        :param scope: who plans what.
        :return: the purchases that this run planned, whatever became of them, then those it took up. Planning again moves none of
            the first.
        :raises LedgerError: when the run would have planned more than it can carry on, or others were faster 20 times: in either
            case nothing is written.
        """
        scope = self._with_dead_runs(scope)
        doing = f"Planning {', '.join(scope.months)} for run {scope.run.run_id!r}"
        self._write(doing, planning.plan_once, scope, make)

        def take_up(connection: Connection) -> list[Purchase]:
            planning.take_up(connection, scope)
            return planning.purchases_of_run(connection, scope)

        return self._write(doing, take_up)

    def preview(self, make: Callable[[Coverage], Plan], scope: Scope) -> Plan:
        """Give what :meth:`plan` would write now, or raise what it would; write nothing, not even tables or a file for them."""
        scope = self._with_dead_runs(scope)
        return planning.make_plan(make, scope, self._read(coverage.Reading(), coverage.read_only, scope))

    def _with_dead_runs(self, scope: Scope) -> Scope:
        """Say which runs hold open purchases and are over: asked before any lock is held."""
        holders: dict[Run, datetime] = self._read({}, coverage.holders, scope)
        return replace(scope, dead=tuple(run for run, since in holders.items() if scope.is_over(run, since)))

    def open_purchases(self) -> list[Purchase]:
        """Return what this Airflow's runs hold that is to be paid, retired or announced, and what was paid and failed; by number."""
        return self._read([], open_ends.open_purchases, self._deployment)

    def settled_since(self, time: datetime) -> list[Purchase]:
        """Return what this Airflow's tasks waited for, and that was paid or has ended since then; by number."""
        return self._read([], open_ends.settled_since, self._deployment, time)

    def waiting_since(self, ids: Collection[int]) -> dict[int, datetime]:
        """Return since when purchases can be paid, by number: since their first links were made."""
        return self._read({}, open_ends.waiting_since, ids)

    def second_payments(self, *, month: str | None = None, year: int | None = None) -> list[SecondPayment]:
        """Return what was paid beside the payment that counts, for a month, a year, or ever; by purchase."""
        return self._read([], open_ends.second_payments, *_wanted(allocations, month, year, None, None))

    def broken(self) -> list[Broken]:
        """Return the rows that break what holds of every ledger; see :mod:`~airflow_provider_carbonmark.ledger.invariants`."""
        return self._read([], lambda connection: list(invariants.broken(connection)))

    def cancelled(self, since: datetime, until: datetime, months: tuple[str, str]) -> list[Cancellation]:
        """
        Return what was cancelled from one time on and before another, by when it was; no rehearsals.

        :param months: and, whenever it was, what is for the emissions of the first to the last of these months, ``YYYY-MM``.
        """
        return self._read([], cancellations.cancelled, since, until, months)

    def contracts(self, at: datetime) -> list[Cancellation]:
        """Return what was paid before a time, was not cancelled by then, and has not failed since; no rehearsals."""
        return self._read([], cancellations.contracts, at)

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """
        Give every row of every table with the table's name, those first that others speak of; as they are kept.

        But for the signing key: whoever has it can make addresses that buyers come back to.
        """
        with self.reading() as connection:
            if connection is None:
                return
            for table in metadata.sorted_tables:
                shown = [column for column in table.columns if column is not versions.c.signing_key]
                query = select(*shown).order_by(*table.primary_key)
                for row in connection.execution_options(stream_results=True).execute(query).mappings():
                    yield table.name, dict(row)

    def upgrade(self) -> int:
        """Make the tables, or bring them up to date, and return their version; the first write does it, too."""
        self._database.make_tables()
        return self.version

    def missing_projects(self) -> list[str]:
        """Return the projects of purchases that nothing is known of, such as ``VCS-191``."""
        return self._read([], projects.missing)

    def keep_projects(self, told: Iterable[Project]) -> None:
        """Write down what the market tells of projects; what is known already stays."""
        self._write("Keeping what is told of projects", projects.keep, list(told))

    def projects(self, ids: Collection[str]) -> list[Project]:
        """Return what is known of projects, by their ids."""
        return self._read([], projects.read, ids)

    def missing_retirements(self, *, since: datetime) -> list[int]:
        """
        Return the retired purchases, but for rehearsals, of whose retirements nothing is known, or no serial numbers, by number.

        :param since: what was retired before is not missing for a lack of serial numbers: some credits have none.
        """
        return self._read([], retirements.missing, since)

    def keep_retirements(self, told: Iterable[RetirementFacts]) -> list[RetirementFacts]:
        """
        Write down what the market tells of retirements, and the SHA-256 of certificates that are stored.

        What was told first stays, and what was not told is filled in; of two processes, the second finds what the first wrote.

        :return: what is known of them now, by purchase.
        """
        return self._write("Keeping what is told of retirements", retirements.keep, list(told))

    def retirements(self, ids: Collection[int]) -> list[RetirementFacts]:
        """Return what is known of the retirements of purchases, by their numbers."""
        return self._read([], retirements.read, ids)

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
        wanted = [*_wanted(allocations, month, year, test_mode, dag_ids)]
        wanted += [] if states is None else [in_states(states)]
        key = (allocations.c[name] == origins.c[name] for name in ("entity", "month", "test_mode", "line"))
        rows = LINES.outerjoin(origins, and_(*key))
        query = select(*LINE_COLUMNS).add_columns(origins.c.origin).select_from(rows).where(*wanted)

        def read(connection: Connection) -> list[PurchaseLine]:
            return [line_of(row) for row in connection.execute(query)]

        lines: list[PurchaseLine] = self._read([], read)
        # Sorted here: the databases don't agree on the order of letters.
        return sorted(lines, key=lambda line: (line.month, line.entity, line.test_mode, line.line))

    def files(
        self,
        *,
        month: str | None = None,
        year: int | None = None,
        test_mode: bool | None = None,
        dag_ids: Collection[str] | None = None,
    ) -> list[FileOfRun]:
        """Return the files that emissions were read from, for :meth:`lines` of the same; also those that changed no figure."""
        return self._read([], files.read, [*_wanted(source_files, month, year, test_mode, dag_ids)])


def _wanted(
    table: Table,
    month: str | None,
    year: int | None,
    test_mode: bool | None,
    dag_ids: Collection[str] | None,
) -> Iterator[ColumnElement[bool]]:
    if month is not None:
        yield table.c.month == month
    if year is not None:
        yield table.c.month.between(f"{year:04}-01", f"{year:04}-12")
    if test_mode is not None:
        yield table.c.test_mode == test_mode
    if dag_ids is not None:
        yield table.c.dag_id.in_(dag_ids)
