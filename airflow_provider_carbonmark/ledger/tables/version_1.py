"""
The ledger as version 1 had it, and the step from it: one table, a row per purchase or restated figure.

Its table had the name that the purchases have now. It is put aside as ``carbonmark_ledger_1`` and kept as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    Text,
    insert,
    inspect,
    select,
    text,
)

from airflow_provider_carbonmark.ledger.names import Source, State
from airflow_provider_carbonmark.ledger.tables.columns import Amount, JsonText, StateName, UtcTime
from airflow_provider_carbonmark.ledger.tables.schema import allocations, links, payments, purchases, versions
from airflow_provider_carbonmark.ledger.tables.version_2 import add_columns

_ROWS_AT_ONCE: Final = 1_000
_OURS: Final = re.compile(r"/carbonmark/(return|cancelled)/[^/]+$")

_old = Table(
    "carbonmark_ledger_1",
    MetaData(),
    Column("id", Integer),
    *(
        Column(name, String)
        for name in ("entity", "month", "asset_price_source_id", "project_id", "registry")
    ),
    *(Column(name, Integer) for name in ("line", "vintage")),
    *(Column(name, Boolean) for name in ("test_mode", "to_announce")),
    *(Column(name, Amount) for name in ("emitted_tonnes", "quantity_tonnes", "unit_price_usd", "cost_usd")),
    *(Column(name, Text) for name in ("beneficiary_name", "retirement_message", "reason", "checkout_url")),
    *(Column(name, Text) for name in ("certificate_url", "transaction_hash", "explorer_url")),
    *(Column(name, String) for name in ("payment_id", "claimed_payment_id", "idempotency_key")),
    *(Column(name, String) for name in ("dag_id", "run_id", "handler_dag_id", "handler_run_id")),
    *(Column(name, UtcTime) for name in ("planned_at", "link_made_at", "paid_at", "retired_at", "failed_at")),
    *(Column(name, UtcTime) for name in ("declined_at", "handled_since")),
    *(Column(name, JsonText) for name in ("checkout", "link_request")),
    Column("state", StateName),
)


def put_aside(connection: Connection) -> None:
    """Give the old table its new name, and the version's table what it lacks; without effect where that was done, or nothing is there."""
    inspector = inspect(connection)
    # The version's table first, which the processes of version 1 look into first as well: so no two wait for each other.
    add_columns(connection, (versions.c.ledger, versions.c.signing_key))
    has_purchases = inspector.has_table(purchases.name)
    if has_purchases and "entity" in {each["name"] for each in inspector.get_columns(purchases.name)}:
        connection.execute(text(f"ALTER TABLE {purchases.name} RENAME TO {_old.name}"))


def carry_over(connection: Connection, deployment: str) -> None:
    """Write the old rows into the new tables; the caller commits, so that it is all of them or none."""
    for rows in _batches(connection):
        for table, made in (
            (purchases, [_purchase(row, deployment) for row in rows if _is_purchase(row)]),
            (allocations, [_allocation(row, deployment) for row in rows]),
            (links, [_link(row, deployment) for row in rows if _asked(row)]),
            (payments, [payment for row in rows if _asked(row) for payment in _payments(row)]),
        ):
            if made:
                connection.execute(insert(table), made)


def _batches(connection: Connection) -> Iterator[Sequence[RowMapping]]:
    last = 0
    while rows := (
        connection.execute(select(_old).where(_old.c.id > last).order_by(_old.c.id).limit(_ROWS_AT_ONCE))
        .mappings()
        .all()
    ):
        yield rows
        last = rows[-1]["id"]


def _is_purchase(row: RowMapping) -> bool:
    return row["state"] is not State.RESTATED


def _asked(row: RowMapping) -> bool:
    return bool(row["checkout"] or row["idempotency_key"])


def _run(row: RowMapping, deployment: str, role: str = "") -> dict[str, Any]:
    names = (f"{role}dag_id", f"{role}run_id")
    return {f"{role}deployment": deployment, **{name: row[name] for name in names}}


def _purchase(row: RowMapping, deployment: str) -> dict[str, Any]:
    given = {column.name for column in purchases.columns} & {column.name for column in _old.columns}
    # Only a plan made rows, and it always said what to buy.
    texts = ("asset_price_source_id", "beneficiary_name", "retirement_message")
    return (
        {name: row[name] for name in given}
        | {name: row[name] or "" for name in texts}
        | _run(row, deployment)
        | _run(row, deployment, "handler_")
    )


def _allocation(row: RowMapping, deployment: str) -> dict[str, Any]:
    names = ("entity", "month", "test_mode", "line", "emitted_tonnes", "quantity_tonnes")
    return {
        **{name: row[name] for name in names},
        "purchase_id": row["id"] if _is_purchase(row) else None,
        "cost_usd": row["cost_usd"] if _is_purchase(row) else None,
        "stated_at": row["planned_at"],
        **_run(row, deployment),
    }


def _link(row: RowMapping, deployment: str) -> dict[str, Any]:
    checkout, request = row["checkout"] or {}, row["link_request"] or {}
    outcomes = {State.DECLINED: "declined", State.FAILED: "failed"}
    return {
        "purchase_id": row["id"],
        "number": 1,
        "current_of": row["id"],
        "url": row["checkout_url"],
        "request": _request(request),
        # Version 1 forgot the key once the answer was stored.
        "idempotency_key": row["idempotency_key"] or "",
        "conn_id": request.get("carbonmark_conn_id", ""),
        "deployment": deployment,
        "dag_id": checkout.get("dag_id", row["handler_dag_id"]),
        "run_id": checkout.get("run_id", row["handler_run_id"]),
        "task_id": checkout.get("task_id", ""),
        "map_index": checkout.get("map_index", -1),
        "asked_at": row["link_made_at"] or row["handled_since"],
        "made_at": row["link_made_at"],
        "expires_at": None,
        "payment_id": checkout.get("payment_id"),
        "outcome": "paid" if row["payment_id"] else outcomes.get(row["state"]),
    }


def _request(before: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request as it is sent today; without this Airflow's own addresses, whose tokens nobody reads any more."""
    texts = {name: before[name] for name in ("beneficiary_name", "retirement_message") if name in before}
    sent = {name: before[name] for name in ("asset_price_source_id", "quantity_tonnes") if name in before}
    addresses = {name: before.get(name, "") for name in ("success_url", "cancel_url")}
    given = {name: url for name, url in addresses.items() if url and not _OURS.search(url)}
    return sent | given | {"metadata": before.get("metadata", {}) | texts}


def _payments(row: RowMapping) -> Iterator[dict[str, Any]]:
    common = {"purchase_id": row["id"], "link": 1, "brought_by": None}
    if paid := row["payment_id"]:
        at = row["paid_at"]
        yield common | {
            "payment_id": paid,
            "source": Source.RETURNED.value,
            "brought_at": at,
            "verified_at": at,
        }
    if (claimed := row["claimed_payment_id"]) and claimed != paid:
        # When it was entered was not written down.
        yield common | {
            "payment_id": claimed,
            "source": Source.ENTERED.value,
            "brought_at": row["link_made_at"],
            "verified_at": None,
        }
