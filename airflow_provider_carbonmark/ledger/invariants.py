"""
What holds of every ledger, shown on one: each invariant is a question that finds the rows which break it.

The database keeps most of it from being broken by itself, see :mod:`~airflow_provider_carbonmark.ledger.tables.schema`; what is left may be
broken by hand, by a restored backup, or by a mistake of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ColumnElement, Select, and_, case, exists, func, not_, or_, select

from airflow_provider_carbonmark.ledger.names import State
from airflow_provider_carbonmark.ledger.tables.schema import (
    allocations,
    links,
    payments,
    purchases,
    retirements,
    waits,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

_a, _l, _p = allocations.c, links.c, purchases.c
_HAS_TAKEN_PAYMENT: Final = (State.PAID, State.RETIRED)


@dataclass(frozen=True)
class Broken:
    """What should hold, in words, and a row that breaks it, by a purchase's number or by entity, month and mode."""

    invariant: str
    row: str

    def __str__(self) -> str:
        return f"{self.row}: {self.invariant}"


def broken(connection: Connection) -> Iterator[Broken]:
    """Give each row that breaks an invariant; goes through all of the ledger once for each invariant."""
    for invariant, names, query in _QUESTIONS:
        for row in connection.execute(query):
            values = (f"{name} {value}" for name, value in zip(names, row, strict=True))
            yield Broken(invariant, ", ".join(values))


def _of_purchases(*conditions: ColumnElement[bool]) -> Select[Any]:
    return select(_p.id).where(*conditions)


def _orphans(table: Table) -> Select[Any]:
    """Give rows whose purchase is not there: SQLite looks at foreign keys only for connections that ask for it."""
    known = exists().where(_p.id == table.c.purchase_id)
    return select(table.c.purchase_id).where(table.c.purchase_id.is_not(None), not_(known)).distinct()


def _sums() -> Select[Any]:
    return (
        select(_p.id)
        .join(allocations, _a.purchase_id == _p.id)
        .group_by(_p.id, _p.quantity_tonnes, _p.cost_usd)
    )


_current = exists().where(_l.current_of == _p.id, _l.url.is_not(None))
_verified = exists().where(
    payments.c.purchase_id == _p.id,
    payments.c.payment_id == _p.payment_id,
    payments.c.verified_at.is_not(None),
)
_cost = func.sum(_a.cost_usd)
_PURCHASE: Final = ("purchase",)
#: An invariant, what its rows are called by, and the question for those that break it.
_QUESTIONS: Final[tuple[tuple[str, tuple[str, ...], Select[Any]], ...]] = (
    (
        "its allocations and what rounding added are its tonnes",
        _PURCHASE,
        _sums().having(func.sum(_a.quantity_tonnes) + func.sum(_a.rounding_tonnes) != _p.quantity_tonnes),
    ),
    (
        "the costs of its allocations are not more than it costs",
        _PURCHASE,
        _sums().having(_cost > _p.cost_usd),
    ),
    (
        "lines are numbered 1, 2, 3… within entity, month and mode",
        ("entity", "month", "test_mode"),
        select(_a.entity, _a.month, _a.test_mode)
        .group_by(_a.entity, _a.month, _a.test_mode)
        .having(or_(func.min(_a.line) != 1, func.max(_a.line) != func.count())),
    ),
    (
        "its allocations are in its mode",
        _PURCHASE,
        _of_purchases(exists().where(_a.purchase_id == _p.id, _a.test_mode != _p.test_mode)),
    ),
    (
        "what waits to be paid has a current link",
        _PURCHASE,
        _of_purchases(_p.state == State.LINK_MADE, not_(_current)),
    ),
    (
        "what is paid or retired has a payment, which Carbonmark confirmed",
        _PURCHASE,
        _of_purchases(_p.state.in_(_HAS_TAKEN_PAYMENT), or_(_p.payment_id.is_(None), not_(_verified))),
    ),
    (
        "what is retired has a time and a proof, a certificate or a transaction",
        _PURCHASE,
        _of_purchases(
            _p.state == State.RETIRED,
            or_(_p.retired_at.is_(None), and_(_p.certificate_url.is_(None), _p.transaction_hash.is_(None))),
        ),
    ),
    (
        "what is not retired has no time of it, and is not announced",
        _PURCHASE,
        _of_purchases(_p.state != State.RETIRED, or_(_p.retired_at.is_not(None), _p.to_announce)),
    ),
    (
        "a link is current for its own purchase only, and numbered 1, 2, 3…",
        _PURCHASE,
        select(_l.purchase_id)
        .group_by(_l.purchase_id)
        .having(
            or_(
                func.min(_l.number) != 1,
                func.max(_l.number) != func.count(),
                func.sum(case((_l.current_of != _l.purchase_id, 1), else_=0)) > 0,
            )
        ),
    ),
    *(
        ("what speaks of a purchase has one", (f"purchase (in {table.name})",), _orphans(table))
        for table in (allocations, links, payments, waits, retirements)
    ),
)
