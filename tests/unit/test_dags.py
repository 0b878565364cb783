from __future__ import annotations

import importlib.util
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pendulum
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, ParamValidationError

from airflow_provider_carbonmark.planning import Limits, ListingFilter

SUBSCRIPTION = "00000000-0000-0000-0000-00000000000"
DAGS = Path(__file__).resolve().parents[2] / "dags"
FILES = sorted(DAGS.glob("*.py"))

# Prints what DAG files do while Airflow parses them, beyond importing modules.
WATCH = """
import runpy, sys
import airflow.sdk, airflow.timetables.interval, airflow_provider_carbonmark.hooks.carbonmark
import airflow_provider_carbonmark.operators.carbonmark, airflow_provider_carbonmark.sensors.carbonmark

def watch(event, arguments):
    if event.startswith("socket.") and event != "socket.__new__":
        print(path, event, arguments)
    if event == "open" and "/dags/data" in str(arguments[0]):
        print(path, event, arguments)

sys.addaudithook(watch)
for path in sys.argv[1:]:
    runpy.run_path(path)
"""


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def dag_of(path: Path) -> Any:
    return getattr(load(path), path.stem)()


@pytest.fixture(scope="module")
def monthly() -> ModuleType:
    return load(DAGS / "carbonmark_monthly_offset.py")


@pytest.fixture(scope="module")
def monthly_dag(monthly: ModuleType) -> Any:
    return monthly.carbonmark_monthly_offset()


def defaults(dag: Any, **changes: Any) -> dict[str, Any]:
    return {**dag.params.dump(), **changes}


def emissions_of(module: ModuleType, interval_start: Any = None, **params: Any) -> dict[tuple[str, str], str]:
    """Return what the DAG's function finds in a run: tonnes to offset by entity and month."""
    dag = getattr(module, Path(module.__file__).stem)()
    found = module.emissions({"params": defaults(dag, **params), "data_interval_start": interval_start})
    return {(each.entity, each.month): f"{each.offset_tonnes:f}" for each in found}


def test_each_sample_dag_is_named_as_its_file_and_explains_itself_on_its_page() -> None:
    dags = {path.stem: dag_of(path) for path in FILES}
    assert all(dag.doc_md.startswith("\n### ") for dag in dags.values())
    assert {name: dag.dag_id for name, dag in dags.items()} == {
        name: name
        for name in (
            "carbonmark_checkout_link",
            "carbonmark_confirm_retirement",
            "carbonmark_esg_report",
            "carbonmark_housekeeping",
            "carbonmark_monthly_offset",
            "carbonmark_warehouse_offset",
            "carbonmark_year_offset",
        )
    }


def test_parsing_a_dag_reads_no_data_and_opens_no_connection() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *map(str, FILES)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("name", ["carbonmark_monthly_offset", "carbonmark_warehouse_offset"])
def test_the_run_of_21_november_covers_an_interval_that_starts_in_october(name: str) -> None:
    from airflow.timetables.interval import CronDataIntervalTimetable

    schedule = dag_of(DAGS / f"{name}.py").schedule
    assert isinstance(schedule, CronDataIntervalTimetable)
    interval = schedule.infer_manual_data_interval(run_after=pendulum.datetime(2026, 11, 21, 6))

    assert interval.start == pendulum.datetime(2026, 10, 21, 6)


@pytest.mark.parametrize(("params", "expected"), [({}, "2026-10"), ({"month": "2026-09"}, "2026-09")])
def test_a_run_offsets_the_month_in_which_its_data_interval_starts_unless_it_is_told_another(
    monthly: ModuleType, params: dict[str, str], expected: str
) -> None:
    found = emissions_of(monthly, pendulum.datetime(2026, 10, 21, 6), **params)

    assert {month for _, month in found} == {expected}


