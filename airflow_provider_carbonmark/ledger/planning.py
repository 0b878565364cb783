"""The SQL of planning: what is covered, what dead runs left behind, and the new purchases. Transactions are the caller's."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    false,
    func,
    insert,
    not_,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.exc import IntegrityError

from airflow_provider_carbonmark.api.inputs import QUANTITY_STEP
from airflow_provider_carbonmark.ledger.columns import rounded_up
from airflow_provider_carbonmark.ledger.database import OutrunError
from airflow_provider_carbonmark.ledger.purchase import COVERING, OPEN, LedgerError, Purchase, Run, State
from airflow_provider_carbonmark.ledger.rows import in_batches, new_id, read_purchases, run_values
from airflow_provider_carbonmark.ledger.schema import TO_ANNOUNCE, allocations, purchases
from airflow_provider_carbonmark.ledger.values import Coverage, Covered, Need, Plan, PlannedLine, Restated

log = logging.getLogger(__name__)

#: The registry whose credits retire in whole tonnes only, as ``Listing.whole_tonnes_only`` has it.
_WHOLE_TONNES_REGISTRY: Final = "PUR"
_LONGEST_ENTITY = 255
_LINK_OPEN = OPEN - {State.PLANNED}
#: What is paid is being retired, and gone from the market.
_UNPAID: Final = OPEN - {State.PAID}

_p = purchases.c
_a = allocations.c
_BOTH: Final = allocations.outerjoin(purchases, _a.purchase_id == _p.id)
#: Not those that a task ordered without a plan: no plan takes them up.
_PLANNED: Final = _p.task_id.is_(None)

Key = tuple[str, str]  # entity and month


@dataclass(frozen=True)
class Scope:
    """
    Who plans what.

    :param run: the planning run.
    :param months: those asked for.
    :param test_mode: the mode of all purchases that are looked at.
    :param dead: the runs, of the same DAG, that carry nothing on any more.
    :param at_most: purchases that the run can carry on.
    """

    run: Run
    months: tuple[str, ...]
    test_mode: bool
    dead: tuple[Run, ...]
    at_most: int

    def purchases(self, *, taken_up: bool) -> ColumnElement[bool]:
        """Return which purchases the run planned, or took up too."""
        of_run = _is_run(self.run)
        if taken_up:
            of_run = or_(of_run, _is_run(self.run, "handler_"))
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
        by_deployment: dict[str, list[str]] = {}
        for run in self.dead:
            by_deployment.setdefault(run.deployment, []).append(run.run_id)
        held = [
            and_(_p.handler_deployment == deployment, _p.handler_run_id.in_(run_ids))
            for deployment, run_ids in by_deployment.items()
        ]
        of_dag = _p.handler_dag_id == self.run.dag_id
        return and_(of_dag, or_(false(), *held), _p.test_mode == self.test_mode, _PLANNED)


@dataclass(frozen=True)
class Reading:
    """
    What a plan is based on.

    :param coverage: what the plan's maker gets.
    :param months: which months were read: those asked for and those of abandoned purchases.
    :param highest: the highest line number by entity and month.
    :param own: how many purchases the run planned before.
    """

    coverage: Coverage = Coverage()
    months: Collection[str] = ()
    highest: Mapping[Key, int] = field(default_factory=dict)
    own: int = 0


def check_months(months: Collection[str]) -> None:
    if isinstance(months, str):
        raise LedgerError(f'months is one text, {months!r}: give a list, such as ["2026-10"]')


def holders(connection: Connection, run: Run, test_mode: bool) -> dict[Run, datetime]:
    """Return the other runs of the DAG that hold open purchases, or retirements that nobody was told of; and since when."""
    runs = _p.handler_deployment, _p.handler_run_id
    others = select(*runs, func.max(_p.handled_since)).group_by(*runs)
    others = others.where(
        _p.handler_dag_id == run.dag_id,
        not_(_is_run(run, "handler_")),
        _p.test_mode == test_mode,
        _PLANNED,
    )
    # Two questions, each with an index of its own.
    found: dict[Run, datetime] = {}
    for query in (others.where(_p.state.in_(OPEN)), others.where(TO_ANNOUNCE)):
        for deployment, run_id, since in connection.execute(query):
            holder = Run(run.dag_id, run_id, deployment)
            found[holder] = max(since, found.get(holder, since))
    return dict(sorted(found.items(), key=lambda item: (item[0].deployment, item[0].run_id)))


def plan_once(connection: Connection, scope: Scope, make: Callable[[Coverage], Plan], now: datetime) -> None:
    """
    Close what dead runs left without a link, read what is covered without that, and write the plan that is made of it.

    :raises OutrunError: when another planner was faster.
    """
    reading = _close_and_read(connection, scope, now)
    made = make_plan(make, scope, reading)
    try:
        _insert_plan(connection, scope, reading, made, now)
    except IntegrityError as clash:
        connection.rollback()
        if _was_outrun(connection, scope, reading):
            raise OutrunError("Another planner wrote lines of the same entities and months first") from clash
        raise


def read_only(connection: Connection, scope: Scope) -> Reading:
    """Read as a plan does, and close nothing."""
    left = scope.left_open({State.PLANNED})
    query = select(_a.entity, _a.month, _a.quantity_tonnes).select_from(_BOTH).where(left)
    # Of a figure without a purchase nothing is left.
    kept = or_(_a.purchase_id.is_(None), not_(left))
    return _read(connection, scope, _added_up(connection.execute(query).all()), kept)


def make_plan(make: Callable[[Coverage], Plan], scope: Scope, reading: Reading) -> Plan:
    """Have the plan made. :raises LedgerError: when it has more purchases than the run can carry on."""
    plan = make(reading.coverage)
    number = reading.own + len(plan.lines)
    if number > scope.at_most:
        before = f", of which it planned {reading.own} before" if reading.own else ""
        raise LedgerError(
            f"Run {scope.run.run_id!r} would have {number} purchases{before}, and a run can have {scope.at_most}. Nothing "
            "was planned: raise Airflow's [core] max_map_length, or plan fewer entities or months in one run"
        )
    return plan


def take_up(connection: Connection, scope: Scope, now: datetime) -> None:
    """
    Take up what dead runs left to carry on, the oldest first, as many as the run can carry on besides its own purchases.

    Of two runs that try, the second finds them handled by the first.
    """
    if not scope.dead:
        return
    links = scope.to_take_up
    room = max(0, scope.at_most - _count(connection, scope.purchases(taken_up=True)))
    handled = run_values(scope.run, "handler_") | {"handled_since": now, "revision": _p.revision + 1}
    for ids in in_batches(_locked(connection, links, room)):
        connection.execute(update(purchases).values(handled).where(_p.id.in_(ids), links))
    _tell_left(scope, _count(connection, links))


def purchases_of_run(connection: Connection, ledger: str, scope: Scope) -> list[Purchase]:
    """
    Return what a run planned, then what it took up.

    A task's map index is the place in this list. A run makes links of its own purchases only, so these come first, in the order that
    they were planned in: whatever it takes up, and loses to another run, moves none of them. A run that took links up and plans more
    when it is cleared may have too many: its last links are left out, and taken up by another run when it is over.
    """
    found = read_purchases(connection, ledger, scope.purchases(taken_up=True))
    found.sort(key=lambda purchase: (purchase.run != scope.run, purchase.planned_at, _lines_of(purchase)))
    _tell_left(scope, len(found[scope.at_most :]))
    return found[: scope.at_most]


def _lines_of(purchase: Purchase) -> list[tuple[str, str, int]]:
    return [(share.entity, share.month, share.line) for share in purchase.allocations]


def _is_run(run: Run, role: str = "") -> ColumnElement[bool]:
    return and_(*(purchases.c[name] == value for name, value in run_values(run, role).items()))


def _close_and_read(connection: Connection, scope: Scope, now: datetime) -> Reading:
    left = scope.left_open({State.PLANNED})
    abandoned = _locked(connection, left) if scope.dead else []
    closed = update(purchases).values(
        state=State.FAILED,
        reason=f"Its run ended before it delivered a link; run {scope.run.run_id!r} planned anew what was missing",
        failed_at=now,
        revision=_p.revision + 1,
    )
    shares: list[Sequence[Any]] = []
    for ids in in_batches(abandoned):
        if connection.execute(closed.where(_p.id.in_(ids), left)).rowcount != len(ids):
            raise OutrunError(f"Purchases that run {scope.run.run_id!r} was closing were changed meanwhile")
        query = select(_a.entity, _a.month, _a.quantity_tonnes).where(_a.purchase_id.in_(ids))
        shares += connection.execute(query).all()
    return _read(connection, scope, _added_up(shares), kept=true())


def _locked(
    connection: Connection, condition: ColumnElement[bool], at_most: int | None = None
) -> Sequence[int]:
    """Return the purchases that are to be changed, oldest first, locked till the transaction ends where the database can."""
    # In the same order by all, so that no two processes wait for each other. SQLite has one writer anyway.
    in_order = select(_p.id).where(condition).order_by(_p.planned_at, _p.id).limit(at_most)
    return connection.scalars(in_order.with_for_update()).all()


def _added_up(shares: Iterable[Sequence[Any]]) -> Mapping[Key, Decimal]:
    tonnes: dict[Key, Decimal] = {}
    for entity, month, quantity in shares:
        tonnes[entity, month] = tonnes.get((entity, month), Decimal(0)) + quantity
    return tonnes


def _read(
    connection: Connection, scope: Scope, abandoned: Mapping[Key, Decimal], kept: ColumnElement[bool]
) -> Reading:
    covering = and_(_p.state.in_(COVERING), kept)
    months = {*scope.months, *(month for _, month in abandoned)}
    of_key: dict[str, Any] = {"partition_by": (_a.entity, _a.month)}
    is_whole = and_(covering, _p.registry == _WHOLE_TONNES_REGISTRY)
    rows = (
        select(
            _a.entity,
            _a.month,
            _a.line,
            _a.emitted_tonnes,
            func.row_number().over(**of_key, order_by=_a.line.desc()).label("from_last"),
            func.sum(case((covering, _a.quantity_tonnes))).over(**of_key).label("covered_tonnes"),
            func.count(case((is_whole, _a.id))).over(**of_key).label("whole_tonnes"),
            func.count(case((_a.dag_id == scope.run.dag_id, _a.id))).over(**of_key).label("of_dag"),
        )
        .select_from(_BOTH)
        .where(_a.month.in_(months), _a.test_mode == scope.test_mode)
        .subquery()
    )
    covered: dict[Key, Covered] = {}
    highest: dict[Key, int] = {}
    own = set()
    for row in connection.execute(select(rows).where(rows.c.from_last == 1)):
        key = row.entity, row.month
        covered[key] = Covered(row.covered_tonnes or Decimal(0), row.emitted_tonnes, bool(row.whole_tonnes))
        highest[key] = row.line
        if row.of_dag and row.month in scope.months:
            own.add(key)
    costs = _run_costs(connection, scope, covering)
    coverage = Coverage(
        covered=covered,
        abandoned=_needs(scope, abandoned, covered),
        run_cost_usd=sum(costs.values(), Decimal(0)),
        run_cost_by_entity=costs,
        promised=_promised(connection, scope, kept),
        own=own,
    )
    return Reading(coverage, months, highest, own=_count(connection, scope.purchases(taken_up=False)))


def _count(connection: Connection, condition: ColumnElement[bool]) -> int:
    return connection.scalar(select(func.count(_p.id)).where(condition)) or 0


def _promised(connection: Connection, scope: Scope, kept: ColumnElement[bool]) -> dict[str, Decimal]:
    # On PostgreSQL two that plan at once don't see each other's: should the supply not do for both, the second quote is refused,
    # and its purchase planned elsewhere.
    query = (
        select(_p.asset_price_source_id, func.sum(_a.quantity_tonnes))
        .select_from(_BOTH)
        .where(_p.state.in_(_UNPAID), _p.test_mode == scope.test_mode, kept)
        .group_by(_p.asset_price_source_id)
    )
    return {listing: tonnes for listing, tonnes in connection.execute(query)}


def _run_costs(connection: Connection, scope: Scope, covering: ColumnElement[bool]) -> dict[str, Decimal]:
    query = (
        select(_a.entity, func.sum(_p.cost_usd))
        .select_from(_BOTH)
        .where(scope.purchases(taken_up=False), covering)
        .group_by(_a.entity)
    )
    return {entity: cost for entity, cost in connection.execute(query)}


def _needs(
    scope: Scope, abandoned: Mapping[Key, Decimal], covered: Mapping[Key, Covered]
) -> tuple[Need, ...]:
    """Return what to plan again: no more than was abandoned, nor than the month's figure of today still asks for."""
    needs = []
    for (entity, month), quantity in sorted(abandoned.items()):
        if month in scope.months:  # its emissions are planned anyway
            continue
        known = covered[entity, month]
        emitted = known.emitted_tonnes or Decimal(0)
        missing = emitted.quantize(QUANTITY_STEP, ROUND_CEILING) - known.covered_tonnes
        if (tonnes := min(quantity, missing)) > 0:
            needs.append(Need(entity, month, emitted, tonnes))
    return tuple(needs)


