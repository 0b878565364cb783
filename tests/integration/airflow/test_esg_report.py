"""The sample DAG of the report, from a purchase in the sandbox to the files."""

from __future__ import annotations

import csv
import hashlib
import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pendulum
import pytest
import time_machine

from tests.integration.airflow.model import stated
from tests.integration.airflow.parts import sqlite_only
from tests.unit.reporting.sample import FACTS
from tests.unit.test_dags import DAGS, dag_of, defaults

pytestmark = sqlite_only


@pytest.fixture
def report(tmp_path):
    """Return a function that runs the report's task, and returns of which periods it wrote reports."""

    def report(now=None, **params):
        dag = dag_of(DAGS / "carbonmark_esg_report.py")
        assert dag.max_active_runs == 1
        pages = dag.get_task("report").python_callable(
            params=defaults(dag, folder=tmp_path.as_uri(), **params),
            dag_run=SimpleNamespace(run_after=now or pendulum.now("UTC")),
        )
        return [page.split("/")[-2] for page in pages]

    return report


def credits(folder):
    with (folder / "credits.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_was_retired_is_reported_with_its_project_its_serial_numbers_and_its_certificate_s_copy(
    retire, report, ledger, tmp_path, monkeypatch
):
    monkeypatch.setenv("AIRFLOW__CARBONMARK__DISCLOSURE_FACTS", str(FACTS))
    (number,) = retire("web")
    period = f"{ledger.purchase(number).retired_at:%Y}"
    assert report(period=period) == [period]
    (credit,) = credits(tmp_path / period)
    (project,) = ledger.projects([credit["project_id"]])
    assert (credit["project_name"], credit["country"]) == (project.name, project.country)
    assert credit["mechanism"]
    assert (credit["cancelled_in_period_tonnes"], credit["share_percent"]) == ("0.5", "100.0000")
    assert "SPECIMEN" in credit["serial_numbers"]
    copy = (tmp_path / period / credit["certificate_file"]).read_bytes()
    assert credit["certificate_sha256"] == hashlib.sha256(copy).hexdigest()
    files = json.loads((tmp_path / period / "index.json").read_text())["files"]
    assert {"name": credit["certificate_file"], "sha256": credit["certificate_sha256"]} in files


def test_the_report_of_the_1st_has_the_late_certificate_of_what_was_paid_late(
    dag_run, buyer, sandbox, report, tmp_path
):
    sandbox.state.change_switches(certificate_seconds=3600)
    with time_machine.travel(datetime(2027, 3, 30, 9, tzinfo=UTC)):
        dag_run.plan([stated("0.5", month="2025-12")])
        buyer.buy(dag_run)
        assert report(period="2025-12") == ["2025-12"]
        assert [credit["certificate_file"] for credit in credits(tmp_path / "2025-12")] == [""]
    again = ["2025", "2025-12", "2027"]
    for month, periods in {4: [*again, "2027-02", "2027-03"], 5: [*again, "2027-03"]}.items():
        with time_machine.travel(datetime(2027, month, 1, 7, tzinfo=UTC)):
            assert report() == periods
    assert all(credit["certificate_file"] for credit in credits(tmp_path / "2025-12"))
    assert report(pendulum.datetime(2027, 6, 1, 7)) == ["2027", "2027-04"]


@pytest.mark.parametrize("is_known", [True, False])
def test_what_waits_is_paid_at_its_pay_address_or_where_airflow_s_is_not_known_at_its_page(
    dag_run, report, tmp_path, monkeypatch, is_known
):
    dag_run.plan()
    checkout = dag_run.link()
    if not is_known:
        monkeypatch.delenv("AIRFLOW__API__BASE_URL")
    report(period="2026-10")
    pages = "".join(each.read_text() for each in (tmp_path / "2026-10").glob("*.html"))
    assert [checkout[name] in pages for name in ("pay_url", "checkout_url")] == [is_known, not is_known]
