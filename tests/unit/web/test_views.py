"""What is asked for, and which rows somebody gets for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, StaticPool, create_engine
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
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_what_an_address_has_besides_is_passed_over():
    assert Wanted.of(QueryParams("year=2026&utm_source=mail")) == Wanted(year="2026")


def test_nobody_sees_a_ledger_of_which_they_may_read_no_dag(connection):
    write(connection.engine, [planned_by("offset")])
    for readable in (set(), {"other"}, {"offset_"}, {"OFFSET"}):
        with pytest.raises(NoAccessError):
            view(connection, Wanted(), readable)


def test_the_list_of_months_is_bounded(connection):
    months = [f"{1990 + number // 12}-{number % 12 + 1:02}" for number in range(MOST_MONTHS + 12)]
    write(connection.engine, [planned_by("a", month=month) for month in months])
    assert view(connection, Wanted(), {"a"}).months == months[: -MOST_MONTHS - 1 : -1]


def test_an_entity_in_two_parts_of_the_table_has_the_same_figures_in_both(connection):
    lines = [
        planned_by("a", "shop", line=number, emitted="900", quantity="3")
        for number in range(1, MOST_ROWS + 2)
    ]
    write(connection.engine, lines)
    first, second = (view(connection, Wanted(month="2026-10", part=part), {"a"}) for part in (1, 2))
    assert [len(one.entities[0].lines) for one in (first, second)] == [MOST_ROWS, 1]
    assert first.entities[0].figures == second.entities[0].figures == first.totals
    assert (first.has_more, second.has_more) == (True, False)
