"""The ledger's rows: the states of a purchase line, the line itself, and the tables it is kept in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Context, Decimal
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    CHAR,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    MetaData,
    Numeric,
    Row,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    true,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DontWrapMixin
from sqlalchemy.types import TypeDecorator, TypeEngine

#: The finest amount that the ledger holds, of tonnes and of USD.
AMOUNT_STEP: Final = Decimal("1E-9")
#: Billionths of anything smaller fit a 64-bit integer, which is all that SQLite has for exact numbers.
AMOUNT_LIMIT: Final = Decimal("9E9")

#: SQLAlchemy's two names for MySQL and MariaDB; a connection of either may go by the first.
MYSQL: Final = ("mysql", "mariadb")

_EXACT = Context(prec=40)


class LedgerError(DontWrapMixin, Exception):
    """The ledger refuses; the message names the line, its state and the remedy."""


class HandledElsewhereError(LedgerError):
    """A decision about a line by a run that doesn't handle it, or not any more."""


class HasLinkError(LedgerError):
    """A line is to get a link, and has got one meanwhile: deliver that."""


class State(StrEnum):
    """
    What became of a purchase line.

    ``restated`` is no purchase: it says that a month's emissions were stated anew, or that there is nothing to offset.
    """

    PLANNED = "planned"
    LINK_MADE = "link_made"
    PAID = "paid"
    RETIRED = "retired"
    FAILED = "failed"
    DECLINED = "declined"
    RESTATED = "restated"


#: The states in which a line's tonnes count as covered: nobody buys them again.
COVERING: Final = frozenset({State.PLANNED, State.LINK_MADE, State.PAID, State.RETIRED})
#: The states in which a line still has to come to an end.
OPEN: Final = frozenset({State.PLANNED, State.LINK_MADE, State.PAID})


@dataclass(frozen=True)
class Run:
    """A run of a DAG."""

    dag_id: str
    run_id: str


@dataclass(frozen=True, kw_only=True)
class PurchaseLine:
    """
    A row of the ledger.

    :param id: the row's number.
    :param entity: whose emissions it offsets.
    :param month: of which month, ``YYYY-MM``.
    :param test_mode: whether it is a rehearsal, which retires nothing.
    :param line: 1, 2, 3… within entity, month and test mode; the highest holds the figure that was stated last.
    :param emitted_tonnes: what the entity was known to have emitted in the month, rounded up to 10^-9 t.
    :param quantity_tonnes: tonnes to buy; 0 for ``restated`` only.
    :param unit_price_usd: USD per tonne with fees, when it was planned.
    :param cost_usd: USD with fees, as planned, then as quoted.
    :param state: what became of it.
    :param reason: why it failed or was declined; it stays when a payment comes in after all.
    :param checkout: what the checkout operator delivered.
    :param claimed_payment_id: the payment id that a person entered last, which Carbonmark has not confirmed.
    :param to_announce: whether it is retired, and Airflow's asset was not seen to be updated with that yet.
    :param link_request: what Carbonmark was asked for.
    :param idempotency_key: the key that it was asked with, as long as no answer is stored.
    :param run: the run that planned it; never changes.
    :param handler: the run that carries it on.
    :param handled_since: when it became that run's.
    """

    id: int
    entity: str
    month: str
    test_mode: bool
    line: int
    emitted_tonnes: Decimal
    quantity_tonnes: Decimal
    asset_price_source_id: str | None = None
    project_id: str | None = None
    registry: str | None = None
    vintage: int | None = None
    unit_price_usd: Decimal | None = None
    cost_usd: Decimal
    beneficiary_name: str | None = None
    retirement_message: str | None = None
    state: State
    reason: str | None = None
    planned_at: datetime
    link_made_at: datetime | None = None
    paid_at: datetime | None = None
    retired_at: datetime | None = None
    failed_at: datetime | None = None
    declined_at: datetime | None = None
    checkout_url: str | None = None
    checkout: dict[str, Any] | None = None
    payment_id: str | None = None
    claimed_payment_id: str | None = None
    certificate_url: str | None = None
    transaction_hash: str | None = None
    explorer_url: str | None = None
    to_announce: bool = False
    link_request: dict[str, Any] | None = None
    idempotency_key: str | None = None
    run: Run
    handler: Run
    handled_since: datetime

    def __str__(self) -> str:
        """Name the line for a message."""
        rehearsal = ", test mode" if self.test_mode else ""
        return f"line {self.id} ({self.entity}, {self.month}, no. {self.line}{rehearsal})"

    @classmethod
    def from_row(cls, row: Row[Any]) -> PurchaseLine:
        values = dict(row._mapping)
        values["run"] = Run(values.pop("dag_id"), values.pop("run_id"))
        values["handler"] = Run(values.pop("handler_dag_id"), values.pop("handler_run_id"))
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """Return what a task hands on (XCom): plain JSON, tonnes and USD as decimal strings."""
        names = (
            "id",
            "entity",
            "month",
            "line",
            "state",
            "test_mode",
            "emitted_tonnes",
            "quantity_tonnes",
            "asset_price_source_id",
            "project_id",
            "registry",
            "vintage",
            "unit_price_usd",
            "cost_usd",
            "beneficiary_name",
            "retirement_message",
            "checkout_url",
            "payment_id",
        )
        values = {name: getattr(self, name) for name in names} | {"state": self.state.value}
        return {name: f"{value:f}" if isinstance(value, Decimal) else value for name, value in values.items()}


