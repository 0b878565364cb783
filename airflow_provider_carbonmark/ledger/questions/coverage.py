"""What is known before a plan is made: what is covered, what dead runs left behind, what the run spends already."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, case, false, func, not_, or_, select, true

from airflow_provider_carbonmark.ledger.names import COVERING, OPEN, LedgerError, Run, State
from airflow_provider_carbonmark.ledger.tables.columns import AMOUNT_LIMIT
from airflow_provider_carbonmark.ledger.tables.rows import in_batches, run_values
from airflow_provider_carbonmark.ledger.tables.schema import (
    TO_ANNOUNCE,
    TO_CATCH_UP,
    allocations,
    links,
    origins,
    purchases,
)
from airflow_provider_carbonmark.ledger.values import UNSTATED, Coverage, Covered, Need, Origin

_LINK_OPEN = OPEN - {State.PLANNED}
#: What is paid is being retired, and gone from the market.
_UNPAID: Final = OPEN - {State.PAID}

_p = purchases.c
_a = allocations.c
_BOTH: Final = allocations.outerjoin(purchases, _a.purchase_id == _p.id)
#: Not those that a task ordered without a plan: no plan takes them up.
_PLANNED: Final = _p.task_id.is_(None)
#: What is paid or may be: also what failed after its payment.
_SPENT: Final = or_(_p.state.in_(COVERING), _p.payment_id.is_not(None))

Key = tuple[str, str]  # entity and month


@dataclass(frozen=True, kw_only=True)
class Scope:
    """
    Who plans what.

    :param months: those whose emissions are planned, ``YYYY-MM``.
    :param test_mode: purchases of the other mode are left alone.
    :param is_over: whether a run of the same DAG, which holds purchases since that time, carries nothing on any more.
    :param now: when it plans: links that can't be paid any more take nothing off the market.
    :param at_most: purchases that a run can carry on. Links of dead runs that don't fit are left to a later run, and the log
        says so.
    :param catch_up: whether to plan also what is missing of earlier months that the DAG planned, whatever the cause.
    :param take_over: other DAGs, renamed or removed, whose dead runs are taken for those of this one.
    :param dead: the runs that are over, of those that hold something; the ledger finds them.
    :raises LedgerError: when the months are one text.
    """

    run: Run
    months: Collection[str]
    test_mode: bool
    is_over: Callable[[Run, datetime], bool]
    now: datetime
    at_most: int = sys.maxsize
    catch_up: bool = True
    take_over: Collection[str] = ()
    dead: Collection[Run] = ()

    def __post_init__(self) -> None:
        if isinstance(self.months, str):
            raise LedgerError(f'months is one text, {self.months!r}: give a list, such as ["2026-10"]')

    @property
    def dag_ids(self) -> tuple[str, ...]:
        return self.run.dag_id, *self.take_over

    def purchases(self, *, taken_up: bool) -> ColumnElement[bool]:
        """Return which purchases the run planned, or took up too."""
        of_run = is_run(self.run)
        if taken_up:
            of_run = or_(of_run, is_run(self.run, "handler_"))
        return and_(of_run, _p.test_mode == self.test_mode, _PLANNED)

    def left_open(self, states: Collection[State]) -> ColumnElement[bool]:
        """Return which purchases a dead run holds in these states."""
        return and_(self._left, _p.state.in_(states))

    @property
    def to_take_up(self) -> ColumnElement[bool]:
        """Which purchases a dead run holds that are to be carried on: its links, and the retirements that nobody was told of."""
        return and_(self._left, or_(_p.state.in_(_LINK_OPEN), TO_ANNOUNCE))

    @property
    def _left(self) -> ColumnElement[bool]:
        by_dag: dict[tuple[str, str], list[str]] = {}
        for run in self.dead:
            by_dag.setdefault((run.deployment, run.dag_id), []).append(run.run_id)
        held = [
            and_(_p.handler_deployment == deployment, _p.handler_dag_id == dag_id, _p.handler_run_id.in_(ids))
            for (deployment, dag_id), ids in by_dag.items()
        ]
        return and_(or_(false(), *held), _p.test_mode == self.test_mode, _PLANNED)


@dataclass(frozen=True)
class Reading:
    """
    What a plan is based on.

    :param coverage: what the plan's maker gets.
    :param months: which months were read: those asked for and those of abandoned purchases.
    :param highest: the highest line number by entity and month.
    :param own: how many purchases the run planned before.
    :param caught_up: allocations of which nothing is missing any more, by id.
    """

    coverage: Coverage = Coverage()
    months: Collection[str] = ()
    highest: Mapping[Key, int] = field(default_factory=dict)
    own: int = 0
    caught_up: Sequence[int] = ()


def holders(connection: Connection, scope: Scope) -> dict[Run, datetime]:
    """Return the other runs of the DAGs that hold open purchases, or retirements that nobody was told of; and since when."""
    runs = _p.handler_deployment, _p.handler_dag_id, _p.handler_run_id
    others = select(*runs, func.max(_p.handled_since)).group_by(*runs)
    others = others.where(
        _p.handler_dag_id.in_(scope.dag_ids),
        not_(is_run(scope.run, "handler_")),
        _p.test_mode == scope.test_mode,
        _PLANNED,
    )
    # Two questions, each with an index of its own.
    found: dict[Run, datetime] = {}
    for query in (others.where(_p.state.in_(OPEN)), others.where(TO_ANNOUNCE)):
        for deployment, dag_id, run_id, since in connection.execute(query):
            holder = Run(dag_id, run_id, deployment)
            found[holder] = max(since, found.get(holder, since))
    return dict(sorted(found.items(), key=lambda item: astuple(item[0])))


def is_run(run: Run, role: str = "") -> ColumnElement[bool]:
    return and_(*(purchases.c[name] == value for name, value in run_values(run, role).items()))


def read_only(connection: Connection, scope: Scope) -> Reading:
    """Read as a plan does, and close nothing."""
    left = scope.left_open({State.PLANNED})
    query = select(_a.entity, _a.month, _a.quantity_tonnes).select_from(_BOTH).where(left)
    return read(connection, scope, connection.execute(query).all(), not_(left))


def _lacking(
    connection: Connection, scope: Scope, kept: ColumnElement[bool]
) -> tuple[set[Key], Sequence[int]]:
    """
    Return of which earlier entities and months something is missing, and the allocations of those that were looked at in vain.

    Looked at is what was declined, failed, or left to a later plan, until nothing is missing. Nothing is of those that their month's
    emissions left out since: they may go by another name, under which their tonnes were bought.
    """
    of_scope = _a.deployment == scope.run.deployment, _a.dag_id.in_(scope.dag_ids)
    earlier = _a.month < max(scope.months, default=""), _a.month.not_in(scope.months)
    ended = (*of_scope, *earlier, _a.test_mode == scope.test_mode, TO_CATCH_UP)
    # Asked first: what ends after it is looked at next time.
    looked_at = connection.execute(select(_a.id, _a.entity, _a.month).where(*ended).order_by(_a.id)).all()
    keys = select(_a.entity, _a.month).where(*ended).distinct().subquery()
    covering = and_(_p.state.in_(COVERING), kept)
    is_key = and_(_a.entity == keys.c.entity, _a.month == keys.c.month, _a.test_mode == scope.test_mode)
    rows = select(
        _a.entity,
        _a.month,
        func.sum(case((covering, _a.quantity_tonnes))).label("covered_tonnes"),
        func.max(_a.line).label("line"),
    ).select_from(_BOTH.join(keys, is_key))
    sums = rows.group_by(_a.entity, _a.month).subquery()
    is_last = and_(_a.entity == sums.c.entity, _a.month == sums.c.month, _a.line == sums.c.line)
    last = select(_a.entity, _a.month, _a.emitted_tonnes, _a.reason, sums.c.covered_tonnes).select_from(
        allocations.join(sums, is_last)
    )
    found = connection.execute(last.where(_a.test_mode == scope.test_mode))
    lacking = {
        (entity, month)
        for entity, month, emitted, reason, covered in found
        if emitted > (covered or 0) and reason != UNSTATED
    }
    return lacking, [id for id, *key in looked_at if tuple(key) not in lacking]


def _added_up(shares: Iterable[Sequence[Any]]) -> Mapping[Key, Decimal]:
    tonnes: dict[Key, Decimal] = {}
    for entity, month, quantity in shares:
        tonnes[entity, month] = tonnes.get((entity, month), Decimal(0)) + quantity
    return tonnes


def read(
    connection: Connection, scope: Scope, left: Iterable[Sequence[Any]], kept: ColumnElement[bool]
) -> Reading:
    """
    Read what a plan is based on.

    :param left: entity, month and tonnes of what dead runs left without a link.
    :param kept: which purchases count.
    """
    lacking, caught_up = _lacking(connection, scope, kept) if scope.catch_up else (set(), ())
    abandoned = {**_added_up(left), **dict.fromkeys(lacking, AMOUNT_LIMIT)}
    covering = and_(_p.state.in_(COVERING), kept)
    months = {*scope.months, *(month for _, month in abandoned)}
    of_key: dict[str, Any] = {"partition_by": (_a.entity, _a.month)}
    of_dag = and_(_a.deployment == scope.run.deployment, _a.dag_id.in_(scope.dag_ids))
    rows = (
        select(
            _a.entity,
            _a.month,
            _a.line,
            _a.emitted_tonnes,
            _a.reason,
            func.row_number().over(**of_key, order_by=_a.line.desc()).label("from_last"),
            func.sum(case((covering, _a.quantity_tonnes))).over(**of_key).label("covered_tonnes"),
            func.count(case((of_dag, _a.id))).over(**of_key).label("of_dag"),
            func.count(case((and_(_p.state.in_(OPEN), kept), _a.id))).over(**of_key).label("open"),
        )
        .select_from(_BOTH)
        .where(_a.month.in_(months), _a.test_mode == scope.test_mode)
        .subquery()
    )
    covered: dict[Key, Covered] = {}
    highest: dict[Key, int] = {}
    own, unsettled = set(), set()
    for row in connection.execute(select(rows).where(rows.c.from_last == 1)):
        key = row.entity, row.month
        covered[key] = Covered(row.covered_tonnes or Decimal(0), row.emitted_tonnes, row.reason)
        highest[key] = row.line
        if row.of_dag and row.month in scope.months:
            own.add(key)
            if row.open or row.emitted_tonnes > covered[key].covered_tonnes:
                unsettled.add(key)
    run_cost, by_entity = run_costs(connection, scope.run, scope.test_mode)
    coverage = Coverage(
        covered=covered,
        abandoned=_needs(abandoned, covered),
        run_cost_usd=run_cost,
        run_cost_by_entity=by_entity,
        promised=_promised(connection, scope, kept),
        own=own,
        unsettled=unsettled,
        origins=_origins(connection, scope, {*abandoned, *unsettled}, highest),
    )
    own_purchases = count(connection, scope.purchases(taken_up=False))
    return Reading(coverage, months, highest, own_purchases, caught_up)


def _origins(
    connection: Connection, scope: Scope, keys: Collection[Key], highest: Mapping[Key, int]
) -> dict[Key, Origin]:
    """Return where the figures known last are from, of these entities and months."""
    o, months = origins.c, {month for _, month in keys}
    found: dict[Key, Origin] = {}
    for entities in in_batches(sorted({entity for entity, _ in keys})):
        of_keys = o.entity.in_(entities), o.month.in_(months), o.test_mode == scope.test_mode
        for row in connection.execute(select(origins).where(*of_keys)):
            key = row.entity, row.month
            if key in keys and row.line == highest[key]:
                found[key] = row.origin
    return found


def count(connection: Connection, condition: ColumnElement[bool]) -> int:
    return connection.scalar(select(func.count(_p.id)).where(condition)) or 0


def _promised(connection: Connection, scope: Scope, kept: ColumnElement[bool]) -> dict[str, Decimal]:
    # On PostgreSQL two that plan at once don't see each other's: should the supply not do for both, the second quote is refused,
    # and its purchase planned elsewhere.
    expired = and_(_p.state == State.LINK_MADE, links.c.expires_at <= scope.now)
    query = (
        select(_p.asset_price_source_id, func.sum(_p.quantity_tonnes))
        .select_from(purchases.outerjoin(links, links.c.current_of == _p.id))
        .where(
            _p.state.in_(_UNPAID), _p.test_mode == scope.test_mode, kept, func.coalesce(not_(expired), true())
        )
        .group_by(_p.asset_price_source_id)
    )
    return {listing: tonnes for listing, tonnes in connection.execute(query)}


def run_costs(connection: Connection, run: Run, test_mode: bool) -> tuple[Decimal, Mapping[str, Decimal]]:
    """Return what a run's purchases cost that are paid or may be, in all and by entity; USD as quoted last."""
    spent = and_(is_run(run), _p.test_mode == test_mode, _PLANNED, _SPENT)
    cost = connection.scalar(select(func.sum(_p.cost_usd)).where(spent))
    by_entity = select(_a.entity, func.sum(_a.cost_usd)).select_from(_BOTH).where(spent).group_by(_a.entity)
    return cost or Decimal(0), {entity: part for entity, part in connection.execute(by_entity)}


def _needs(abandoned: Mapping[Key, Decimal], covered: Mapping[Key, Covered]) -> tuple[Need, ...]:
    """Return what to plan again: no more than was abandoned, nor than the month's figure of today still asks for."""
    needs = []
    for (entity, month), quantity in sorted(abandoned.items()):
        known = covered[entity, month]
        emitted = known.emitted_tonnes or Decimal(0)
        missing = emitted - known.covered_tonnes
        if (tonnes := min(quantity, missing)) > 0:
            needs.append(Need(entity, month, emitted, tonnes))
    return tuple(needs)
