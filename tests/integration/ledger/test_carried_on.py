"""What a run carries on of others: lines and links of ended runs, what earlier months lack; never more than Airflow can map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, select, text

from airflow_provider_carbonmark.ledger import Ledger, LedgerError
from airflow_provider_carbonmark.ledger.names import Run, State
from airflow_provider_carbonmark.ledger.tables.schema import TO_CATCH_UP, allocations
from airflow_provider_carbonmark.ledger.values import Need
from tests.integration.ledger.parts import (
    FIRST,
    LATER,
    MONTH,
    NOW,
    ON_SQLITE,
    SECOND,
    THIRD,
    Buyer,
    ask,
    become,
    buying,
    entities,
    everybody,
    line,
    link,
    links,
    nobody,
    only,
    plan,
    preview,
    retirement,
    stating,
)

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.purchase import Purchase

SEPTEMBER = "2026-09"
OLD = Run("offset-old", "run-1")
first_is_over = only(FIRST)


# --- what ended runs left


def test_lines_that_a_dead_run_left_without_a_link_are_closed_and_planned_again(ledger: Ledger) -> None:
    (old,) = plan(ledger, Buyer({"web": "12.345"}))
    ask(ledger, old)
    buyer = Buyer({"web": "12.345"})
    (new,) = plan(ledger, buyer, SECOND, is_over=first_is_over, now=LATER)
    closed = ledger.purchase(old.id)
    assert (closed.state, closed.failed_at, closed.handler) == (State.FAILED, LATER, FIRST)
    assert "run 'run-2' planned anew" in (closed.reason or "")
    assert (new.allocations[0].line, new.quantity_tonnes, new.run) == (2, Decimal("12.345"), SECOND)
    assert buyer.told[0].covered["web", MONTH].covered_tonnes == 0


@ON_SQLITE
@pytest.mark.parametrize(
    ("now_known", "again"),
    [(None, "12.345"), ("20", "12.345"), ("14.5", "9.5"), ("5", None), ("-3", None)],
    ids=["as it was", "restated up", "down a little", "down to what is covered", "to nothing"],
)
def test_abandoned_tonnes_of_another_month_are_handed_on_as_far_as_they_are_still_needed(
    ledger: Ledger, now_known: str | None, again: str | None
) -> None:
    september = {"months": [SEPTEMBER]}
    for run, tonnes in ((SECOND, "5"), (FIRST, "12.345")):
        bought = line("web", tonnes, SEPTEMBER, emitted_tonnes=Decimal("17.345"))
        plan(ledger, buying(bought), run, **september)
    if now_known:
        plan(ledger, stating("web", now_known, SEPTEMBER), SECOND, **september)
    buyer = Buyer({"web": "1"})
    made = plan(ledger, buyer, THIRD, is_over=first_is_over, catch_up=False)
    figure = Decimal(now_known or "17.345")
    needs = [Need("web", SEPTEMBER, figure, Decimal(again))] if again else []
    assert list(buyer.told[0].abandoned) == needs
    assert [
        (one.month, one.quantity_tonnes, one.emitted_tonnes) for each in made for one in each.allocations
    ] == [
        *((SEPTEMBER, need.offset_tonnes, figure) for need in needs),
        (MONTH, Decimal(1), Decimal(1)),
    ]
    assert sum(each.state is State.FAILED for each in ledger.lines(month=SEPTEMBER)) == 1


@pytest.mark.parametrize(
    ("other_run", "test_mode", "is_over"),
    [
        (Run("another-dag", "run-9"), False, everybody),
        (SECOND, True, everybody),
        (SECOND, False, nobody),
        (Run(FIRST.dag_id, FIRST.run_id, "eu"), False, lambda run, since: run.deployment == "eu"),
    ],
    ids=["of another DAG", "of the other mode", "of a run under way", "of another deployment"],
)
def test_open_lines_are_left_to_those_they_belong_to(
    ledger: Ledger, other_run: Run, test_mode: bool, is_over: Callable[[Run, datetime], bool]
) -> None:
    linked, planned = plan(ledger, buying(line("api"), line("web")))
    link(ledger, linked)
    before = ledger.lines()
    assert plan(ledger, Buyer({}), other_run, test_mode=test_mode, is_over=is_over) == []
    assert ledger.lines() == before


def test_links_of_a_dead_run_are_taken_up_whatever_their_month(ledger: Ledger) -> None:
    lines = [line("a", month="2026-08"), line("b"), line("c"), line("d"), line("e")]
    made = plan(ledger, buying(*lines), months=["2026-08", MONTH])
    for each, stage in zip(made, ("linked", "paid", "retired", "declined"), strict=False):
        become(ledger, each, stage)
    linked, paid, retired, declined, _ = made

    taken = plan(ledger, buying(line("z")), SECOND, is_over=first_is_over, now=LATER)

    assert entities(taken) == ["z", "a", "b"]
    assert [each.state for each in taken] == [State.PLANNED, State.LINK_MADE, State.PAID]
    assert {(each.handler, each.handled_since) for each in taken} == {(SECOND, LATER)}
    assert {each.run for each in taken[1:]} == {FIRST}
    assert ledger.purchase(retired.id).handler == ledger.purchase(declined.id).handler == FIRST
    with pytest.raises(LedgerError, match="handled by run 'run-2'"):
        ledger.declined(linked.id, FIRST, "too late", now=LATER)
    assert ledger.declined(linked.id, SECOND, "no", now=LATER).state is State.DECLINED
    # A fact may come from any run.
    assert ledger.retired(paid.id, retirement(paid), now=LATER).state is State.RETIRED


def test_of_runs_of_the_same_name_in_two_deployments_only_the_one_that_is_over_is_carried_on(
    ledger: Ledger,
) -> None:
    there = replace(FIRST, deployment="eu")
    ours, theirs = (
        link(ledger, each, run)
        for run in (FIRST, there)
        for each in plan(ledger, buying(line(run.deployment or "us")), run)
    )
    (taken,) = plan(ledger, buying(), SECOND, is_over=first_is_over)
    assert (taken.id, ledger.purchase(theirs.id)) == (ours.id, theirs)


def test_a_runs_own_lines_keep_their_map_index_whatever_it_takes_up_and_loses(ledger: Ledger) -> None:
    (old,) = plan(ledger, buying(line("old")))
    link(ledger, old)
    made = plan(ledger, buying(line("b"), line("a")), SECOND, is_over=first_is_over)
    assert entities(made) == ["a", "b", "old"]
    ledger.failed(made[0].id, "gone", now=NOW, run=SECOND)
    # Also where the other try's worker has a clock that is behind.
    behind = NOW.replace(hour=0)
    again = plan(ledger, buying(line("c")), SECOND, is_over=first_is_over, now=behind)
    assert entities(again) == ["a", "b", "c", "old"]
    # Also after another run has taken them all up.
    for each in again[1:3]:
        link(ledger, each, SECOND)
    plan(ledger, buying(), THIRD, is_over=everybody, now=LATER)
    assert entities(plan(ledger, buying(), SECOND)) == ["a", "b", "c"]


# --- what earlier months lack, and DAGs that are gone


def september(ledger: Ledger, run: Run = FIRST) -> Purchase:
    (made,) = plan(ledger, Buyer({"api": "2"}, SEPTEMBER), run, months=[SEPTEMBER])
    return made


def bought(purchases: list[Purchase]) -> dict[tuple[str, str], Decimal]:
    return {(one.entity, one.month): one.quantity_tonnes for each in purchases for one in each.allocations}


@pytest.mark.parametrize("how", ["given up", "declined", "failed"])
def test_what_an_earlier_month_lacks_is_bought_with_a_later_one_whatever_the_cause(
    ledger: Ledger, how: str
) -> None:
    become(ledger, september(ledger), how)
    made = plan(ledger, Buyer({"web": "1"}), SECOND)
    assert bought(made) == {("api", SEPTEMBER): Decimal(2), ("web", MONTH): Decimal(1)}
    assert plan(ledger, Buyer({"web": "1"}), THIRD) == []


def test_what_is_caught_up_with_is_looked_at_no_more_until_it_ends_again(
    ledger: Ledger, engine: Engine
) -> None:
    become(ledger, september(ledger), "declined")
    (again,) = plan(ledger, Buyer({}), SECOND)
    plan(ledger, Buyer({}), THIRD)
    with engine.connect() as connection:
        assert connection.scalars(select(allocations.c.id).where(TO_CATCH_UP)).all() == []
    ledger.failed(again.id, "gone", now=NOW, run=SECOND)
    assert bought(plan(ledger, Buyer({}), THIRD)) == {("api", SEPTEMBER): Decimal(2)}


def test_a_ledger_of_version_3_still_knows_what_it_lacks(ledger: Ledger, engine: Engine) -> None:
    become(ledger, september(ledger), "declined")
    (index,) = (each for each in allocations.indexes if "to_catch_up" in each.columns)
    with engine.begin() as connection:
        index.drop(connection)
        connection.execute(text("ALTER TABLE carbonmark_allocations DROP COLUMN to_catch_up"))
        connection.execute(text("UPDATE carbonmark_ledger_version SET version = 3"))
    assert bought(plan(Ledger(engine), Buyer({}), SECOND)) == {("api", SEPTEMBER): Decimal(2)}


@pytest.mark.parametrize("why_not", ["it waits", "switched off", "another DAG's", "another mode's", "later"])
def test_what_is_not_caught_up(ledger: Ledger, why_not: str) -> None:
    become(ledger, september(ledger), "linked" if why_not == "it waits" else "declined")
    run = Run("other", "1") if why_not == "another DAG's" else SECOND
    month = "2026-08" if why_not == "later" else MONTH
    made = plan(
        ledger,
        Buyer({"web": "1"}, month),
        run,
        months=[month],
        test_mode=why_not == "another mode's",
        catch_up=why_not != "switched off",
    )
    assert bought(made) == {("web", month): Decimal(1)}


def test_a_renamed_dag_takes_over_what_ended_runs_of_the_old_one_left(ledger: Ledger) -> None:
    waits = september(ledger, OLD)
    _, left = plan(ledger, Buyer({"web": "3"}), OLD)
    link(ledger, waits, OLD)
    emitted = Buyer({"web": "3"})
    assert plan(ledger, emitted, SECOND, is_over=nobody, take_over=[OLD.dag_id]) == []
    anew, taken = plan(ledger, emitted, SECOND, is_over=everybody, take_over=[OLD.dag_id])
    assert bought([anew]) == {("web", MONTH): Decimal(3)}
    assert (ledger.purchase(left.id).state, taken.id, taken.handler) == (State.FAILED, waits.id, SECOND)


def test_what_the_old_dag_lacks_is_bought_by_the_one_that_takes_over(ledger: Ledger) -> None:
    become(ledger, september(ledger, OLD), "declined")
    assert plan(ledger, Buyer({}), SECOND) == []
    assert bought(plan(ledger, Buyer({}), SECOND, take_over=[OLD.dag_id])) == {("api", SEPTEMBER): Decimal(2)}


# --- so many and no more


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