def rounded_up(amount: Decimal) -> Decimal:
    """
    Give an amount as the ledger holds it.

    :param amount: tonnes or USD, as fine as somebody else states them; a float's 17 digits are common.
    :return: the amount, rounded up to 10^-9: of tonnes, that is a millionth of what can be bought.
    """
    return _amount(amount.quantize(AMOUNT_STEP, ROUND_CEILING, _EXACT) if _is_amount(amount) else amount)


def _is_amount(value: Decimal) -> bool:
    return value.is_finite() and abs(value) < AMOUNT_LIMIT


def _amount(value: Decimal) -> Decimal:
    """Return an amount without trailing zeros, so that equal amounts look the same."""
    if not _is_amount(value):
        raise LedgerError(f"An amount is {value}: the ledger holds numbers below {AMOUNT_LIMIT:f}")
    whole = value.to_integral_value()
    return whole if whole == value else value.normalize(_EXACT)


class Amount(TypeDecorator[Decimal]):
    """An exact decimal: NUMERIC where the database has it; SQLite, whose decimals are floats, counts billionths."""

    impl = Numeric(28, 9)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(BigInteger() if dialect.name == "sqlite" else Numeric(28, 9))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        exact = _amount(value)
        if exact != exact.quantize(AMOUNT_STEP, context=_EXACT):
            raise LedgerError(f"An amount is {value}: the ledger holds steps of 10^-9; round it before")
        return int(exact.scaleb(9, _EXACT)) if dialect.name == "sqlite" else exact

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        if value is None:
            return None
        return _amount(Decimal(value).scaleb(-9, _EXACT) if dialect.name == "sqlite" else value)


class StateName(TypeDecorator[State]):
    """A state by its name."""

    impl = String(16)
    cache_ok = True

    def process_bind_param(self, value: State | None, dialect: Dialect) -> str | None:
        return None if value is None else value.value

    def process_result_value(self, value: str | None, dialect: Dialect) -> State | None:
        return None if value is None else State(value)


class UtcTime(TypeDecorator[datetime]):
    """An aware time, always given back in UTC, also where the database keeps no zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        # MySQL keeps whole seconds only, unless told otherwise.
        return dialect.type_descriptor(
            mysql.DATETIME(fsp=6) if dialect.name in MYSQL else DateTime(timezone=True)
        )

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise LedgerError(
                f'A time is {value}, without a zone: pass an aware time, as pendulum.now("UTC")'
            )
        in_utc = value.astimezone(UTC)
        # Python's own datetime, and for MySQL without a zone: its drivers would write pendulum's as text that it refuses.
        plain = datetime.combine(in_utc.date(), in_utc.time())
        return plain if dialect.name in MYSQL else plain.replace(tzinfo=UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class JsonText(TypeDecorator[dict[str, Any]]):
    """A mapping as JSON text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: dict[str, Any] | None, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value, allow_nan=False)

    def process_result_value(self, value: str | None, dialect: Dialect) -> dict[str, Any] | None:
        return None if value is None else dict(json.loads(value))


