"""A process that is killed while it writes leaves what was there, and nobody waits for it."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, inspect

from airflow_provider_carbonmark.ledger.names import State
from airflow_provider_carbonmark.ledger.tables.schema import metadata
from tests.integration.ledger.killed_process import EMITTED
from tests.integration.ledger.parts import (
    FIRST,
    LATER,
    SECOND,
    Buyer,
    ask,
    buying,
    entities,
    everybody,
    line,
    links,
    page,
    plan,
)

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger import Ledger
    from tests.integration.ledger.conftest import Kill


def summary(ledger: Ledger) -> set[tuple[str, int, Decimal, State]]:
    return {(each.entity, each.line, each.quantity_tonnes, each.state) for each in ledger.lines()}


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
    plan(ledger, Buyer(EMITTED))
    assert summary(ledger) == PLANNED
    for table in metadata.tables.values():
        made = {index["name"] for index in inspect(engine).get_indexes(table.name)}
        assert made >= {index.name for index in table.indexes}


@pytest.mark.parametrize("point", ["in the plan", "the plan is not there"])
def test_a_plan_that_was_cut_off_neither_closed_nor_planned_anything(
    ledger: Ledger, kill: Kill, point: str
) -> None:
    plan(ledger, Buyer(EMITTED))
    before = ledger.lines()
    kill(point)
    assert ledger.lines() == before
    plan(ledger, Buyer(EMITTED), SECOND, is_over=everybody)
    assert summary(ledger) == CLOSED | PLANNED_ANEW


def test_a_run_that_was_cut_off_between_planning_and_taking_up_does_it_when_it_is_tried_again(
    ledger: Ledger, kill: Kill
) -> None:
    (old,) = links(ledger, "old")
    kill("open links are not taken up")
    assert ledger.purchase(old.id).handler == FIRST
    written = {each.purchase for each in ledger.lines()}
    again = plan(ledger, Buyer(EMITTED), SECOND, is_over=everybody, now=LATER)
    assert entities(again) == ["api", "web", "old"]
    assert {each.id for each in again} == written
    assert ledger.purchase(old.id).handler == SECOND


def test_a_link_that_was_not_stored_is_asked_for_again_with_the_same_key(ledger: Ledger, kill: Kill) -> None:
    (made,) = plan(ledger, buying(line("web")))
    asked = ask(ledger, made)
    kill("the link is not there")
    found = ledger.purchase(made.id)
    assert (found.state, found.link, found.has_link) == (State.PLANNED, asked, False)
    assert ask(ledger, made) == asked
    stored = ledger.link_made(made.id, FIRST, asked, url=page(made), now=LATER)
    assert stored.link.url == page(made)


def test_a_payment_whose_recording_was_cut_off_is_not_half_there(ledger: Ledger, kill: Kill) -> None:
    (made,) = links(ledger, "web")
    kill("the payment is not there")
    assert ledger.payments(made.id) == []
    assert ledger.purchase(made.id).state is State.LINK_MADE
