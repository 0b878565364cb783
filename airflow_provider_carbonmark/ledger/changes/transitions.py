"""
What may happen to a purchase, as pure functions: the purchase as it is and what is said of it give the columns to change.

====================  ==================================================  ================
said                  of a purchase that is                               becomes
====================  ==================================================  ================
quoted, link asked    planned                                             planned
link_made             planned                                             link_made
next link asked       link_made, with a link that can't be paid           link_made
declined              link_made                                           declined
failed, a decision    planned                                             failed
failed, a fact        paid                                                paid_not_retired
paid                  link_made; declined or failed, with a link          paid
payment failed        paid                                                what it was
retired               link_made, paid, paid_not_retired; declined         retired
                      or failed, with a link
announced             any                                                 the same
====================  ==================================================  ================

Nothing to change (an empty mapping) means that the same was said before; anything that is not in the table raises. Those on a link or
its end, but for the next link, are decisions: only the run that handles the purchase may take them. Facts happened at Carbonmark, so anybody may tell them, late or
out of order: a link that was declined here can still be paid there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import parse_payment_id, parse_quantity
from airflow_provider_carbonmark.ledger.names import (
    HandledElsewhereError,
    HasLinkError,
    LedgerError,
    NoNextLinkError,
    Run,
    State,
)
from airflow_provider_carbonmark.ledger.purchase import MOST_LINKS, Link, Purchase
from airflow_provider_carbonmark.ledger.words import Words

log = logging.getLogger(__name__)

Changes = Mapping[str, Any]

_NOTHING: Changes = {}
_HAS_LINK = (State.LINK_MADE, State.PAID, State.RETIRED)
_NO_LINK_ANY_MORE = {
    State.PAID: Words("A payment has arrived, so nobody has to pay any more."),
    State.PAID_NOT_RETIRED: Words("It is paid, though nothing is retired yet, and must not be paid again."),
    State.RETIRED: Words("It is paid and retired, so nobody has to pay any more."),
    State.DECLINED: Words("Somebody decided not to pay, so it is not to be paid any more."),
    State.FAILED: Words("It can’t be bought any more."),
}


def quoted(purchase: Purchase, run: Run, cost_usd: Decimal) -> Changes:
    _must_handle(purchase, run)
    if purchase.cost_usd == cost_usd:
        return _NOTHING
    link_asked(purchase, run)
    if not (cost_usd.is_finite() and cost_usd >= 0):
        raise _refusal(purchase, f"cost {cost_usd} USD", "give USD, zero or more")
    return {"cost_usd": cost_usd}


def link_asked(purchase: Purchase, run: Run) -> Changes:
    _must_handle(purchase, run)
    if purchase.state in _HAS_LINK:
        raise HasLinkError(f"{purchase} is {purchase.state} and has its link: deliver that")
    if purchase.state is not State.PLANNED:
        again = "; its tonnes are not covered any more, so the next run that plans the month buys them"
        raise _refusal(purchase, "get a link", f"{purchase.reason}{again if purchase.allocations else ''}")
    return _NOTHING


def link_made(purchase: Purchase, run: Run) -> Changes:
    if purchase.state in _HAS_LINK:
        return _NOTHING
    link_asked(purchase, run)
    return {"state": State.LINK_MADE}


def next_link_asked(purchase: Purchase, after: int, now: datetime) -> Link:
    """Return the link that another is to follow. :raises NoNextLinkError: when none may. :raises HasLinkError: when one does."""
    link = purchase.link
    if purchase.state is not State.LINK_MADE or link is None:
        raise NoNextLinkError(_NO_LINK_ANY_MORE.get(purchase.state, Words("There is no link yet.")))
    if link.number > after:
        raise HasLinkError(f"{purchase} has its next link: deliver that")
    if link.can_be_paid(now):
        if link.expires_at is None:
            raise NoNextLinkError(Words("The payment page can be used at any time, so there is no other."))
        raise NoNextLinkError(
            Words("The payment page can be used until %(time)s, so there is no other.", time=link.expires_at)
        )
    if link.number >= MOST_LINKS:
        raise NoNextLinkError(
            Words(
                "There were %(number)s payment pages for this purchase, and there are no more. Have it declined in Airflow: what it was "
                "for is bought anew then.",
                number=MOST_LINKS,
            )
        )
    return link


def requoted(purchase: Purchase, after: int, cost_usd: Decimal) -> Changes:
    """Take what the link after another would cost; without effect where there is to be none, or is one."""
    is_current = purchase.link is not None and purchase.link.number == after
    if purchase.state is not State.LINK_MADE or not is_current or purchase.cost_usd == cost_usd:
        return _NOTHING
    return {"cost_usd": cost_usd}


def ends_unpaid(purchase: Purchase, reason: str, now: datetime) -> Changes:
    """End what nobody paid, as somebody said, and what can't be bought any more."""
    if purchase.state is not State.LINK_MADE or not (purchase.link and purchase.link.unpaid_said_at):
        raise NoNextLinkError(_NO_LINK_ANY_MORE.get(purchase.state, Words("Nobody said that it is unpaid.")))
    return {"state": State.FAILED, "reason": reason, "failed_at": now}


def declined(purchase: Purchase, run: Run, reason: str, now: datetime) -> Changes:
    _must_handle(purchase, run)
    if purchase.state is State.DECLINED:
        return _NOTHING
    if purchase.state is not State.LINK_MADE:
        raise _refusal(purchase, "be declined", "only a link that is neither paid nor given up can be")
    return {"state": State.DECLINED, "reason": reason, "declined_at": now}


