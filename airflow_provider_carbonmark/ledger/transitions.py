"""
What may happen to a purchase line, as pure functions: the line as it is and what is said of it give the columns to change.

====================  ==================================================  =========
said                  of a line that is                                   becomes
====================  ==================================================  =========
quoted, link_intended planned                                             planned
link_made             planned                                             link_made
declined              link_made                                           declined
failed, a decision    planned                                             failed
failed, a fact        paid                                                failed
claimed               link_made; declined or failed, with a link          the same
paid                  link_made; declined or failed, with a link          paid
retired               link_made, paid; declined or failed, with a link    retired
announced             any                                                 the same
====================  ==================================================  =========

Nothing to change (an empty mapping) means that the same was said before; anything that is not in the table raises. The first four
are decisions: only the run that handles the line may take them. Facts happened at Carbonmark, so anybody may tell them, late or out of
order: a link that was declined here can still be paid there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import parse_payment_id, parse_quantity
from airflow_provider_carbonmark.ledger.schema import (
    HandledElsewhereError,
    HasLinkError,
    LedgerError,
    PurchaseLine,
    Run,
    State,
)

log = logging.getLogger(__name__)

Changes = Mapping[str, Any]

_NOTHING: Changes = {}
_BUY_AGAIN = "its tonnes are not covered any more, so the next run that plans the month buys them"


def quoted(line: PurchaseLine, run: Run, cost_usd: Decimal) -> Changes:
    _must_handle(line, run)
    if line.cost_usd == cost_usd:
        return _NOTHING
    if line.state is not State.PLANNED:
        raise _refusal(line, f"be quoted at {cost_usd} USD", "its cost is settled; ask for no new quote")
    if not (cost_usd.is_finite() and cost_usd >= 0):
        raise _refusal(line, f"cost {cost_usd} USD", "give USD, zero or more")
    return {"cost_usd": cost_usd}


def link_intended(line: PurchaseLine, run: Run, request: Mapping[str, Any], idempotency_key: str) -> Changes:
    _must_handle(line, run)
    if line.state in (State.LINK_MADE, State.PAID, State.RETIRED):
        raise HasLinkError(f"{line} is {line.state} and has its link: deliver that")
    if line.state is not State.PLANNED:
        raise _refusal(line, "get a link", _why_no_link(line))
    if (line.link_request, line.idempotency_key) == (request, idempotency_key):
        return _NOTHING
    return {"link_request": dict(request), "idempotency_key": idempotency_key}


def link_made(line: PurchaseLine, run: Run, checkout: Mapping[str, Any], now: datetime) -> Changes:
    if line.state in (State.LINK_MADE, State.PAID, State.RETIRED):
        return _NOTHING
    _must_handle(line, run)
    if line.state is not State.PLANNED:
        raise _refusal(line, "get a link", _why_no_link(line))
    return {
        "state": State.LINK_MADE,
        "checkout": dict(checkout),
        "checkout_url": checkout["checkout_url"],
        "link_made_at": now,
        "idempotency_key": None,
    }


def declined(line: PurchaseLine, run: Run, reason: str, now: datetime) -> Changes:
    _must_handle(line, run)
    if line.state is State.DECLINED:
        return _NOTHING
    if line.state is not State.LINK_MADE:
        raise _refusal(line, "be declined", "only a link that is neither paid nor given up can be")
    return {"state": State.DECLINED, "reason": reason, "declined_at": now}


def failed(line: PurchaseLine, reason: str, now: datetime, run: Run | None) -> Changes:
    if run is not None:
        _must_handle(line, run)
    if line.state is State.FAILED:
        return _NOTHING
    if run is not None and line.state is not State.PLANNED:
        # A try that was taken for dead, and is refused a quote late, must not fail what the next try has made a link for.
        remedy = "a run can give up only what has no link; leave out run if Carbonmark says that it failed"
        raise _refusal(line, "be given up", remedy)
    if run is None and line.state is not State.PAID:
        remedy = "Carbonmark can fail only what is paid; pass the run that gives the line up"
        raise _refusal(line, "fail at Carbonmark", remedy)
    return {"state": State.FAILED, "reason": reason, "failed_at": now}


def claimed(line: PurchaseLine, payment_id: str) -> Changes:
    parse_payment_id(payment_id)
    _must_have_link(line, "be paid")
    if line.payment_id is not None or line.claimed_payment_id == payment_id:
        return _NOTHING
    return {"claimed_payment_id": payment_id}


def paid(line: PurchaseLine, payment_id: str, now: datetime) -> Changes:
    parse_payment_id(payment_id)
    _must_have_link(line, "be paid")
    if line.payment_id is None:
        return {"state": State.PAID, "payment_id": payment_id, "paid_at": now}
    _must_be_its_payment(line, payment_id)
    return _NOTHING


def retired(
    line: PurchaseLine, retirement: Mapping[str, Any], now: datetime, *, announcing: bool = False
) -> Changes:
    payment_id = parse_payment_id(retirement.get("payment_id"))
    _must_have_link(line, "be retired")
    if line.payment_id is not None:
        _must_be_its_payment(line, payment_id)
    if line.state is State.RETIRED:
        return _NOTHING
    _must_be_its_retirement(line, retirement)
    return {
        "state": State.RETIRED,
        "payment_id": payment_id,
        "paid_at": line.paid_at or now,
        "retired_at": _told_time(retirement) or now,
        "to_announce": announcing,
        **{name: retirement.get(name) for name in ("certificate_url", "transaction_hash", "explorer_url")},
    }


def announced(line: PurchaseLine) -> Changes:
    return {"to_announce": False} if line.to_announce else _NOTHING


def for_a_person(message: str) -> LedgerError:
    """Log what only a person can put right, money being involved, and return the error to raise."""
    log.error("%s", message)
    return LedgerError(message)


def _must_handle(line: PurchaseLine, run: Run) -> None:
    if line.handler != run:
        raise HandledElsewhereError(
            f"{line} is {line.state} and handled by run {line.handler.run_id!r} of {line.handler.dag_id!r} since "
            f"{line.handled_since}, not by run {run.run_id!r} of {run.dag_id!r}: let that run carry it on"
        )


def _must_have_link(line: PurchaseLine, what: str) -> None:
    if line.checkout is None:
        raise for_a_person(
            f"{line} is {line.state} and never had a link, so it can't {what}: find the line whose link it was"
        )


def _must_be_its_payment(line: PurchaseLine, payment_id: str) -> None:
    if line.payment_id != payment_id:
        raise for_a_person(
            f"{line} is {line.state} with payment {line.payment_id!r}, and now payment {payment_id!r} is said to be its own: "
            "if both are real, the line was paid twice; ask Carbonmark to refund the second"
        )


def _must_be_its_retirement(line: PurchaseLine, retirement: Mapping[str, Any]) -> None:
    if bool(retirement.get("test_mode")) != line.test_mode:
        modes = ("production", "test mode")
        raise for_a_person(
            f"{line} is {line.state} and was planned in {modes[line.test_mode]}, its retirement is of {modes[not line.test_mode]}: "
            "use the connection that the line was planned with"
        )
    if line.test_mode:
        # In test mode every payment shows the same retirement, which describes no order (seen).
        return
    told = retirement.get("quantity_tonnes")
    if told is None or parse_quantity(told, "quantity_tonnes of the retirement") != line.quantity_tonnes:
        raise for_a_person(
            f"{line} is {line.state} and asks for {line.quantity_tonnes:f} t, but payment {retirement['payment_id']!r} retired "
            f"{told or 'an untold number of'} t: check at Carbonmark whose retirement that is"
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


def _why_no_link(line: PurchaseLine) -> str:
    if line.state in (State.FAILED, State.DECLINED):
        return f"{line.reason}; {_BUY_AGAIN}"
    return "it buys nothing"


def _refusal(line: PurchaseLine, what: str, remedy: str) -> LedgerError:
    return LedgerError(f"{line} is {line.state} and can't {what}: {remedy}")
