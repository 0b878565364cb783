"""
The verdict on a payment: waiting, retired, failed, or not what was asked.

A retirement can't be undone, and test orders point at a retirement that is not ours. So nothing counts as retired
unless the retirement's own status says so, a proof is there, and it describes what was asked.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_carbonmark.api.errors import shorten
from airflow_provider_carbonmark.api.inputs import bare_source_id, parse_retirement_id

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.models import Payment, Retirement

# doc/seen: COMPLETED on orders. assumed: the others. Whole words: SUCCESS_PENDING or "successfully refused" say something else.
DEFAULT_SUCCESS_STATES: tuple[str, ...] = ("COMPLETED", "RETIRED", "SUCCESS", "SUCCEEDED", "SUCCESSFUL")
# seen: FAILED and CANCELLED on orders. assumed: the others.
DEFAULT_FAILED_STATES: tuple[str, ...] = (
    "FAILED",
    "CANCELLED",
    "CANCELED",
    "EXPIRED",
    "REFUNDED",
    "REJECTED",
)
# assumed: Stripe's words for a page that nobody has paid. A word that leaves doubt, as PENDING does, is missing on purpose.
UNPAID_STATES: tuple[str, ...] = (
    "UNPAID",
    "OPEN",
    "REQUIRES_PAYMENT_METHOD",
    "AWAITING_PAYMENT",
    "EXPIRED",
    "CANCELLED",
    "CANCELED",
)

# doc (Stripe): a page is complete, and its payment unpaid, while a method confirms that takes days; or it waits for its buyer's bank.
UNDER_WAY_STATES: tuple[str, ...] = ("COMPLETE", "PROCESSING", "REQUIRES_ACTION")

#: How far apart the clocks of Carbonmark and of a worker may be: one that is set to a wrong zone's time, or to summer's, is an hour off.
CLOCKS_APART = timedelta(hours=2)

# seen: the beneficiary, and words from the text, of the one retirement that every test order points at.
PLACEHOLDER_BENEFICIARY = "Developer Tester"
_PLACEHOLDER_TEXT = re.compile(r"\bTEST[\s_-]*MODE\b", re.IGNORECASE)

_SEPARATORS = re.compile(r"[\W_]+")
# Less than what can be bought by far, and more than what is lost in a float.
_FLOAT_NOISE = Decimal("1E-9")
_TRANSACTION_HASH = re.compile(r"\b0x[0-9a-fA-F]{64}\b")


class Outcome(StrEnum):
    """What a payment has come to. Everything but WAITING is final."""

    WAITING = "waiting"
    RETIRED = "retired"
    FAILED = "failed"
    #: Nothing was taken for it, and nothing is retired: it can be paid again.
    PAYMENT_FAILED = "payment_failed"
    NOT_AS_ASKED = "not_as_asked"
    #: Nobody can tell: Carbonmark refuses to say, or doesn't know the payment. It may well be real.
    UNTOLD = "untold"


@dataclass(frozen=True)
class RetirementRequest:
    """
    What was asked for; None where nothing particular was.

    :param since: when it was first asked for: no payment for it is older.
    """

    beneficiary_name: str | None
    quantity_tonnes: Decimal | None
    asset_price_source_id: str | None
    retirement_message: str | None
    since: datetime | None = None


@dataclass(frozen=True)
class Verdict:
    """
    What a payment has come to, and why.

    :param reason: full sentences for logs and errors; the same as long as the payment stays the same.
    """

    outcome: Outcome
    reason: str


def judge(
    payment: Payment,
    asked: RetirementRequest | None,
    *,
    test_mode: bool,
    is_ours: bool = False,
    success_states: Collection[str] = DEFAULT_SUCCESS_STATES,
    failed_states: Collection[str] = DEFAULT_FAILED_STATES,
) -> Verdict:
    """
    Judge a payment by its two statuses, its proof, and whether it describes what was asked.

    :param asked: what was asked for; None checks statuses and proof only, and that it is no placeholder.
    :param test_mode: whether the connection is a test one, where a placeholder is the expected end.
    :param is_ours: whether it is known already that the payment is for what was asked.
    :param success_states: words that say a retirement has happened; case and separators don't matter.
    :param failed_states: words that say a payment or a retirement never will.
    """
    for subject, status in (("retirement", payment.retirement_status), ("payment", payment.payment_status)):
        if _is_one_of(status, failed_states):
            said = f", with the message {_show(payment.failure)}" if payment.failure else ""
            reason = f"The status of the {subject} is {_show(status)}{said}."
            is_payments = payment.retirement_status is None
            outcome = Outcome.PAYMENT_FAILED if is_payments else Outcome.FAILED
            return _failed_verdict(outcome, reason, payment, asked, is_ours)
    if not _is_one_of(payment.retirement_status, success_states):
        return Verdict(Outcome.WAITING, _waiting_reason(payment))
    proof = _proof(payment)
    if proof is None:
        reason = "The retirement's status is {}, but neither a certificate address nor a transaction hash proves it yet."
        return Verdict(Outcome.WAITING, reason.format(_show(payment.retirement_status)))
    if _is_placeholder(payment, asked):
        return _placeholder_verdict(test_mode)
    if asked is not None and (verdict := _mismatch(payment, asked)):
        return verdict
    return Verdict(
        Outcome.RETIRED, f"The retirement's status is {_show(payment.retirement_status)}, proven by {proof}."
    )


def is_unpaid(payment: Payment) -> bool:
    """Tell whether the service says, beyond doubt, that nobody has paid."""
    return _is_in(payment, UNPAID_STATES)


def is_not_paid(payment: Payment) -> bool:
    """Tell whether a payment has not gone through, be it unpaid, failed or cancelled."""
    return _is_in(payment, (*UNPAID_STATES, *DEFAULT_FAILED_STATES))


def _is_in(payment: Payment, states: Collection[str]) -> bool:
    """Tell whether a payment is in one of some states, none of which says that it is under way."""
    if payment.retirement_status is not None or not _is_one_of(payment.payment_status, states):
        return False
    inner = payment.answer.get("payment")
    places = (payment.answer, inner if isinstance(inner, dict) else {})
    words = (place.get(name) for place in places for name in ("status", "payment_status"))
    return not any(_is_one_of(word, UNDER_WAY_STATES) for word in words if isinstance(word, str))


def describes(payment: Payment, asked: RetirementRequest) -> bool | None:
    """
    Tell whether a payment, at whatever stage, is for what was asked.

    :return: None when the service tells too little to say so, as it may before the retirement (assumed); also for the
        placeholder, which describes itself and not the order.
    """
    if _is_placeholder(payment, asked):
        return None
    differences, missing = _compare(payment, asked)
    return False if differences else None if missing else True


def is_told_as(told: Retirement, beneficiary_name: str, quantity_tonnes: Decimal) -> bool | None:
    """
    Tell whether a retirement that the market tells of is in somebody's name and of so many tonnes.

    :return: None when it tells only one of the two, and that one agrees.
    """
    name, quantity = told.beneficiary_name, told.quantity_tonnes
    # An amount passes through a float on its way.
    agrees = (
        None if name is None else _bare_name(name) == _bare_name(beneficiary_name),
        None if quantity is None else abs(quantity - quantity_tonnes) < _FLOAT_NOISE,
    )
    return False if False in agrees else None if None in agrees else True


def retirement_id_in(certificate_url: str | None) -> str | None:
    """Return the id of the retirement whose page an address leads to (doc: it is the path's last part); None where it tells none."""
    try:
        return parse_retirement_id(urlsplit(certificate_url or "").path.rstrip("/").rpartition("/")[2])
    except ValueError:
        return None


def transaction_in(*texts: str | None) -> str | None:
    """Return the hash of the transaction that one of some texts, such as an explorer's address, names; None where none does."""
    found = (_TRANSACTION_HASH.search(text) for text in texts if text)
    return next((match.group() for match in found if match), None)


def _waiting_reason(payment: Payment) -> str:
    status = payment.payment_status
    paid = f"the payment's is {_show(status)}" if status else "the payment has none"
    if payment.retirement_status is None:
        return f"The retirement has no status yet; {paid}."
    return f"The retirement's status is {_show(payment.retirement_status)}; {paid}."


def _failed_verdict(
    outcome: Outcome, reason: str, payment: Payment, asked: RetirementRequest | None, is_ours: bool
) -> Verdict:
    """Tell our payment from one whose id was typed wrong: what became of that says nothing of ours."""
    is_described = True if asked is None else describes(payment, asked)
    if asked is not None and is_described is False:
        differences = "; ".join(_compare(payment, asked)[0])
        return Verdict(Outcome.NOT_AS_ASKED, f"{reason} It is for something else: {differences}.")
    if is_described is None and not is_ours:
        return Verdict(
            Outcome.UNTOLD,
            f"{reason} Nothing says that it is the payment of this purchase: check the payment id, and at Carbonmark what became of it.",
        )
    return Verdict(outcome, reason)


def _placeholder_verdict(test_mode: bool) -> Verdict:
    reason = "This is the placeholder that test mode shows for every order; nothing was retired."
    if test_mode:
        return Verdict(Outcome.RETIRED, reason)
    remedy = "Use a production API key, or set the connection's environment to test."
    return Verdict(Outcome.NOT_AS_ASKED, f"{reason} {remedy}")


def _mismatch(payment: Payment, asked: RetirementRequest) -> Verdict | None:
    differences, needed = _compare(payment, asked)
    if differences:
        return Verdict(Outcome.NOT_AS_ASKED, f"Something else was retired: {'; '.join(differences)}.")
    if not needed:
        return None
    return Verdict(
        Outcome.WAITING,
        f"The retirement is proven, but the answer doesn't tell its {' and '.join(needed)} yet, "
        "so nothing says it is the one that was asked for.",
    )


def _compare(payment: Payment, asked: RetirementRequest) -> tuple[list[str], list[str]]:
    """Return what differs, as ends of a sentence, and which needed facts the service doesn't tell."""
    comparisons: tuple[tuple[str, Any, Any, Callable[[Any], object]], ...] = (
        ("beneficiary name", asked.beneficiary_name, payment.beneficiary_name, _bare_name),
        ("quantity in tonnes", asked.quantity_tonnes, payment.quantity_tonnes, Decimal),
        ("asset price source", asked.asset_price_source_id, payment.asset_price_source_id, bare_source_id),
        # From month to month, all the rest may be alike.
        ("message", asked.retirement_message, payment.retirement_message, _bare_name),
    )
    differences, missing = [], []
    for what, wanted, got, bare in comparisons:
        if wanted is None:
            continue
        if got is None:
            missing.append(what)
        elif bare(wanted) != bare(got):
            differences.append(f"its {what} is {_show(got)} instead of {_show(wanted)}")
    for what, told in (("payment", payment.created_at), ("retirement", payment.retired_at)):
        if asked.since and told and told < asked.since - CLOCKS_APART:
            differences.append(f"its {what} is of {told:%Y-%m-%d %H:%M} UTC, before there was a link")
    # Name and quantity are what tells our retirement from the placeholder; the rest may stay untold.
    return differences, [what for what in missing if what in ("beneficiary name", "quantity in tonnes")]


def _is_one_of(status: str | None, states: Collection[str]) -> bool:
    return status is not None and _bare(status) in map(_bare, states)


@lru_cache(maxsize=256)  # statuses are a handful of words, looked at in every poll
def _bare(word: str) -> str:
    return _SEPARATORS.sub("", word).upper()


def _proof(payment: Payment) -> str | None:
    if payment.certificate_url:
        return payment.certificate_url
    found = transaction_in(payment.transaction_hash, payment.explorer_url)
    return f"transaction {found}" if found else None


def _is_placeholder(payment: Payment, asked: RetirementRequest | None) -> bool:
    # Our own words come back as an echo; they say nothing about what was retired.
    echoes = (asked.beneficiary_name, asked.retirement_message) if asked else ()
    ours = {_bare_text(text) for text in echoes if text}
    for text in _texts(payment):
        bare = _bare_text(text)
        if bare not in ours and (bare == PLACEHOLDER_BENEFICIARY or _PLACEHOLDER_TEXT.search(bare)):
            return True
    return False


def _texts(payment: Payment) -> Iterator[str]:
    parts: list[object] = [payment.beneficiary_name, payment.retirement_message, payment.answer]
    while parts:
        part = parts.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            parts.extend(part.values())
        elif isinstance(part, list):
            parts.extend(part)


def _bare_text(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _bare_name(name: str) -> str:
    # A registry may print a name its own way, and ACME GMBH is Acme GmbH. Folding can take composed letters apart again.
    return unicodedata.normalize("NFC", _bare_text(name).casefold())


def _show(value: object) -> str:
    return shorten(repr(value) if isinstance(value, str) else str(value))
