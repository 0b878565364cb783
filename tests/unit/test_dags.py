from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pendulum
import pytest
from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import AirflowFailException, ParamValidationError

from airflow_provider_carbonmark.sandbox import SandboxServer

DAGS = Path(__file__).resolve().parents[2] / "dags"
FILES = sorted(DAGS.glob("*.py"))

if airflow_version.startswith("3.1."):
    # Its own modules import names that it deprecates.
    pytestmark = pytest.mark.filterwarnings("default")

# Prints what a DAG file does while Airflow parses it, beyond importing modules.
WATCH = """
import runpy, sys
import airflow.sdk, airflow.timetables.interval, airflow_provider_carbonmark.hooks.carbonmark
import airflow_provider_carbonmark.operators.carbonmark, airflow_provider_carbonmark.sensors.carbonmark

def watch(event, arguments):
    if event.startswith("socket.") and event != "socket.__new__":
        print(event, arguments)
    if event == "open" and "/dags/data" in str(arguments[0]):
        print(event, arguments)

sys.addaudithook(watch)
runpy.run_path(sys.argv[1])
"""


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def dag_of(path: Path) -> Any:
    return getattr(load(path), path.stem)()


@pytest.fixture(scope="module")
def monthly() -> Any:
    return dag_of(DAGS / "carbonmark_monthly_offset.py")


def defaults(dag: Any, **changes: Any) -> dict[str, Any]:
    return {**dag.params.dump(), **changes}


def sample(name: str) -> str:
    return (DAGS / "data" / name).as_uri()


def read_emissions(dag: Any, interval_start: Any = None, **params: Any) -> list[dict[str, str]]:
    function = dag.get_task("read_emissions").python_callable
    return function(params=defaults(dag, **params), data_interval_start=interval_start)


def choose_listings(dag: Any, emissions: list[dict[str, str]], **params: Any) -> list[dict[str, str]]:
    return dag.get_task("choose_listings").python_callable(emissions, params=defaults(dag, **params))


def emitted(entity: str, tonnes: str) -> dict[str, str]:
    return {"entity": entity, "month": "2026-10", "emitted_tonnes": tonnes, "offset_tonnes": tonnes}


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Any:
    with SandboxServer(port=0) as server:
        connection = {"conn_type": "carbonmark", "host": server.url, "password": "cm_api_demo"}
        connection["extra"] = {"market_url": server.url}
        monkeypatch.setenv("AIRFLOW_CONN_CARBONMARK_DEFAULT", json.dumps(connection))
        yield server


def test_there_are_three_sample_dags_each_named_as_its_file() -> None:
    assert {path.stem: dag_of(path).dag_id for path in FILES} == {
        name: name
        for name in ("carbonmark_checkout_link", "carbonmark_confirm_retirement", "carbonmark_monthly_offset")
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_parsing_a_dag_reads_no_data_and_opens_no_connection(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCH, str(path)], capture_output=True, text=True, check=False, timeout=120
    )

    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dag_explains_itself_on_its_page(path: Path) -> None:
    assert dag_of(path).doc_md.startswith("\n### ")


def test_the_run_of_21_november_offsets_october(monthly: Any) -> None:
    from airflow.timetables.interval import CronDataIntervalTimetable

    assert isinstance(monthly.schedule, CronDataIntervalTimetable)
    interval = monthly.schedule.infer_manual_data_interval(run_after=pendulum.datetime(2026, 11, 21, 6))

    assert {offset["month"] for offset in read_emissions(monthly, interval.start)} == {"2026-10"}


def test_the_month_param_overrides_the_data_interval(monthly: Any) -> None:
    emissions = read_emissions(monthly, pendulum.datetime(2026, 10, 21), month="2026-09")

    assert {offset["month"] for offset in emissions} == {"2026-09"}


def test_a_run_without_month_and_data_interval_says_what_to_set(monthly: Any) -> None:
    with pytest.raises(AirflowFailException, match="set the param month"):
        read_emissions(monthly)


@pytest.mark.parametrize("month", ["2026-13", "2026-1", "October", "2026-10-01"])
def test_a_month_that_is_none_is_refused_before_the_run_starts(monthly: Any, month: str) -> None:
    with pytest.raises(ParamValidationError, match="does not match"):
        monthly.params.get_param("month").resolve(month)


@pytest.mark.parametrize(
    ("file", "columns", "month", "tonnes"),
    [
        (
            "codecarbon-emissions.csv",
            "codecarbon",
            "2024-05",
            {"aux-reward-model": "0.001", "aux-reward-model-pt": "0.001"},
        ),
        (
            "gcp-carbon-footprint.csv",
            "google_cloud",
            "2026-10",
            {"(no project)": "0.001", "checkout-prod": "1.254", "search-prod": "0.261"},
        ),
        (
            "aws-carbon-emissions.csv",
            "aws",
            "2026-10",
            {"444455556666": "0.122", "777788889999": "0.053"},
        ),
    ],
)
def test_each_sample_file_gives_tonnes_per_entity(
    monthly: Any, file: str, columns: str, month: str, tonnes: dict[str, str]
) -> None:
    emissions = read_emissions(monthly, emissions_file=sample(file), emissions_format=columns, month=month)

    assert {offset["entity"]: offset["offset_tonnes"] for offset in emissions} == tonnes


