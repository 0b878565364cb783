"""Planning against what is there: covered, restated, abandoned, left open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import DatabaseError

from airflow_provider_carbonmark.ledger import Ledger, LedgerError
from airflow_provider_carbonmark.ledger.purchase import Run, State
from airflow_provider_carbonmark.ledger.values import Coverage, Covered, Need, Plan, PlannedPurchase
from tests.integration.ledger.parts import (
    FIRST,
    LATER,
    MONTH,
    NOW,
    SECOND,
    THIRD,
    Buyer,
    ask,
    bring,
    buying,
    checkout_task,
    entities,
    entity,
    everybody,
    line,
    link,
    nobody,
    only,
    payment_id,
    plan,
    preview,
    retirement,
    stating,
)

first_is_over = only(FIRST)


def test_a_plan_is_written_as_it_was_made(ledger: Ledger) -> None:
    wanted = line(vintage=None)
    (made,) = plan(ledger, buying(wanted), test_mode=True)
    (share,) = made.allocations
    assert {name: getattr(made, name) for name in vars(wanted) if name != "shares"} == {
        name: value for name, value in vars(wanted).items() if name != "shares"
    }
    assert {name: getattr(share, name) for name in vars(wanted.shares[0])} == vars(wanted.shares[0])
    assert (share.line, made.state, made.test_mode) == (1, State.PLANNED, True)
    assert (made.run, made.handler, made.planned_at, made.handled_since) == (FIRST, FIRST, NOW, NOW)
    assert (made.ledger, made.link, made.task_id) == (ledger.id, None, None)


def test_planning_again_plans_nothing_twice_and_gives_the_same_lines(ledger: Ledger) -> None:
    buyer = Buyer({"web": "12.345", "api": "1"})
    made = plan(ledger, buyer)
    assert plan(ledger, buyer, now=LATER) == made
    assert plan(ledger, buyer, SECOND) == []
    assert len(ledger.lines()) == 2


@pytest.mark.parametrize(
    ("stage", "covered"),
    [("planned", True), ("link", True), ("pay", True), ("retire", True), ("decline", False), ("fail", False)],
)
def test_what_is_on_its_way_counts_as_covered_and_what_ended_badly_does_not(
    ledger: Ledger, stage: str, covered: bool
) -> None:
    (made,) = plan(ledger, Buyer({"web": "12.345"}))
    if stage != "planned":
        link(ledger, made)
    if stage in ("pay", "retire", "fail"):
        ledger.paid(made.id, payment_id(made), now=NOW)
    if stage == "retire":
        ledger.retired(made.id, retirement(made), now=NOW)
    if stage == "fail":
        ledger.failed(made.id, "refunded", now=NOW)
    if stage == "decline":
        ledger.declined(made.id, FIRST, "no", now=NOW)
    bought = plan(ledger, Buyer({"web": "12.345"}), SECOND)
    assert [(each.allocations[0].line, each.quantity_tonnes) for each in bought] == (
        [] if covered else [(2, Decimal("12.345"))]
    )


def test_a_restated_month_is_topped_up_and_its_figure_is_that_of_the_last_line(ledger: Ledger) -> None:
    plan(ledger, Buyer({"web": "10"}))
    (more,) = plan(ledger, Buyer({"web": "12.5"}), SECOND)
    assert (more.allocations[0].line, more.quantity_tonnes) == (2, Decimal("2.5"))
    assert plan(ledger, stating("web", "9"), THIRD) == []
    *_, last = ledger.lines()
    assert (last.line, last.state, last.quantity_tonnes, last.cost_usd) == (3, State.RESTATED, 0, 0)
    assert (last.asset_price_source_id, last.beneficiary_name) == (None, None)
    buyer = Buyer({})
    plan(ledger, buyer, THIRD)
    assert buyer.told[0].covered == {("web", MONTH): Covered(Decimal("12.5"), Decimal(9))}


def test_a_planner_is_told_only_of_the_months_and_the_mode_it_plans(ledger: Ledger) -> None:
    plan(ledger, buying(line("web", month="2026-09")), months=["2026-09"])
    plan(ledger, buying(line("web")), test_mode=True)
    buyer = Buyer({})
    plan(ledger, buyer, SECOND)
    assert buyer.told == [Coverage(promised={"0xabc-2020": Decimal("12.345")})]
    plan(ledger, buyer, SECOND, months={MONTH, "2026-09"}, test_mode=True)
    assert set(buyer.told[1].covered) == {("web", MONTH)}


def test_the_planner_is_told_what_its_run_spends_already(ledger: Ledger) -> None:
    plan(ledger, buying(line("web", "2"), line("web", "3"), line("api", "1")))
    plan(ledger, buying(line("db", "8")), SECOND)
    (web, *_) = (each for each in plan(ledger, buying()) if entity(each) == "web")
    ledger.quoted(web.id, FIRST, Decimal("5.5"))
    buyer = Buyer({})
    plan(ledger, buyer)
    assert buyer.told[0].run_cost_by_entity == {"web": Decimal(13), "api": Decimal("2.5")}
    assert buyer.told[0].run_cost_usd == Decimal("15.5")
    ledger.failed(web.id, "gone", now=NOW, run=FIRST)
    plan(ledger, buyer)
    assert buyer.told[1].run_cost_usd == Decimal(10)


def test_nothing_is_written_when_the_plan_is_refused(ledger: Ledger) -> None:
    plan(ledger, Buyer({"web": "1"}))
    before = ledger.lines()

    def refuse(coverage: Coverage) -> Plan:
        raise ValueError("over the limit")

    with pytest.raises(ValueError, match="over the limit"):
        plan(ledger, refuse, SECOND, is_over=everybody)
    assert ledger.lines() == before
    # The connection that goes back to the pool holds no lock.
    assert len(plan(ledger, Buyer({"web": "1"}), SECOND, is_over=everybody)) == 1


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


@pytest.mark.parametrize(
    ("now_known", "again"),
    [(None, "12.345"), ("20", "12.345"), ("14.5", "9.5"), ("5", None), ("-3", None)],
    ids=["as it was", "restated up", "down a little", "down to what is covered", "to nothing"],
)
def test_abandoned_tonnes_of_another_month_are_handed_on_as_far_as_they_are_still_needed(
    ledger: Ledger, now_known: str | None, again: str | None
) -> None:
    september = {"months": ["2026-09"]}
    for run, tonnes in ((SECOND, "5"), (FIRST, "12.345")):
        bought = line("web", tonnes, "2026-09", emitted_tonnes=Decimal("17.345"))
        plan(ledger, buying(bought), run, **september)
    if now_known:
        plan(ledger, stating("web", now_known, "2026-09"), SECOND, **september)
    buyer = Buyer({"web": "1"})
    made = plan(ledger, buyer, THIRD, is_over=first_is_over, catch_up=False)
    figure = Decimal(now_known or "17.345")
    needs = [Need("web", "2026-09", figure, Decimal(again))] if again else []
    assert list(buyer.told[0].abandoned) == needs
    assert [
        (one.month, one.quantity_tonnes, one.emitted_tonnes) for each in made for one in each.allocations
    ] == [
        *(("2026-09", need.offset_tonnes, figure) for need in needs),
        (MONTH, Decimal(1), Decimal(1)),
    ]
    assert sum(each.state is State.FAILED for each in ledger.lines(month="2026-09")) == 1


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


def test_of_a_dead_run_only_the_lines_of_the_mode_are_closed_and_taken_up(ledger: Ledger) -> None:
    for test_mode in (True, False):
        linked, _ = plan(ledger, buying(line("api"), line("web")), test_mode=test_mode)
        link(ledger, linked)
    rehearsed = ledger.lines(test_mode=True)
    made = plan(ledger, Buyer({"web": "12.345"}), SECOND, is_over=first_is_over)
    assert {(entity(each), each.test_mode) for each in made} == {("web", False), ("api", False)}
    assert ledger.lines(test_mode=True) == rehearsed


def test_a_run_never_takes_its_own_lines_for_abandoned(ledger: Ledger) -> None:
    made = plan(ledger, Buyer({"web": "1"}))
    assert plan(ledger, Buyer({"web": "1"}), is_over=everybody) == made


def test_links_of_a_dead_run_are_taken_up_whatever_their_month(ledger: Ledger) -> None:
    lines = [line("a", month="2026-08"), line("b"), line("c"), line("d"), line("e")]
    linked, paid, retired, declined, planned = plan(ledger, buying(*lines), months=["2026-08", MONTH])
    for each in (linked, paid, retired, declined):
        link(ledger, each)
    for each in (paid, retired):
        ledger.paid(each.id, payment_id(each), now=NOW)
    ledger.retired(retired.id, retirement(retired), now=NOW)
    ledger.declined(declined.id, FIRST, "no", now=NOW)

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


def test_a_preview_reads_what_a_plan_reads(ledger: Ledger) -> None:
    plan(ledger, Buyer({"web": "12.345", "api": "1"}))
    plan(ledger, Buyer({"old": "3"}, "2026-09"), months=["2026-09"])
    previewing, planning = Buyer({"web": "20"}), Buyer({"web": "20"})
    before = ledger.lines()
    shown = preview(ledger, previewing, SECOND, first_is_over)
    assert ledger.lines() == before
    made = plan(ledger, planning, SECOND, is_over=first_is_over)
    assert previewing.told == planning.told
    assert sorted(each.quantity_tonnes for each in shown.purchases) == [Decimal(1), Decimal(3), Decimal(20)]
    assert {(entity(each), each.quantity_tonnes) for each in made} == {
        (each.shares[0].entity, each.quantity_tonnes) for each in shown.purchases
    }


def test_a_preview_of_an_empty_database_leaves_it_empty(ledger: Ledger, engine: Engine) -> None:
    assert preview(ledger, Buyer({"web": "1"}), is_over=everybody).purchases == (line("web", "1"),)
    assert ledger.lines() == []
    assert (ledger.id, ledger.signing_key()) == ("", None)
    with pytest.raises(LedgerError, match="has no purchase 1"):
        ledger.purchase(1)
    assert inspect(engine).get_table_names() == []


def test_lines_are_found_by_month_year_mode_state_and_dag(ledger: Ledger) -> None:
    months = ["2025-12", "2026-01", "2026-12"]
    made = plan(ledger, buying(*(line("web", month=month) for month in reversed(months))), months=months)
    ledger.failed(made[0].id, "gone", now=NOW, run=FIRST)
    (other,) = plan(ledger, buying(line("api", month="2026-01")), Run("other", "1"), months=["2026-01"])
    (test,) = plan(ledger, buying(line("web", month="2026-01")), months=["2026-01"], test_mode=True)

    def found(**wanted: object) -> list[int | None]:
        return [each.purchase for each in ledger.lines(**wanted)]

    december, january, next_december = (each.id for each in made)
    assert found() == [december, other.id, january, test.id, next_december]
    assert found(month="2026-01") == [other.id, january, test.id]
    assert found(year=2026) == [other.id, january, test.id, next_december]
    assert found(year=2026, test_mode=False) == [other.id, january, next_december]
    assert found(test_mode=True) == [test.id]
    assert found(states=[State.FAILED]) == [december]
    assert found(dag_ids=["other", "unknown"]) == [other.id]
    assert found(dag_ids=[]) == found(states=[]) == found(month="2024-01") == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (line("web", month="2026-09"), "a line of web for 2026-09, but only 2026-10 were asked for"),
        (line("x" * 256), "An entity of 2026-10 has 256 characters"),
        (line("web", "9000000000"), "An amount is 9000000000: the ledger holds numbers below 9000000000"),
        (replace(line("web"), cost_usd=Decimal("1E-10")), "An amount is 1E-10: the ledger holds steps"),
    ],
    ids=["another month", "a long entity", "a huge amount", "too fine an amount"],
)
def test_a_plan_that_the_ledger_cannot_hold_is_refused(
    ledger: Ledger, wrong: PlannedPurchase, message: str
) -> None:
    with pytest.raises(LedgerError, match=message):
        plan(ledger, buying(line("fine"), wrong))
    assert ledger.lines() == []


def test_months_given_as_one_text_are_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="months is one text, '2026-10'"):
        plan(ledger, buying(), months=MONTH)


MUST_NOT_BE = (
    ("purchases", "quantity_tonnes = -1"),
    ("purchases", "quantity_tonnes = 0"),
    ("purchases", "state = 'lost'"),
    ("purchases", "state = 'restated'"),
    ("purchases", "payment_id = 'same'"),
    ("purchases", "ordered_by = 'same'"),
    ("allocations", "entity = 'web', line = 1"),
    ("allocations", "quantity_tonnes = 0"),
    ("allocations", "purchase_id = NULL"),
    ("allocations", "purchase_id = 1"),
    ("links", "current_of = 1"),
    ("links", "purchase_id = 1"),
    ("payments", "payment_id = 'same'"),
    ("payments", "link = 2"),
    ("waits", "task = 'same'"),
    ("ledger_version", "only_row = 2"),
)


def test_the_database_itself_refuses_what_must_not_be(ledger: Ledger, engine: Engine) -> None:
    for each in plan(ledger, buying(line("web"), line("api"))):
        link(ledger, each)
        for number in (1, 2):
            bring(ledger, each, f"pay-{number}", verified=False)
            ledger.awaits(each.id, checkout_task(map_index=number), now=NOW)
    for table, change in MUST_NOT_BE:
        with engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                connection.execute(text("PRAGMA foreign_keys = ON"))
            with pytest.raises(DatabaseError, match="(?i)constraint|duplicate"):
                connection.execute(text(f"UPDATE carbonmark_{table} SET {change}"))


def test_a_line_that_the_database_refuses_is_no_other_planner_s_doing(ledger: Ledger) -> None:
    told: list[Coverage] = []

    def buy_nothing(coverage: Coverage) -> Plan:
        told.append(coverage)
        return Plan((line("web"), line("api", "0")))

    with pytest.raises(DatabaseError, match="(?i)constraint"):
        plan(ledger, buy_nothing)
    assert len(told) == 1
    assert ledger.lines() == []


def test_thousands_of_lines_are_planned_at_once(ledger: Ledger) -> None:
    emitted = {f"entity-{number:04}": "1.001" for number in range(3_000)}
    made = plan(ledger, Buyer(emitted))
    assert entities(made) == sorted(emitted)
    assert plan(ledger, Buyer(emitted), SECOND) == []
