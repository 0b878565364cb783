"""What OpenLineage is told: in a run by Airflow's plugin for it, into a file; and how files and tables are named."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from airflow.sdk import Asset

from airflow_provider_carbonmark.emissions import EntityEmissions
from airflow_provider_carbonmark.emissions.sums import Query
from airflow_provider_carbonmark.emissions.tables import FileRead
from airflow_provider_carbonmark.hooks.return_url import pay_url
from tests.integration.airflow.model import make_operator
from tests.integration.conftest import KEY

pytest.importorskip("airflow.providers.openlineage", reason="the environment of Airflow's image has it")
LEDGER = {"carbonmark_purchases", "carbonmark_allocations"}


def names(datasets):
    return {(each.namespace, each.name) for each in datasets}


def lineage(*emissions, is_preview=False, **declared):
    """Return what is told of a plan for these."""
    from airflow_provider_carbonmark.operators.lineage import lineage_of_plan

    task = make_operator("plan", {"emissions": [], **declared})
    return lineage_of_plan(task, emissions, is_preview=is_preview)


def emitted(**origin):
    return EntityEmissions("web", "2026-10", Decimal(1), Decimal(1), **origin)


def test_a_run_tells_what_was_planned_from_what_and_what_was_retired(
    database, ledger, url, tmp_path, monkeypatch
):
    emissions, told = tmp_path / "october.csv", tmp_path / "told.jsonl"
    emissions.write_text("month,team,kg\n2026-10,web,1234\n")
    transport = {"type": "file", "log_file_path": str(told), "append": True}
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(transport))
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(Path(__file__).with_name("dags")))
    command = ["airflow", "dags", "test", "bought_at_once", "-c", json.dumps({"file": str(emissions)})]
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in told.read_text().splitlines()]
    completed = {each["job"]["name"]: each for each in events if each["eventType"] == "COMPLETE"}
    plan, record = completed["bought_at_once.plan"], completed["bought_at_once.purchase.record"]

    def tables(event, which):
        return {(each["namespace"], each["name"]) for each in event[which]}

    assert tables(plan, "inputs") == {("file", str(emissions))}
    books = url.replace(":////", ":///")
    assert tables(plan, "outputs") == {(books, table) for table in LEDGER}
    assert tables(record, "inputs") == tables(record, "outputs") == {(books, "carbonmark_purchases")}
    (line,) = ledger.lines()
    facet = record["run"]["facets"]["carbonmark_retirement"]
    assert facet.pop("_producer").startswith("pkg:pypi/airflow-provider-carbonmark@")
    assert facet.pop("_schemaURL").startswith("https://openlineage.io/spec/")
    assert datetime.fromisoformat(facet.pop("retiredAt")) == line.retired_at.astimezone(UTC)
    assert facet == {
        "ledger": ledger.id,
        "purchase": line.purchase,
        "testMode": False,
        "quantityTonnes": "1.234",
        "projectId": line.project_id,
        "registry": line.registry,
        "vintage": line.vintage,
        "beneficiaryName": "Example Corp",
        "retirementMessage": "Emissions of 2026-10",
        "certificateUrl": line.certificate_url,
        "transactionHash": line.transaction_hash,
        "retiredAtTold": line.retired_at_told,
        "months": ["2026-10"],
        "entities": 1,
    }
    assert line.certificate_url
    for secret in (line.checkout_url, pay_url(ledger, line.purchase), KEY):
        assert secret not in told.read_text()


@pytest.mark.usefixtures("ledger_file")
@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/data/a b#1.csv", ("file", "/data/a b#1.csv")),
        ("file:///data/october.csv", ("file", "/data/october.csv")),
        ("s3://aws_default@bucket/2026/10.csv", ("s3://bucket", "2026/10.csv")),
        ("s3a://bucket/10?.csv", ("s3://bucket", "10?.csv")),
        ("gcs://bucket/10.csv", ("gs://bucket", "10.csv")),
        ("https://ada:secret@example.com/10.csv?sig=secret", ("https://example.com", "10.csv")),
        ("emissions file", None),
    ],
)
def test_a_file_is_named_as_others_name_it_and_without_a_secret(path, named):
    files = (FileRead(path, 1, "00"),)
    assert names(lineage(emitted(files=files), emitted(files=files)).inputs) == ({named} if named else set())


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_tables_in_postgresql_are_named_by_database_and_schema(ledger, monkeypatch):
    told = lineage(emitted(query=Query("books", "SELECT * FROM emissions JOIN other.teams USING (team)")))
    assert {name for _, name in names(told.inputs)} == {
        "airflow.public.emissions",
        "airflow.other.teams",
    }
    assert {name.rpartition(".")[2] for _, name in names(told.outputs)} == LEDGER
    assert {namespace.partition(":")[0] for namespace, _ in names([*told.inputs, *told.outputs])} == {
        "postgres"
    }


def test_tables_in_mysql_and_sqlite_are_named_without_a_schema_nor_a_secret(monkeypatch, tmp_path):
    warehouse = {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(warehouse))
    books = {"conn_type": "mysql", "host": "db.example.com", "schema": "carbon", "password": "secret"}
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", json.dumps(books))
    monkeypatch.setenv("AIRFLOW__CARBONMARK__LEDGER_CONN_ID", "books")
    told = lineage(emitted(query=Query("warehouse", "SELECT team, kg FROM emissions WHERE month = :month")))
    assert names(told.inputs) == {(f"sqlite://{tmp_path}/warehouse.db", "emissions")}
    assert names(told.outputs) == {("mysql://db.example.com:3306", f"carbon.{table}") for table in LEDGER}


@pytest.mark.usefixtures("ledger_file")
def test_what_the_author_declares_is_told_too_and_a_preview_writes_nothing():
    asset = Asset("s3://bucket/teams.csv")
    told = lineage(inlets=[asset], outlets=[asset])
    assert names(told.inputs) == {("s3://bucket", "teams.csv")}
    assert ("s3://bucket", "teams.csv") in names(told.outputs)
    assert lineage(outlets=[asset], is_preview=True).outputs == []


def test_a_plan_that_failed_tells_nothing():
    assert make_operator("plan", {"emissions": []}).get_openlineage_facets_on_complete(None) is None
