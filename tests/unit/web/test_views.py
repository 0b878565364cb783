"""What is asked for, and which rows somebody gets for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, StaticPool, create_engine
from starlette.datastructures import QueryParams

from airflow_provider_carbonmark.web.views import (
    MOST_MONTHS,
    MOST_ROWS,
    NoAccessError,
    Wanted,
    view,
)
from tests.unit.ledger.rows import planned_by, write


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection


def test_a_query_says_what_is_wanted():
    for query, wanted in {
        "": Wanted(),
        "year=2026": Wanted(year="2026"),
        "year=2026&part=3": Wanted(year="2026", part=3),
        "month=2026-12": Wanted(month="2026-12"),
        "month=2026-01&test=1": Wanted(month="2026-01", test_mode=True),
        "test=1": Wanted(test_mode=True),
        "utm_source=mail": Wanted(),
    }.items():
        assert Wanted.of(QueryParams(query)) == wanted, query


def test_nobody_sees_a_ledger_of_which_they_may_read_no_dag(engine, connection):
    write(engine, [planned_by("offset")])
    for readable in (set(), {"other"}, {"offset_"}, {"OFFSET"}):
        with pytest.raises(NoAccessError):
            view(connection, Wanted(), readable)


def test_the_newest_year_stands_for_none_and_in_test_mode_the_newest_month(engine, connection):
    write(engine, [planned_by("a", month=month) for month in ("2024-12", "2026-02")])
    write(engine, [planned_by("a", month=month, test_mode=True) for month in ("2025-03", "2025-04")])
    assert view(connection, Wanted(), {"a"}).period == "2026"
    assert view(connection, Wanted(test_mode=True), {"a"}).period == "2025-04"
    assert view(connection, Wanted(year="2024"), {"a"}).by_month.keys() == {"2024-12"}


def test_the_list_of_months_is_bounded(engine, connection):
    months = [f"{1990 + number // 12}-{number % 12 + 1:02}" for number in range(MOST_MONTHS + 12)]
    write(engine, [planned_by("a", month=month) for month in months])
    assert view(connection, Wanted(), {"a"}).months == months[: -MOST_MONTHS - 1 : -1]


def test_an_entity_in_two_parts_of_the_table_has_the_same_figures_in_both(engine, connection):
    lines = [
        planned_by("a", "shop", line=number, emitted="900", quantity="3")
        for number in range(1, MOST_ROWS + 2)
    ]
    write(engine, lines)
    first, second = (view(connection, Wanted(month="2026-10", part=part), {"a"}) for part in (1, 2))
    assert [len(one.entities[0].lines) for one in (first, second)] == [MOST_ROWS, 1]
    assert first.entities[0].figures == second.entities[0].figures == first.totals
    assert (first.has_more, second.has_more) == (True, False)
