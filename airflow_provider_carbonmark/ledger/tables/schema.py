"""
The ledger's tables, and what the database itself keeps from happening.

=========================  =========================================================  ==========================================
table                      a row is                                                   held by the database
=========================  =========================================================  ==========================================
carbonmark_purchases       one listing, quantity and beneficiary: one payment and     states; a payment counts for one purchase;
                           one retirement                                             a task without a plan orders once
carbonmark_allocations     how much of a purchase is for which entity and month; or,  numbered once within entity, month and mode:
                           without a purchase, a figure that was stated anew          two planners can't plan the same tonnes
carbonmark_origins         where an allocation's emitted figure is from                 each once for an allocation
carbonmark_source_files    a file that a run read a month's emissions from             each once for a run and month
carbonmark_links           a payment page that was asked for                          one current link for a purchase
carbonmark_payments        a payment id that somebody brought for a link              each id once for a link
carbonmark_projects        what the market says of a project whose credits are      each project once
                           bought
carbonmark_retirements     what the market tells of a purchase's retirement           each purchase once
carbonmark_waits           a task that waits for a purchase's payment                 each task once for a purchase
carbonmark_ledger_version  the schema's version, the ledger's id and its signing key  one row
=========================  =========================================================  ==========================================
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    CHAR,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    true,
)

from airflow_provider_carbonmark.ledger.names import LONGEST_DEPLOYMENT, SHOWN_ONLY, State
from airflow_provider_carbonmark.ledger.tables.columns import (
    MYSQL,
    Amount,
    JsonText,
    OriginText,
    StateName,
    UtcTime,
)

metadata = MetaData()

_STATES = ", ".join(f"'{state}'" for state in State if state not in SHOWN_ONLY)
# Elsewhere letters are told apart anyway; MySQL would take Web for web.
_IN_MYSQL: dict[str, Any] = {
    f"{name}_{option}": value
    for name in MYSQL
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}
# In SQLite, a whole number of this type only is where a row is.
_Number = BigInteger().with_variant(Integer, "sqlite")


def _run(prefix: str = "") -> list[Column[Any]]:
    return [
        Column(f"{prefix}deployment", String(LONGEST_DEPLOYMENT), nullable=False),
        Column(f"{prefix}dag_id", String(255), nullable=False),
        Column(f"{prefix}run_id", String(255), nullable=False),
    ]


def _task() -> list[Column[Any]]:
    return [Column("task_id", String(255), nullable=False), Column("map_index", Integer, nullable=False)]


purchases = Table(
    "carbonmark_purchases",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=False),
    # Counts the changes: the update that counts one locks the row, in whatever database.
    Column("revision", Integer, nullable=False, server_default="0"),
    Column("test_mode", Boolean, nullable=False),
    Column("asset_price_source_id", String(255), nullable=False),
    Column("project_id", String(255)),
    Column("registry", String(255)),
    Column("vintage", Integer),
    Column("quantity_tonnes", Amount, nullable=False),
    Column("unit_price_usd", Amount),
    Column("base_unit_price_usd", Amount),
    Column("cost_usd", Amount),
    Column("beneficiary_name", Text, nullable=False),
    Column("retirement_message", Text, nullable=False),
    Column("state", StateName, nullable=False),
    Column("reason", Text),
    Column("planned_at", UtcTime, nullable=False),
    Column("paid_at", UtcTime),
    Column("retired_at", UtcTime),
    Column("retired_at_told", Boolean),
    Column("failed_at", UtcTime),
    Column("declined_at", UtcTime),
    Column("payment_id", String(255)),
    Column("certificate_url", Text),
    Column("transaction_hash", Text),
    Column("explorer_url", Text),
    Column("to_announce", Boolean, nullable=False, server_default=false()),
    # When somebody was reminded of it last.
    Column("reminded_at", UtcTime),
    *_run(),
    # The task that ordered it, where no plan did; and its key, as long as that order is the task's latest.
    Column("task_id", String(255)),
    Column("map_index", Integer),
    Column("ordered_by", String(64), unique=True),
    *_run("handler_"),
    Column("handled_since", UtcTime, nullable=False),
    CheckConstraint("quantity_tonnes > 0", name="carbonmark_purchase_quantity"),
    CheckConstraint(f"state IN ({_STATES})", name="carbonmark_purchase_state"),
    Index("carbonmark_purchase_by_run", "dag_id", "run_id"),
    # The run first: a DAG's own rows may be all there are.
    Index("carbonmark_purchase_by_handler", "handler_run_id", "handler_dag_id"),
    Index("carbonmark_purchase_by_state", "state", "handler_dag_id", "handler_run_id"),
    **_IN_MYSQL,
)
# SQL Server would take two rows without a payment for the same payment twice.
Index(
    "carbonmark_purchase_by_payment",
    purchases.c.payment_id,
    unique=True,
    mssql_where=purchases.c.payment_id.is_not(None),
)
#: Which rows are to be announced, in the very words of the index, which SQLite wants.
TO_ANNOUNCE: Final = purchases.c.to_announce == true()
# A handful of rows, whatever the ledger holds; MySQL has no index of a part of a table, and finds them by the first column.
Index(
    "carbonmark_purchase_to_announce",
    purchases.c.to_announce,
    purchases.c.handler_dag_id,
    purchases.c.handler_run_id,
    postgresql_where=TO_ANNOUNCE,
    sqlite_where=TO_ANNOUNCE,
)

allocations = Table(
    "carbonmark_allocations",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("purchase_id", BigInteger, ForeignKey(purchases.c.id), index=True),
    Column("entity", String(255), nullable=False),
    Column("month", CHAR(7), nullable=False),
    Column("test_mode", Boolean, nullable=False),
    Column("line", Integer, nullable=False),
    Column("emitted_tonnes", Amount, nullable=False),
    Column("quantity_tonnes", Amount, nullable=False),
    # Its share of the purchase's cost; and what rounding added to the purchase and is nobody's, beside the last share.
    Column("cost_usd", Amount),
    Column("rounding_tonnes", Amount, nullable=False, server_default="0"),
    # Why nothing is bought for a figure, where something is missing.
    Column("reason", Text),
    # Whether nothing came of it, and no plan has seen since that nothing is missing.
    Column("to_catch_up", Boolean),
    Column("stated_at", UtcTime, nullable=False),
    *_run(),
    # What keeps two planners that saw the same from both buying.
    UniqueConstraint("entity", "month", "test_mode", "line", name="carbonmark_allocation_once"),
    CheckConstraint(
        "(purchase_id IS NULL AND quantity_tonnes = 0) OR (purchase_id IS NOT NULL AND quantity_tonnes > 0)",
        name="carbonmark_allocation_quantity",
    ),
    # With the DAG, the entities of those that a reader may see are found in the index alone.
    Index("carbonmark_allocation_by_month", "month", "test_mode", "entity", "line", "dag_id"),
    Index("carbonmark_allocation_by_run", "dag_id", "run_id"),
    **_IN_MYSQL,
)

#: What a later plan looks at, in the very words of the index.
TO_CATCH_UP: Final = allocations.c.to_catch_up == true()
# However much was declined in all the years, few rows are missing something.
Index(
    "carbonmark_allocation_to_catch_up",
    allocations.c.to_catch_up,
    allocations.c.dag_id,
    postgresql_where=TO_CATCH_UP,
    sqlite_where=TO_CATCH_UP,
)

# Apart from the allocations: what is added up of a million of them goes through rows that are no wider for it.
origins = Table(
    "carbonmark_origins",
    metadata,
    Column("entity", String(255)),
    Column("month", CHAR(7)),
    Column("test_mode", Boolean),
    Column("line", Integer),
    Column("origin", OriginText, nullable=False),
    PrimaryKeyConstraint("entity", "month", "test_mode", "line", name="carbonmark_origin_once"),
    ForeignKeyConstraint(
        ["entity", "month", "test_mode", "line"],
        [allocations.c[name] for name in ("entity", "month", "test_mode", "line")],
        name="carbonmark_origin_allocation",
    ),
    **_IN_MYSQL,
)

source_files = Table(
    "carbonmark_source_files",
    metadata,
    # Made of all but the time: run, month, path and content are more than a key may be long.
    Column("file_key", CHAR(64), primary_key=True),
    Column("month", CHAR(7), nullable=False),
    Column("test_mode", Boolean, nullable=False),
    Column("path", Text, nullable=False),
    Column("row_count", BigInteger, nullable=False),
    Column("sha256", CHAR(64), nullable=False),
    Column("read_at", UtcTime, nullable=False),
    *_run(),
    Index("carbonmark_source_file_by_month", "month", "test_mode"),
    **_IN_MYSQL,
)

links = Table(
    "carbonmark_links",
    metadata,
    Column("purchase_id", BigInteger, ForeignKey(purchases.c.id)),
    Column("number", Integer),
    # Its purchase, while it is the current link: no second one can be.
    Column("current_of", BigInteger, unique=True),
    Column("url", Text),
    Column("request", JsonText, nullable=False),
    Column("idempotency_key", String(255), nullable=False),
    Column("conn_id", String(255), nullable=False),
    *_run(),
    *_task(),
    Column("asked_at", UtcTime, nullable=False),
    Column("made_at", UtcTime),
    Column("expires_at", UtcTime),
    Column("payment_id", String(255)),
    # What was quoted for it, and what it could cost at most.
    Column("cost_usd", Amount),
    Column("limits", JsonText),
    Column("outcome", String(16)),
    # Who said that nobody paid it, and when.
    Column("unpaid_said_by", Text),
    Column("unpaid_said_at", UtcTime),
    PrimaryKeyConstraint("purchase_id", "number", name="carbonmark_link_once"),
    **_IN_MYSQL,
)

payments = Table(
    "carbonmark_payments",
    metadata,
    Column("purchase_id", BigInteger),
    Column("link", Integer),
    Column("payment_id", String(255)),
    Column("source", String(16), nullable=False),
    Column("brought_by", Text),
    Column("brought_at", UtcTime, nullable=False),
    Column("verified_at", UtcTime),
    PrimaryKeyConstraint("purchase_id", "link", "payment_id", name="carbonmark_payment_once"),
    ForeignKeyConstraint(
        ["purchase_id", "link"], [links.c.purchase_id, links.c.number], name="carbonmark_payment_link"
    ),
    Index("carbonmark_payment_by_id", "payment_id"),
    **_IN_MYSQL,
)

waits = Table(
    "carbonmark_waits",
    metadata,
    Column("purchase_id", BigInteger, ForeignKey(purchases.c.id)),
    Column("task", String(64)),
    *_run(),
    *_task(),
    Column("waits_since", UtcTime, nullable=False),
    PrimaryKeyConstraint("purchase_id", "task", name="carbonmark_wait_once"),
    **_IN_MYSQL,
)

projects = Table(
    "carbonmark_projects",
    metadata,
    Column("project_id", String(255), primary_key=True),
    *(Column(name, Text) for name in ("name", "country", "region", "registry", "url")),
    Column("methodologies", JsonText, nullable=False),
    Column("read_at", UtcTime, nullable=False),
    **_IN_MYSQL,
)

retirements = Table(
    "carbonmark_retirements",
    metadata,
    Column("purchase_id", BigInteger, ForeignKey(purchases.c.id), primary_key=True, autoincrement=False),
    Column("retirement_id", String(255), nullable=False),
    Column("retired_at", UtcTime),
    *(Column(name, Text) for name in ("retiring_name", "bridge")),
    Column("serial_numbers", JsonText, nullable=False),
    Column("read_at", UtcTime, nullable=False),
    Column("certificate_sha256", CHAR(64)),
    **_IN_MYSQL,
)

versions = Table(
    "carbonmark_ledger_version",
    metadata,
    Column("only_row", Integer, CheckConstraint("only_row = 1"), primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("ledger", String(36)),
    # Signs the addresses that buyers come back to: whoever can read the ledger can make one.
    Column("signing_key", String(64)),
    **_IN_MYSQL,
)
