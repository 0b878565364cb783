"""What a payment id that somebody brings for a link is: the purchase's payment, a second one, or another purchase's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from sqlalchemy import Connection, func, insert, select, update

from airflow_provider_carbonmark.ledger.purchase import MOST_UNVERIFIED, LedgerError, Payment, Purchase
from airflow_provider_carbonmark.ledger.schema import payments, purchases
from airflow_provider_carbonmark.ledger.transitions import for_a_person, must_be_its_payment, must_have_link


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

    :param purchase: the purchase as it is now.
    :param payment: what was brought.
    :param is_news: whether the ledger knew nothing of it before.
    :param other: the purchase whose payment it is, where it is another's.
    """

    purchase: Purchase
    payment: Payment
    meaning: Meaning
    is_news: bool
    other: int | None = None

    @property
    def is_first(self) -> bool:
        return self.meaning is Meaning.FIRST

    @property
    def is_its_own(self) -> bool:
        """Whether it is the payment that the purchase is paid with."""
        return self.meaning in (Meaning.FIRST, Meaning.SAME)

    def of(self, purchase: Purchase) -> Brought:
        return replace(self, purchase=purchase)

    def checked(self) -> Purchase:
        """Return the purchase. :raises LedgerError: when the payment is not its own."""
        if self.meaning is Meaning.ANOTHERS:
            raise for_a_person(self.why)
        if self.meaning is Meaning.SECOND:
            must_be_its_payment(self.purchase, self.payment.payment_id)
        return self.purchase

    @property
    def why(self) -> str:
        """Say what it is, for the log."""
        if self.meaning is Meaning.ANOTHERS:
            return (
                f"{self.purchase} can't have payment {self.payment.payment_id!r}: it is that of purchase {self.other}, and one payment "
                "buys one purchase; check at Carbonmark what it bought"
            )
        return self.meaning.value


def bring(connection: Connection, purchase: Purchase, payment: Payment) -> Brought:
    """
    Write down a payment that was brought for a locked purchase, and tell what it is.

    :raises LedgerError: when the purchase never had such a link.
    """
    must_have_link(purchase, "be paid")
    if purchase.link is None or not 1 <= payment.link <= purchase.link.number:
        raise LedgerError(f"{purchase} has no link {payment.link}, so it can't be paid by it")
    is_it = (
        payments.c.purchase_id == purchase.id,
        payments.c.link == payment.link,
        payments.c.payment_id == payment.payment_id,
    )
    known = connection.execute(select(payments.c.verified_at).where(*is_it)).one_or_none()
    other = _owner(connection, purchase, payment)
    verified_at = payment.verified_at if other is None else None
    if known is None:
        if verified_at is None and _unverified(connection, purchase, payment) >= MOST_UNVERIFIED:
            meaning = Meaning.TOO_MANY if other is None else Meaning.ANOTHERS
            return Brought(purchase, payment, meaning, is_news=False, other=other)
        row = vars(payment) | {
            "purchase_id": purchase.id,
            "source": payment.source.value,
            "verified_at": verified_at,
        }
        connection.execute(insert(payments).values(row))
    elif verified_at is not None and known.verified_at is None:
        connection.execute(update(payments).where(*is_it).values(verified_at=verified_at))
    is_news = known is None or (verified_at is not None and known.verified_at is None)
    return Brought(purchase, payment, _meaning(purchase, payment, other), is_news, other)


def _meaning(purchase: Purchase, payment: Payment, other: int | None) -> Meaning:
    if other is not None:
        return Meaning.ANOTHERS
    if purchase.payment_id == payment.payment_id:
        return Meaning.SAME
    if payment.verified_at is None:
        return Meaning.UNVERIFIED
    return Meaning.FIRST if purchase.payment_id is None else Meaning.SECOND


def _owner(connection: Connection, purchase: Purchase, payment: Payment) -> int | None:
    """Return which other purchase the payment counts for."""
    query = select(purchases.c.id).where(
        purchases.c.payment_id == payment.payment_id, purchases.c.id != purchase.id
    )
    return connection.scalar(query)


def _unverified(connection: Connection, purchase: Purchase, payment: Payment) -> int:
    query = select(func.count()).where(
        payments.c.purchase_id == purchase.id,
        payments.c.link == payment.link,
        payments.c.verified_at.is_(None),
    )
    return connection.scalar(query) or 0