def _insert_plan(connection: Connection, scope: Scope, reading: Reading, plan: Plan, now: datetime) -> None:
    """Insert a plan's purchases and restated figures. :raises IntegrityError: when another planner took a line's number first."""
    lines = Counter(reading.highest)
    bought: list[dict[str, Any]] = []
    shares: list[dict[str, Any]] = []
    # Inserted in the same order by all, so that no two planners wait for each other.
    stated_all: list[PlannedLine | Restated] = [*plan.lines, *plan.restated]
    for stated in sorted(stated_all, key=lambda one: (one.entity, one.month)):
        _check(stated.entity, stated.month, reading)
        lines[stated.entity, stated.month] += 1
        share = {
            "purchase_id": None,
            "entity": stated.entity,
            "month": stated.month,
            "test_mode": scope.test_mode,
            "line": lines[stated.entity, stated.month],
            "emitted_tonnes": rounded_up(stated.emitted_tonnes),
            "quantity_tonnes": Decimal(0),
            "stated_at": now,
            **run_values(scope.run),
        }
        if isinstance(stated, PlannedLine):
            purchase = _purchase(scope, stated, now)
            bought.append(purchase)
            share |= {"purchase_id": purchase["id"], "quantity_tonnes": stated.quantity_tonnes}
        shares.append(share)
    for table, rows in ((purchases, bought), (allocations, shares)):
        if rows:
            connection.execute(insert(table), rows)


