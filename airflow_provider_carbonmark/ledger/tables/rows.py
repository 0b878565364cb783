"""The ledger's rows as values, and values as rows; and a purchase inside a transaction: found, locked, changed."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from decimal import Decimal
from typing import Any, Final, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    RowMapping,
    and_,
    bindparam,
    false,
    func,
    or_,
    select,
    update,
)

from airflow_provider_carbonmark.ledger.names import COVERING, LedgerError, Run, Source, State, Task
from airflow_provider_carbonmark.ledger.purchase import Allocation, Link, Payment, Purchase, PurchaseLine
from airflow_provider_carbonmark.ledger.tables.database import place
from airflow_provider_carbonmark.ledger.tables.schema import allocations, links, payments, purchases, versions
from airflow_provider_carbonmark.ledger.values import share_of_cost

T = TypeVar("T")

#: How many rows one statement names; SQL Server takes 2,100 values.
ROWS_NAMED: Final = 1_000

_PURCHASE = (*purchases.columns, select(versions.c.ledger).scalar_subquery().label("ledger"))
_OUTCOMES = {State.PAID: "paid", State.DECLINED: "declined", State.FAILED: "failed"}
_RUN = ("dag_id", "run_id", "deployment")
_FIELDS: Final[dict[type, set[str]]] = {
    kind: {field.name for field in fields(kind)}
    for kind in (Purchase, PurchaseLine, Allocation, Link, Payment)
}
_NOT_SHOWN = ("purchase_id", "stated_at", "reason", "to_catch_up")
# Not what the allocation itself has, and says of itself: when it was stated is when it was planned.
_SHOWN = _FIELDS[PurchaseLine] - {*allocations.c.keys(), "planned_at"} | {f"handler_{name}" for name in _RUN}

#: Allocations and restated figures, each with its purchase and that one's current link.
LINES: Final = allocations.outerjoin(purchases, allocations.c.purchase_id == purchases.c.id).outerjoin(
    links, links.c.current_of == purchases.c.id
)
#: What a line shows of them.
LINE_COLUMNS: Final = (
    *(column for column in allocations.columns if column.name not in _NOT_SHOWN),
    func.coalesce(purchases.c.reason, allocations.c.reason).label("reason"),
    allocations.c.purchase_id.label("purchase"),
    allocations.c.stated_at.label("planned_at"),
    *(column for column in purchases.columns if column.name in _SHOWN),
    links.c.made_at.label("link_made_at"),
    links.c.url.label("checkout_url"),
)


def new_ids(count: int) -> Sequence[int]:
    """
    Return numbers for purchases: random ones below 10^15, which every program's JSON and every spreadsheet keeps exact.

    Those that are asked for together follow each other, so that a database keeps side by side what a plan bought.
    """
    first = secrets.randbelow(10**15 - count) + 1
    return range(first, first + count)


def run_values(run: Run, role: str = "") -> dict[str, str]:
    return {f"{role}deployment": run.deployment, f"{role}dag_id": run.dag_id, f"{role}run_id": run.run_id}


def task_values(task: Task) -> dict[str, Any]:
    return run_values(task.run) | {"task_id": task.task_id, "map_index": task.map_index}


def line_of(row: Row[Any]) -> PurchaseLine:
    values = row._mapping
    run = run_in(values)
    return _value(
        PurchaseLine,
        values,
        run=run,
        handler=run if values["handler_run_id"] is None else run_in(values, "handler_"),
        state=_state_of(values),
        cost_usd=values["cost_usd"] or Decimal(0),
        origin=values.get("origin"),
    )


def task_of(row: RowMapping) -> Task:
    return Task(run_in(row), row["task_id"], row["map_index"])


def read_purchases(connection: Connection, condition: ColumnElement[bool]) -> list[Purchase]:
    """Return purchases with their current links and allocations, by number."""
    rows = connection.execute(select(*_PURCHASE).where(condition)).mappings()
    found = sorted(rows, key=lambda row: int(row["id"]))
    made: dict[int, Link] = {}
    shares: dict[int, list[Allocation]] = defaultdict(list)
    for ids in in_batches([row["id"] for row in found]):
        for row in connection.execute(select(links).where(links.c.current_of.in_(ids))).mappings():
            made[row["purchase_id"]] = _value(Link, row, made_by=task_of(row))
        of_purchases = select(allocations).where(allocations.c.purchase_id.in_(ids))
        for row in connection.execute(of_purchases.order_by(allocations.c.id)).mappings():
            shares[row["purchase_id"]].append(_value(Allocation, row))
    return [
        _value(
            Purchase,
            row,
            state=_state_of(row),
            run=run_in(row),
            handler=run_in(row, "handler_"),
            link=made.get(row["id"]),
            allocations=tuple(shares[row["id"]]),
        )
        for row in found
    ]


def find_purchase(connection: Connection, id: int) -> Purchase:
    """Return a purchase. :raises LedgerError: when there is none with that number."""
    return find_purchases(connection, [id])[0]


def find_purchases(connection: Connection, ids: Collection[int]) -> list[Purchase]:
    """Return purchases, by number. :raises LedgerError: when there is none with one of these."""
    found: list[Purchase] = []
    for some in in_batches(sorted(set(ids))):
        found += read_purchases(connection, purchases.c.id.in_(some))
    if unknown := {*ids} - {purchase.id for purchase in found}:
        raise no_purchase(min(unknown), place(connection.engine))
    return found


def no_purchase(id: int, place: str) -> LedgerError:
    return LedgerError(
        f"The ledger in {place} has no purchase {id}. Either that is no number of a purchase, or it was planned in another "
        "ledger: all workers and API servers must share one ([carbonmark] ledger_conn_id)"
    )


def lock_purchase(connection: Connection, id: int) -> Purchase:
    """Return a purchase that nobody else changes until the transaction ends."""
    counted = update(purchases).where(purchases.c.id == id).values(revision=purchases.c.revision + 1)
    connection.execute(counted)
    return find_purchase(connection, id)


def change_purchase(
    connection: Connection, purchase: Purchase, changes: Mapping[str, Any], link: int | None = None
) -> Purchase:
    """
    Write a locked purchase's changes, and what came of its link with them.

    :param link: the number of the link that the changes come from; None for its current one.
    """
    if not changes:
        return purchase
    connection.execute(update(purchases).where(purchases.c.id == purchase.id).values(**changes))
    if (cost := changes.get("cost_usd")) is not None:
        _share_cost(connection, purchase, cost)
    covers = changes.get("state", purchase.state) in COVERING
    if covers is not (purchase.state in COVERING):
        of_it = update(allocations).where(allocations.c.purchase_id == purchase.id)
        connection.execute(of_it.values(to_catch_up=not covers))
    if (outcome := _OUTCOMES.get(changes.get("state", State.PLANNED))) and purchase.link:
        is_it = links.c.purchase_id == purchase.id, links.c.number == (link or purchase.link.number)
        connection.execute(update(links).where(*is_it).values(outcome=outcome))
    return find_purchase(connection, purchase.id)


def _share_cost(connection: Connection, purchase: Purchase, cost_usd: Decimal) -> None:
    c = allocations.c
    one = update(allocations).where(
        c.purchase_id == purchase.id,
        c.entity == bindparam("of_entity"),
        c.month == bindparam("of_month"),
        c.line == bindparam("of_line"),
    )
    costs = [
        {
            "of_entity": share.entity,
            "of_month": share.month,
            "of_line": share.line,
            "cost_usd": share_of_cost(cost_usd, share.quantity_tonnes, purchase.quantity_tonnes),
        }
        for share in purchase.allocations
    ]
    if costs:
        connection.execute(one, costs)


def read_links(connection: Connection, purchase: int) -> list[Link]:
    """Return the links of a purchase, asked for or made, by number."""
    query = select(links).where(links.c.purchase_id == purchase).order_by(links.c.number)
    return [_value(Link, row, made_by=task_of(row)) for row in connection.execute(query).mappings()]


def read_payments(connection: Connection, purchase: int) -> list[Payment]:
    """Return what was brought for a purchase, in the order that it came."""
    c = payments.c
    query = select(payments).where(c.purchase_id == purchase).order_by(c.brought_at, c.link, c.payment_id)
    rows = connection.execute(query).mappings()
    return [_value(Payment, row, source=Source(row["source"])) for row in rows]


def in_batches(ids: Sequence[T]) -> Iterator[Sequence[T]]:
    for first in range(0, len(ids), ROWS_NAMED):
        yield ids[first : first + ROWS_NAMED]


def _state_of(values: RowMapping) -> State:
    if values["state"] is State.FAILED and values["payment_id"] is not None:
        return State.PAID_NOT_RETIRED
    return values["state"] or State.RESTATED


def in_states(states: Collection[State]) -> ColumnElement[bool]:
    """Tell which lines are shown in one of these states."""
    c = purchases.c
    failed = c.state == State.FAILED
    told_apart = {
        State.FAILED: and_(failed, c.payment_id.is_(None)),
        State.PAID_NOT_RETIRED: and_(failed, c.payment_id.is_not(None)),
        State.RESTATED: allocations.c.purchase_id.is_(None),
    }
    return or_(false(), *(told_apart.get(state, c.state == state) for state in states))


def run_in(values: RowMapping, role: str = "") -> Run:
    return Run(*(values[f"{role}{name}"] for name in _RUN))


def _value(kind: type[T], row: RowMapping, **more: Any) -> T:
    """Return a row as a value whose fields are its columns, but for those that have to be made of several."""
    return kind(**{name: row[name] for name in _FIELDS[kind] - more.keys()}, **more)