@pytest.mark.parametrize("name", ["carbonmark_monthly_offset", "carbonmark_warehouse_offset"])
def test_a_run_without_month_and_data_interval_says_what_to_set(name: str) -> None:
    with pytest.raises(AirflowFailException, match="set the param month"):
        emissions_of(load(DAGS / f"{name}.py"))


@pytest.mark.parametrize("month", ["2026-13", "2026-1", "October", "2026-10-01"])
def test_a_month_that_is_none_is_refused_before_the_run_starts(monthly_dag: Any, month: str) -> None:
    with pytest.raises(ParamValidationError, match="does not match"):
        monthly_dag.params.get_param("month").resolve(month)


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
            {"(no Google Cloud project)": "0.001", "checkout-prod": "1.254", "search-prod": "0.261"},
        ),
        (
            "aws-carbon-emissions.csv",
            "aws",
            "2026-10",
            {"444455556666": "0.122", "777788889999": "0.053"},
        ),
        (
            "azure-carbon-optimization.jsonl",
            "azure",
            "2026-10",
            {f"{SUBSCRIPTION}a": "0.413", f"{SUBSCRIPTION}b": "0.009"},
        ),
        ("azure-monthly-summary.jsonl", "azure_monthly_summary", "2026-10", {"(no entity)": "0.421"}),
        ("azure-export.csv", "azure_export", "2026-10", {f"{SUBSCRIPTION}a": "0.323"}),
        ("cloud-carbon-footprint.csv", "cloud_carbon_footprint", "2026-10", {"(no entity)": "0.010"}),
        (
            "ovhcloud-carbon-calculator.csv",
            "ovhcloud",
            "2026-10",
            {"(no OVHcloud server)": "0.007", "ns1.example.net": "0.028"},
        ),
        (
            "scaleway.jsonl",
            "scaleway",
            "2026-10",
            {
                "11111111-1111-1111-1111-111111111111": "0.013",
                "22222222-2222-2222-2222-222222222222": "0.001",
            },
        ),
        ("climatiq.jsonl", "climatiq", "2026-10", {"freight": "0.089", "office": "0.154"}),
    ],
)
def test_each_sample_file_gives_tonnes_per_entity(
    monthly: ModuleType, file: str, columns: str, month: str, tonnes: dict[str, str]
) -> None:
    sample = (DAGS / "data" / file).as_uri()
    found = emissions_of(monthly, emissions_file=sample, emissions_format=columns, month=month)

    assert found == {(entity, month): each for entity, each in tonnes.items()}


def test_each_format_has_a_sample_and_says_its_scope_and_method(monthly: ModuleType) -> None:
    assert len(list((DAGS / "data").iterdir())) == len(monthly.FORMATS)
    silent = {
        name
        for name, columns in monthly.FORMATS.items()
        if not (columns.scope.scopes and columns.scope.method)
    }
    assert silent == {"climatiq"}  # as the activity


def test_the_files_of_a_month_may_be_several_with_the_month_in_their_path(
    monthly: ModuleType, tmp_path: Path
) -> None:
    header, *rows = (DAGS / "data" / "gcp-carbon-footprint.csv").read_text().splitlines()
    (tmp_path / "2026-10").mkdir()
    for number, row in enumerate(rows):
        (tmp_path / "2026-10" / f"{number}.csv").write_text(f"{header}\n{row}\n")
    whole = emissions_of(monthly, month="2026-10")
    folder = f"{tmp_path.as_uri()}/{{month}}"
    for files in (folder, [f"{folder}/*.csv"]):
        assert emissions_of(monthly, month="2026-10", emissions_file=files) == whole


