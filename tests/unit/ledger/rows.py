"""Rows of a ledger for the page's tests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from itertools import count

from sqlalchemy import Engine, insert

from airflow_provider_carbonmark.ledger.database import make_schema
from airflow_provider_carbonmark.ledger.schema import PurchaseLine, Run, purchases
from tests.unit.reporting.sample import a_line

__all__ = ["a_line", "planned_by", "write"]

_names = count(1)


def planned_by(dag_id: str, entity: str | None = None, **changes: object) -> PurchaseLine:
    """Return a row that a run of a DAG planned, of an entity that no other row has unless it is named."""
    run = Run(dag_id, "manual__2026-11-21")
    return a_line(entity=entity or f"entity-{next(_names)}", **({"run": run, "handler": run} | changes))


def write(engine: Engine, lines: Iterable[PurchaseLine]) -> None:
    """Put rows into a ledger as they are, whatever the ledger itself would say to them."""
    with engine.connect() as connection:
        make_schema(connection)
        connection.execute(insert(purchases), [_row(line) for line in lines])
        connection.commit()


def _row(line: PurchaseLine) -> dict[str, object]:
    row = {field.name: getattr(line, field.name) for field in fields(line)}
    for name in ("run", "handler"):
        run = row.pop(name)
        prefix = "" if name == "run" else "handler_"
        row |= {f"{prefix}dag_id": run.dag_id, f"{prefix}run_id": run.run_id}
    return row