metadata = MetaData()

_STATES = ", ".join(f"'{state}'" for state in State)
# Elsewhere letters are told apart anyway; MySQL would take Web for web.
_IN_MYSQL: dict[str, Any] = {
    f"{name}_{option}": value
    for name in MYSQL
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}

purchases = Table(
    "carbonmark_purchases",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("entity", String(255), nullable=False),
    Column("month", CHAR(7), nullable=False),
    Column("test_mode", Boolean, nullable=False),
    Column("line", Integer, nullable=False),
    Column("emitted_tonnes", Amount, nullable=False),
    Column("quantity_tonnes", Amount, nullable=False),
    Column("asset_price_source_id", String(255)),
    Column("project_id", String(255)),
    Column("registry", String(255)),
    Column("vintage", Integer),
    Column("unit_price_usd", Amount),
    Column("cost_usd", Amount, nullable=False),
    Column("beneficiary_name", Text),
    Column("retirement_message", Text),
    Column("state", StateName, nullable=False),
    Column("reason", Text),
    Column("planned_at", UtcTime, nullable=False),
    Column("link_made_at", UtcTime),
    Column("paid_at", UtcTime),
    Column("retired_at", UtcTime),
    Column("failed_at", UtcTime),
    Column("declined_at", UtcTime),
    Column("checkout_url", Text),
    Column("checkout", JsonText),
    Column("payment_id", String(255)),
    # Not unique: anybody may type anything.
    Column("claimed_payment_id", String(255)),
    Column("certificate_url", Text),
    Column("transaction_hash", Text),
    Column("explorer_url", Text),
    Column("to_announce", Boolean, nullable=False, server_default=false()),
    Column("link_request", JsonText),
    Column("idempotency_key", String(255)),
    Column("dag_id", String(255), nullable=False),
    Column("run_id", String(255), nullable=False),
    Column("handler_dag_id", String(255), nullable=False),
    Column("handler_run_id", String(255), nullable=False),
    Column("handled_since", UtcTime, nullable=False),
    # What keeps two planners that saw the same from both buying.
    UniqueConstraint("entity", "month", "test_mode", "line", name="carbonmark_purchases_once"),
    CheckConstraint(
        "(state = 'restated' AND quantity_tonnes = 0) OR (state <> 'restated' AND quantity_tonnes > 0)",
        name="carbonmark_purchases_quantity",
    ),
    CheckConstraint(f"state IN ({_STATES})", name="carbonmark_purchases_state"),
    # With the DAG, the entities of those that a reader may see are found in the index alone.
    Index("carbonmark_purchases_by_month", "month", "test_mode", "entity", "line", "dag_id"),
    Index("carbonmark_purchases_by_run", "dag_id", "run_id"),
    # The run first: a DAG's own rows may be all there are.
    Index("carbonmark_purchases_by_handler", "handler_run_id", "handler_dag_id"),
    Index("carbonmark_purchases_by_state", "state", "handler_dag_id", "handler_run_id"),
    **_IN_MYSQL,
)
# SQL Server would take two rows without a payment for the same payment twice.
Index(
    "carbonmark_purchases_by_payment",
    purchases.c.payment_id,
    unique=True,
    mssql_where=purchases.c.payment_id.is_not(None),
)
#: Which rows are to be announced, in the very words of the index, which SQLite wants.
TO_ANNOUNCE: Final = purchases.c.to_announce == true()
# A handful of rows, whatever the ledger holds; MySQL has no index of a part of a table, and finds them by the first column.
Index(
    "carbonmark_purchases_to_announce",
    purchases.c.to_announce,
    purchases.c.handler_dag_id,
    purchases.c.handler_run_id,
    postgresql_where=TO_ANNOUNCE,
    sqlite_where=TO_ANNOUNCE,
)

versions = Table(
    "carbonmark_ledger_version",
    metadata,
    Column("only_row", Integer, CheckConstraint("only_row = 1"), primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    **_IN_MYSQL,
)
