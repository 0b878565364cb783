"""
The step from version 2, which had one link for each purchase: neither what a link was to cost, nor until when it could be paid.

At first it had one allocation for each purchase, too, without a cost of its own. New columns are added to the tables as they are; nothing else of them changes.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import Column, inspect, null, select, text, update
from sqlalchemy.schema import CreateColumn

from airflow_provider_carbonmark.ledger.tables.schema import allocations, links, purchases

if TYPE_CHECKING:
    from sqlalchemy import Connection

ADDED: Final = (
    allocations.c.cost_usd,
    allocations.c.rounding_tonnes,
    allocations.c.reason,
    purchases.c.base_unit_price_usd,
    purchases.c.retired_at_told,
    purchases.c.reminded_at,
    links.c.cost_usd,
    links.c.limits,
    links.c.unpaid_said_by,
    links.c.unpaid_said_at,
)

# doc: how long a page of Stripe's can be paid; its Payment Links can be for ever.
_LIFETIME: Final = timedelta(hours=24)
_FOR_EVER: Final = "https://buy.stripe.com/%"

# What is of no project of Google Cloud's had the first name then. It is stated under the second now, and would be bought a second time.
_RENAMED: Final = ("(no project)", "(no Google Cloud project)")


def add_columns(connection: Connection, columns: tuple[Column[object], ...]) -> None:
    """Give tables the columns that they lack; without effect on those that are not there."""
    inspector = inspect(connection)
    for column in columns:
        table = column.table.name
        if not inspector.has_table(table):
            continue
        if column.name not in {known["name"] for known in inspector.get_columns(table)}:
            described = CreateColumn(column).compile(dialect=connection.dialect)
            connection.execute(text(f"ALTER TABLE {table} ADD COLUMN {described}"))


def carry_over(connection: Connection) -> None:
    """Say of each link what it was to cost and until when it can be paid, and of entities what they are called now; the caller commits."""
    cost = select(purchases.c.cost_usd).where(purchases.c.id == links.c.purchase_id).scalar_subquery()
    connection.execute(update(links).where(links.c.cost_usd.is_(null())).values(cost_usd=cost))
    is_whole = (
        purchases.c.id == allocations.c.purchase_id,
        purchases.c.quantity_tonnes == allocations.c.quantity_tonnes,
    )
    of_whole = select(purchases.c.cost_usd).where(*is_whole).scalar_subquery()
    connection.execute(
        update(allocations).where(allocations.c.cost_usd.is_(null())).values(cost_usd=of_whole)
    )
    untold = select(links.c.purchase_id, links.c.number, links.c.made_at).where(
        links.c.made_at.is_not(None), links.c.expires_at.is_(None), links.c.url.not_like(_FOR_EVER)
    )
    for purchase, number, made_at in connection.execute(untold).all():
        is_it = links.c.purchase_id == purchase, links.c.number == number
        connection.execute(update(links).where(*is_it).values(expires_at=made_at + _LIFETIME))
    before, now = _RENAMED
    connection.execute(update(allocations).where(allocations.c.entity == before).values(entity=now))
