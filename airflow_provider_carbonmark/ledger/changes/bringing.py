"""
What a payment id that somebody brings for a link is: the purchase's payment, a second one, or another purchase's. And who waits for it.

Each function is what the ledger's method of its name does within its transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, case, delete, func, insert, null, select, update

from airflow_provider_carbonmark.api.inputs import bare_source_id
from airflow_provider_carbonmark.ledger.changes import transitions
from airflow_provider_carbonmark.ledger.names import LedgerError, Source, State, Task
from airflow_provider_carbonmark.ledger.purchase import MOST_UNVERIFIED, Payment, Purchase
from airflow_provider_carbonmark.ledger.questions.open_ends import SecondPayment, second_payments
from airflow_provider_carbonmark.ledger.tables.database import outrun_if_taken
from airflow_provider_carbonmark.ledger.tables.rows import (
    change_purchase,
    find_purchases,
    lock_purchase,
    read_links,
    task_of,
    task_values,
)
from airflow_provider_carbonmark.ledger.tables.schema import links, payments, purchases, waits

#: What may be paid, though nobody is to pay some of it any more.
_PAYABLE: Final = (State.LINK_MADE, State.DECLINED, State.FAILED)


class Meaning(StrEnum):
    """What a payment that was brought is to the purchase."""

    FIRST = "it is the payment that the purchase is paid with now"
    SAME = "it is the payment that the purchase was paid with before"
    SECOND = "the purchase is paid with another payment"
    ANOTHERS = "it is another purchase's payment"
    UNVERIFIED = "it is kept until Carbonmark says what it is for"
    TOO_MANY = "too many unconfirmed ids were brought for the link, and it is not kept"


@dataclass(frozen=True)
class Brought:
    """
    What bringing a payment came to.

    :param is_news: whether the ledger knew nothing of it before.
    :param other: the purchase whose payment it is, where it is another's.
    :param second: the two payments, where it came beside the one that counts.
    """

    purchase: Purchase
    payment: Payment
    meaning: Meaning
    is_news: bool
    other: int | None = None
    second: SecondPayment | None = None

    @property
    def is_first(self) -> bool:
        return self.meaning is Meaning.FIRST

    @property
    def is_its_own(self) -> bool:
        """Whether it is the payment that the purchase is paid with."""
        return self.meaning in (Meaning.FIRST, Meaning.SAME)

    def checked(self) -> Purchase:
        """Return the purchase. :raises LedgerError: when the payment is not its own."""
        if self.meaning is Meaning.ANOTHERS or self.second:
            raise transitions.for_a_person(self.why)
        return self.purchase

    @property
    def why(self) -> str:
        if self.meaning is Meaning.ANOTHERS:
            return (
                f"{self.purchase} can't have payment {self.payment.payment_id!r}: it is that of purchase {self.other}, and one payment "
                "buys one purchase; check at Carbonmark what it bought"
            )
        if self.second:
            return f"{self.purchase}. {self.second.what} {self.second.todo}"
        return self.meaning.value


def bring(connection: Connection, id: int, payment: Payment, now: datetime) -> Brought:
    purchase = lock_purchase(connection, id)
    transitions.must_have_link(purchase, "be paid")
    if purchase.link is None or not 1 <= payment.link <= purchase.link.number:
        raise LedgerError(f"{purchase} has no link {payment.link}, so it can't be paid by it")
    counts_for = paid_with(connection, payment.payment_id)
    other = None if counts_for == id else counts_for
    kept, is_news = _keep(
        connection, purchase, payment if other is None else replace(payment, verified_at=None)
    )
    meaning = _meaning(purchase, payment, kept, other)
    if meaning is Meaning.FIRST:
        with outrun_if_taken("The payment was recorded for another purchase first"):
            by_number = {link.number: link for link in read_links(connection, id)}
            changes = transitions.paid(purchase, payment.payment_id, by_number[payment.link].cost_usd, now)
            purchase = change_purchase(connection, purchase, changes, payment.link)
    second = None
    if meaning is Meaning.SECOND:
        its_own = second_payments(connection, purchase=id)
        second = next(each for each in its_own if each.second == payment.payment_id)
    return Brought(purchase, payment, meaning, is_news, other, second)


def _keep(connection: Connection, purchase: Purchase, payment: Payment) -> tuple[Payment | None, bool]:
    """Return what the ledger keeps of it, None where there is no room for it; and whether that is news."""
    is_it = (
        payments.c.purchase_id == purchase.id,
        payments.c.link == payment.link,
        payments.c.payment_id == payment.payment_id,
    )
    known = connection.execute(select(payments.c.verified_at).where(*is_it)).one_or_none()
    if known is not None:
        is_news = known.verified_at is None and payment.verified_at is not None
        if is_news:
            connection.execute(update(payments).where(*is_it).values(verified_at=payment.verified_at))
        return replace(payment, verified_at=known.verified_at or payment.verified_at), is_news
    if payment.verified_at is None and _unverified(connection, purchase, payment) >= MOST_UNVERIFIED:
        return None, False
    row = vars(payment) | {"purchase_id": purchase.id, "source": payment.source.value}
    connection.execute(insert(payments).values(row))
    return payment, True


def forget_typed(connection: Connection, id: int, payment_id: str) -> None:
    is_it = payments.c.purchase_id == id, payments.c.payment_id == payment_id
    typed = payments.c.source == Source.ENTERED.value, payments.c.verified_at.is_(None)
    connection.execute(delete(payments).where(*is_it, *typed))


def payment_failed(connection: Connection, id: int, payment_id: str) -> Purchase:
    purchase = lock_purchase(connection, id)
    changes = transitions.payment_failed(purchase, payment_id)
    if changes:
        # Forgotten, or it would be told as one of two; a second one may count now.
        of_purchase, is_it = payments.c.purchase_id == id, payments.c.payment_id == payment_id
        connection.execute(delete(payments).where(of_purchase, is_it))
        # Whoever looks next asks Carbonmark again before anybody pays.
        connection.execute(update(payments).where(of_purchase).values(verified_at=None))
        was_paid = links.c.purchase_id == id, links.c.outcome == "paid"
        unpaid = case((links.c.current_of == id, null()), else_="unpaid")
        connection.execute(update(links).where(*was_paid).values(outcome=unpaid))
    return change_purchase(connection, purchase, changes)


def _meaning(purchase: Purchase, payment: Payment, kept: Payment | None, other: int | None) -> Meaning:
    if other is not None:
        return Meaning.ANOTHERS
    if purchase.payment_id == payment.payment_id:
        return Meaning.SAME
    if kept is None:
        return Meaning.TOO_MANY
    if kept.verified_at is None:
        return Meaning.UNVERIFIED
    return Meaning.FIRST if purchase.payment_id is None else Meaning.SECOND


def paid_with(connection: Connection, payment_id: str) -> int | None:
    return connection.scalar(select(purchases.c.id).where(purchases.c.payment_id == payment_id))


def _unverified(connection: Connection, purchase: Purchase, payment: Payment) -> int:
    query = select(func.count()).where(
        payments.c.purchase_id == purchase.id,
        payments.c.link == payment.link,
        payments.c.verified_at.is_(None),
    )
    return connection.scalar(query) or 0


def payable_like(connection: Connection, payment: Mapping[str, Any], test_mode: bool) -> list[Purchase]:
    c = purchases.c
    tonnes, listing = payment["quantity_tonnes"], payment["asset_price_source_id"]
    payable = [c.state.in_(_PAYABLE), c.payment_id.is_(None), c.test_mode == test_mode]
    payable += [] if tonnes is None else [c.quantity_tonnes == tonnes]
    ids = [
        id
        for id, asked in connection.execute(select(c.id, c.asset_price_source_id).where(*payable))
        if listing is None or bare_source_id(asked) == bare_source_id(listing)
    ]
    return [each for each in find_purchases(connection, ids) if each.has_link]


def awaits(connection: Connection, id: int, task: Task, now: datetime) -> None:
    lock_purchase(connection, id)
    is_it = waits.c.purchase_id == id, waits.c.task == task.key
    if connection.execute(select(waits.c.task).where(*is_it)).one_or_none() is None:
        row = {"purchase_id": id, "task": task.key, "waits_since": now, **task_values(task)}
        connection.execute(insert(waits).values(row))


def waiting(connection: Connection, id: int) -> list[Task]:
    query = select(waits).where(waits.c.purchase_id == id).order_by(waits.c.waits_since, waits.c.task)
    return [task_of(row) for row in connection.execute(query).mappings()]
