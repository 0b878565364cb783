"""The checkout that tasks hand on: a purchase and its link, as plain JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import conf

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import parse_count, parse_url
from airflow_provider_carbonmark.api.retirement import RetirementRequest
from airflow_provider_carbonmark.ledger.names import LedgerError

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.models import Checkout
    from airflow_provider_carbonmark.ledger.book import Ledger
    from airflow_provider_carbonmark.ledger.purchase import Link, Purchase

PURCHASE_KEY: Final = "purchase"
DEFAULT_LINK_HOURS: Final = 24
LONGEST_LINK_HOURS: Final = 8760
# doc: a Payment Link of Stripe's can be paid for ever, and again; a page that it makes for one checkout for a day at most.
_FOR_EVER: Final = "buy.stripe.com"
_NEEDED = (PURCHASE_KEY, "checkout_url", "quantity_tonnes", "beneficiary_name")
_REMEDY = "Pass the output of CarbonmarkCreateCheckoutOperator"


def checkout_of(ledger: Ledger, purchase: Purchase) -> dict[str, Any]:
    """Return what the task that made a purchase's link delivers, whichever try or run made it."""
    # Imported late: a DAG file doesn't need it.
    from airflow_provider_carbonmark.hooks.return_url import pay_url

    link = purchase.link
    if link is None or link.url is None:
        raise AssertionError(f"{purchase} has no link to deliver")
    return {
        PURCHASE_KEY: purchase.id,
        "ledger": purchase.ledger,
        "checkout_url": link.url,
        "pay_url": pay_url(ledger, purchase.id),
        "expires_at": link.expires_at.isoformat() if link.expires_at else None,
        "payment_id": link.payment_id,
        "asset_price_source_id": purchase.asset_price_source_id,
        "quantity_tonnes": f"{purchase.quantity_tonnes:f}",
        "beneficiary_name": purchase.beneficiary_name,
        "retirement_message": purchase.retirement_message,
        "test_mode": purchase.test_mode,
    }


def parse_checkout(checkout: Any, needed: Sequence[str] = _NEEDED) -> Mapping[str, Any]:
    """
    Read a checkout, which a template may have rendered as JSON text.

    :raises InvalidInputError: when it is none, or lacks what a payment is known by.
    """
    if isinstance(checkout, str):
        with suppress(ValueError):
            checkout = json.loads(checkout)
    if not isinstance(checkout, Mapping):
        raise InvalidInputError("checkout", "is not a mapping", value=checkout, remedy=_REMEDY)
    missing = [name for name in needed if checkout.get(name) in (None, "")]
    if missing:
        raise InvalidInputError(
            "checkout", f"lacks {' and '.join(missing)}", value=dict(checkout), remedy=_REMEDY
        )
    if "checkout_url" in needed:
        parse_url(checkout["checkout_url"], "checkout checkout_url")
    return checkout


def find_purchase(ledger: Ledger, handed_on: Any, field: str = "checkout") -> Purchase:
    """
    Return the purchase that a checkout or one of a plan's purchases is about.

    :raises InvalidInputError: when it is about none.
    :raises LedgerError: when it is in another ledger than this task's.
    """
    number = handed_on.get(PURCHASE_KEY) if isinstance(handed_on, Mapping) else None
    if not isinstance(number, int) or isinstance(number, bool):
        raise InvalidInputError(
            field,
            "is about no purchase of the ledger",
            value=handed_on,
            remedy="Pass on what the plan or CarbonmarkCreateCheckoutOperator returned",
        )
    named = handed_on.get("ledger")
    if named not in (None, ledger.id):
        raise LedgerError(
            f"Purchase {number} is in the ledger {named!r}, and this task's ledger, in {ledger.place}, is {ledger.id or 'empty'!r}: all "
            "workers and API servers must share one. Set [carbonmark] ledger_conn_id, or ledger_path to a file that all of them mount"
        )
    return ledger.purchase(number)


def asked_for(purchase: Purchase, links: Sequence[Link] = ()) -> RetirementRequest:
    """Return what a payment or a retirement has to describe to be the purchase's; no payment is older than the first of its links."""
    return RetirementRequest(**vars(purchase.order), since=links[0].asked_at if links else None)


def as_made(page: Checkout, now: datetime) -> dict[str, Any]:
    """Return what the ledger keeps of a payment page that was just made."""
    return {
        "url": page.url,
        "payment_id": page.payment_id,
        "expires_at": good_until(page, now),
        "now": now,
    }


def good_until(page: Checkout, now: datetime) -> datetime | None:
    """Return until when a payment page that was just made can be paid; None for one that can be for ever."""
    if urlsplit(page.url).hostname == _FOR_EVER:
        return None
    return page.expires_at or now + link_lifetime()


def link_lifetime() -> timedelta:
    """
    Return how long a link can be paid after it was made.

    :raises InvalidInputError: when the configuration says no number of hours.
    """
    # assumed: what Stripe, whose page it is, documents for a Checkout Session; the service names no lifetime of its own.
    hours = (conf.get("carbonmark", "link_hours", fallback=None) or "").strip() or str(DEFAULT_LINK_HOURS)
    return timedelta(hours=parse_count(hours, "[carbonmark] link_hours", of="hours", most=LONGEST_LINK_HOURS))
