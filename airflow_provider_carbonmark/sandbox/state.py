"""What the sandbox remembers: checkouts, payments, the market. One lock guards it all."""

from __future__ import annotations

import hashlib
import math
import threading
import uuid
from collections import Counter, deque
from datetime import datetime, timedelta
from decimal import ROUND_UP, Decimal
from typing import Any

from airflow_provider_carbonmark.sandbox.cards import Card, Outcome
from airflow_provider_carbonmark.sandbox.clock import Clock, TimeSource, utc_now
from airflow_provider_carbonmark.sandbox.errors import (
    ServiceRefusal,
    bad_request,
    conflict,
    expired,
    not_found,
)
from airflow_provider_carbonmark.sandbox.faults import FaultPlan
from airflow_provider_carbonmark.sandbox.market import Listing, open_market, plain
from airflow_provider_carbonmark.sandbox.records import Checkout, Order, Payment, PaymentView
from airflow_provider_carbonmark.sandbox.retirement import (
    PLACEHOLDER,
    Retirement,
    Takes,
    Transaction,
    progress,
)
from airflow_provider_carbonmark.sandbox.switches import Switches

MICRO_USDC = Decimal("0.000001")
REQUESTS_KEPT = 1000


class SandboxState:
    """
    The sandbox's memory. Safe to use from several threads.

    :param switches: how to behave, at the start and after a reset.
    :param time_source: returns the present as an aware datetime.
    """

    def __init__(self, switches: Switches | None = None, time_source: TimeSource = utc_now) -> None:
        self.lock = threading.RLock()
        self.clock = Clock(time_source)
        self._first_switches = switches or Switches()
        self.reset()

    def reset(self) -> None:
        """Forget everything, and behave as at the start."""
        with self.lock:
            self.clock.reset()
            self.connections = 0
            self.switches = self._first_switches
            self.fault_plan = FaultPlan(self.switches)
            self.listings = open_market()
            self.checkouts: dict[str, Checkout] = {}
            self._checkout_of_payment: dict[str, Checkout] = {}
            self._idempotent: dict[tuple[str, str], tuple[bytes, Checkout]] = {}
            self.request_counts: Counter[str] = Counter()
            self.requests: deque[dict[str, Any]] = deque(maxlen=REQUESTS_KEPT)

    def change_switches(self, **changes: Any) -> Switches:
        """
        Behave differently from now on.

        :param changes: new values by the names in :class:`Switches`.
        :raises pydantic.ValidationError: when a name or a value is unknown.
        """
        with self.lock:
            self.switches = self.switches.changed(changes)
            if {"faults", "seed"} & changes.keys():
                self.fault_plan = FaultPlan(self.switches)
            return self.switches

    def advance_clock(self, seconds: float) -> datetime:
        """
        Put the clock forward.

        :param seconds: how far; not negative.
        :return: the sandbox's time.
        """
        with self.lock:
            self.clock.advance(seconds)
            return self.clock.now()

    def quote(self, asset_price_source_id: str, quantity: Decimal) -> dict[str, Any]:
        """
        Price a quantity (doc: the market API's answer).

        :param quantity: tonnes.
        :raises ServiceRefusal: when that cannot be bought.
        """
        with self.lock:
            listing = self._sellable(asset_price_source_id, quantity)
            now = self.clock.now()
            cost = (quantity * listing.purchase_price).quantize(MICRO_USDC, ROUND_UP)
            if self.switches.quote_float_noise:
                cost = Decimal(math.nextafter(float(cost), math.inf))
        return {
            "uuid": str(uuid.uuid4()),
            "asset_price_source_id": asset_price_source_id,
            "quantity_tonnes": quantity,
            "cost_usdc": cost,
            "consumed": 0,
            "credential_id": str(uuid.uuid5(uuid.NAMESPACE_URL, asset_price_source_id)),
            "created_at": now,
            "updated_at": now,
        }

    def open_checkout(self, order: Order, *, key: str, idempotency_key: str | None, body: bytes) -> Checkout:
        """
        Make a payment page.

        :param key: the API key, which decides on test mode.
        :param idempotency_key: a repetition with the same body gets the same checkout.
        :param body: the request as sent.
        :raises ServiceRefusal: when that cannot be bought, or the idempotency key was used for something else.
        """
        with self.lock:
            repeated = idempotency_key if self.switches.honour_idempotency_key else None
            fingerprint = hashlib.sha256(body).digest()
            if repeated and (before := self._idempotent.get((key, repeated))):
                if before[0] != fingerprint:
                    raise ServiceRefusal(
                        422,
                        f"Idempotency-Key {repeated[:80]!r} was used before with another body",
                        name="IdempotencyError",
                        code="IDEMPOTENCY_KEY_REUSED",
                    )
                return before[1]
            checkout = self._new_checkout(order, test_mode=key.startswith("cm_api_sandbox"))
            self.checkouts[checkout.id] = checkout
            self._checkout_of_payment[checkout.payment_id] = checkout
            if repeated:
                self._idempotent[key, repeated] = (fingerprint, checkout)
            return checkout

    def find_checkout(self, checkout_id: str) -> Checkout:
        """
        Look a checkout up.

        :raises ServiceRefusal: when there is none.
        """
        with self.lock:
            if checkout := self.checkouts.get(checkout_id):
                return checkout
        raise not_found("There is no such checkout.", "CHECKOUT_NOT_FOUND")

    def is_expired(self, checkout: Checkout) -> bool:
        return checkout.payment is None and self.clock.now() >= checkout.expires_at

    def pay(self, checkout_id: str, card: Card) -> Payment:
        """
        Pay a checkout, once: a second payment gets the first one back.

        :param card: one that is not declined.
        :raises ServiceRefusal: when the checkout is unknown, expired, or sold out.
        """
        with self.lock:
            checkout = self.find_checkout(checkout_id)
            if checkout.payment is not None:
                return checkout.payment
            if self.is_expired(checkout):
                raise expired()
            listing, quantity = checkout.listing, checkout.order.quantity_tonnes
            if quantity > listing.liquid_supply:
                raise conflict(
                    f"Only {plain(listing.liquid_supply)} t of {listing.credit} are left, and {plain(quantity)} t were asked for."
                    " Nothing was charged.",
                    "INSUFFICIENT_SUPPLY",
                )
            listing.supply -= quantity
            listing.liquid_supply -= quantity
            checkout.payment = self._new_payment(checkout, card)
            return checkout.payment

    def view_payment(self, payment_id: str) -> PaymentView:
        """
        Return a payment as it stands now.

        :raises ServiceRefusal: when it is not known, or not yet.
        """
        with self.lock:
            unknown = not_found(f"There is no payment {payment_id[:80]!r}.", "PAYMENT_NOT_FOUND")
            checkout = self._checkout_of_payment.get(payment_id)
            if checkout is None:
                raise unknown
            now, payment = self.clock.now(), checkout.payment
            if payment is None:
                if not checkout.payment_announced:
                    raise unknown
                status = "EXPIRED" if self.is_expired(checkout) else "AWAITING_PAYMENT"
                return PaymentView(checkout, status, None, checkout.asked())
            if (
                not checkout.payment_announced
                and (now - payment.paid_at).total_seconds() < payment.takes.visible
            ):
                raise unknown
            retirement = self._progress(checkout, payment)
            return PaymentView(
                checkout,
                payment.payment_status or "PAID",
                payment.retirement_status or retirement.status,
                retirement,
            )

    def find_retirement(self, certificate_id: str) -> Retirement:
        """
        Look a proven retirement up.

        :param certificate_id: chain, transaction hash and index, joined by hyphens.
        :raises ServiceRefusal: when there is none.
        """
        with self.lock:
            made = [self._progress(c, c.payment) for c in self.checkouts.values() if c.payment]
        for retirement in [PLACEHOLDER, *made]:
            proof = retirement.transaction
            if proof and proof.certificate_path == f"/retirements/id/{certificate_id}":
                return retirement
        raise not_found("There is no such retirement.", "RETIREMENT_NOT_FOUND")

    def payment_snapshot(self, payment_id: str) -> dict[str, Any]:
        """Return what is known of a paid payment, whatever the service tells of it yet."""
        with self.lock:
            checkout = self._checkout_of_payment[payment_id]
            payment = checkout.payment
            if payment is None:
                raise not_found(f"Payment {payment_id} is not paid.", "PAYMENT_NOT_FOUND")
            return {
                "id": payment.id,
                "checkout_id": checkout.id,
                "amount_usd": checkout.amount,
                "paid_at": payment.paid_at,
                "outcome": payment.outcome,
                "payment_status": payment.payment_status or "PAID",
                "retirement_status": payment.retirement_status or self._progress(checkout, payment).status,
            }

    def snapshot(self) -> dict[str, Any]:
        """Return what happened so far: checkouts, payments, and how often each endpoint was called."""
        with self.lock:
            checkouts = self.checkouts.values()
            return {
                "now": self.clock.now(),
                "connections": self.connections,
                "requests": dict(self.request_counts),
                "checkouts": [
                    {
                        "id": checkout.id,
                        "payment_id": checkout.payment_id,
                        "is_paid": checkout.payment is not None,
                        "is_expired": self.is_expired(checkout),
                        "test_mode": checkout.test_mode,
                        "amount_usd": checkout.amount,
                        "quantity_tonnes": checkout.order.quantity_tonnes,
                        "asset_price_source_id": checkout.order.asset_price_source_id,
                        "metadata": checkout.order.metadata,
                        "success_url": checkout.order.success_url,
                        "cancel_url": checkout.order.cancel_url,
                    }
                    for checkout in checkouts
                ],
                "payments": [self.payment_snapshot(each.payment_id) for each in checkouts if each.payment],
            }

    def _progress(self, checkout: Checkout, payment: Payment) -> Retirement:
        return progress(
            checkout.asked(),
            payment.transaction,
            payment.outcome,
            paid_at=payment.paid_at,
            now=self.clock.now(),
            takes=payment.takes,
        )

    def _sellable(self, source_id: str, quantity: Decimal) -> Listing:
        listing = self.listings.get(source_id)
        if listing is None:
            raise not_found(
                f"There is no asset price source {source_id[:120]!r}", "ASSET_PRICE_SOURCE_NOT_FOUND"
            )
        if listing.type != "listing":
            raise bad_request(f"Only listings are sold here; {source_id[:120]!r} is of type {listing.type}")
        if listing.is_expired(self.clock.now()):
            raise conflict(f"Listing {listing.credit} has expired", "LISTING_EXPIRED")
        if quantity % listing.step:
            raise bad_request(
                f"quantity_tonnes of {listing.registry} credits is a multiple of {listing.step}, and is {plain(quantity)}"
            )
        if quantity < listing.min_fill_amount:
            raise bad_request(
                f"quantity_tonnes is at least {plain(listing.min_fill_amount)} for this listing, and is {plain(quantity)}"
            )
        if quantity > listing.liquid_supply:
            raise conflict(
                f"Listing {listing.credit} has {plain(listing.liquid_supply)} t left, and {plain(quantity)} t were asked for",
                "INSUFFICIENT_SUPPLY",
            )
        return listing

    def _new_checkout(self, order: Order, *, test_mode: bool) -> Checkout:
        listing = self._sellable(order.asset_price_source_id, order.quantity_tonnes)
        now = self.clock.now()
        return Checkout(
            id=f"cs_{uuid.uuid4().hex}",
            order=order,
            listing=listing,
            price=listing.purchase_price,
            test_mode=test_mode,
            created_at=now,
            expires_at=now + timedelta(seconds=self.switches.checkout_seconds),
            payment_id=f"pay_{uuid.uuid4().hex}",
            payment_announced=self.switches.checkout_layout == "rich",
        )

    def _new_payment(self, checkout: Checkout, card: Card) -> Payment:
        outcome = card.outcome or Outcome.RETIRED
        if checkout.test_mode and outcome is Outcome.RETIRED:
            outcome = Outcome.PLACEHOLDER
        tx_hash = "0x" + hashlib.sha256(checkout.payment_id.encode()).hexdigest()
        return Payment(
            id=checkout.payment_id,
            paid_at=self.clock.now(),
            outcome=outcome,
            takes=Takes(
                visible=self.switches.payment_visible_seconds,
                retirement=self.switches.retirement_seconds,
                proof=self.switches.proof_seconds,
            ),
            transaction=Transaction(checkout.listing.chain_id, tx_hash, 0),
        )
