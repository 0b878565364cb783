"""Orders, checkouts and payments, as the sandbox keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_UP, Decimal
from typing import TYPE_CHECKING

from airflow_provider_carbonmark.sandbox.retirement import Retirement, Takes, Transaction

if TYPE_CHECKING:
    from airflow_provider_carbonmark.sandbox.cards import Outcome
    from airflow_provider_carbonmark.sandbox.market import Listing

CENT = Decimal("0.01")


@dataclass(frozen=True)
class Order:
    """What POST /checkout is asked for, checked."""

    asset_price_source_id: str
    quantity_tonnes: Decimal
    metadata: dict[str, str]
    success_url: str
    cancel_url: str


@dataclass
class Payment:
    """
    A paid checkout.

    :param payment_status: a word to say instead of ``PAID``, set by a control call.
    :param retirement_status: likewise for the retirement.
    """

    id: str
    paid_at: datetime
    outcome: Outcome
    takes: Takes
    transaction: Transaction
    payment_status: str | None = None
    retirement_status: str | None = None


@dataclass
class Checkout:
    """
    A payment page.

    :param payment_id: the id its payment has, or will have.
    :param test_mode: made with a key that retires nothing.
    :param payment_announced: the answer named the payment's id before it was paid.
    """

    id: str
    order: Order
    listing: Listing
    price: Decimal
    test_mode: bool
    created_at: datetime
    expires_at: datetime
    payment_id: str
    payment_announced: bool
    payment: Payment | None = None

    @property
    def amount(self) -> Decimal:
        """USD charged: in whole cents, rounded up."""
        return (self.order.quantity_tonnes * self.price).quantize(CENT, ROUND_UP)

    def asked(self) -> Retirement:
        return Retirement(
            status="SUBMITTED",
            quantity_tonnes=self.order.quantity_tonnes,
            asset_price_source_id=self.order.asset_price_source_id,
            beneficiary_name=self.order.metadata["beneficiary_name"],
            retirement_message=self.order.metadata["retirement_message"],
        )


@dataclass(frozen=True)
class PaymentView:
    """A payment at one moment, before it is laid out as an answer."""

    checkout: Checkout
    payment_status: str
    retirement_status: str | None
    retirement: Retirement
