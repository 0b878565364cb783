"""How the ledger keeps amounts, times, states and JSON, the same in every database."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any, Final

from sqlalchemy import BigInteger, DateTime, Dialect, Numeric, String, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DontWrapMixin
from sqlalchemy.types import TypeDecorator, TypeEngine

from airflow_provider_carbonmark.ledger.names import LedgerError, State
from airflow_provider_carbonmark.ledger.values import Origin, Part

#: The finest amount that the ledger holds, of tonnes and of USD.
AMOUNT_STEP: Final = Decimal("1E-9")
#: Billionths of anything smaller fit a 64-bit integer, which is all that SQLite has for exact numbers.
AMOUNT_LIMIT: Final = Decimal("9E9")

#: SQLAlchemy's two names for MySQL and MariaDB; a connection of either may go by the first.
MYSQL: Final = ("mysql", "mariadb")

_EXACT = Context(prec=40)


class UnfitValueError(DontWrapMixin, LedgerError):
    """A value that the ledger can't hold; SQLAlchemy lets it through as it is."""


def rounded_up(amount: Decimal) -> Decimal:
    """
    Give tonnes or USD as the ledger holds them, rounded up to 10^-9: of tonnes, that is a millionth of what can be bought.

    Others state them as finely as they like; a float's 17 digits are common.
    """
    return _amount(amount.quantize(AMOUNT_STEP, ROUND_CEILING, _EXACT) if _is_amount(amount) else amount)


def _is_amount(value: Decimal) -> bool:
    return value.is_finite() and abs(value) < AMOUNT_LIMIT


def _amount(value: Decimal) -> Decimal:
    """Return an amount without trailing zeros, so that equal amounts look the same."""
    if not _is_amount(value):
        raise UnfitValueError(f"An amount is {value}: the ledger holds numbers below {AMOUNT_LIMIT:f}")
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
            raise UnfitValueError(f"An amount is {value}: the ledger holds steps of 10^-9; round it before")
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
            raise UnfitValueError(
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


class OriginText(TypeDecorator[Origin]):
    """Where a figure is from, as JSON text; tonnes as decimal strings."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Origin | None, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(asdict(value), default="{:f}".format)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Origin | None:
        if value is None:
            return None
        found = json.loads(value)
        parts = (Part(**part | {"tonnes": Decimal(part["tonnes"])}) for part in found["parts"])
        return Origin(found["source"], found["version"], tuple(parts))