def _purchase(scope: Scope, line: PlannedLine, now: datetime) -> dict[str, Any]:
    of_line = (
        "asset_price_source_id",
        "project_id",
        "registry",
        "vintage",
        "quantity_tonnes",
        "unit_price_usd",
        "cost_usd",
        "beneficiary_name",
        "retirement_message",
    )
    return {
        "id": new_id(),
        "test_mode": scope.test_mode,
        **{name: getattr(line, name) for name in of_line},
        "state": State.PLANNED,
        "planned_at": now,
        **run_values(scope.run),
        **run_values(scope.run, "handler_"),
        "handled_since": now,
    }


def _was_outrun(connection: Connection, scope: Scope, reading: Reading) -> bool:
    """Tell whether another planner inserted lines after the reading."""
    of_months = _a.month.in_(reading.months), _a.test_mode == scope.test_mode
    highest = select(_a.entity, _a.month, func.max(_a.line)).where(*of_months).group_by(_a.entity, _a.month)
    return any(
        line > reading.highest.get((entity, month), 0) for entity, month, line in connection.execute(highest)
    )


def _check(entity: str, month: str, reading: Reading) -> None:
    if month not in reading.months:
        raise LedgerError(
            f"The plan has a line of {entity} for {month}, but only {', '.join(sorted(reading.months))} were asked for: "
            "name every month whose emissions are planned"
        )
    if not 0 < len(entity) <= _LONGEST_ENTITY:
        raise LedgerError(
            f"An entity of {month} has {len(entity)} characters, {entity[:80]!r}…: give it 1 to {_LONGEST_ENTITY}"
        )


def _tell_left(scope: Scope, links: int) -> None:
    if links:
        log.warning(
            "%d links of ended runs are left for a later run: run %r can carry on %d purchases ([core] max_map_length)",
            *(links, scope.run.run_id, scope.at_most),
        )
