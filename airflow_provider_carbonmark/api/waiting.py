"""What every wait for a retirement shares, whether a worker pokes or the triggerer polls: its terms, its verdicts, its pace."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from airflow_provider_carbonmark.api.errors import CarbonmarkError, NotFoundError
from airflow_provider_carbonmark.api.retirement import (
    DEFAULT_FAILED_STATES,
    DEFAULT_SUCCESS_STATES,
    Outcome,
    RetirementRequest,
    Verdict,
    judge,
)
from airflow_provider_carbonmark.api.retries import is_passing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_carbonmark.api.models import Payment

#: Seconds for which 404 may mean that the payment isn't there yet (assumed: the buyer can be back before it is).
NOT_FOUND_GRACE = 300.0

#: Seconds by which pauses grow per second waited: a retirement usually takes 3 seconds (seen) and may take days.
PAUSE_GROWTH = 0.5


@dataclass(frozen=True)
class WaitTerms:
    """
    What is waited for and what counts.

    :param payment_id: the payment, as Carbonmark appended it to the success URL.
    :param asked: what the checkout asked for; None when nobody knows, then only proof and placeholder rules apply.
    :param is_ours: whether it is known already that the payment is what the checkout was paid with.
    :param test_mode: whether the link was made in test mode.
    :param allow_test_mode: whether something that retired nothing may end the wait well.
    :param success_states: retirement status words that mean done.
    :param failed_states: status words that mean it never will be.
    """

    payment_id: str
    asked: RetirementRequest | None = None
    is_ours: bool = False
    test_mode: bool = False
    allow_test_mode: bool = False
    success_states: tuple[str, ...] = tuple(DEFAULT_SUCCESS_STATES)
    failed_states: tuple[str, ...] = tuple(DEFAULT_FAILED_STATES)

    def to_json(self) -> dict[str, Any]:
        """Return the terms as plain JSON; quantities as decimal strings."""
        terms: dict[str, Any] = _as_json().dump_python(self, mode="json")
        return terms

    @classmethod
    def from_json(cls, terms: Mapping[str, Any]) -> WaitTerms:
        """Return the terms that :meth:`to_json` wrote."""
        return _as_json().validate_python(terms)


@cache  # made at its first use, which no DAG file has
def _as_json() -> TypeAdapter[WaitTerms]:
    return TypeAdapter(WaitTerms)


def weigh(answer: Payment | CarbonmarkError, terms: WaitTerms, *, test_mode: bool, waited: float) -> Verdict:
    """
    Say what one poll means for the wait; pure.

    :param test_mode: whether the connection retires nothing.
    :param waited: seconds since the first poll.
    """
    test_mode = test_mode or terms.test_mode
    if test_mode and not terms.allow_test_mode:
        return Verdict(
            Outcome.NOT_AS_ASKED,
            f"Payment {terms.payment_id!r} was made in test mode, where nothing is retired. Use a production key, or set "
            "allow_test_mode where a rehearsal may count.",
        )
    if isinstance(answer, CarbonmarkError):
        return _weigh_error(answer, terms.payment_id, waited)
    return judge(
        answer,
        terms.asked,
        test_mode=test_mode,
        is_ours=terms.is_ours,
        success_states=terms.success_states,
        failed_states=terms.failed_states,
    )


def _weigh_error(error: CarbonmarkError, payment_id: str, waited: float) -> Verdict:
    if isinstance(error, NotFoundError):
        if waited < NOT_FOUND_GRACE:
            return Verdict(Outcome.WAITING, f"Carbonmark doesn't know payment {payment_id!r} yet: {error}")
        return Verdict(
            Outcome.UNTOLD,
            f"Carbonmark still doesn't know payment {payment_id!r} after {NOT_FOUND_GRACE:.0f} s: check the payment id, and that "
            f"the connection's API key belongs to the account that made the checkout. {error}",
        )
    if is_passing(error):
        return Verdict(Outcome.WAITING, f"This poll failed, the wait goes on: {error}")
    return Verdict(Outcome.UNTOLD, str(error))


def next_pause(waited: float, first: float, longest: float) -> float:
    """
    Return the pause before the next poll, shortened at random by up to a quarter.

    It depends on nothing but how long the wait has lasted, so every mode keeps the same pace, and a process that takes a wait
    over goes on where the last one was. Undisturbed, pauses grow by half each, from ``first`` to ``longest``.

    :param waited: seconds since the first poll.
    :param first: the first pause, seconds.
    :param longest: the longest pause, seconds.
    """
    # Jitter keeps waits that began together from polling together for days.
    return min(first + PAUSE_GROWTH * max(0.0, waited), longest) * random.uniform(0.75, 1.0)


def asked_to_pause(answer: Payment | CarbonmarkError) -> float:
    """Return for how many seconds the service asked to be left alone (``Retry-After``), 0 when it didn't."""
    return (answer.retry_after or 0.0) if isinstance(answer, CarbonmarkError) else 0.0


def retirement_result(payment: Payment, terms: WaitTerms, *, test_mode: bool) -> dict[str, Any]:
    """
    Return what a finished wait hands on (the sensor's XCom value): plain JSON, tonnes as a decimal string.

    :param test_mode: whether the connection retires nothing.
    """
    return {
        "payment_id": terms.payment_id,
        "payment_status": payment.payment_status,
        "retirement_status": payment.retirement_status,
        "quantity_tonnes": None if payment.quantity_tonnes is None else f"{payment.quantity_tonnes:f}",
        "beneficiary_name": payment.beneficiary_name,
        "certificate_url": payment.certificate_url,
        "transaction_hash": payment.transaction_hash,
        "explorer_url": payment.explorer_url,
        "test_mode": test_mode or terms.test_mode,
        "retired_at": payment.retired_at.isoformat() if payment.retired_at else None,
    }
