"""What the sandbox remembers: checkouts, payments, the market. One lock guards it all."""

from __future__ import annotations

import hashlib
import math
import threading
import uuid
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_UP, Decimal
from typing import Any

from airflow_provider_carbonmark.sandbox.errors import ServiceRefusal, bad_request, expired, too_cheap
from airflow_provider_carbonmark.sandbox.switches import FaultPlan, Switches
from airflow_provider_carbonmark.sandbox.world.cards import Card, Outcome
from airflow_provider_carbonmark.sandbox.world.market import Listing, open_market, plain
from airflow_provider_carbonmark.sandbox.world.records import (
    PLACEHOLDER,
    Checkout,
    CheckoutBody,
    Payment,
    PaymentView,
    ProvenRetirement,
    Retirement,
)

TimeSource = Callable[[], datetime]

MICRO_USDC = Decimal("0.000001")
REQUESTS_KEPT = 1000


def utc_now() -> datetime:
    return datetime.now(UTC)


def unknown_payment(payment_id: str) -> ServiceRefusal:
    return ServiceRefusal(404, f"There is no payment {payment_id[:80]!r}.", "PAYMENT_NOT_FOUND")


def unknown_retirement(message: str) -> ServiceRefusal:
    return ServiceRefusal(404, message, "RETIREMENT_NOT_FOUND")


