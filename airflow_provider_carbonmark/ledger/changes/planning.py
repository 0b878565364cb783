"""The plan itself: what dead runs left is closed, the plan is made and written, open links are taken up. Transactions are the caller's."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, func, insert, select, true, update
from sqlalchemy.exc import IntegrityError

from airflow_provider_carbonmark.ledger.changes import files
from airflow_provider_carbonmark.ledger.names import LedgerError, State
from airflow_provider_carbonmark.ledger.purchase import Purchase, with_reference
from airflow_provider_carbonmark.ledger.questions import coverage
from airflow_provider_carbonmark.ledger.tables.columns import rounded_up
from airflow_provider_carbonmark.ledger.tables.database import OutrunError
from airflow_provider_carbonmark.ledger.tables.rows import in_batches, new_ids, read_purchases, run_values
from airflow_provider_carbonmark.ledger.tables.schema import allocations, origins, purchases

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.questions.coverage import Reading, Scope
    from airflow_provider_carbonmark.ledger.values import Coverage, Plan, PlannedPurchase, Restated, Share

log = logging.getLogger(__name__)

_LONGEST_ENTITY = 255

_p = purchases.c
_a = allocations.c


def plan_once(connection: Connection, scope: Scope, make: Callable[[Coverage], Plan]) -> None:
    """
    Close what dead runs left without a link, read what is covered without that, and write the plan that is made of it.

    :raises OutrunError: when another planner was faster.
    """
    reading = _close_and_read(connection, scope)
    for ids in in_batches(reading.caught_up):
        connection.execute(update(allocations).where(_a.id.in_(ids)).values(to_catch_up=False))
    made = make_plan(make, scope, reading)
    try:
        _insert_plan(connection, scope, reading, made)
    except IntegrityError as clash:
        connection.rollback()
        if _was_outrun(connection, scope, reading):
            raise OutrunError("Another planner wrote lines of the same entities and months first") from clash
        raise


def make_plan(make: Callable[[Coverage], Plan], scope: Scope, reading: Reading) -> Plan:
    """Have the plan made. :raises LedgerError: when it has more purchases than the run can carry on."""
    plan = make(reading.coverage)
    number = reading.own + len(plan.purchases)
    if number > scope.at_most:
        before = f", of which it planned {reading.own} before" if reading.own else ""
        raise LedgerError(
            f"Run {scope.run.run_id!r} would have {number} purchases{before}, and a run can have {scope.at_most}. Nothing "
            "was planned: raise Airflow's [core] max_map_length, or plan fewer entities or months in one run"
        )
    return plan


def take_up(connection: Connection, scope: Scope) -> None:
    """
    Take up what dead runs left to carry on, the oldest first, as many as the run can carry on besides its own purchases.

    Of two runs that try, the second finds them handled by the first.
    """
    if not scope.dead:
        return
    links = scope.to_take_up
    room = max(0, scope.at_most - coverage.count(connection, scope.purchases(taken_up=True)))
    handled = run_values(scope.run, "handler_") | {"handled_since": scope.now, "revision": _p.revision + 1}
    for ids in in_batches(_locked(connection, links, room)):
        connection.execute(update(purchases).values(handled).where(_p.id.in_(ids), links))
    _tell_left(scope, coverage.count(connection, links))


def purchases_of_run(connection: Connection, scope: Scope) -> list[Purchase]:
    """
    Return what a run planned, then what it took up.

    A task's map index is the place in this list. A run makes links of its own purchases only, so these come first, in the order that
    they were planned in: whatever it takes up, and loses to another run, moves none of them. A run that took links up and plans more
    when it is cleared may have too many: its last links are left out, and taken up by another run when it is over.
    """
    of_run = scope.purchases(taken_up=True)
    # By the numbers that the database gave, which no worker's clock puts out of order.
    shares = select(_a.purchase_id).join(purchases, _a.purchase_id == _p.id).where(of_run).order_by(_a.id)
    places = {id: place for place, id in enumerate(connection.scalars(shares))}
    found = read_purchases(connection, of_run)
    found.sort(key=lambda purchase: (purchase.run != scope.run, places[purchase.id]))
    _tell_left(scope, len(found[scope.at_most :]))
    return found[: scope.at_most]


def _close_and_read(connection: Connection, scope: Scope) -> Reading:
    left = scope.left_open({State.PLANNED})
    abandoned = _locked(connection, left) if scope.dead else []
    closed = update(purchases).values(
        state=State.FAILED,
        reason=f"Its run ended before it delivered a link; run {scope.run.run_id!r} planned anew what was missing",
        failed_at=scope.now,
        revision=_p.revision + 1,
    )
    shares: list[Sequence[Any]] = []
    for ids in in_batches(abandoned):
        if connection.execute(closed.where(_p.id.in_(ids), left)).rowcount != len(ids):
            raise OutrunError(f"Purchases that run {scope.run.run_id!r} was closing were changed meanwhile")
        connection.execute(update(allocations).where(_a.purchase_id.in_(ids)).values(to_catch_up=True))
        query = select(_a.entity, _a.month, _a.quantity_tonnes).where(_a.purchase_id.in_(ids))
        shares += connection.execute(query).all()
    return coverage.read(connection, scope, shares, kept=true())


def _locked(
    connection: Connection, condition: ColumnElement[bool], at_most: int | None = None
) -> Sequence[int]:
    """Return the purchases that are to be changed, oldest first, locked till the transaction ends where the database can."""
    # In the same order by all, so that no two processes wait for each other. SQLite has one writer anyway.
    in_order = select(_p.id).where(condition).order_by(_p.planned_at, _p.id).limit(at_most)
    return connection.scalars(in_order.with_for_update()).all()


def _insert_plan(connection: Connection, scope: Scope, reading: Reading, plan: Plan) -> None:
    """Insert a plan's purchases, restated figures and files. :raises IntegrityError: when another planner took a line's number first."""
    ids = new_ids(len(plan.purchases))
    bought = [_purchase(id, scope, one) for id, one in zip(ids, plan.purchases, strict=True)]
    stated: list[tuple[Restated | Share, dict[str, Any]]] = []
    for id, purchase in zip(ids, plan.purchases, strict=True):
        *others, last = purchase.shares
        stated += [(share, _shared(share, id)) for share in others]
        stated.append((last, _shared(last, id) | {"rounding_tonnes": purchase.rounding_tonnes}))
    # Last: what is bought once more of what is not stated any more is not to be caught up with, either.
    stated += [(one, _restated(one)) for one in plan.restated]
    lines = Counter(reading.highest)
    shares: list[dict[str, Any]] = []
    # Inserted in the same order by all, so that no two planners wait for each other.
    for one, values in sorted(stated, key=lambda pair: (pair[0].entity, pair[0].month)):
        _check(one.entity, one.month, reading)
        lines[one.entity, one.month] += 1
        about = {
            "entity": one.entity,
            "month": one.month,
            "test_mode": scope.test_mode,
            "line": lines[one.entity, one.month],
            "emitted_tonnes": rounded_up(one.emitted_tonnes),
            "rounding_tonnes": Decimal(0),
            "stated_at": scope.now,
        }
        shares.append(about | values | run_values(scope.run))
    key = ("entity", "month", "test_mode", "line")
    of_shares = [
        {name: share[name] for name in key} | {"origin": origin}
        for share in shares
        if (origin := plan.origins.get((share["entity"], share["month"])))
    ]
    for table, rows in ((purchases, bought), (allocations, shares), (origins, of_shares)):
        if rows:
            connection.execute(insert(table), rows)
    for month, read in sorted(plan.files.items()):
        files.write(connection, scope, month, read)


def _shared(share: Share, purchase: int) -> dict[str, Any]:
    return {
        "purchase_id": purchase,
        "quantity_tonnes": share.quantity_tonnes,
        "cost_usd": share.cost_usd,
        "reason": None,
        "to_catch_up": False,
    }


def _restated(one: Restated) -> dict[str, Any]:
    return {
        "purchase_id": None,
        "quantity_tonnes": Decimal(0),
        "cost_usd": None,
        "reason": one.reason,
        "to_catch_up": one.reason is not None,
    }


def _purchase(id: int, scope: Scope, planned: PlannedPurchase) -> dict[str, Any]:
    return {
        "id": id,
        "test_mode": scope.test_mode,
        **{name: value for name, value in vars(planned).items() if name != "shares"},
        "retirement_message": with_reference(planned.retirement_message, id),
        "state": State.PLANNED,
        "planned_at": scope.now,
        **run_values(scope.run),
        **run_values(scope.run, "handler_"),
        "handled_since": scope.now,
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
