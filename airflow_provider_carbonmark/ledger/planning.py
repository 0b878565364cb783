"""The SQL of planning: what is covered, what dead runs left behind, and the new lines. Transactions are the caller's."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    case,
    func,
    insert,
    not_,
    or_,
    select,
    true,
    union,
    update,
)

from airflow_provider_carbonmark.api.inputs import QUANTITY_STEP
from airflow_provider_carbonmark.ledger.database import OutrunError
from airflow_provider_carbonmark.ledger.schema import (
    COVERING,
    OPEN,
    TO_ANNOUNCE,
    LedgerError,
    PurchaseLine,
    Run,
    State,
    purchases,
    rounded_up,
)
from airflow_provider_carbonmark.ledger.values import Coverage, Covered, Need, Plan

log = logging.getLogger(__name__)

#: The registry whose credits retire in whole tonnes only, as ``Listing.whole_tonnes_only`` has it.
_WHOLE_TONNES_REGISTRY: Final = "PUR"
_LONGEST_ENTITY = 255
_LINK_OPEN = OPEN - {State.PLANNED}
#: What is paid is being retired, and gone from the market.
_UNPAID: Final = OPEN - {State.PAID}
#: How many rows one statement names; SQL Server takes 2,100 values.
_ROWS_NAMED: Final = 1_000

_c = purchases.c

Key = tuple[str, str]  # entity and month


@dataclass(frozen=True)
class Scope:
    """
    Who plans what.

    :param run: the planning run.
    :param months: those asked for.
    :param test_mode: the mode of all lines that are looked at.
    :param dead: the run ids, of the same DAG, that carry nothing on any more.
    :param at_most: lines that the run can carry on.
    """

    run: Run
    months: tuple[str, ...]
    test_mode: bool
    dead: tuple[str, ...]
    at_most: int

    def lines(self, *, taken_up: bool) -> ColumnElement[bool]:
        """Return which rows the run planned, or took up too, but for ``restated`` ones, which need no task."""
        of_run = and_(_c.dag_id == self.run.dag_id, _c.run_id == self.run.run_id)
        if taken_up:
            handled = and_(_c.handler_dag_id == self.run.dag_id, _c.handler_run_id == self.run.run_id)
            of_run = or_(of_run, handled)
        return and_(of_run, _c.test_mode == self.test_mode, _c.state != State.RESTATED)

    def left_open(self, states: Collection[State]) -> ColumnElement[bool]:
        """Return which rows a dead run holds in these states."""
        return and_(self._left, _c.state.in_(states))

    @property
    def to_take_up(self) -> ColumnElement[bool]:
        """Which rows a dead run holds that are to be carried on: its links, and the retirements that nobody was told of."""
        return and_(self._left, or_(_c.state.in_(_LINK_OPEN), TO_ANNOUNCE))

    @property
    def _left(self) -> ColumnElement[bool]:
        return and_(
            _c.handler_dag_id == self.run.dag_id,
            _c.handler_run_id.in_(self.dead),
            _c.test_mode == self.test_mode,
        )


@dataclass(frozen=True)
class Reading:
    """
    What a plan is based on.

    :param coverage: what the plan's maker gets.
    :param months: which months were read: those asked for and those of abandoned lines.
    :param highest: the highest line number by entity and month.
    :param own_lines: how many lines the run planned before.
    """

    coverage: Coverage = Coverage()
    months: Collection[str] = ()
    highest: Mapping[Key, int] = field(default_factory=dict)
    own_lines: int = 0


def check_months(months: Collection[str]) -> None:
    if isinstance(months, str):
        raise LedgerError(f'months is one text, {months!r}: give a list, such as ["2026-10"]')


def holders(connection: Connection, run: Run, test_mode: bool) -> Sequence[str]:
    """Return the other runs of the DAG that hold open lines, or retirements that nobody was told of."""
    others = select(_c.handler_run_id).where(
        _c.handler_dag_id == run.dag_id, _c.handler_run_id != run.run_id, _c.test_mode == test_mode
    )
    # Two questions, each with an index of its own.
    query = union(others.where(_c.state.in_(OPEN)), others.where(TO_ANNOUNCE))
    return sorted(connection.scalars(query))


def close_and_read(connection: Connection, scope: Scope, now: datetime) -> Reading:
    """Close the lines that dead runs left without a link, then read what is covered without them."""
    left = scope.left_open({State.PLANNED})
    abandoned = _locked(connection, left) if scope.dead else []
    closed = update(purchases).values(
        state=State.FAILED,
        reason=f"Its run ended before it delivered a link; run {scope.run.run_id!r} planned anew what was missing",
        failed_at=now,
    )
    for ids in _ids(abandoned):
        if connection.execute(closed.where(_c.id.in_(ids), left)).rowcount != len(ids):
            raise OutrunError(f"Lines that run {scope.run.run_id!r} was closing were changed meanwhile")
    return _read(connection, scope, _added_up(abandoned), kept=true())


def read_only(connection: Connection, scope: Scope) -> Reading:
    """Read as :func:`close_and_read` does, and close nothing."""
    left = scope.left_open({State.PLANNED})
    abandoned = connection.execute(_to_change(left)).all()
    return _read(connection, scope, _added_up(abandoned), kept=not_(left))


_Lines = Sequence[Row[tuple[int, str, str, Decimal]]]


def _to_change(condition: ColumnElement[bool]) -> Select[tuple[int, str, str, Decimal]]:
    return select(_c.id, _c.entity, _c.month, _c.quantity_tonnes).where(condition)


def _locked(connection: Connection, condition: ColumnElement[bool], at_most: int | None = None) -> _Lines:
    """Return the lines that are to be changed, locked till the transaction ends where the database can."""
    # In the same order by all, so that no two processes wait for each other. SQLite has one writer anyway.
    in_order = _to_change(condition).order_by(_c.id).limit(at_most)
    return connection.execute(in_order.with_for_update()).all()


def _ids(lines: _Lines) -> Iterator[list[int]]:
    for first in range(0, len(lines), _ROWS_NAMED):
        yield [line.id for line in lines[first : first + _ROWS_NAMED]]


def _added_up(lines: _Lines) -> Mapping[Key, Decimal]:
    tonnes: dict[Key, Decimal] = {}
    for line in lines:
        key = line.entity, line.month
        tonnes[key] = tonnes.get(key, Decimal(0)) + line.quantity_tonnes
    return tonnes


def _read(
    connection: Connection, scope: Scope, abandoned: Mapping[Key, Decimal], kept: ColumnElement[bool]
) -> Reading:
    covering = and_(_c.state.in_(COVERING), kept)
    months = {*scope.months, *(month for _, month in abandoned)}
    of_key: dict[str, Any] = {"partition_by": (_c.entity, _c.month)}
    rows = (
        select(
            _c.entity,
            _c.month,
            _c.line,
            _c.emitted_tonnes,
            func.row_number().over(**of_key, order_by=_c.line.desc()).label("from_last"),
            func.sum(case((covering, _c.quantity_tonnes))).over(**of_key).label("covered_tonnes"),
            func.count(case((and_(covering, _c.registry == _WHOLE_TONNES_REGISTRY), _c.id)))
            .over(**of_key)
            .label("whole_tonnes"),
            func.count(case((_c.dag_id == scope.run.dag_id, _c.id))).over(**of_key).label("of_dag"),
        )
        .where(_c.month.in_(months), _c.test_mode == scope.test_mode)
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
    return Reading(coverage, months, highest, own_lines=_count(connection, scope.lines(taken_up=False)))


def _count(connection: Connection, condition: ColumnElement[bool]) -> int:
    return connection.scalar(select(func.count(_c.id)).where(condition)) or 0


def _promised(connection: Connection, scope: Scope, kept: ColumnElement[bool]) -> dict[str, Decimal]:
    # On PostgreSQL two that plan at once don't see each other's: should the supply not do for both, the second quote is refused,
    # and its line planned elsewhere.
    query = select(_c.asset_price_source_id, func.sum(_c.quantity_tonnes)).where(
        _c.state.in_(_UNPAID), _c.test_mode == scope.test_mode, kept
    )
    return {
        listing: tonnes for listing, tonnes in connection.execute(query.group_by(_c.asset_price_source_id))
    }


def _run_costs(connection: Connection, scope: Scope, covering: ColumnElement[bool]) -> dict[str, Decimal]:
    query = select(_c.entity, func.sum(_c.cost_usd)).where(scope.lines(taken_up=False), covering)
    return {entity: cost for entity, cost in connection.execute(query.group_by(_c.entity))}


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


def make_plan(make: Callable[[Coverage], Plan], scope: Scope, reading: Reading) -> Plan:
    """Have the plan made. :raises LedgerError: when it has more lines than the run can carry on."""
    plan = make(reading.coverage)
    number = reading.own_lines + len(plan.lines)
    if number > scope.at_most:
        before = f", of which it planned {reading.own_lines} before" if reading.own_lines else ""
        raise LedgerError(
            f"Run {scope.run.run_id!r} would have {number} purchases{before}, and a run can have {scope.at_most}. Nothing "
            "was planned: raise Airflow's [core] max_map_length, or plan fewer entities or months in one run"
        )
    return plan


def insert_plan(connection: Connection, scope: Scope, reading: Reading, plan: Plan, now: datetime) -> None:
    """Insert a plan's lines and restated figures. :raises IntegrityError: when another planner took a line's number first."""
    if rows := _rows(scope, reading, plan, now):
        connection.execute(insert(purchases), rows)


def was_outrun(connection: Connection, scope: Scope, reading: Reading) -> bool:
    """Tell whether another planner inserted lines after the reading."""
    of_months = _c.month.in_(reading.months), _c.test_mode == scope.test_mode
    highest = select(_c.entity, _c.month, func.max(_c.line)).where(*of_months).group_by(_c.entity, _c.month)
    return any(
        line > reading.highest.get((entity, month), 0) for entity, month, line in connection.execute(highest)
    )


def _rows(scope: Scope, reading: Reading, plan: Plan, now: datetime) -> list[dict[str, Any]]:
    bought = [asdict(line) | {"state": State.PLANNED} for line in plan.lines]
    restated = [
        {
            "entity": stated.entity,
            "month": stated.month,
            "emitted_tonnes": stated.emitted_tonnes,
            "quantity_tonnes": Decimal(0),
            "cost_usd": Decimal(0),
            "state": State.RESTATED,
        }
        for stated in plan.restated
    ]
    common = {
        "test_mode": scope.test_mode,
        "planned_at": now,
        "handled_since": now,
        **{f"{role}dag_id": scope.run.dag_id for role in ("", "handler_")},
        **{f"{role}run_id": scope.run.run_id for role in ("", "handler_")},
    }
    nothing = dict.fromkeys(("asset_price_source_id", "project_id", "registry", "vintage"))
    nothing |= dict.fromkeys(("unit_price_usd", "beneficiary_name", "retirement_message"))
    lines = Counter(reading.highest)
    rows = []
    # Inserted in the same order by all, so that no two planners wait for each other.
    for row in sorted([*bought, *restated], key=lambda row: (row["entity"], row["month"])):
        entity, month = row["entity"], row["month"]
        _check(entity, month, reading)
        lines[entity, month] += 1
        emitted = rounded_up(row["emitted_tonnes"])
        rows.append(nothing | row | common | {"line": lines[entity, month], "emitted_tonnes": emitted})
    return rows


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


def take_up(connection: Connection, scope: Scope, now: datetime) -> None:
    """
    Take up what dead runs left to carry on, the oldest first, as many as the run can carry on besides its own lines.

    Of two runs that try, the second finds them handled by the first.
    """
    if not scope.dead:
        return
    links = scope.to_take_up
    room = max(0, scope.at_most - _count(connection, scope.lines(taken_up=True)))
    taken = update(purchases).values(handler_run_id=scope.run.run_id, handled_since=now)
    for ids in _ids(_locked(connection, links, room)):
        connection.execute(taken.where(_c.id.in_(ids), links))
    _tell_left(scope, _count(connection, links))


def lines_of_run(connection: Connection, scope: Scope) -> list[PurchaseLine]:
    """
    Return what a run planned, then what it took up.

    A task's map index is the place in this list, and links are found by the task that made them. A run makes links of its own lines
    only, so these come first: whatever it takes up, and loses to another run, moves none of them. A run that took links up and
    plans more when it is cleared may have too many: its last links are left out, and taken up by another run when it is over.
    """
    query = select(purchases).where(scope.lines(taken_up=True))
    lines = [PurchaseLine.from_row(row) for row in connection.execute(query)]
    lines.sort(key=lambda line: (line.run != scope.run, line.id))
    _tell_left(scope, len(lines[scope.at_most :]))
    return lines[: scope.at_most]


def _tell_left(scope: Scope, links: int) -> None:
    if links:
        log.warning(
            "%d links of ended runs are left for a later run: run %r can carry on %d purchases ([core] max_map_length)",
            *(links, scope.run.run_id, scope.at_most),
        )