def failed(purchase: Purchase, reason: str, now: datetime, run: Run | None) -> Changes:
    if run is not None:
        _must_handle(purchase, run)
    if purchase.state in (State.FAILED, State.PAID_NOT_RETIRED):
        return _NOTHING
    if run is not None and purchase.state is not State.PLANNED:
        # A try that was taken for dead, and is refused a quote late, must not fail what the next try has made a link for.
        remedy = "a run can give up only what has no link; leave out run if Carbonmark says that it failed"
        raise _refusal(purchase, "be given up", remedy)
    if run is None and purchase.state is not State.PAID:
        remedy = "Carbonmark can fail only what is paid; pass the run that gives the purchase up"
        raise _refusal(purchase, "fail at Carbonmark", remedy)
    return {"state": State.FAILED, "reason": reason, "failed_at": now}


def paid(purchase: Purchase, payment_id: str, cost_usd: Decimal | None, now: datetime) -> Changes:
    """Take a payment for a link, which may be one of the earlier ones, and what that one was to cost."""
    parse_payment_id(payment_id)
    must_have_link(purchase, "be paid")
    if purchase.payment_id is None:
        cost = {} if cost_usd is None else {"cost_usd": cost_usd}
        return {"state": State.PAID, "payment_id": payment_id, "paid_at": now, **cost}
    must_be_its_payment(purchase, payment_id)
    return _NOTHING


def payment_failed(purchase: Purchase, payment_id: str) -> Changes:
    """Take back a payment that failed after all: nothing was taken for it, so the purchase is what it was before."""
    if purchase.state is not State.PAID or purchase.payment_id != payment_id:
        return _NOTHING
    # What had ended before it was paid may have been bought anew by now.
    ended = State.DECLINED if purchase.declined_at else State.FAILED if purchase.failed_at else None
    return {"state": ended or State.LINK_MADE, "payment_id": None, "paid_at": None}


def retired(purchase: Purchase, retirement: Mapping[str, Any], now: datetime, *, announcing: bool) -> Changes:
    payment_id = parse_payment_id(retirement.get("payment_id"))
    must_have_link(purchase, "be retired")
    if purchase.payment_id is not None:
        must_be_its_payment(purchase, payment_id)
    if purchase.state is State.RETIRED:
        return _NOTHING
    _must_be_its_retirement(purchase, retirement)
    told = _told_time(retirement)
    return {
        "state": State.RETIRED,
        "payment_id": payment_id,
        "paid_at": purchase.paid_at or now,
        "retired_at": told or now,
        "retired_at_told": told is not None,
        "to_announce": announcing,
        **{name: retirement.get(name) for name in ("certificate_url", "transaction_hash", "explorer_url")},
    }


def announced(purchase: Purchase) -> Changes:
    return {"to_announce": False} if purchase.to_announce else _NOTHING


def for_a_person(message: str) -> LedgerError:
    """Log what only a person can put right, money being involved, and return the error to raise."""
    log.error("%s", message)
    return LedgerError(message)


def must_have_link(purchase: Purchase, what: str) -> None:
    if not purchase.has_link:
        raise for_a_person(
            f"{purchase} is {purchase.state} and never had a link, so it can't {what}: find the purchase whose link it was"
        )


def must_be_its_payment(purchase: Purchase, payment_id: str) -> None:
    if purchase.payment_id != payment_id:
        raise for_a_person(
            f"{purchase} is {purchase.state} with payment {purchase.payment_id!r}, and now payment {payment_id!r} is said to be its "
            "own: if both are real, it was paid twice; ask Carbonmark to refund the second"
        )


def _must_handle(purchase: Purchase, run: Run) -> None:
    handler = purchase.handler
    if handler != run:
        elsewhere = f" of deployment {handler.deployment!r}" if handler.deployment != run.deployment else ""
        raise HandledElsewhereError(
            f"{purchase} is {purchase.state} and handled by run {handler.run_id!r} of {handler.dag_id!r}{elsewhere} since "
            f"{purchase.handled_since}, not by run {run.run_id!r} of {run.dag_id!r}: let that run carry it on"
        )


def _must_be_its_retirement(purchase: Purchase, retirement: Mapping[str, Any]) -> None:
    if bool(retirement.get("test_mode")) != purchase.test_mode:
        modes = ("production", "test mode")
        raise for_a_person(
            f"{purchase} is {purchase.state} and was planned in {modes[purchase.test_mode]}, its retirement is of "
            f"{modes[not purchase.test_mode]}: use the connection that it was planned with"
        )
    if purchase.test_mode:
        # In test mode every payment shows the same retirement, which describes no order (seen).
        return
    told = retirement.get("quantity_tonnes")
    if told is None or parse_quantity(told, "quantity_tonnes of the retirement") != purchase.quantity_tonnes:
        raise for_a_person(
            f"{purchase} is {purchase.state} and asks for {purchase.quantity_tonnes:f} t, but payment "
            f"{retirement['payment_id']!r} retired {told or 'an untold number of'} t: check at Carbonmark whose retirement that is"
        )


def _told_time(retirement: Mapping[str, Any]) -> datetime | None:
    told = retirement.get("retired_at")
    try:
        time = datetime.fromisoformat(told) if told else None
    except (TypeError, ValueError):
        time = datetime.min  # without a zone
    if time is not None and time.tzinfo is None:
        raise InvalidInputError(
            "retired_at of the retirement",
            "is no time with a zone",
            value=told,
            remedy="Pass the output of CarbonmarkRetirementSensor",
        )
    return time


def _refusal(purchase: Purchase, what: str, remedy: str) -> LedgerError:
    return LedgerError(f"{purchase} is {purchase.state} and can't {what}: {remedy}")
