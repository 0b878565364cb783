"""``airflow carbonmark …``, by the real program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text

from airflow_provider_carbonmark.ledger import Ledger
from airflow_provider_carbonmark.ledger.names import Run, Task
from airflow_provider_carbonmark.ledger.purchase import Order
from airflow_provider_carbonmark.ledger.tables.versions import LATEST
from airflow_provider_carbonmark.ledger.values import Origin, Part, Plan
from tests.integration.ledger.parts import NOW, line, link, plan

Airflow = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def airflow(tmp_path: Path, file: Path) -> Airflow:
    """Return a function that runs a command of Airflow's, which knows a ledger's file."""
    told = {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CARBONMARK__LEDGER_PATH": str(file), "COLUMNS": "200"}

    def airflow(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "airflow", "carbonmark", *map(str, words)]
        return subprocess.run(
            command, env=os.environ | told, capture_output=True, text=True, check=False, timeout=100
        )

    return airflow


@pytest.fixture
def linked(file: Path) -> str:
    """The link of a purchase in the ledger."""
    ledger = Ledger(create_engine(f"sqlite:///{file}", poolclass=NullPool))
    origins = {("web", "2026-10"): Origin("AWS", "v2", (Part("carbon", "3", "", Decimal("12.345")),))}
    made = link(ledger, *plan(ledger, lambda coverage: Plan((line(),), origins=origins)))
    assert made.link is not None
    assert made.link.url is not None
    return made.link.url


def test_the_ledger_is_shown_exported_checked_and_reported_on(
    airflow: Airflow, file: Path, linked: str, tmp_path: Path
) -> None:
    shown = airflow("ledger", "show", "--state", "link_made", "--output", "json")
    (row,) = json.loads(shown.stdout)
    assert (row["entity"], row["state"], row["quantity_tonnes"]) == ("web", "link_made", "12.345")
    assert linked not in shown.stdout
    exported = tmp_path / "ledger.jsonl"
    airflow("ledger", "export", exported)
    rows = [json.loads(each) for each in exported.read_text().splitlines()]
    (purchase,) = (each for each in rows if each["table"] == "carbonmark_purchases")
    assert (purchase["quantity_tonnes"], purchase["state"]) == ("12.345", "link_made")
    assert any(each.get("url") == linked for each in rows)
    (origin,) = (each["origin"] for each in rows if each["table"] == "carbonmark_origins")
    assert (origin["source"], origin["parts"][0]["tonnes"]) == ("AWS", "12.345")
    assert "signing_key" not in exported.read_text()

    alone = Ledger(create_engine(f"sqlite:///{file}", poolclass=NullPool)).order(
        Task(Run("sales", "manual"), "checkout", -1),
        Order("listing-1", Decimal(1), "B", "M"),
        test_mode=True,
        now=NOW,
    )
    (row,) = json.loads(airflow("ledger", "show", "--test-mode", "--output", "json").stdout)
    assert (row["purchase"], row["entity"], row["state"]) == (str(alone.id), "", "planned")

    made = airflow("report", "2026-10", tmp_path / "reports")
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines()[-1].endswith("reports/index.html")
    assert (tmp_path / "reports" / "index.html").exists()

    assert "holds of this one" in airflow("ledger", "check").stdout
    with create_engine(f"sqlite:///{file}", poolclass=NullPool).begin() as connection:
        connection.execute(text("UPDATE carbonmark_links SET current_of = NULL"))
    broken = airflow("ledger", "check")
    assert broken.returncode == 1
    assert f"purchase {purchase['id']}: what waits to be paid has a current link" in broken.stdout


def test_what_is_not_there_yet_is_made_by_an_upgrade_only(airflow: Airflow, file: Path) -> None:
    assert "No data found" in airflow("ledger", "show").stdout
    assert not file.exists()
    assert f"are of version {LATEST}" in airflow("ledger", "upgrade").stdout
    assert file.exists()


def test_what_is_typed_wrongly_is_said(airflow: Airflow) -> None:
    refused = airflow("ledger", "show", "--state", "bought")
    assert refused.returncode == 1
    assert "--state is 'bought', which is no state. Say one of planned, link_made" in refused.stderr
    nowhere = airflow("contract", "/nowhere.json")
    assert nowhere.returncode == 2
    assert "/nowhere.json" in nowhere.stderr