def test_an_entity_with_a_negative_total_is_skipped(monthly: Any, tmp_path: Path) -> None:
    file = tmp_path / "emissions.csv"
    file.write_text("timestamp,project_name,emissions\n2026-10-02,a,-1\n2026-10-03,b,1\n")
    emissions = read_emissions(
        monthly, emissions_file=file.as_uri(), emissions_format="codecarbon", month="2026-10"
    )

    assert [offset["entity"] for offset in emissions] == ["b"]


def test_what_one_entity_takes_of_a_listing_is_not_there_for_the_next(monthly: Any, sandbox: Any) -> None:
    # The cheapest listing holds 3.2 t: enough for either, not for both.
    purchases = choose_listings(monthly, [emitted("a", "2"), emitted("b", "2"), emitted("c", "1.2")])

    assert purchases[0]["asset_price_source_id"] != purchases[1]["asset_price_source_id"]
    assert purchases[0]["asset_price_source_id"] == purchases[2]["asset_price_source_id"]


def test_a_month_without_rows_is_not_tried_again(monthly: Any) -> None:
    with pytest.raises(AirflowFailException, match="2031-01"):
        read_emissions(monthly, month="2031-01")


def test_an_entity_that_no_listing_fits_is_named(monthly: Any, sandbox: Any) -> None:
    with pytest.raises(AirflowFailException, match="^whale: "):
        choose_listings(monthly, [emitted("a", "1"), emitted("whale", "1000000")])


def test_the_filters_of_the_run_hold_for_every_listing(monthly: Any, sandbox: Any) -> None:
    (purchase,) = choose_listings(monthly, [emitted("a", "1")], registries=["ICR"], max_price_usd=3.78)

    assert "ICR-112" in json.dumps(_listing(sandbox, purchase["asset_price_source_id"]))


def test_the_certificate_names_the_entity(monthly: Any, sandbox: Any) -> None:
    (purchase,) = choose_listings(
        monthly, [emitted("search-prod", "0.261")], beneficiary="ACME ({entity}, {month})"
    )

    assert purchase["beneficiary_name"] == "ACME (search-prod, 2026-10)"
    assert purchase["retirement_message"] == "Emissions of search-prod in 2026-10: 0.261 t CO2e"
    assert Decimal(purchase["quantity_tonnes"]) == Decimal("0.261")


class FinishedRun:
    """What the last task of a month sees of the tasks before it, by map index."""

    dag_id, run_id = "carbonmark_monthly_offset", "run"

    def __init__(self, *payments: str) -> None:
        self.payments = payments

    def xcom_pull(self, *, task_ids: str, map_indexes: int) -> dict[str, str] | None:
        assert task_ids == "purchase.retirement"
        found = {"certificate_url": "https://certificates.example/1", "transaction_hash": "0x1"}
        return found if self.payments[map_indexes] == "success" else None

    def get_task_states(
        self, *, dag_id: str, run_ids: list[str], task_ids: list[str], map_index: int
    ) -> dict[str, dict[str, str]]:
        assert (dag_id, run_ids, task_ids) == (self.dag_id, ["run"], ["purchase.payment"])
        return {"run": {f"purchase.payment_{map_index}": self.payments[map_index]}}


def list_retired(dag: Any, purchases: list[dict[str, str]], *payments: str) -> list[dict[str, Any]]:
    return dag.get_task("list_retired").python_callable(purchases, ti=FinishedRun(*payments))


PURCHASES = [emitted(entity, "1") | {"quantity_tonnes": "1"} for entity in ("a", "b")]


def test_a_month_ends_with_what_was_retired(monthly: Any) -> None:
    retired = list_retired(monthly, PURCHASES, "success", "success")

    assert [bought["entity"] for bought in retired] == ["a", "b"]
    assert retired[0]["retirement"]["certificate_url"] == "https://certificates.example/1"


def test_what_somebody_declined_to_pay_for_fails_no_month(monthly: Any) -> None:
    assert [bought["entity"] for bought in list_retired(monthly, PURCHASES, "success", "skipped")] == ["a"]


@pytest.mark.parametrize("state", ["failed", "upstream_failed"])
def test_a_month_in_which_anything_else_is_missing_fails_and_names_it(monthly: Any, state: str) -> None:
    with pytest.raises(AirflowFailException, match="Not retired for b: "):
        list_retired(monthly, PURCHASES, "success", state)


def _listing(sandbox: Any, source_id: str) -> Any:
    import httpx

    return next(
        price for price in httpx.get(f"{sandbox.url}/prices").json() if price["sourceId"] == source_id
    )
