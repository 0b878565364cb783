"""The ledger's file, its version and key, and what it hands out: what needs no other database than SQLite."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from datetime import timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from airflow_provider_carbonmark.ledger import Ledger, LedgerError
from airflow_provider_carbonmark.ledger.names import HandledElsewhereError
from airflow_provider_carbonmark.ledger.purchase import reference_of, with_reference
from airflow_provider_carbonmark.ledger.tables.columns import AMOUNT_STEP, rounded_up
from airflow_provider_carbonmark.ledger.tables.database import Database
from airflow_provider_carbonmark.ledger.tables.schema import metadata
from airflow_provider_carbonmark.ledger.tables.versions import LATEST
from tests.integration.ledger.parts import (
    FIRST,
    NOW,
    SECOND,
    Buyer,
    buying,
    checkout_task,
    line,
    order,
    plan,
    preview,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from airflow_provider_carbonmark.ledger.purchase import Purchase

TWO_HOURS_AHEAD = NOW.astimezone(timezone(timedelta(hours=2)))


@pytest.fixture
def url(new_database: Callable[[str], str]) -> str:
    return new_database("sqlite")


@pytest.fixture
def planned(ledger: Ledger) -> Purchase:
    (made,) = plan(ledger, buying(line(base_unit_price_usd=Decimal("2.10"))))
    return made


def test_only_a_write_makes_the_file_and_its_directories(
    engines: Callable[[str], Engine], tmp_path: Path
) -> None:
    path = tmp_path / "new" / "place" / "ledger.db"
    ledger = Ledger(engines(f"sqlite:///{path}"))
    assert preview(ledger, buying(line())).purchases == (line(),)
    assert ledger.lines() == []
    assert list(tmp_path.iterdir()) == []
    plan(ledger, buying(line()))
    assert path.exists()


def execute(engine: Engine, statement: str) -> list[Any]:
    with engine.begin() as connection:
        found = connection.exec_driver_sql(statement)
        return list(found) if found.returns_rows else []


def test_a_purchase_is_handed_on_as_plain_json_without_floats(ledger: Ledger, planned: Purchase) -> None:
    handed_on = planned.to_json()
    assert json.loads(json.dumps(handed_on)) == handed_on
    bought = {
        "ledger": ledger.id,
        "state": "planned",
        "test_mode": False,
        "quantity_tonnes": "12.345",
        "asset_price_source_id": "0xabc-2020",
        "beneficiary_name": "Example Corp",
        "retirement_message": "Emissions of October",
        "payment_id": None,
    }
    assert handed_on == bought | {
        "purchase": planned.id,
        "for_whom": "web, 2026-10",
        "entity": "web",
        "entities": 1,
        "months": ["2026-10"],
        "project_id": "VCS-191",
        "registry": "VCS",
        "vintage": 2020,
        "unit_price_usd": "2.5",
        "base_unit_price_usd": "2.1",
        "cost_usd": "30.8625",
    }
    priced = ("unit_price_usd", "base_unit_price_usd", "cost_usd")
    unknown = dict.fromkeys(("project_id", "registry", "vintage", *priced))
    without_a_plan = order(ledger, checkout_task())
    nobody = {"for_whom": "12.345 t for Example Corp", "entity": None, "entities": 0, "months": []}
    assert without_a_plan.to_json() == bought | unknown | nobody | {"purchase": without_a_plan.id}


def test_the_key_is_made_with_the_tables_and_is_everybody_s_and_in_no_representation(
    ledger: Ledger, engine: Engine, planned: Purchase
) -> None:
    key = ledger.signing_key()
    assert len(key) == 32
    assert Ledger(engine).signing_key() == key
    identity = Database(engine, "").identity()
    assert identity.signing_key == key
    for shown in (repr(identity), repr(ledger), repr(vars(ledger)), repr(planned)):
        assert key.hex() not in shown
        assert repr(key) not in shown


def test_times_are_given_back_in_utc_and_one_without_a_zone_is_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="2026-11-23 06:00:00, without a zone"):
        plan(ledger, buying(line()), now=NOW.replace(tzinfo=None))
    assert ledger.lines() == []
    (made,) = plan(ledger, buying(line()), now=TWO_HOURS_AHEAD)
    assert (made.planned_at, made.planned_at.utcoffset()) == (NOW, timedelta(0))


def test_a_purchase_is_named_in_messages_by_all_that_tells_it_from_others(
    ledger: Ledger, planned: Purchase
) -> None:
    other = order(ledger, checkout_task())
    assert str(planned) == f"purchase {planned.id} (web, 2026-10, no. 1)"
    assert str(other) == f"purchase {other.id} (12.345 t for Example Corp)"


def test_the_file_lets_readers_go_on_while_somebody_writes(engine: Engine, planned: Purchase) -> None:
    assert execute(engine, "PRAGMA journal_mode") == [("wal",)]


def test_numbers_are_whole_in_sqlite(engine: Engine, planned: Purchase) -> None:
    query = "SELECT quantity_tonnes, typeof(quantity_tonnes), typeof(cost_usd) FROM carbonmark_purchases"
    assert execute(engine, query) == [(12_345_000_000, "integer", "integer")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            f"UPDATE carbonmark_ledger_version SET version = {LATEST + 1}",
            f"says {LATEST + 1} where .* knows up to {LATEST}: install the version",
        ),
        ("UPDATE carbonmark_ledger_version SET version = 0", f"says 0 where .* knows up to {LATEST}"),
        ("DELETE FROM carbonmark_ledger_version", "is empty and carbonmark_purchases is not"),
    ],
)
def test_a_ledger_of_another_version_is_neither_read_nor_written(
    engine: Engine, planned: Purchase, change: str, message: str
) -> None:
    execute(engine, change)
    tables = [*metadata.tables, "sqlite_master"]
    before = [execute(engine, f"SELECT * FROM {table}") for table in tables]
    for act in (
        lambda opened: opened.lines(),
        lambda opened: opened.purchase(planned.id),
        lambda opened: opened.signing_key(),
        lambda opened: plan(opened, Buyer({"web": "20"})),
        lambda opened: opened.failed(planned.id, "no", now=NOW, run=FIRST),
    ):
        with pytest.raises(LedgerError, match=f"carbonmark_ledger_version {message}"):
            act(Ledger(engine))
    assert [execute(engine, f"SELECT * FROM {table}") for table in tables] == before


def test_a_database_that_takes_a_key_twice_is_refused_and_nothing_is_written(
    ledger: Ledger, engine: Engine
) -> None:
    columns = "only_row INTEGER, version INTEGER, ledger TEXT, signing_key TEXT"
    execute(engine, f"CREATE TABLE carbonmark_ledger_version ({columns})")
    with pytest.raises(
        LedgerError, match=r"database \(sqlite\) took the key of table carbonmark_ledger_version twice"
    ):
        plan(ledger, buying(line()))
    assert execute(engine, "SELECT * FROM carbonmark_ledger_version") == []
    assert ledger.lines() == []


def test_errors_go_from_process_to_process(ledger: Ledger, planned: Purchase) -> None:
    with pytest.raises(HandledElsewhereError) as raised:
        ledger.declined(planned.id, SECOND, "no", now=NOW)
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


@given(st.integers(1, 10**15 - 1), st.integers(1, 10**15 - 1))
def test_no_two_purchases_share_a_reference(one: int, other: int) -> None:
    assert re.fullmatch("[0-9A-HJKMNP-TV-Z]{10}", reference_of(one))
    assert (reference_of(one) == reference_of(other)) is (one == other)


def test_a_reference_stands_where_the_author_wants_it() -> None:
    assert (
        with_reference("Emissions of {months}, ref. {reference}", 7)
        == "Emissions of {months}, ref. 0000000007"
    )