class SandboxState:
    """
    The sandbox's memory. Safe to use from several threads.

    :param switches: how to behave, at the start and after a reset.
    :param time_source: returns the present as an aware datetime.
    """

    def __init__(self, switches: Switches | None = None, time_source: TimeSource = utc_now) -> None:
        self.lock = threading.RLock()
        self._time_source = time_source
        self._first_switches = switches or Switches()
        self.reset()

    def reset(self) -> None:
        """Forget everything, and behave as at the start."""
        with self.lock:
            self._ahead = timedelta()
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
            self.switches = Switches.model_validate(self.switches.model_dump() | changes)
            if {"faults", "seed"} & changes.keys():
                self.fault_plan = FaultPlan(self.switches)
            return self.switches

    def now(self) -> datetime:
        """Return the sandbox's time: its source's, and how far it has been put forward."""
        return self._time_source() + self._ahead

    def advance_clock(self, seconds: float) -> datetime:
        """Put the clock forward by some seconds; not negative."""
        with self.lock:
            self._ahead += timedelta(seconds=seconds)
            return self.now()

    def quote(self, asset_price_source_id: str, quantity: Decimal) -> dict[str, Any]:
        """
        Price a quantity in tonnes (doc: the market API's answer).

        :raises ServiceRefusal: when that cannot be bought.
        """
        with self.lock:
            listing = self._sellable(asset_price_source_id, quantity)
            now = self.now()
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

    def open_checkout(
        self, order: CheckoutBody, *, key: str, idempotency_key: str | None, sent: bytes
    ) -> Checkout:
        """
        Make a payment page.

        :param key: the API key, which decides on test mode.
        :param idempotency_key: a repetition with the same body gets the same checkout.
        :raises ServiceRefusal: when that cannot be bought, or the idempotency key was used for something else.
        :raises pydantic.ValidationError: when Puro's credits are not told their consumption.
        """
        with self.lock:
            repeated = idempotency_key if self.switches.honour_idempotency_key else None
            fingerprint = hashlib.sha256(sent).digest()
            if repeated and (before := self._idempotent.get((key, repeated))):
                if before[0] != fingerprint:
                    message = f"Idempotency-Key {repeated[:80]!r} was used before with another body"
                    raise ServiceRefusal(422, message)
                return before[1]
            checkout = self._new_checkout(order, test_mode=key.startswith("cm_api_sandbox"))
            self.checkouts[checkout.id] = checkout
            self._checkout_of_payment[checkout.payment_id] = checkout
            if repeated:
                self._idempotent[key, repeated] = (fingerprint, checkout)
            return checkout

    def find_checkout(self, checkout_id: str) -> Checkout:
        """Look a checkout up, or refuse where there is none."""
        with self.lock:
            if checkout := self.checkouts.get(checkout_id):
                return checkout
        raise ServiceRefusal(404, "There is no such checkout.", "CHECKOUT_NOT_FOUND")

    def is_expired(self, checkout: Checkout) -> bool:
        return checkout.payment is None and self.now() >= checkout.expires_at

    def can_be_paid(self, checkout: Checkout) -> bool:
        """Return whether a page that was opened in time leads to a payment now (unknown: whether Carbonmark's may, late)."""
        late = timedelta(seconds=self.switches.late_payment_seconds)
        return checkout.payment is None and self.now() < checkout.expires_at + late

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
            if not self.can_be_paid(checkout):
                raise expired()
            listing, quantity = checkout.listing, checkout.order.quantity
            if quantity > listing.liquid_supply:
                raise ServiceRefusal(
                    409,
                    f"Only {plain(listing.liquid_supply)} t of {listing.credit} are left, and {plain(quantity)} t were asked for."
                    " Nothing was charged.",
                    "INSUFFICIENT_SUPPLY",
                )
            outcome = card.outcome or Outcome.RETIRED
            # What sells out is bought by others.
            taken = listing.liquid_supply if outcome is Outcome.SOLD_OUT else quantity
            listing.supply -= taken
            listing.liquid_supply -= taken
            if checkout.test_mode and outcome is Outcome.RETIRED:
                outcome = Outcome.PLACEHOLDER
            checkout.payment = Payment(self.now(), card, outcome, self.switches)
            return checkout.payment

    def view_payment(self, payment_id: str) -> PaymentView:
        """Return a payment as it stands now, or refuse where it is not known, or not yet."""
        with self.lock:
            checkout = self.checkout_of(payment_id)
            payment = checkout.payment
            if not checkout.payment_announced and (
                payment is None
                or (self.now() - payment.paid_at).total_seconds() < payment.switches.payment_visible_seconds
            ):
                raise unknown_payment(payment_id)
            return self._view(checkout)

    def checkout_of(self, payment_id: str) -> Checkout:
        """Look up what a payment is for, or refuse where there is none."""
        with self.lock:
            if checkout := self._checkout_of_payment.get(payment_id):
                return checkout
        raise unknown_payment(payment_id)

    def proven_retirements(self) -> list[ProvenRetirement]:
        """Return what is retired and has its proof; others' retirements come before those they share a transaction with."""
        with self.lock:
            made = [each.retirement(self.now()) for each in self.checkouts.values()]
            proven = [
                ProvenRetirement(each, each.transaction, self.listings.get(each.asset_price_source_id))
                for each in [PLACEHOLDER, *(each for each in made if each is not PLACEHOLDER)]
                if each.transaction
            ]
        return (
            [*(each.neighbour() for each in proven), *proven] if self.switches.shared_transactions else proven
        )

    def find_retirement(self, retirement_id: str) -> ProvenRetirement:
        """
        Look a proven retirement up.

        :param retirement_id: chain, transaction hash and index, joined by hyphens.
        :raises ServiceRefusal: when there is none.
        """
        for proven in self.proven_retirements():
            if proven.transaction.retirement_id == retirement_id:
                return proven
        raise unknown_retirement("There is no such retirement.")

    def find_certificate(self, retirement_id: str) -> Retirement:
        """Look up a retirement whose certificate is there, which is not so at first (doc), or refuse."""
        retirement = self.find_retirement(retirement_id).retirement
        ready = timedelta(seconds=self.switches.certificate_seconds)
        if retirement.completed_at is None or self.now() < retirement.completed_at + ready:
            raise unknown_retirement("There is no certificate of this retirement yet.")
        return retirement

    def payment_snapshot(self, checkout: Checkout) -> dict[str, Any] | None:
        """Return what is known of a payment, whatever the service tells of it yet; None before it is paid."""
        with self.lock:
            payment = checkout.payment
            if payment is None:
                return None
            view = self._view(checkout)
            return {
                "id": checkout.payment_id,
                "checkout_id": checkout.id,
                "amount_usd": checkout.amount,
                "paid_at": payment.paid_at,
                "outcome": payment.outcome,
                "payment_status": view.payment_status,
                "retirement_status": view.retirement_status,
            }

    def snapshot(self) -> dict[str, Any]:
        """Return what happened so far: checkouts, payments, and how often each endpoint was called."""
        with self.lock:
            checkouts = self.checkouts.values()
            return {
                "now": self.now(),
                "connections": self.connections,
                "requests": dict(self.request_counts),
                "checkouts": [
                    {
                        "id": checkout.id,
                        "payment_id": checkout.payment_id,
                        "is_paid": checkout.payment is not None
                        and checkout.payment.status(self.now()) == "PAID",
                        "is_expired": self.is_expired(checkout),
                        "test_mode": checkout.test_mode,
                        "amount_usd": checkout.amount,
                        "quantity_tonnes": checkout.order.quantity,
                        "asset_price_source_id": checkout.order.asset_price_source_id,
                        "metadata": checkout.order.metadata.model_dump(),
                        "success_url": checkout.order.success_url,
                        "cancel_url": checkout.order.cancel_url,
                    }
                    for checkout in checkouts
                ],
                "payments": list(filter(None, map(self.payment_snapshot, checkouts))),
            }

    def _view(self, checkout: Checkout) -> PaymentView:
        payment, retirement = checkout.payment, checkout.retirement(self.now())
        if payment is None:
            status = "EXPIRED" if self.is_expired(checkout) else "AWAITING_PAYMENT"
            return PaymentView(checkout, status, None, retirement)
        status = payment.status(self.now())
        begun = retirement.status if status == "PAID" else None
        return PaymentView(
            checkout, payment.payment_status or status, payment.retirement_status or begun, retirement
        )

    def _sellable(self, source_id: str, quantity: Decimal) -> Listing:
        listing = self.listings.get(source_id)
        if listing is None:
            raise ServiceRefusal(
                404, f"There is no asset price source {source_id[:120]!r}", "ASSET_PRICE_SOURCE_NOT_FOUND"
            )
        if listing.type != "listing":
            raise bad_request(f"Only listings are sold here; {source_id[:120]!r} is of type {listing.type}")
        if listing.is_expired(self.now()):
            raise ServiceRefusal(409, f"Listing {listing.credit} has expired", "LISTING_EXPIRED")
        if quantity % listing.step:
            raise bad_request(
                f"quantity_tonnes of {listing.registry} credits is a multiple of {listing.step}, and is {plain(quantity)}"
            )
        if quantity < listing.min_fill_amount:
            raise bad_request(
                f"quantity_tonnes is at least {plain(listing.min_fill_amount)} for this listing, and is {plain(quantity)}"
            )
        if quantity > listing.liquid_supply:
            raise ServiceRefusal(
                409,
                f"Listing {listing.credit} has {plain(listing.liquid_supply)} t left, and {plain(quantity)} t were asked for",
                "INSUFFICIENT_SUPPLY",
            )
        return listing

    def _new_checkout(self, order: CheckoutBody, *, test_mode: bool) -> Checkout:
        listing = self._sellable(order.asset_price_source_id, order.quantity)
        if listing.is_puro:
            order.check_consumption()
        now = self.now()
        checkout = Checkout(
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
        least = Decimal(str(self.switches.minimum_charge_usd))
        if checkout.amount < least:
            raise too_cheap(checkout.amount, least)
        return checkout
