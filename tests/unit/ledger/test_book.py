"""The ledger's file, its version, and what it hands out; what needs two databases is in tests/integration/ledger."""

from __future__ import annotations

import json
import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from sqlalchemy import NullPool, create_engine

from airflow_provider_carbonmark.ledger import Ledger, LedgerError
from airflow_provider_carbonmark.ledger.schema import (
    AMOUNT_STEP,
    HandledElsewhereError,
    PurchaseLine,
    Run,
    purchases,
    rounded_up,
)
from airflow_provider_carbonmark.ledger.values import Coverage, Plan, PlannedLine

RUN = Run("offset", "scheduled__2026-11-21")
NOW = datetime(2026, 11, 23, 6, tzinfo=timezone(timedelta(hours=2)))
LINE = PlannedLine(
    entity="web",
    month="2026-10",
    emitted_tonnes=Decimal("12.3446"),
    quantity_tonnes=Decimal("12.345"),
    asset_price_source_id="0xabc-2020",
    project_id="VCS-191",
    registry="VCS",
    vintage=2020,
    unit_price_usd=Decimal("2.50"),
    cost_usd=Decimal("30.8625"),
    beneficiary_name="Example Corp",
    retirement_message="Emissions of October",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    yield Ledger(engine)
    engine.dispose()


def plan(ledger: Ledger, now: datetime = NOW) -> PurchaseLine:
    def make(coverage: Coverage) -> Plan:
        return Plan((LINE,) if not coverage.covered else ())

    (made,) = ledger.plan(
        make, run=RUN, months=["2026-10"], test_mode=False, is_over=lambda run: True, now=now
    )
    return made


def test_only_a_write_makes_the_file_and_its_directories(tmp_path: Path) -> None:
    path = tmp_path / "new" / "place" / "ledger.db"
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    ledger = Ledger(engine)
    about = {"run": RUN, "months": ["2026-10"], "test_mode": False, "is_over": lambda run: True}
    assert ledger.preview(lambda coverage: Plan((LINE,)), **about).lines == (LINE,)
    assert ledger.lines() == []
    with pytest.raises(LedgerError, match="no line 1"):
        ledger.line(1)
    assert list(tmp_path.iterdir()) == []
    assert plan(ledger).id == 1
    assert path.exists()
    engine.dispose()


def execute(path: Path, statement: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        with connection:
            return connection.execute(statement).fetchall()
    finally:
        connection.close()


def test_a_line_is_handed_on_as_plain_json_without_floats(ledger: Ledger) -> None:
    handed_on = plan(ledger).to_json()
    assert json.loads(json.dumps(handed_on)) == handed_on
    assert handed_on == {
        "id": 1,
        "entity": "web",
        "month": "2026-10",
        "line": 1,
        "state": "planned",
        "test_mode": False,
        "emitted_tonnes": "12.3446",
        "quantity_tonnes": "12.345",
        "asset_price_source_id": "0xabc-2020",
        "project_id": "VCS-191",
        "registry": "VCS",
        "vintage": 2020,
        "unit_price_usd": "2.5",
        "cost_usd": "30.8625",
        "beneficiary_name": "Example Corp",
        "retirement_message": "Emissions of October",
        "checkout_url": None,
        "payment_id": None,
    }


def test_times_are_given_back_in_utc(ledger: Ledger) -> None:
    planned_at = plan(ledger).planned_at
    assert planned_at == NOW
    assert planned_at.utcoffset() == timedelta(0)


def test_a_time_without_a_zone_is_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="2026-11-23 06:00:00, without a zone"):
        plan(ledger, NOW.replace(tzinfo=None))
    assert ledger.lines() == []


def test_a_line_is_named_in_messages_by_all_that_tells_it_from_others(ledger: Ledger) -> None:
    made = plan(ledger)
    assert str(made) == "line 1 (web, 2026-10, no. 1)"


def test_the_file_lets_readers_go_on_while_somebody_writes(ledger: Ledger, path: Path) -> None:
    plan(ledger)
    assert execute(path, "PRAGMA journal_mode") == [("wal",)]


def test_numbers_are_whole_in_sqlite(ledger: Ledger, path: Path) -> None:
    plan(ledger)
    query = "SELECT quantity_tonnes, typeof(quantity_tonnes), typeof(cost_usd) FROM carbonmark_purchases"
    assert execute(path, query) == [(12_345_000_000, "integer", "integer")]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE carbonmark_ledger_version SET version = 2",
        "UPDATE carbonmark_ledger_version SET version = 0",
        "DELETE FROM carbonmark_ledger_version",
    ],
)
def test_a_ledger_of_another_version_is_neither_read_nor_written(
    ledger: Ledger, path: Path, change: str
) -> None:
    plan(ledger)
    execute(path, change)
    before = execute(path, "SELECT * FROM carbonmark_purchases")
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    for act in (
        lambda opened: opened.lines(),
        lambda opened: opened.line(1),
        plan,
        lambda opened: opened.failed(1, "no", now=NOW, run=RUN),
    ):
        with pytest.raises(
            LedgerError, match=r"carbonmark_ledger_version says (2|0|nothing) .* knows 1 only"
        ):
            act(Ledger(engine))
    assert execute(path, "SELECT * FROM carbonmark_purchases") == before


def test_a_database_that_takes_a_key_twice_is_refused_and_nothing_is_written(
    ledger: Ledger, path: Path
) -> None:
    execute(path, "CREATE TABLE carbonmark_ledger_version (only_row INTEGER, version INTEGER)")
    purchases.create(create_engine(f"sqlite:///{path}", poolclass=NullPool))
    with pytest.raises(
        LedgerError, match=r"database \(sqlite\) took the key of table carbonmark_ledger_version twice"
    ):
        plan(ledger)
    assert execute(path, "SELECT * FROM carbonmark_ledger_version") == []
    assert ledger.lines() == []


def test_errors_go_from_process_to_process(ledger: Ledger) -> None:
    made = plan(ledger)
    with pytest.raises(HandledElsewhereError) as raised:
        ledger.declined(made.id, Run("offset", "another"), "no", now=NOW)
    copy = pickle.loads(pickle.dumps(raised.value))
    assert type(copy) is HandledElsewhereError
    assert str(copy) == str(raised.value)
    assert isinstance(copy, LedgerError)


@given(st.decimals("-8999999998", "8999999998", allow_nan=False, places=25))
def test_emissions_are_rounded_up_by_less_than_a_step_and_only_once(tonnes: Decimal) -> None:
    rounded = rounded_up(tonnes)
    assert 0 <= rounded - tonnes < AMOUNT_STEP
    assert rounded_up(rounded) == rounded


@pytest.mark.parametrize("tonnes", ["9E9", "-9E9", "NaN", "Infinity", "1E+400"])
def test_emissions_that_no_ledger_can_hold_are_refused(tonnes: str) -> None:
    with pytest.raises(LedgerError, match="the ledger holds numbers below 9000000000"):
        rounded_up(Decimal(tonnes))


def test_the_ledger_imports_neither_airflow_nor_http() -> None:
    code = "import sys, airflow_provider_carbonmark.ledger.book; print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert not {"airflow", "httpx", "pydantic", "aiohttp"} & set(loaded)
