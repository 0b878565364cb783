"""Planning against what is there: covered, restated, abandoned, left open."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import DatabaseError

from airflow_provider_carbonmark.ledger import Ledger, LedgerError
from airflow_provider_carbonmark.ledger.limits import Limits
from airflow_provider_carbonmark.ledger.names import LimitsPassedError, Run, State
from airflow_provider_carbonmark.ledger.values import Coverage, Covered, Plan, PlannedPurchase
from tests.integration.ledger.parts import (
    FIRST,
    LATER,
    MONTH,
    NOW,
    ON_SQLITE,
    SECOND,
    THIRD,
    Buyer,
    Rival,
    become,
    bring,
    buying,
    checkout_task,
    entities,
    entity,
    everybody,
    line,
    link,
    on_commit,
    only,
    plan,
    preview,
    stating,
)

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.purchase import Purchase


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
    # Nor does a run ever take its own for abandoned.
    assert plan(ledger, buyer, now=LATER, is_over=everybody) == made
    assert plan(ledger, buyer, SECOND) == []
    assert len(ledger.lines()) == 2


@pytest.mark.parametrize("stage", ["planned", "linked", "paid", "retired", "declined", "failed"])
def test_what_is_on_its_way_counts_as_covered_and_what_ended_badly_does_not(
    ledger: Ledger, stage: str
) -> None:
    (made,) = plan(ledger, Buyer({"web": "12.345"}))
    become(ledger, made, stage)
    bought = plan(ledger, Buyer({"web": "12.345"}), SECOND)
    anew = [(2, Decimal("12.345"))] if stage in ("declined", "failed") else []
    assert [(each.allocations[0].line, each.quantity_tonnes) for each in bought] == anew


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
    # What is paid and then fails is paid all the same.
    become(ledger, next(each for each in plan(ledger, buying()) if entity(each) == "api"), "failed")
    plan(ledger, buyer)
    assert buyer.told[1].run_cost_usd == Decimal(10)


def test_of_two_prices_that_together_pass_a_limit_one_is_refused_and_counts_for_nothing(
    ledger: Ledger, engine: Engine, rival: Rival
) -> None:
    one, other = plan(ledger, buying(line("api", "2"), line("web", "2")))

    def price(ledger: Ledger, of: Purchase) -> Purchase:
        return ledger.quoted(of.id, FIRST, Decimal(7), Limits(max_cost_per_run_usd=Decimal(13)))

    on_commit(engine, lambda: rival.start(lambda ledger: price(ledger, other), until="FOR UPDATE"))
    assert price(ledger, one).cost_usd == 7
    with pytest.raises(LimitsPassedError, match="all together 14 USD, where max_cost_per_run_usd is 13 USD"):
        rival.result()
    assert ledger.purchase(other.id) == other


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


def test_a_preview_reads_what_a_plan_reads(ledger: Ledger) -> None:
    plan(ledger, Buyer({"web": "12.345", "api": "1"}))
    plan(ledger, Buyer({"old": "3"}, "2026-09"), months=["2026-09"])
    previewing, planning = Buyer({"web": "20"}), Buyer({"web": "20"})
    before = ledger.lines()
    shown = preview(ledger, previewing, SECOND, only(FIRST))
    assert ledger.lines() == before
    made = plan(ledger, planning, SECOND, is_over=only(FIRST))
    assert previewing.told == planning.told
    assert sorted(each.quantity_tonnes for each in shown.purchases) == [Decimal(1), Decimal(3), Decimal(20)]
    assert {(entity(each), each.quantity_tonnes) for each in made} == {
        (each.shares[0].entity, each.quantity_tonnes) for each in shown.purchases
    }


def test_a_preview_of_an_empty_database_leaves_it_empty(ledger: Ledger, engine: Engine) -> None:
    assert preview(ledger, Buyer({"web": "1"}), is_over=everybody).purchases == (line("web", "1"),)
    assert (ledger.lines(), ledger.id, ledger.signing_key()) == ([], "", None)
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


@ON_SQLITE
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


@ON_SQLITE
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
