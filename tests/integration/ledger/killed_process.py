"""
A process at the ledger that says when it has come to a point, and waits there to be killed.

Usage: ``python -m tests.integration.ledger.killed_process URL POINT``, or instead of POINT ``before`` and the words of a statement
that a reader sends: one of those that bring an older ledger up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import create_engine

from airflow_provider_carbonmark.ledger import Ledger
from airflow_provider_carbonmark.ledger.questions.coverage import Scope
from tests.integration.ledger.parts import (
    FIRST,
    LATER,
    MONTH,
    SECOND,
    Buyer,
    ask,
    bring,
    everybody,
    on_commit,
    on_statement,
)

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.purchase import Purchase
    from airflow_provider_carbonmark.ledger.values import Coverage, Plan

EMITTED = {"web": "12.345", "api": "1"}


def wait_for_the_end() -> None:
    print("here", flush=True)
    sys.stdin.read()


def main(url: str, point: str) -> None:
    engine = create_engine(url)
    ledger = Ledger(engine)
    if point == "making an index":
        on_statement(engine, "CREATE INDEX", do=wait_for_the_end)

    def make(coverage: Coverage) -> Plan:
        if point == "in the plan":
            wait_for_the_end()
        return Buyer(EMITTED)(coverage)

    def plan() -> None:
        scope = Scope(run=SECOND, months=[MONTH], test_mode=False, is_over=everybody, now=LATER)
        ledger.plan(make, scope)

    def purchase() -> Purchase:
        (found, *_) = (each.purchase for each in ledger.lines())
        assert found
        return ledger.purchase(found)

    def link() -> None:
        of = purchase()
        ledger.link_made(of.id, FIRST, ask(ledger, of), url="https://pay.example/never-seen", now=LATER)

    def pay() -> None:
        bring(ledger, purchase(), "pay-1")

    if point.startswith("before "):
        on_statement(engine, point.removeprefix("before "), do=wait_for_the_end)
        ledger.lines()
        return
    # What it does, and at which of its commits it waits; 0: at none.
    points: dict[str, tuple[Callable[[], None], int]] = {
        "making an index": (plan, 0),
        "making the tables": (plan, 1),
        "in the plan": (plan, 0),
        "the plan is not there": (plan, 1),
        "open links are not taken up": (plan, 2),
        # The first commit is that of asking.
        "the link is not there": (link, 2),
        "the payment is not there": (pay, 1),
    }
    act, commit = points[point]
    on_commit(engine, wait_for_the_end, number=commit)
    act()


if __name__ == "__main__":
    main(*sys.argv[1:])
