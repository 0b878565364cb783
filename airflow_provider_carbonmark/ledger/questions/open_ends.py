"""
What is not at its end: what waits to be paid, what is paid and may be followed by nobody, what was not announced, what was paid twice.

Each function is what the ledger's method of its name does; by deployment, where that asks for its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, func, or_, select

from airflow_provider_carbonmark.ledger.names import State
from airflow_provider_carbonmark.ledger.tables.rows import in_batches, read_purchases
from airflow_provider_carbonmark.ledger.tables.schema import (
    TO_ANNOUNCE,
    allocations,
    links,
    payments,
    purchases,
    waits,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import ColumnElement, Connection

    from airflow_provider_carbonmark.ledger.purchase import Purchase

_p = purchases.c
#: What a person has to see to, beside what was paid twice.
_STUCK: Final = and_(_p.state == State.FAILED, _p.payment_id.is_not(None))


@dataclass(frozen=True)
class SecondPayment:
    """
    A payment for a purchase that was paid with another one.

    :param counts: the payment id that counts for it; with the address of the link that it is for.
    :param second: the other one; likewise.
    :param brought_at: when that one came to the ledger.
    """

    purchase: int
    counts: str
    counts_url: str | None
    second: str
    second_url: str | None
    brought_at: datetime

    @property
    def what(self) -> str:
        return f"Paid twice: {self.counts} ({self.counts_url}) counts, and {self.second} ({self.second_url}) came besides."

    @property
    def todo(self) -> str:
        return "Ask Carbonmark for the second payment's money back."


def open_purchases(connection: Connection, deployment: str) -> list[Purchase]:
    is_open = or_(_p.state.in_((State.LINK_MADE, State.PAID)), TO_ANNOUNCE, _STUCK)
    return read_purchases(connection, and_(_p.handler_deployment == deployment, is_open))


def settled_since(connection: Connection, deployment: str, since: datetime) -> list[Purchase]:
    awaited = select(waits.c.purchase_id).where(waits.c.deployment == deployment)
    settled = or_(*(each >= since for each in (_p.paid_at, _p.failed_at, _p.declined_at)))
    return read_purchases(connection, and_(_p.state != State.LINK_MADE, settled, _p.id.in_(awaited)))


def waiting_since(connection: Connection, ids: Collection[int]) -> dict[int, datetime]:
    of_each = select(links.c.purchase_id, func.min(links.c.made_at)).group_by(links.c.purchase_id)
    return {
        id: since
        for some in in_batches(sorted(ids))
        for id, since in connection.execute(of_each.where(links.c.purchase_id.in_(some)))
    }


def second_payments(
    connection: Connection, *conditions: ColumnElement[bool], purchase: int | None = None
) -> list[SecondPayment]:
    """
    Return the payments that Carbonmark knows as a purchase's, and that came beside the one that counts, by purchase.

    :param conditions: of allocations, where only purchases for some of these are wanted.
    :param purchase: the only one that is wanted.
    """
    its_own, its_link = payments.alias(), links.alias()
    second = payments.join(purchases, payments.c.purchase_id == _p.id)
    second = second.join(
        links, and_(links.c.purchase_id == _p.id, links.c.number == payments.c.link)
    ).outerjoin(its_own, and_(its_own.c.purchase_id == _p.id, its_own.c.payment_id == _p.payment_id))
    second = second.outerjoin(
        its_link, and_(its_link.c.purchase_id == _p.id, its_link.c.number == its_own.c.link)
    )
    query = (
        select(
            _p.id,
            _p.payment_id,
            its_link.c.url,
            payments.c.payment_id.label("second"),
            links.c.url.label("second_url"),
            payments.c.brought_at,
        )
        .select_from(second)
        .where(payments.c.verified_at.is_not(None), payments.c.payment_id != _p.payment_id)
    )
    if purchase is not None:
        query = query.where(_p.id == purchase)
    if conditions:
        query = query.where(_p.id.in_(select(allocations.c.purchase_id).where(*conditions)))
    found = {(row.id, row.second): SecondPayment(*row) for row in connection.execute(query)}
    return [found[key] for key in sorted(found)]
