"""What the sample DAGs find in a warehouse, in each kind of database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import ModuleType

import pendulum
import pytest
from sqlalchemy import Date, NullPool, Numeric, String, column, create_engine, insert, make_url, table, text

from airflow_provider_carbonmark.emissions import EmissionsError
from tests.integration.airflow.model import ledger_environment
from tests.unit.test_dags import DAGS, emissions_of, load

COLUMNS = {"period": Date, "entity": String, "unit": String, "amount": Numeric}
# The edges of months, in several units.
ROWS = [
    ("2025-12-31", "a", "kg", 1000),
    ("2026-01-01", "a", "kg", 200),
    ("2026-01-31", "a", "t", 0.05),
    ("2026-01-31", "b", "kg", 0.5),
    ("2026-02-01", "a", "kg", 300),
    ("2026-12-31", "b", "kg", 7),
    ("2027-01-01", "b", "kg", 1000),
]


@pytest.fixture(autouse=True)
def warehouse(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A table of emissions behind an Airflow connection."""
    engine = create_engine(url, poolclass=NullPool)
    rows = [dict(zip(COLUMNS, (pendulum.parse(day).date(), *rest), strict=True)) for day, *rest in ROWS]
    with engine.begin() as connection:
        connection.execute(
            text("CREATE TABLE emissions (period DATE, entity VARCHAR(9), unit VARCHAR(9), amount NUMERIC)")
        )
        columns = (column(name, kind) for name, kind in COLUMNS.items())
        connection.execute(insert(table("emissions", *columns)), rows)
    address = make_url(url)
    connection_json = (
        json.dumps({"conn_type": "sqlite", "host": address.database})
        if address.get_backend_name() == "sqlite"
        else ledger_environment(url)["AIRFLOW_CONN_BOOKS"]
    )
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", connection_json)
    yield
    # Nobody holds the table: each of them let go of the database.
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE emissions"))


@pytest.fixture(scope="module")
def month_dag() -> ModuleType:
    return load(DAGS / "carbonmark_warehouse_offset.py")


@pytest.fixture(scope="module")
def year_dag() -> ModuleType:
    return load(DAGS / "carbonmark_year_offset.py")


def test_a_month_is_added_up_by_entity_whatever_the_units(month_dag: ModuleType) -> None:
    assert emissions_of(month_dag, pendulum.datetime(2026, 1, 21, 6)) == {
        ("a", "2026-01"): "0.250",
        ("b", "2026-01"): "0.001",
    }
    assert emissions_of(month_dag, month="2026-12") == {("b", "2026-12"): "0.007"}


def test_a_year_is_added_up_by_entity_and_month(year_dag: ModuleType) -> None:
    assert emissions_of(year_dag, year=2026) == {
        ("a", "2026-01"): "0.250",
        ("b", "2026-01"): "0.001",
        ("a", "2026-02"): "0.300",
        ("b", "2026-12"): "0.007",
    }


def test_no_rows_are_no_offset_of_zero_but_an_error_that_says_where_and_what_to_do(
    month_dag: ModuleType, year_dag: ModuleType
) -> None:
    said = "query to connection 'warehouse' gives no rows for {}, and .*: check the connection"
    with pytest.raises(EmissionsError, match=said.format("2026-03")):
        emissions_of(month_dag, month="2026-03")
    with pytest.raises(EmissionsError, match=said.format("2024-01 to 2024-12")):
        emissions_of(year_dag, year=2024)
