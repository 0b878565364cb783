"""A process that is killed while it writes leaves what was there, and nobody waits for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, inspect

from airflow_provider_carbonmark.ledger.schema import PurchaseLine, State, purchases
from tests.integration.ledger.killed_process import EMITTED
from tests.integration.ledger.parts import (
    FIRST,
    LATER,
    NOW,
    SECOND,
    Buyer,
    buying,
    checkout,
    everybody,
    line,
    plan,
)

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger import Ledger

Kill = Callable[[str], None]


@pytest.fixture
def kill(url: str) -> Kill:
    """Return a function that lets a process come to a point and kills it there."""

    def kill(point: str) -> None:
        command = [sys.executable, "-m", "tests.integration.ledger.killed_process", url, point]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"here\n"
            process.kill()

    return kill


def summary(lines: list[PurchaseLine]) -> set[tuple[str, int, Decimal, State]]:
    return {(each.entity, each.line, each.quantity_tonnes, each.state) for each in lines}


PLANNED = {("web", 1, Decimal("12.345"), State.PLANNED), ("api", 1, Decimal(1), State.PLANNED)}
PLANNED_ANEW = {("web", 2, Decimal("12.345"), State.PLANNED), ("api", 2, Decimal(1), State.PLANNED)}
CLOSED = {("web", 1, Decimal("12.345"), State.FAILED), ("api", 1, Decimal(1), State.FAILED)}


@pytest.mark.parametrize("point", ["making an index", "making the tables"])
def test_half_made_tables_are_not_there_and_are_made_whole(
    ledger: Ledger, engine: Engine, kill: Kill, point: str
) -> None:
    kill(point)
    assert ledger.lines() == []
    # MariaDB can't undo the making of a table.
    assert engine.dialect.name == "mysql" or inspect(engine).get_table_names() == []
    assert summary(plan(ledger, Buyer(EMITTED))) == PLANNED
    made = {index["name"] for index in inspect(engine).get_indexes(purchases.name)}
    assert made >= {index.name for index in purchases.indexes}


@pytest.mark.parametrize("point", ["in the plan", "before the plan is there"])
def test_a_plan_that_was_cut_off_neither_closed_nor_planned_anything(
    ledger: Ledger, kill: Kill, point: str
) -> None:
    plan(ledger, Buyer(EMITTED))
    before = ledger.lines()
    kill(point)
    assert ledger.lines() == before
    assert summary(plan(ledger, Buyer(EMITTED), SECOND, is_over=everybody)) == PLANNED_ANEW
    assert summary(ledger.lines()) == CLOSED | PLANNED_ANEW


def test_a_run_that_was_cut_off_between_planning_and_taking_up_does_it_when_it_is_tried_again(
    ledger: Ledger, kill: Kill
) -> None:
    (old,) = plan(ledger, buying(line("old")))
    ledger.link_made(old.id, FIRST, checkout(old), now=NOW)
    kill("before open links are taken up")
    assert ledger.line(old.id).handler == FIRST
    written = ledger.lines()
    again = plan(ledger, Buyer(EMITTED), SECOND, is_over=everybody, now=LATER)
    assert [each.entity for each in again] == ["api", "web", "old"]
    assert {each.id for each in again} == {each.id for each in written}
    assert ledger.line(old.id).handler == SECOND


def test_a_link_that_was_not_stored_is_asked_for_again_with_the_same_key(ledger: Ledger, kill: Kill) -> None:
    (made,) = plan(ledger, buying(line("web")))
    ledger.intend_link(made.id, FIRST, {"quantity": "12.345"}, "key-1")
    kill("before the link is there")
    found = ledger.line(made.id)
    assert (found.state, found.checkout, found.idempotency_key) == (State.PLANNED, None, "key-1")
    assert ledger.link_made(made.id, FIRST, checkout(made), now=LATER).checkout == checkout(made)
