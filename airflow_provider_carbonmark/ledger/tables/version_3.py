"""The step from version 3, in which each plan went through all that was ever declined or had failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, or_, select, update

from airflow_provider_carbonmark.ledger.names import COVERING
from airflow_provider_carbonmark.ledger.tables.schema import allocations, purchases

if TYPE_CHECKING:
    from sqlalchemy import Connection

ADDED: Final = (allocations.c.to_catch_up,)


def carry_over(connection: Connection) -> None:
    """Have the next plan look at all of that once more; the caller commits."""
    ended = select(purchases.c.id).where(purchases.c.state.not_in(COVERING))
    left = and_(allocations.c.purchase_id.is_(None), allocations.c.reason.is_not(None))
    connection.execute(
        update(allocations).where(or_(allocations.c.purchase_id.in_(ended), left)).values(to_catch_up=True)
    )
