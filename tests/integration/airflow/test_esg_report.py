"""The sample DAG of the report, from a purchase in the sandbox to the files."""

from __future__ import annotations

import csv
import hashlib
import json
from types import SimpleNamespace

import pendulum
import pytest

from tests.integration.airflow.parts import sqlite_only
from tests.unit.reporting.sample import FACTS
from tests.unit.test_dags import DAGS, dag_of, defaults

pytestmark = sqlite_only


def make_report(folder, period):
    dag = dag_of(DAGS / "carbonmark_esg_report.py")
    (page,) = dag.get_task("report").python_callable(
        params=defaults(dag, folder=folder.as_uri(), period=period),
        dag_run=SimpleNamespace(run_after=pendulum.now("UTC")),
    )
    return page


@pytest.mark.parametrize("is_known", [True, False])
def test_what_waits_is_paid_at_its_pay_address_or_where_airflow_s_is_not_known_at_its_page(
    dag_run, tmp_path, monkeypatch, is_known
):
    dag_run.plan()
    checkout = dag_run.link()
    if not is_known:
        monkeypatch.delenv("AIRFLOW__API__BASE_URL")
    make_report(tmp_path, "2026-10")
    pages = "".join(each.read_text() for each in (tmp_path / "2026-10").glob("*.html"))
    assert [checkout[name] in pages for name in ("pay_url", "checkout_url")] == [is_known, not is_known]


def test_what_was_retired_is_reported_with_its_project_its_serial_numbers_and_its_certificate_s_copy(
    retire, ledger, tmp_path, monkeypatch
):
    monkeypatch.setenv("AIRFLOW__CARBONMARK__DISCLOSURE_FACTS", str(FACTS))
    (number,) = retire("web")
    period = f"{ledger.purchase(number).retired_at:%Y}"
    assert make_report(tmp_path, period) == (tmp_path / period / "index.html").as_uri()
    with (tmp_path / period / "credits.csv").open(newline="") as file:
        (credit,) = csv.DictReader(file)
    (project,) = ledger.projects([credit["project_id"]])
    assert (credit["project_name"], credit["country"]) == (project.name, project.country)
    assert credit["mechanism"]
    assert (credit["cancelled_in_period_tonnes"], credit["share_percent"]) == ("0.5", "100.0000")
    assert "SPECIMEN" in credit["serial_numbers"]
    copy = (tmp_path / period / credit["certificate_file"]).read_bytes()
    assert credit["certificate_sha256"] == hashlib.sha256(copy).hexdigest()
    files = json.loads((tmp_path / period / "index.json").read_text())["files"]
    assert {"name": credit["certificate_file"], "sha256": credit["certificate_sha256"]} in files
