"""What a person is asked under Required Actions, by the task that awaits a payment: headline, text, answers, and the field of the form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pendulum
from airflow.providers.common.compat.sdk import Param

if TYPE_CHECKING:
    from decimal import Decimal

PAID = "I have paid"
DECLINE = "Decline"
NEW_LINK = "Make a new link"

#: The field of the form in which a person enters a payment id.
PAYMENT_KEY = "payment_id"

_URL_CHARACTERS = "%/:?#[]@!$&'()*+,;=~"
_MARKDOWN = re.compile(r"[\\`*_\[\]<>~]|&(?=#?\w+;)")


def default_subject(checkout: Mapping[str, Any]) -> str:
    """Return a headline such as "Pay for 12.345 t CO2e, Acme EMEA"; plain text."""
    return f"Pay for {tonnes(checkout)}, {checkout['beneficiary_name']}"


def default_body(
    checkout: Mapping[str, Any], cost_usd: Decimal | None = None, claimed_payment_id: str | None = None
) -> str:
    """
    Return what a person needs to decide and to pay, as Markdown.

    :param cost_usd: what it costs, USD; None where nobody asked.
    :param claimed_payment_id: the payment id that was entered before, without Carbonmark confirming it.
    """
    message = checkout.get("retirement_message")
    lines = [
        _link(checkout),
        "",
        f"- Amount: {tonnes(checkout)}",
        f"- Cost: {cost_usd:f} USD" if cost_usd else None,
        f"- Beneficiary: {_escaped(checkout['beneficiary_name'])}",
        f"- Message: {_escaped(message)}" if message else None,
        "- Test mode: nothing is retired" if checkout.get("test_mode") else None,
        _until(checkout),
        f"- Payment {_escaped(claimed_payment_id)} was entered before, but Carbonmark doesn’t say that it is for this link. Don’t pay "
        "again if you have paid: enter the payment id once more."
        if claimed_payment_id
        else None,
        "",
        "After paying, your browser comes back to Airflow and this task goes on by itself. Only if it could not come back: enter "
        f"the payment id, which is the last part of the address it was sent to, and choose “{PAID}”. If you are asked again, the task’s "
        "log says why.",
    ]
    return _together(lines)


def body_again(body: str, word: str, checkout: Mapping[str, Any], *, is_authors: bool) -> str:
    """
    Return what a person is told who is asked again, as Markdown.

    :param body: what it says besides.
    :param word: what came of the last answer.
    :param is_authors: whether the body is of the DAG's author, who could not know of a new link.
    """
    where = [_link(checkout), "", _until(checkout), ""] if is_authors else []
    return _together([f"**{_escaped(word)}**", "", *where, body])


def payment_id_field() -> Param:
    return Param(
        None,
        # A plain string would be mandatory, also for declining. seen (3.2.2): where nothing was entered, the form sends the whole field,
        # and Airflow fails the try whose answer is not of these types.
        type=["null", "string", "object"],
        title="Payment id",
        description="Only if your browser could not come back to Airflow after paying: the last part of the address it was sent to",
    )


def entered_text(value: Any) -> str:
    """Return what a person entered in the field; empty for nothing."""
    text = value.get("value") if isinstance(value, Mapping) else value
    return str(text or "").strip()


def tonnes(checkout: Mapping[str, Any]) -> str:
    """Return how much is bought, such as "12.345 t CO2e"."""
    return f"{checkout['quantity_tonnes']} t CO2e"


def _link(checkout: Mapping[str, Any]) -> str:
    address = quote(checkout.get("pay_url") or checkout["checkout_url"], safe=_URL_CHARACTERS)
    # The address in angle brackets may hold any character but these.
    return f"[**Open the payment page**](<{address}>)"


def _until(checkout: Mapping[str, Any]) -> str | None:
    if not checkout.get("expires_at"):
        return None
    when = f"{pendulum.parse(checkout['expires_at']):YYYY-MM-DD HH:mm} UTC"
    if checkout.get("pay_url"):
        return f"- The payment page can be used until {when}; after that, the same address leads to a new one"
    return f"- The payment page can be used until {when}; after that, if nobody paid there, choose “{NEW_LINK}” and load this page again"


def _escaped(text: object) -> str:
    """Return text that Markdown shows as it is, in one line."""
    return _MARKDOWN.sub(r"\\\g<0>", " ".join(str(text).split()))


def _together(lines: list[str | None]) -> str:
    return "\n".join(line for line in lines if line is not None)
