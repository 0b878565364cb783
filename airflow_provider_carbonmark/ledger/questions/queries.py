"""
What a page shows of the ledger: sums that the database makes, and rows by the page, so that a million of them are no matter.

Nothing reads more than a year of rows, and what is counted is counted as a report does (``reporting.figures``).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    Subquery,
    case,
    exists,
    func,
    literal_column,
    select,
    type_coerce,
)

from airflow_provider_carbonmark.ledger.figures import Figures
from airflow_provider_carbonmark.ledger.names import Run, State
from airflow_provider_carbonmark.ledger.tables.columns import Amount
from airflow_provider_carbonmark.ledger.tables.rows import (
    LINE_COLUMNS,
    LINES,
    line_of,
    read_purchases,
    run_in,
)
from airflow_provider_carbonmark.ledger.tables.schema import allocations, links, purchases

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.purchase import Purchase, PurchaseLine

_NOTHING: ColumnElement[Any] = literal_column("0")
_FIGURES = [field.name for field in fields(Figures)]

_c = allocations.c
_p = purchases.c


@dataclass(frozen=True)
class Rows:
    """
    The rows that are looked at, from the first to the last of some months, ``YYYY-MM``.

    :param dag_ids: those that runs of these DAGs planned; None for all.
    :param test_mode: the rehearsals, or the real ones.
    """

    first: str
    last: str
    dag_ids: Collection[str] | None = None
    test_mode: bool = False

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        is_one = self.first == self.last
        of_months = _c.month == self.first if is_one else _c.month.between(self.first, self.last)
        conditions = [of_months, _c.test_mode == self.test_mode]
        if self.dag_ids is not None:
            # As an expression, so that no database thinks of its index on DAGs, which leads to all their months.
            conditions.append(_c.dag_id.concat("").in_(self.dag_ids))
        return conditions


def ever(dag_ids: Collection[str] | None = None, *, test_mode: bool = False) -> Rows:
    """Return the rows of all months."""
    return Rows("0000-01", "9999-12", dag_ids, test_mode)


def dag_ids(connection: Connection) -> set[str]:
    """Return the DAGs whose runs planned or bought something."""
    return {
        found for column in (_c.dag_id, _p.dag_id) for found in connection.scalars(_each(connection, column))
    }


def months(connection: Connection, rows: Rows, *, most: int) -> list[str]:
    """Return the months that have rows, the newest first."""
    each = _each(connection, _c.month).subquery()
    # Looks into the index for one row of each month; only a month without any is gone through.
    has_rows = exists().where(_c.month == each.c.value, *rows.conditions)
    query = select(each.c.value).where(has_rows).order_by(each.c.value.desc())
    return list(connection.scalars(query.limit(most)))


def figures_by_month(connection: Connection, rows: Rows) -> dict[str, Figures]:
    """Return the figures of each month that has rows, the oldest first."""
    pairs = _pairs(rows)
    query = select(pairs.c.month, *_sums(pairs)).group_by(pairs.c.month).order_by(pairs.c.month)
    return {month: Figures(*sums) for month, *sums in connection.execute(query)}


def figures_by_entity(connection: Connection, rows: Rows, entities: Collection[str]) -> dict[str, Figures]:
    """Return the figures of each of these entities that has rows, by name."""
    pairs = _pairs(rows, _c.entity.in_(entities))
    query = select(pairs.c.entity, *_sums(pairs)).group_by(pairs.c.entity).order_by(pairs.c.entity)
    return {entity: Figures(*sums) for entity, *sums in connection.execute(query)}


def stated_last(connection: Connection, rows: Rows) -> datetime | None:
    """Return when the latest of some rows was written; None where there are none."""
    time: datetime | None = connection.scalar(select(func.max(_c.stated_at)).where(*rows.conditions))
    return time


def entities(connection: Connection, rows: Rows, *, most: int, skip: int) -> list[str]:
    """Return some of the entities that have rows, by name."""
    # As an expression, so that PostgreSQL doesn't go through its index on entities, which leads to all that there ever were.
    name = _c.entity.concat("").label("entity")
    query = select(name).where(*rows.conditions).group_by(name).order_by(name)
    return list(connection.scalars(query.limit(most).offset(skip)))


def lines(connection: Connection, rows: Rows, *, most: int, skip: int) -> list[PurchaseLine]:
    """Return some of the rows, by month, entity and line."""
    query = select(*LINE_COLUMNS).select_from(LINES).where(*rows.conditions)
    in_order = query.order_by(_c.month, _c.entity, _c.line).limit(most).offset(skip)
    return [line_of(row) for row in connection.execute(in_order)]


@dataclass(frozen=True)
class LinkToPay:
    """
    A link that nobody has paid: one payment, for however many.

    :param entity: the first of those that it is for, by name.
    :param entities: how many they are.
    :param months: the first and the last of their months.
    :param quantity_tonnes: what is bought, rounding included.
    :param cost_usd: what is to be paid, USD with fees, as planned, then as quoted.
    """

    purchase: int
    entity: str
    entities: int
    months: tuple[str, str]
    quantity_tonnes: Decimal
    cost_usd: Decimal
    beneficiary_name: str
    checkout_url: str
    run: Run
    handler: Run


def links_to_pay(connection: Connection, rows: Rows, *, most: int) -> list[LinkToPay]:
    """Return the first links that nobody has paid and that some of the rows are bought with, by month and entity; each as a whole."""
    of_rows = (
        select(_c.purchase_id, func.min(_c.month).label("first"), func.min(_c.entity).label("entity"))
        .select_from(allocations.join(purchases, _c.purchase_id == _p.id))
        .where(_p.state == State.LINK_MADE, *rows.conditions)
        .group_by(_c.purchase_id)
        .subquery()
    )
    in_order = select(of_rows.c.purchase_id).order_by(
        of_rows.c.first, of_rows.c.entity, of_rows.c.purchase_id
    )
    ids = connection.scalars(in_order.limit(most)).all()
    shares = (
        select(
            _c.purchase_id,
            func.min(_c.entity).label("entity"),
            func.count(_c.entity.distinct()).label("entities"),
            func.min(_c.month).label("first"),
            func.max(_c.month).label("last"),
        )
        .where(_c.purchase_id.in_(ids))
        .group_by(_c.purchase_id)
        .subquery()
    )
    bought = shares.join(purchases, shares.c.purchase_id == _p.id)
    query = select(shares, purchases, links.c.url).select_from(
        bought.join(links, links.c.current_of == _p.id)
    )
    found = sorted(connection.execute(query).mappings(), key=lambda row: ids.index(row["purchase_id"]))
    return [
        LinkToPay(
            purchase=row["id"],
            entity=row["entity"],
            entities=row["entities"],
            months=(row["first"], row["last"]),
            quantity_tonnes=row["quantity_tonnes"],
            cost_usd=row["cost_usd"] or Decimal(0),
            beneficiary_name=row["beneficiary_name"],
            checkout_url=row["url"],
            run=run_in(row),
            handler=run_in(row, "handler_"),
        )
        for row in found
    ]


def without_plan(
    connection: Connection, dag_ids: Collection[str] | None, *, test_mode: bool, most: int, skip: int = 0
) -> list[Purchase]:
    """Return some of the purchases that tasks of these DAGs, or of all, ordered without a plan, the newest first."""
    is_one = [_p.task_id.is_not(None), _p.test_mode == test_mode]
    if dag_ids is not None:
        is_one.append(_p.dag_id.in_(dag_ids))
    in_order = select(_p.id).where(*is_one).order_by(_p.planned_at.desc(), _p.id)
    ids = connection.scalars(in_order.limit(most).offset(skip)).all()
    return sorted(read_purchases(connection, _p.id.in_(ids)), key=lambda purchase: ids.index(purchase.id))


def _each(connection: Connection, column: Column[str]) -> Select[Any]:
    """Give each value of a column with one look into its index for each."""
    if connection.dialect.name not in ("postgresql", "sqlite"):
        # MySQL goes from value to value by itself.
        return select(column.label("value")).distinct()
    # There DISTINCT would go through all of the index.
    steps = select(func.max(column).label("value")).cte(recursive=True)
    below = select(func.max(column)).where(column < steps.c.value).scalar_subquery()
    steps = steps.union_all(select(below).where(steps.c.value.is_not(None)))
    return select(steps.c.value).where(steps.c.value.is_not(None))


def _pairs(rows: Rows, *more: ColumnElement[bool]) -> Subquery:
    """Give the figures of each entity and month."""
    sums = (
        select(
            _c.month,
            _c.entity,
            func.count().label("count"),
            func.max(_c.line).label("last_line"),
            func.max(_c.emitted_tonnes).label("most_emitted"),
            _in_state(State.RETIRED, _c.quantity_tonnes).label("retired_tonnes"),
            _in_state(State.PLANNED, _c.quantity_tonnes).label("planned_tonnes"),
            _in_state(State.LINK_MADE, _c.quantity_tonnes).label("link_made_tonnes"),
            _in_state(State.PAID, _c.quantity_tonnes).label("paid_tonnes"),
            _in_state(State.RETIRED, _c.cost_usd).label("cost_usd"),
            _in_state(State.RETIRED, _c.rounding_tonnes).label("rounding_tonnes"),
        )
        .select_from(allocations.outerjoin(purchases, _c.purchase_id == _p.id))
        .where(*rows.conditions, *more)
        .group_by(_c.month, _c.entity)
        .subquery()
    )
    stated = select(sums, _stated_last(sums, rows).label("emitted_tonnes")).subquery()
    emitted, retired = stated.c.emitted_tonnes, stated.c.retired_tonnes
    covered = case((emitted > retired, retired), (emitted > _NOTHING, emitted), else_=_NOTHING)
    still_open = case((emitted > retired, emitted - retired), else_=_NOTHING)
    return select(stated, covered.label("covered_tonnes"), still_open.label("open_tonnes")).subquery()


def _stated_last(sums: Subquery, rows: Rows) -> ColumnElement[Decimal]:
    """Give the emissions in the last row of an entity and month. Most have one row only, and need no look at another."""
    is_last = (
        _c.entity == sums.c.entity,
        _c.month == sums.c.month,
        _c.test_mode == rows.test_mode,
        _c.line == sums.c.last_line,
    )
    looked_up = select(_c.emitted_tonnes).where(*is_last).scalar_subquery()
    return case((sums.c.count == literal_column("1"), sums.c.most_emitted), else_=looked_up)


def _in_state(state: State, amount: ColumnElement[Decimal]) -> ColumnElement[Decimal]:
    return func.coalesce(func.sum(case((_p.state == state, amount))), _NOTHING)


def _sums(pairs: Subquery) -> list[ColumnElement[Decimal]]:
    return [type_coerce(func.sum(pairs.c[name]), Amount) for name in _FIGURES]
