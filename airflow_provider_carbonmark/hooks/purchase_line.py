"""The line of the ledger that a checkout belongs to: what the tasks that get the checkout write there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

import pendulum

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.hooks.ledger import keeping_books, open_ledger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_carbonmark.ledger.schema import PurchaseLine, Run

#: Where a checkout holds the number of its line; absent when it belongs to none.
LINE_KEY = "purchase_line"


def parse_line(line: Any) -> int:
    """
    Return a line's number.

    :param line: one of the plan's lines.
    :raises InvalidInputError: when it is none.
    """
    number = line.get("id") if isinstance(line, Mapping) else None
    if not _is_number(number):
        raise InvalidInputError(
            "line", "is no line of the ledger", value=line, remedy="Pass one of the lines of the plan"
        )
    return number


def run_of(context: Context) -> Run:
    """Return the run that a task belongs to."""
    from airflow_provider_carbonmark.ledger.schema import Run

    return Run(context["ti"].dag_id, context["ti"].run_id)


def line_of(checkout: Any) -> int:
    """
    Return the number of the line that a checkout belongs to.

    :raises InvalidInputError: when it belongs to none.
    """
    number = checkout.get(LINE_KEY) if isinstance(checkout, Mapping) else None
    if not _is_number(number):
        raise InvalidInputError(
            "checkout",
            "belongs to no line of the ledger",
            value=checkout,
            remedy="Pass the output of CarbonmarkCheckoutLineOperator",
        )
    return number


def find_line(checkout: Mapping[str, Any]) -> PurchaseLine | None:
    """Return what the ledger knows of a checkout; None when it belongs to no line."""
    if LINE_KEY not in checkout:
        return None
    with keeping_books() as ledger:
        return ledger.line(line_of(checkout))


def find_line_of_link(link: Mapping[str, Any]) -> PurchaseLine | None:
    """Return the line whose link a task made, by ``dag_id``, ``run_id``, ``task_id`` and ``map_index``; None when there is none."""
    from airflow_provider_carbonmark.ledger.schema import Run

    with open_ledger() as ledger:
        run = Run(link["dag_id"], link["run_id"])
        return ledger.line_of_link(run, link["task_id"], link["map_index"])


def record_claimed(checkout: Mapping[str, Any], payment_id: str) -> None:
    """Write down with which payment a person says to have paid a checkout, if it belongs to a line."""
    if LINE_KEY in checkout:
        with keeping_books() as ledger:
            ledger.claimed(line_of(checkout), payment_id)


def record_paid(checkout: Mapping[str, Any], payment_id: str) -> None:
    """Write down that a checkout is paid, as Carbonmark says, if it belongs to a line."""
    if LINE_KEY in checkout:
        with keeping_books() as ledger:
            ledger.paid(line_of(checkout), payment_id, now=pendulum.now("UTC"))


def record_declined(checkout: Mapping[str, Any], context: Context, reason: str) -> None:
    """Write down that a person declined to pay a checkout, if it belongs to a line."""
    if LINE_KEY in checkout:
        with keeping_books() as ledger:
            ledger.declined(line_of(checkout), run_of(context), reason, now=pendulum.now("UTC"))


def record_failed(checkout: Mapping[str, Any], payment_id: str, reason: str) -> None:
    """Write down that Carbonmark gave up what a checkout was paid for, if it belongs to a line."""
    if LINE_KEY in checkout:
        with keeping_books() as ledger:
            ledger.paid(line_of(checkout), payment_id, now=pendulum.now("UTC"))
            ledger.failed(line_of(checkout), reason, now=pendulum.now("UTC"))


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
