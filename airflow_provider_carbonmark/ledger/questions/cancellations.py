"""
What is cancelled, which is what regulations call it when credits are retired: by when it was, and by whose emissions it is for.

Each function is what the ledger's method of its name does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, false, func, or_, select, true, type_coerce, union

from airflow_provider_carbonmark.ledger.names import State
from airflow_provider_carbonmark.ledger.tables.columns import Amount
from airflow_provider_carbonmark.ledger.tables.schema import allocations, purchases, retirements

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, FromClause

_p = purchases.c
_a = allocations.c
#: What the market tells counts where the payment didn't tell when it was, and we kept when we looked.
_cancelled_at = case(
    (_p.retired_at_told == true(), _p.retired_at),
    else_=func.coalesce(retirements.c.retired_at, _p.retired_at),
)
_WITH_FACTS = purchases.outerjoin(retirements, retirements.c.purchase_id == _p.id)
# What many have in common: kept once, since there may be a million of them.
_COMMON = ("asset_price_source_id", "project_id", "registry", "beneficiary_name", "retirement_message")
_COLUMNS = (
    *("vintage", "unit_price_usd", "base_unit_price_usd", "cost_usd", "paid_at"),
    *("certificate_url", "transaction_hash", "explorer_url"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancellation:
    """
    A purchase whose credits are cancelled, or are paid and will be. None is a rehearsal.

    :param tonnes: all of it.
    :param for_months: how much of it is for the emissions of which month, ``YYYY-MM``. The rest is for none: rounding added it, or no
        plan says whom the purchase is for.
    :param cancelled_at: when; None for what is paid only.
    :param is_told: whether that is what Carbonmark tells. False: it is when we looked. None: nobody kept which.
    :param unit_price_usd: USD per tonne with fees, by its listing; None where no plan says.
    :param base_unit_price_usd: the same without fees, where the market told it.
    :param cost_usd: USD with fees, as quoted; None where nobody asked.
    """

    purchase: int
    tonnes: Decimal
    for_months: Mapping[str, Decimal]
    cancelled_at: datetime | None
    is_told: bool | None
    asset_price_source_id: str
    project_id: str | None
    registry: str | None
    vintage: int | None
    unit_price_usd: Decimal | None
    base_unit_price_usd: Decimal | None
    cost_usd: Decimal | None
    beneficiary_name: str
    retirement_message: str
    paid_at: datetime | None
    certificate_url: str | None
    transaction_hash: str | None
    explorer_url: str | None


def cancelled(
    connection: Connection, since: datetime, until: datetime, months: tuple[str, str]
) -> list[Cancellation]:
    in_time = select(_p.id).select_from(_WITH_FACTS).where(_cancelled_at >= since, _cancelled_at < until)
    for_them = select(_a.purchase_id).where(_a.month.between(*months), _a.purchase_id.is_not(None))
    # Joined with what is either: asked of each purchase, one or the other keeps PostgreSQL busy for hours with a million of them.
    either = union(in_time, for_them).subquery()
    return _read(connection, _p.state == State.RETIRED, _WITH_FACTS.join(either, either.c.id == _p.id))


def contracts(connection: Connection, at: datetime) -> list[Cancellation]:
    later = and_(_p.state == State.RETIRED, _cancelled_at >= at)
    return _read(connection, and_(or_(_p.state == State.PAID, later), _p.paid_at < at))


def _read(
    connection: Connection, condition: ColumnElement[bool], purchases_with_facts: FromClause = _WITH_FACTS
) -> list[Cancellation]:
    is_it = and_(condition, _p.test_mode == false())
    shares: dict[int, dict[str, Decimal]] = defaultdict(dict)
    once: dict[str, str] = {}
    tonnes = type_coerce(func.sum(_a.quantity_tonnes), Amount)
    by_month = select(_a.purchase_id, _a.month, tonnes).select_from(
        allocations.join(purchases_with_facts, _a.purchase_id == _p.id)
    )
    for purchase, month, sum_ in connection.execute(
        by_month.where(is_it).group_by(_a.purchase_id, _a.month).order_by(_a.month)
    ):
        shares[purchase][once.setdefault(month, month)] = sum_
    query = select(
        _p.id,
        _p.quantity_tonnes,
        _cancelled_at.label("cancelled_at"),
        _p.retired_at_told,
        retirements.c.retired_at.label("told_later"),
        *(_p[name] for name in (*_COMMON, *_COLUMNS)),
    ).select_from(purchases_with_facts)
    found = [_cancellation(row, shares, once) for row in connection.execute(query.where(is_it)).mappings()]
    return sorted(found, key=lambda each: (each.cancelled_at is None, each.cancelled_at, each.purchase))


def _cancellation(
    row: Any, shares: Mapping[int, Mapping[str, Decimal]], once: dict[str, str]
) -> Cancellation:
    is_told = row["retired_at_told"] or (True if row["told_later"] else row["retired_at_told"])
    common: dict[str, Any] = {name: once.setdefault(row[name], row[name]) for name in _COMMON}
    return Cancellation(
        purchase=row["id"],
        tonnes=row["quantity_tonnes"],
        for_months=shares.get(row["id"], {}),
        cancelled_at=row["cancelled_at"],
        is_told=is_told,
        **common,
        **{name: row[name] for name in _COLUMNS},
    )