def test_the_params_say_which_credits_and_what_they_may_cost(monthly: ModuleType, monthly_dag: Any) -> None:
    lists = {
        **{"registries": ["ICR"], "countries": ["Brazil"], "excluded_countries": ["Chad"]},
        **{"categories": ["Biochar"], "excluded_categories": ["Other"]},
        **{"methodologies": ["VM0042"], "excluded_methodologies": ["ACM0002"]},
    }
    as_they_are = {**lists, "vintage_from": 2020, "mechanism": "removal"}
    params = defaults(monthly_dag, **as_they_are, max_price_usd=3.78, supply_margin=1.5, max_run_cost_usd=0.1)

    assert monthly.filters({"params": params}) == ListingFilter(
        **as_they_are, max_price_usd=Decimal("3.78"), supply_margin=Decimal("1.5")
    )
    assert monthly.filters({"params": defaults(monthly_dag)}) == ListingFilter(**dict.fromkeys(lists, []))
    assert monthly.limits({"params": params}) == Limits(Decimal(100), Decimal("0.1"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("carbonmark_monthly_offset", Limits(Decimal("0.1"), Decimal(7))),
        ("carbonmark_warehouse_offset", Limits(Decimal("0.1"), Decimal(7))),
        ("carbonmark_year_offset", Limits(None, Decimal(7))),
    ],
)
def test_what_is_bought_is_limited_when_it_is_planned_and_again_when_its_link_is_made(
    name: str, expected: Limits
) -> None:
    module = load(DAGS / f"{name}.py")
    dag = getattr(module, name)()
    params = {**defaults(dag), "max_cost_usd": 0.1, "max_run_cost_usd": 7}

    assert dag.get_task("plan").limits({"params": params}) == expected
    assert dag.get_task("purchase.checkout").limits is module.limits


def test_the_notifiers_of_the_explanation_are_what_a_purchase_takes(monthly: ModuleType) -> None:
    pytest.importorskip("airflow.providers.slack", reason="the environment of Airflow's image has it")
    code = monthly.__doc__.partition("```python\n")[2].partition("```")[0]
    given: list[Any] = []
    exec(code, {"plan": None, "purchase": lambda plan, notifiers: given.extend(notifiers)})

    assert [type(each).__name__ for each in given] == ["SmtpNotifier", "SlackNotifier"]


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CARBONMARK__LEDGER_PATH", str(tmp_path / "ledger.db"))


def reported(folder: Path, *events: Any, **params: Any) -> list[str]:
    """Run the report's task as on 1 December, and return of which periods it wrote reports."""
    dag = dag_of(DAGS / "carbonmark_esg_report.py")
    pages = dag.get_task("report").python_callable(
        params=defaults(dag, folder=folder.as_uri(), **params),
        dag_run=SimpleNamespace(run_after=pendulum.datetime(2026, 12, 1, 7)),
        triggering_asset_events={"asset": [SimpleNamespace(extra=extra) for extra in events]},
    )
    assert all(Path(page.removeprefix("file://")).exists() for page in pages)
    return [page.split("/")[-2] for page in pages]


@pytest.mark.usefixtures("ledger")
def test_the_report_of_1_december_is_on_october_whose_purchases_were_planned_on_21_november(
    tmp_path: Path,
) -> None:
    assert reported(tmp_path) == ["2026", "2026-10"]


@pytest.mark.usefixtures("ledger")
def test_retirements_have_the_reports_on_what_they_are_for_and_when_they_were_written(tmp_path: Path) -> None:
    events = [{"months": months} for months in (["2026-10"], ["2025-12", "2026-10"])]

    assert reported(tmp_path, *events) == ["2025", "2025-12", "2026", "2026-10", "2026-12"]
    assert reported(tmp_path, *events, period="2024") == ["2024"]


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    "extra",
    [
        None,
        {},
        {"months": "2026-10"},
        {"months": [202610]},
        {"months": ["2026-13"]},
        {"months": ["../../2026-10"]},
    ],
)
def test_an_event_that_names_no_month_is_passed_over_with_a_warning(
    tmp_path: Path, extra: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert reported(tmp_path, {"months": ["2025-03"]}, extra) == ["2025", "2025-03", "2026", "2026-12"]
    assert "Passed over an event" in caplog.text
    assert reported(tmp_path, extra) == ["2026", "2026-12"]
