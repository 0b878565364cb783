"""What SQL tells: amounts as they went in and their exact sums, and the figures of a report, to the last decimal, in each database."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from itertools import count

import pytest
from hypothesis import given, settings, strategies as st
from sqlalchemy import event, func, select

from airflow_provider_carbonmark.ledger import Ledger
from airflow_provider_carbonmark.ledger.names import Run, State
from airflow_provider_carbonmark.ledger.questions import queries
from airflow_provider_carbonmark.ledger.questions.queries import Rows, ever
from airflow_provider_carbonmark.ledger.tables.rows import LINES
from airflow_provider_carbonmark.ledger.tables.schema import allocations
from tests.integration.ledger.parts import MONTH, Buyer, buying, line, plan
from tests.unit.ledger.rows import write
from tests.unit.reporting.sample import a_line, a_year, report_on

EVER = ever()


def some_ledger(seed: int) -> list:
    """Return rows with all that may happen to an entity and month: corrections, parts, a surplus, nothing at all."""
    rng = random.Random(seed)
    amounts = "0 0.000000001 0.0005 0.001 0.001000001 12.345678901 8999999 1E+3 33.3".split()
    lines = []
    for entity in ("lab", "Lab", "ä", "shop"):
        for month in ("2025-12", "2026-01", "2026-09", "2026-10"):
            for test_mode in (False, True):
                for number in range(1, rng.randrange(1, 6)):
                    state = rng.choice(list(State))
                    quantity = "0" if state is State.RESTATED else str(rng.randrange(1, 10**6) / 1000)
                    run = Run(rng.choice(("a", "b", "c")), "run")
                    lines.append(
                        replace(
                            a_line(state, emitted=rng.choice(amounts), test_mode=test_mode, line=number),
                            entity=entity,
                            month=month,
                            quantity_tonnes=Decimal(quantity),
                            cost_usd=Decimal(rng.randrange(10**9)) / 10**6,
                            run=run,
                            handler=run,
                        )
                    )
    return lines


@pytest.mark.parametrize("seed", range(3))
def test_the_figures_are_those_of_a_report_on_the_same_rows(engine, seed):
    lines = some_ledger(seed)
    write(engine, lines)
    for dag_ids in (None, ["a"], ["a", "c"], ["nobody"]):
        visible = [line for line in lines if dag_ids is None or line.run.dag_id in dag_ids]
        for period, first, last in (("2026", "2026-01", "2026-12"), ("2026-10", "2026-10", "2026-10")):
            report = report_on(visible, period)
            rows = Rows(first, last, dag_ids)
            with engine.connect() as connection:
                assert queries.figures_by_month(connection, rows) == report.months
                names = queries.entities(connection, rows, most=9, skip=0)
                assert sorted(names) == sorted(report.entities)
                assert queries.figures_by_entity(connection, rows, names) == report.entities


def test_rows_come_by_month_entity_and_line_in_parts(engine):
    lines = [
        a_line(entity=entity, month=month, line=number)
        for month in ("2026-10", "2025-01")
        for entity in "ba"
        for number in (2, 1)
    ]
    write(engine, lines)
    with engine.connect() as connection:
        found = [
            (line.month, line.entity, line.line)
            for skip in (0, 3, 6)
            for line in queries.lines(connection, EVER, most=3, skip=skip)
        ]
    assert found == sorted((line.month, line.entity, line.line) for line in lines)


def test_a_row_comes_as_it_is(engine):
    run, handler = Run("a", "run", "us"), Run("b", "another", "eu")
    lines = [
        a_line(
            State.RESTATED,
            emitted="1.000000001",
            beneficiary_name=None,
            retirement_message=None,
            cost_usd=Decimal(0),
        ),
        a_line(line=2, checkout_url="https://x", retirement_message="ß", run=run, handler=handler),
        a_line(State.PLANNED, line=3, vintage=None),
    ]
    write(engine, lines)
    with engine.connect() as connection:
        found = queries.lines(connection, EVER, most=4, skip=0)
    assert [replace(line, id=0) for line in found] == [replace(line, id=0) for line in lines]
    assert found == Ledger(engine).lines()


def test_only_links_of_real_rows_are_to_be_paid(engine):
    write(engine, [a_line(state, entity=state.value) for state in State])
    write(
        engine,
        [a_line(State.LINK_MADE, entity="earlier", month="2025-03"), a_line(State.LINK_MADE, test_mode=True)],
    )
    with engine.connect() as connection:
        assert [one.entity for one in queries.links_to_pay(connection, EVER, most=9)] == [
            "earlier",
            "link_made",
        ]
        assert [one.entity for one in queries.links_to_pay(connection, EVER, most=1)] == ["earlier"]


def test_months_and_dags_are_found_in_a_question_for_each_table(engine):
    runs = [Run(dag_id, "run") for dag_id in ("Z", "a", "b")]
    months = ("2024-12", "2026-01", "2026-02")
    write(engine, [a_line(run=run, month=month, entity=run.dag_id) for run in runs for month in months])
    write(engine, [a_line(month="2023-01", test_mode=True)])
    write(engine, [a_line(run=runs[0], month="2025-05", entity="Z")])
    asked: list[str] = []

    def note(connection, cursor, statement, *rest):
        asked.append(statement)

    with engine.connect() as connection:
        event.listen(connection, "before_cursor_execute", note)
        assert queries.dag_ids(connection) == {"Z", "a", "b", a_line().run.dag_id}
        assert queries.months(connection, ever(), most=9) == ["2026-02", "2026-01", "2025-05", "2024-12"]
        assert queries.months(connection, ever(), most=2) == ["2026-02", "2026-01"]
        assert queries.months(connection, ever(test_mode=True), most=9) == ["2023-01"]
        # Of DAGs two: those that planned, and those that bought.
        assert len(asked) == 5
        # They are those of the DAGs that are looked at.
        assert queries.months(connection, ever(["a"]), most=9) == ["2026-02", "2026-01", "2024-12"]
        assert queries.months(connection, ever(["a"], test_mode=True), most=9) == []


def test_the_filter_on_dags_leaves_sqlite_s_plan_as_it_is(engines, new_database):
    engine = engines(new_database("sqlite"))
    write(engine, a_year())
    plans = []
    with engine.connect() as connection:

        def explain(connection, cursor, statement, parameters, *rest):
            plans.append(list(cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)))

        event.listen(connection, "before_cursor_execute", explain)
        for dag_ids in (None, ["a"]):
            queries.figures_by_month(connection, Rows("2026-01", "2026-12", dag_ids))
            queries.lines(connection, Rows("2026-10", "2026-10", dag_ids), most=9, skip=0)
            queries.months(connection, ever(dag_ids), most=9)
    used = [" ".join(str(step) for step in plan) for plan in plans]
    assert len(used) == 6
    assert all("carbonmark_allocation_by_month (month" in plan for plan in used)


# --- amounts


_numbers = count()

# Tens of them add up to less than the ledger's limit.
AMOUNTS = st.decimals("1E-9", "1E8", places=9)


@settings(max_examples=25, deadline=None)
@given(
    amounts=st.lists(st.tuples(AMOUNTS, AMOUNTS, AMOUNTS), min_size=1, max_size=20),
    emitted=st.decimals("-1E8", "1E8", places=9),
)
def test_amounts_are_exact_and_so_are_their_sums(
    books: Ledger, amounts: list[tuple[Decimal, Decimal, Decimal]], emitted: Decimal
) -> None:
    entity = f"entity {next(_numbers)}"
    lines = [
        line(entity, tonnes, unit_price_usd=price, cost_usd=cost, emitted_tonnes=emitted)
        for tonnes, price, cost in amounts
    ]
    plan(books, buying(*lines))
    kept = [each for each in books.lines() if each.entity == entity]
    assert [(each.quantity_tonnes, each.unit_price_usd, each.cost_usd) for each in kept] == amounts
    assert {each.emitted_tonnes for each in kept} == {emitted}
    with books.reading() as connection:
        sums = select(func.sum(allocations.c.quantity_tonnes), func.sum(allocations.c.cost_usd))
        its_own = allocations.c.entity == entity
        found = connection.execute(sums.select_from(LINES).where(its_own)).one()
    assert tuple(found) == (sum(tonnes for tonnes, _, _ in amounts), sum(cost for _, _, cost in amounts))
    buyer = Buyer({})
    plan(books, buyer)
    assert buyer.told[0].covered[entity, MONTH].covered_tonnes == found[0]


@pytest.mark.parametrize(
    ("emitted", "kept"),
    [
        ("0.00012345678901234567", "0.000123457"),
        ("12.3450000000001", "12.345000001"),
        ("-12.3450000000001", "-12.345"),
        ("1E-30", "0.000000001"),
        ("1E+3", "1000"),
        ("8999999999.999999999", "8999999999.999999999"),
    ],
)
def test_emissions_finer_than_the_ledger_are_rounded_up(ledger: Ledger, emitted: str, kept: str) -> None:
    (made,) = plan(ledger, buying(line("web", emitted_tonnes=Decimal(emitted))))
    assert f"{made.allocations[0].emitted_tonnes:f}" == kept
