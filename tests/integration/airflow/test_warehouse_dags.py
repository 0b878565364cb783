"""What the sample DAGs find in a warehouse, in each kind of database."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from types import ModuleType

import pendulum
import pytest
from sqlalchemy import (
    Date,
    DateTime,
    Engine,
    NullPool,
    Numeric,
    String,
    column,
    create_engine,
    insert,
    make_url,
    table,
    text,
)

from airflow_provider_carbonmark.emissions import Constant, EmissionsColumns, EmissionsError
from airflow_provider_carbonmark.emissions.sums import Query
from airflow_provider_carbonmark.hooks.emissions import emissions_in_database
from tests.integration.airflow.model import ledger_environment
from tests.integration.conftest import LEDGER_KINDS
from tests.unit.test_dags import DAGS, emissions_of, load

DATES = pytest.mark.parametrize("period", ["DATE"], indirect=True)
pytestmark = pytest.mark.parametrize("url", LEDGER_KINDS, indirect=True)

# The edges of months, in several units.
ROWS = [
    ("2024-12-31", "a", "kg", "1000"),
    ("2025-01-01", "a", "kg", "200"),
    ("2025-01-31", "a", "t", "0.05"),
    ("2025-01-31", "b", "kg", "0.5"),
    ("2025-02-01", "a", "kg", "300"),
    ("2025-12-31", "b", "kg", "7"),
    ("2026-01-01", "b", "kg", "1000"),
]
#: How a period may be kept: its type in the database, and what a day becomes.
PERIODS = {
    "DATE": (Date, lambda day: pendulum.parse(day).date()),
    "TIMESTAMP": (DateTime, lambda day: pendulum.parse(f"{day}T23:59:59").naive()),
    "VARCHAR(7)": (String, lambda day: day[:7]),
}


@pytest.fixture(params=PERIODS)
def period(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def amount() -> str:
    return "NUMERIC"


@pytest.fixture(autouse=True)
def warehouse(url: str, monkeypatch: pytest.MonkeyPatch, period: str, amount: str) -> Iterator[Engine]:
    """A table of emissions behind an Airflow connection."""
    engine = create_engine(url, poolclass=NullPool)
    kind, of_day = PERIODS[period]
    columns = {
        "period": kind,
        "entity": String,
        "unit": String,
        "amount": Numeric if amount == "NUMERIC" else String,
    }
    rows = [
        {
            "period": of_day(day),
            "entity": who,
            "unit": unit,
            "amount": Decimal(mass) if amount == "NUMERIC" else mass,
        }
        for day, who, unit, mass in ROWS
    ]
    with engine.begin() as connection:
        # MariaDB: a TIMESTAMP is given the time at which its row is written, and NUMERIC has no places behind the point.
        types = f"period {period.replace('TIMESTAMP', 'TIMESTAMP NULL')}, entity VARCHAR(9), unit VARCHAR(9)"
        connection.execute(
            text(f"CREATE TABLE emissions ({types}, amount {amount.replace('NUMERIC', 'NUMERIC(20, 6)')})")
        )
        described = table("emissions", *(column(name, kind) for name, kind in columns.items()))
        connection.execute(insert(described), rows)
    address = make_url(url)
    connection_json = (
        json.dumps({"conn_type": "sqlite", "host": address.database})
        if address.get_backend_name() == "sqlite"
        else ledger_environment(url)["AIRFLOW_CONN_BOOKS"]
    )
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", connection_json)
    yield engine
    # Nobody holds the table: each of them let go of the database.
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE emissions"))


@pytest.fixture(scope="module")
def month_dag() -> ModuleType:
    return load(DAGS / "carbonmark_warehouse_offset.py")


@pytest.fixture(scope="module")
def year_dag() -> ModuleType:
    return load(DAGS / "carbonmark_year_offset.py")


def test_a_month_is_added_up_by_entity_whatever_the_units_and_however_periods_are_kept(
    month_dag: ModuleType,
) -> None:
    assert emissions_of(month_dag, pendulum.datetime(2025, 1, 21, 6)) == {
        ("a", "2025-01"): "0.250",
        ("b", "2025-01"): "0.001",
    }
    assert emissions_of(month_dag, month="2025-12") == {("b", "2025-12"): "0.007"}


@DATES
def test_a_year_is_added_up_by_entity_and_month(year_dag: ModuleType) -> None:
    assert emissions_of(year_dag, year=2025) == {
        ("a", "2025-01"): "0.250",
        ("b", "2025-01"): "0.001",
        ("a", "2025-02"): "0.300",
        ("b", "2025-12"): "0.007",
    }


@DATES
def test_no_rows_are_no_offset_of_zero_but_an_error_that_says_where_and_what_to_do(
    month_dag: ModuleType, year_dag: ModuleType
) -> None:
    said = "query to connection 'warehouse' gives no rows for {}, and .*: check the connection"
    with pytest.raises(EmissionsError, match=said.format("2025-03")):
        emissions_of(month_dag, month="2025-03")
    with pytest.raises(EmissionsError, match=said.format("2023-01 to 2023-12")):
        emissions_of(year_dag, year=2023)


@DATES
@pytest.mark.parametrize("amount", ["VARCHAR(20)"])
class TestAmountsAsText:
    @pytest.mark.parametrize("faulty", ["1,234.5", "1.2.3", "nan", "-", "1e"])
    def test_what_is_no_number_is_found_and_shown(
        self, month_dag: ModuleType, warehouse: Engine, faulty: str
    ) -> None:
        with warehouse.begin() as connection:
            connection.execute(
                text("UPDATE emissions SET amount = :faulty WHERE amount = '200'"), {"faulty": faulty}
            )
        with pytest.raises(
            EmissionsError, match=f"for 2025-01 gives 1 rows whose 'amount' is no number, such as '{faulty}'"
        ):
            emissions_of(month_dag, month="2025-01")
        assert emissions_of(month_dag, month="2025-02") == {("a", "2025-02"): "0.300"}

    @pytest.mark.parametrize("blank", ["NULL", "' '"])
    def test_blanks_are_found_unless_somebody_said_what_they_mean(
        self, month_dag: ModuleType, warehouse: Engine, blank: str
    ) -> None:
        def found(choice: str) -> dict[str, str]:
            columns = replace(month_dag.COLUMNS, blank=choice)
            emissions = emissions_in_database("warehouse", month_dag.EMISSIONS, columns, ["2025-01"])
            return {one.entity: f"{one.offset_tonnes:f}" for one in emissions}

        with warehouse.begin() as connection:
            connection.execute(text(f"UPDATE emissions SET amount = {blank} WHERE amount IN ('200', '0.5')"))
        with pytest.raises(EmissionsError, match='1 blank amounts.*blank="zero".*blank="skip_row"'):
            found("refuse")
        assert found("zero") == {"a": "0.050", "b": "0"}
        assert found("skip_row") == {"a": "0.050"}


def added_up(query: str) -> dict[str, Decimal]:
    columns = EmissionsColumns(period="month", entity="entity", amount="amount", unit_column="unit")
    found = emissions_in_database("warehouse", query, columns, ["2025-01"])
    return {one.entity: one.offset_tonnes for one in found}


@DATES
@pytest.mark.parametrize("amount", ["FLOAT", "DOUBLE PRECISION", "VARCHAR(9)"])
def test_floats_and_texts_add_up_without_a_kilogram_of_noise(warehouse: Engine) -> None:
    with warehouse.begin() as connection:
        connection.execute(text("UPDATE emissions SET amount = '0.1', unit = 't'"))
        connection.execute(text("UPDATE emissions SET amount = '0.2' WHERE entity = 'b'"))
    found = added_up("SELECT entity, unit, amount FROM emissions -- all of it")
    assert found == {"a": Decimal("0.4"), "b": Decimal("0.6")}


@DATES
def test_names_that_a_database_takes_for_the_same_are_not() -> None:
    rows = "SELECT 'web' AS entity, 'MT' AS unit, 1 AS amount"
    rows += "".join(
        f" UNION ALL SELECT {row}" for row in ("'Web', 't', 2", "'wéb', 't', 4", "'web ', 't', 8")
    )
    assert added_up(rows) == {"web": 9, "Web": 2, "wéb": 4}
    with pytest.raises(EmissionsError, match="column 'unit' is 'mt'"):
        added_up(f"{rows} UNION ALL SELECT 'web', 'mt', 16")


@DATES
def test_a_query_may_bind_dates_add_up_by_itself_and_name_columns_as_it_likes() -> None:
    query = """
        SELECT entity AS who_name, SUM(amount) AS amount, 'v2' AS version FROM emissions
        WHERE period >= :first_day AND period < :next_month AND unit = 'kg' GROUP BY entity;
    """
    columns = EmissionsColumns(
        period="month", entity="who.name", amount="amount", unit="kg", version_column="version"
    )
    (a, b) = emissions_in_database("warehouse", query, columns, ["2025-01"])
    assert [(one.entity, one.version, f"{one.emitted_tonnes.normalize():f}") for one in (a, b)] == [
        ("a", "v2", "0.2"),
        ("b", "v2", "0.0005"),
    ]
    digest = hashlib.sha256(query.encode()).hexdigest()
    assert a.source == f"Table, by a query to connection 'warehouse' (SHA-256 {digest})"
    assert a.query == b.query == Query("warehouse", query)
    whole = replace(columns, entity=Constant("Example Corp"), version_column=None)
    (only,) = emissions_in_database("warehouse", query, whole, ["2025-01", "2025-03"])
    assert f"{only.emitted_tonnes.normalize():f}" == "0.2005"
    with pytest.raises(EmissionsError, match="for 2025-01: has no column 'mass'"):
        emissions_in_database("warehouse", query, replace(columns, amount="mass"), ["2025-01"])
    with pytest.raises(EmissionsError, match="what a running total was before"):
        emissions_in_database("warehouse", query, replace(columns, running_total_of="run"), ["2025-01"])
    with pytest.raises(EmissionsError, match="month is '2025-13': write YYYY-MM"):
        emissions_in_database("warehouse", query, columns, ["2025-13"])
