"""Rows of a ledger for the page's tests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, insert

from airflow_provider_carbonmark.ledger.names import Run, State
from airflow_provider_carbonmark.ledger.tables.rows import run_values
from airflow_provider_carbonmark.ledger.tables.schema import allocations, links, purchases
from airflow_provider_carbonmark.ledger.tables.versions import make_tables
from tests.unit.reporting.sample import a_line

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.purchase import PurchaseLine

__all__ = ["a_line", "planned_by", "write"]

_names = count(1)


def planned_by(dag_id: str, entity: str | None = None, **changes: object) -> PurchaseLine:
    """Return a row that a run of a DAG planned, of an entity that no other row has unless it is named."""
    run = Run(dag_id, "manual__2026-11-21")
    return a_line(entity=entity or f"entity-{next(_names)}", **({"run": run, "handler": run} | changes))


def write(engine: Engine, lines: Iterable[PurchaseLine]) -> None:
    """Put rows into a ledger as they are, whatever the ledger itself would say to them. Those with one purchase are shares of it."""
    lines = list(lines)
    shares: dict[int, list[PurchaseLine]] = defaultdict(list)
    for line in lines:
        if line.purchase is not None:
            shares[line.purchase].append(line)
    bought = [
        replace(of_it[0], quantity_tonnes=sum(map(_tonnes, of_it), Decimal(0))) for of_it in shares.values()
    ]
    linked = [line for line in bought if line.link_made_at or line.checkout_url]
    with engine.connect() as connection:
        make_tables(connection, "")
        for table, rows in (
            (purchases, map(_purchase, bought)),
            (allocations, map(_allocation, lines)),
            (links, map(_link, linked)),
        ):
            if made := list(rows):
                connection.execute(insert(table), made)
        connection.commit()


def _tonnes(line: PurchaseLine) -> Decimal:
    return line.quantity_tonnes + line.rounding_tonnes


def _purchase(line: PurchaseLine) -> dict[str, Any]:
    names = {column.name for column in purchases.columns} & set(vars(line))
    return {
        **{name: getattr(line, name) for name in names},
        # The database keeps no word of its own for it.
        "state": State.FAILED if line.state is State.PAID_NOT_RETIRED else line.state,
        "id": line.purchase,
        **run_values(line.run),
        **run_values(line.handler, "handler_"),
        "handled_since": line.planned_at,
    }


def _allocation(line: PurchaseLine) -> dict[str, Any]:
    names = ("entity", "month", "test_mode", "line", "emitted_tonnes", "quantity_tonnes", "rounding_tonnes")
    return {
        **{name: getattr(line, name) for name in names},
        "cost_usd": None if line.purchase is None else line.cost_usd,
        "reason": line.reason if line.purchase is None else None,
        "purchase_id": line.purchase,
        "stated_at": line.planned_at,
        **run_values(line.run),
    }


def _link(line: PurchaseLine) -> dict[str, Any]:
    return {
        "purchase_id": line.purchase,
        "number": 1,
        "current_of": line.purchase,
        "url": line.checkout_url,
        "request": {},
        "idempotency_key": f"key-{line.purchase}",
        "conn_id": "carbonmark_default",
        **run_values(line.run),
        "task_id": "checkout",
        "map_index": 0,
        "asked_at": line.link_made_at or line.planned_at,
        "made_at": line.link_made_at,
    }
