"""
A ledger of version 1, with rows in every state, and what that version said of it.

``version_1.json`` holds the rows as the code of commit 22f41eb wrote them into SQLite, without what is null, and what its planners were
told of them. The tables are those of that commit, shorter: the statements that make them were compared, word for word, in the dialects
of SQLite, PostgreSQL and MySQL. Frozen: nothing here changes with the package.
"""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import (
    CHAR,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    insert,
    true,
)

from airflow_provider_carbonmark.ledger.names import State
from airflow_provider_carbonmark.ledger.tables.columns import Amount, JsonText, StateName, UtcTime

SAID: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))

_STATES = "'planned', 'link_made', 'paid', 'retired', 'failed', 'declined', 'restated'"
_IN_MYSQL: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}

metadata = MetaData()
purchases = Table(
    "carbonmark_purchases",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("entity", String(255), nullable=False),
    Column("month", CHAR(7), nullable=False),
    Column("test_mode", Boolean, nullable=False),
    Column("line", Integer, nullable=False),
    *(Column(name, Amount, nullable=False) for name in ("emitted_tonnes", "quantity_tonnes")),
    *(Column(name, String(255)) for name in ("asset_price_source_id", "project_id", "registry")),
    Column("vintage", Integer),
    Column("unit_price_usd", Amount),
    Column("cost_usd", Amount, nullable=False),
    *(Column(name, Text) for name in ("beneficiary_name", "retirement_message")),
    Column("state", StateName, nullable=False),
    Column("reason", Text),
    Column("planned_at", UtcTime, nullable=False),
    *(Column(name, UtcTime) for name in ("link_made_at", "paid_at", "retired_at", "failed_at")),
    Column("declined_at", UtcTime),
    Column("checkout_url", Text),
    Column("checkout", JsonText),
    *(Column(name, String(255)) for name in ("payment_id", "claimed_payment_id")),
    *(Column(name, Text) for name in ("certificate_url", "transaction_hash", "explorer_url")),
    Column("to_announce", Boolean, nullable=False, server_default=false()),
    Column("link_request", JsonText),
    Column("idempotency_key", String(255)),
    *(Column(name, String(255), nullable=False) for name in ("dag_id", "run_id")),
    *(Column(name, String(255), nullable=False) for name in ("handler_dag_id", "handler_run_id")),
    Column("handled_since", UtcTime, nullable=False),
    UniqueConstraint("entity", "month", "test_mode", "line", name="carbonmark_purchases_once"),
    CheckConstraint(
        "(state = 'restated' AND quantity_tonnes = 0) OR (state <> 'restated' AND quantity_tonnes > 0)",
        name="carbonmark_purchases_quantity",
    ),
    CheckConstraint(f"state IN ({_STATES})", name="carbonmark_purchases_state"),
    Index("carbonmark_purchases_by_month", "month", "test_mode", "entity", "line", "dag_id"),
    Index("carbonmark_purchases_by_run", "dag_id", "run_id"),
    Index("carbonmark_purchases_by_handler", "handler_run_id", "handler_dag_id"),
    Index("carbonmark_purchases_by_state", "state", "handler_dag_id", "handler_run_id"),
    Index("carbonmark_purchases_by_payment", "payment_id", unique=True),
    **_IN_MYSQL,
)
Index(
    "carbonmark_purchases_to_announce",
    *(purchases.c[name] for name in ("to_announce", "handler_dag_id", "handler_run_id")),
    postgresql_where=purchases.c.to_announce == true(),
    sqlite_where=purchases.c.to_announce == true(),
)
versions = Table(
    "carbonmark_ledger_version",
    metadata,
    Column("only_row", Integer, CheckConstraint("only_row = 1"), primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    **_IN_MYSQL,
)


def rows() -> list[dict[str, Any]]:
    """Return the rows as values of their columns."""
    nothing = dict.fromkeys(column.name for column in purchases.columns)
    return [nothing | {name: _value(name, value) for name, value in row.items()} for row in SAID["rows"]]


def _value(name: str, value: Any) -> Any:
    kind = purchases.c[name].type
    if isinstance(kind, Amount):
        return Decimal(value)
    if isinstance(kind, UtcTime):
        return datetime.fromisoformat(value)
    return State(value) if isinstance(kind, StateName) else value


def make(engine: Engine, *, finished: bool = True, held: list[dict[str, Any]] | None = None) -> None:
    """Make the ledger; or what there is of it when its process died right before it told the version."""
    with engine.begin() as connection:
        metadata.create_all(connection)
        if finished:
            connection.execute(insert(purchases), held or rows())
            connection.execute(insert(versions).values(only_row=1, version=1))
