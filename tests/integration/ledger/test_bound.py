"""A run carries on no more lines than Airflow can map: more are refused before anything is written, or left for a later run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_provider_carbonmark.ledger import Ledger, LedgerError
from airflow_provider_carbonmark.ledger.purchase import Purchase, Run, State
from tests.integration.ledger.parts import (
    FIRST,
    LATER,
    NOW,
    SECOND,
    THIRD,
    Buyer,
    buying,
    entities,
    everybody,
    line,
    link,
    nobody,
    only,
    plan,
    preview,
)


def links(ledger: Ledger, *names: str, run: Run = FIRST) -> list[Purchase]:
    """Return purchases of a run that have their links."""
    return [link(ledger, each, run) for each in plan(ledger, buying(*map(line, names)), run)]


@pytest.mark.parametrize("planner", [plan, preview])
def test_more_lines_than_a_run_can_carry_are_refused_and_nothing_is_written(
    ledger: Ledger, planner: Callable[..., object]
) -> None:
    (left,) = plan(ledger, Buyer({"web": "1"}))
    links(ledger, "linked", run=THIRD)
    before = ledger.lines()
    wanted = {"web": "1", "api": "1", "db": "1"}
    with pytest.raises(LedgerError) as refusal:
        planner(ledger, Buyer(wanted), SECOND, is_over=everybody, at_most=2)
    assert str(refusal.value) == (
        "Run 'run-2' would have 3 purchases, and a run can have 2. Nothing was planned: raise Airflow's [core] max_map_length, or "
        "plan fewer entities or months in one run"
    )
    # The line of the dead run is still covered, and still planned anew where the bound allows.
    assert ledger.lines() == before
    made = plan(ledger, Buyer(wanted), SECOND, is_over=everybody, at_most=3)
    assert entities(made) == ["api", "db", "web"]
    assert ledger.purchase(left.id).state is State.FAILED


@pytest.mark.parametrize("planner", [plan, preview])
def test_what_the_run_planned_before_counts_whatever_became_of_it(
    ledger: Ledger, planner: Callable[..., object]
) -> None:
    failed, _ = plan(ledger, Buyer({"a": "1", "b": "1"}), at_most=2)
    ledger.failed(failed.id, "gone", now=NOW, run=FIRST)
    with pytest.raises(LedgerError, match="would have 3 purchases, of which it planned 2 before"):
        planner(ledger, Buyer({"a": "1", "b": "1"}), at_most=2)
    assert len(ledger.lines()) == 2
    assert len(plan(ledger, Buyer({"a": "1", "b": "1"}), SECOND, at_most=2)) == 1


def test_a_figure_that_buys_nothing_takes_no_room(ledger: Ledger) -> None:
    plan(ledger, Buyer({"a": "2"}), SECOND)
    plan(ledger, buying(line("b"), line("c")), at_most=2)
    assert len(plan(ledger, buying(), at_most=2)) == 2


def test_links_are_taken_up_oldest_first_as_many_as_fit_and_the_rest_by_later_runs(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    links(ledger, "a", "b", "c", "d", "e")
    taken = plan(ledger, buying(line("z")), SECOND, is_over=everybody, now=LATER, at_most=3)
    assert entities(taken) == ["z", "a", "b"]
    assert [each.handler for each in ledger.lines()] == [SECOND, SECOND, FIRST, FIRST, FIRST, SECOND]
    assert caplog.messages == [
        "3 links of ended runs are left for a later run: run 'run-2' can carry on 3 purchases ([core] max_map_length)"
    ]
    assert plan(ledger, buying(), SECOND, is_over=everybody, now=LATER, at_most=3) == taken
    caplog.clear()
    rest = plan(ledger, buying(), THIRD, is_over=only(FIRST), at_most=3)
    assert entities(rest) == ["c", "d", "e"]
    assert caplog.messages == []


def test_a_run_full_of_its_own_lines_takes_nothing_up(ledger: Ledger) -> None:
    links(ledger, "a")
    assert entities(plan(ledger, buying(line("z")), SECOND, is_over=everybody, at_most=1)) == ["z"]
    assert entities(plan(ledger, buying(), THIRD, is_over=everybody, at_most=1)) == ["a"]


def test_a_cleared_run_that_plans_more_leaves_the_last_links_it_took_up_for_a_later_run(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    links(ledger, "a", "b")
    plan(ledger, buying(line("y")), SECOND, is_over=everybody, at_most=3)
    again = plan(ledger, buying(line("z")), SECOND, is_over=nobody, at_most=3)
    assert entities(again) == ["y", "z", "a"]
    assert "1 links of ended runs are left for a later run" in caplog.messages[-1]
    third = plan(ledger, buying(), THIRD, is_over=everybody, at_most=3)
    assert entities(third) == ["a", "b"]
