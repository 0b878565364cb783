"""Emissions from a warehouse: a month, and a year at once; and credits that need more."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.buyer import pay

if TYPE_CHECKING:
    from tests.e2e.stand import Stand

pytestmark = pytest.mark.e2e

WAREHOUSE_OFFSET = "carbonmark_warehouse_offset"
YEAR_OFFSET = "carbonmark_year_offset"
PURO_OFFSET = "puro_offset"


@pytest.fixture(scope="module")
def warehouse(stand: Stand, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A table of emissions behind an Airflow connection."""
    file = tmp_path_factory.mktemp("warehouse") / "warehouse.db"
    rows = [
        ("2025-02-10", "stored-a", "kg", 10),
        ("2025-02-20", "stored-a", "kg", 5.5),
        ("2025-02-28", "stored-b", "t", 0.02),
        ("2025-11-30", "stored-a", "kg", 7),
    ]
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE emissions (period DATE, entity TEXT, unit TEXT, amount NUMERIC)")
        connection.executemany("INSERT INTO emissions VALUES (?, ?, ?, ?)", rows)
        connection.commit()
    stand.airflow.api.post(
        "connections", {"connection_id": "warehouse", "conn_type": "sqlite", "host": str(file)}
    )
    return "warehouse"


def start(stand: Stand, dag_id: str, **conf: Any) -> tuple[str, list[dict[str, Any]]]:
    """Start a run and return it with the lines that it carries on."""
    run_id = stand.airflow.api.trigger(dag_id, conf | {"allow_test_mode": True})
    stand.wait_for_links(run_id, dag_id)
    return run_id, stand.airflow.api.xcom(dag_id, run_id, "plan")


def pay_all(stand: Stand, dag_id: str, run_id: str, lines: list[dict[str, Any]]) -> None:
    for index in range(len(lines)):
        pay(stand.airflow.api.xcom(dag_id, run_id, "purchase.checkout", map_index=index)["checkout_url"])
    stand.expect_success(dag_id, run_id)


def test_a_month_of_the_warehouse_then_its_whole_year_buys_each_tonne_once(
    stand: Stand, warehouse: str
) -> None:
    month, lines = start(stand, WAREHOUSE_OFFSET, month="2025-02", warehouse_conn_id=warehouse)
    # 15.5 kg and 20 kg, rounded up together.
    assert [(line["for_whom"], line["quantity_tonnes"]) for line in lines] == [
        ("2 entities, 2025-02", "0.036")
    ]
    pay_all(stand, WAREHOUSE_OFFSET, month, lines)

    year, lines = start(stand, YEAR_OFFSET, year=2025, warehouse_conn_id=warehouse)
    assert [(line["for_whom"], line["quantity_tonnes"]) for line in lines] == [("stored-a, 2025-11", "0.007")]
    pay_all(stand, YEAR_OFFSET, year, lines)
    _, lines = start(stand, YEAR_OFFSET, year=2025, warehouse_conn_id=warehouse)
    assert lines == []


def test_puro_s_credits_are_bought_with_the_metadata_that_they_need(stand: Stand) -> None:
    emissions = [
        {"entity": f"puro-{number}", "month": f"2025-0{number}", "emitted_tonnes": "0.2"} for number in (1, 2)
    ]
    run_id, lines = start(stand, PURO_OFFSET, emissions=emissions, country="SE")
    pay_all(stand, PURO_OFFSET, run_id, lines)

    made = stand.sandbox.control("GET", "state")["checkouts"]
    ordered = [checkout for checkout in made if checkout["metadata"]["beneficiary_name"].startswith("puro-")]
    assert {
        checkout["metadata"]["beneficiary_name"]: (
            checkout["quantity_tonnes"],
            *checkout["metadata"]["consumption_metadata"].values(),
        )
        for checkout in ordered
    } == {
        "puro-1": (1, "SE", "1735689600", "1738367999"),
        "puro-2": (1, "SE", "1738368000", "1740787199"),
    }
