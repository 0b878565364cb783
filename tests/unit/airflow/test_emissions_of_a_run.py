"""Which month a run is about, and which files hold its emissions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pendulum
import pytest
import time_machine
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import (
    DAG,
    Asset,
    AssetOrTimeSchedule,
    CronTriggerTimetable,
    MultipleCronTriggerTimetable,
)
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_carbonmark.emissions import EmissionsError
from airflow_provider_carbonmark.hooks.emissions import emissions_files, month_of_run

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
MONTHLY, OCTOBER = "0 0 1 * *", "2026-10"
SEVERAL = MultipleCronTriggerTimetable(MONTHLY, "0 0 15 * *", timezone=BERLIN)
WITH_ASSETS = AssetOrTimeSchedule(timetable=SEVERAL, assets=[Asset("meters")])
START = "2026-01-01T00:00:00"


@pytest.fixture(autouse=True)
def clock():
    with time_machine.travel("2026-11-27T12:00:00+00:00", tick=False):
        yield


def run(
    dag: DAG | None = None, start: Any = None, end: Any = None, month: str | None = None
) -> dict[str, Any]:
    """What a task knows of its run."""
    return {"dag": dag, "params": {"month": month}, "data_interval_start": start, "data_interval_end": end}


def utc(text: str) -> pendulum.DateTime:
    return pendulum.parse(text)


@pytest.mark.parametrize(
    ("schedule", "zone", "start", "end", "month"),
    [
        # What Airflow gives runs of these schedules: interval's ends in UTC.
        (CronDataIntervalTimetable(MONTHLY, BERLIN), "UTC", "2026-09-30T22:00Z", "2026-10-31T23:00Z", OCTOBER),
        (CronDataIntervalTimetable(MONTHLY, NEW_YORK), "UTC", "2026-10-01T04:00Z", "2026-11-01T04:00Z", OCTOBER),
        (CronDataIntervalTimetable("0 6 21 * *", "UTC"), BERLIN, "2026-10-21T06:00Z", "2026-11-21T06:00Z", OCTOBER),
        # The interval is empty where a timetable triggers, and where the schedule is written as text.
        (MONTHLY, BERLIN, "2026-10-31T23:00Z", "2026-10-31T23:00Z", OCTOBER),
        ("0 6 21 * *", "UTC", "2026-01-21T06:00Z", "2026-01-21T06:00Z", "2025-12"),
        (CronTriggerTimetable(MONTHLY, timezone=BERLIN), "UTC", "2026-10-31T23:00Z", "2026-10-31T23:00Z", OCTOBER),
        (SEVERAL, "UTC", "2026-10-31T23:00Z", "2026-10-31T23:00Z", OCTOBER),
        (WITH_ASSETS, "UTC", "2026-10-31T23:00Z", "2026-10-31T23:00Z", OCTOBER),
        (None, BERLIN, "2026-10-31T23:30Z", "2026-10-31T23:30Z", OCTOBER),
    ],
)  # fmt: skip
def test_a_run_is_about_the_last_full_month_in_the_time_zone_of_its_schedule(
    schedule, zone, start, end, month
):
    dag = DAG("a", schedule=schedule, start_date=pendulum.parse(START, tz=zone))
    assert month_of_run(run(dag, utc(start), utc(end))) == month


def test_the_interval_that_airflow_gives_a_monthly_schedule_in_berlin_is_the_month_there():
    timetable = CronDataIntervalTimetable(MONTHLY, BERLIN)
    interval = timetable.infer_manual_data_interval(run_after=utc("2026-11-01T00:00:00Z"))
    dag = DAG("a", schedule=timetable, start_date=pendulum.parse(START, tz=BERLIN))
    assert month_of_run(run(dag, interval.start, interval.end)) == "2026-10"


@pytest.mark.parametrize(
    "context",
    [
        run(month="2026-11"),
        run(start=utc("2026-11-20T00:00Z"), end=utc("2026-11-21T00:00Z")),
    ],
)
def test_a_month_that_is_not_over_is_refused_unless_somebody_wants_it(context):
    with pytest.raises(AirflowFailException, match="is not over yet.*allow_unfinished=True"):
        month_of_run(context)
    assert month_of_run(context, allow_unfinished=True) == "2026-11"


def test_a_month_is_over_when_it_is_over_where_the_dag_is():
    october = run(DAG("a", schedule=MONTHLY, start_date=pendulum.parse(START, tz=BERLIN)), month=OCTOBER)
    with time_machine.travel("2026-10-31T22:59:59+00:00", tick=False):
        with pytest.raises(AirflowFailException, match="2026-10 is not over yet"):
            month_of_run(october)
    with time_machine.travel("2026-10-31T23:00:00+00:00", tick=False):
        assert month_of_run(october) == OCTOBER


@pytest.mark.parametrize("month", ["2026-13", "../2026", 202610])
def test_a_month_that_is_none_is_refused(month):
    with pytest.raises(AirflowFailException, match="write YYYY-MM"):
        month_of_run(run(month=month))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in (
        "2026-10/b.csv",
        "2026-10/a.csv",
        "2026-10/_SUCCESS",
        "2026-09/a.csv",
        "2026/10/x.csv",
        "other/y.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


def found(files: Path, *where: str) -> list[str]:
    patterns = [f"{files.as_uri()}/{each}" for each in where]
    paths = emissions_files(patterns[0] if len(patterns) == 1 else patterns, "2026-10")
    return [str(path).removeprefix(f"{files.as_uri()}/") for path in paths]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (["{month}/a.csv"], ["2026-10/a.csv"]),
        (["{year}/{month_number}/x.csv"], ["2026/10/x.csv"]),
        (["{month}"], ["2026-10/a.csv", "2026-10/b.csv"]),
        (["*/a.csv"], ["2026-09/a.csv", "2026-10/a.csv"]),
        (["{year}-*/b*"], ["2026-10/b.csv"]),
        (["{month}/b.csv", "{month}/*.csv"], ["2026-10/b.csv", "2026-10/a.csv"]),
        (["{month}/missing.csv"], ["2026-10/missing.csv"]),
    ],
)
def test_files_are_found_by_month_folder_pattern_and_list(files, where, expected):
    assert found(files, *where) == expected


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("{day}/a.csv", "there is no {day}; write {month}"),
        ("none-*/a.csv", "there is no such file"),
        ("", "has folders in it, whose files would be left out"),
    ],
)
def test_files_that_are_not_plainly_there_are_refused(files, where, says):
    with pytest.raises(EmissionsError, match=says):
        found(files, where)


def test_a_path_that_airflow_does_not_know_is_refused():
    with pytest.raises(EmissionsError, match="nope://x/y: is no path that this Airflow knows"):
        emissions_files("nope://x/y", "2026-10")


@pytest.mark.parametrize("where", ["2026-10/a.csv", "2026-10", "2026-10/*.csv", "2026-10/../2026-10/a.csv"])
def test_below_the_roots_of_the_deployment_files_are_read(files, monkeypatch, where):
    monkeypatch.setenv(
        "AIRFLOW__CARBONMARK__EMISSIONS_ROOTS", f"s3://exports/carbon, {(files / '2026-10').as_uri()}"
    )
    assert found(files, where)


@pytest.mark.parametrize(
    "where",
    [
        "/etc/passwd",
        "{root}/../other/y.txt",
        "{root}/link",
        "{root}/l*",
        "{root}x/y",
        "{root}/../*/y.txt",
        "s3://exports/carbonara/x",
        "s3://exports/carbon/../x",
        "s3://conn@exports/carbon/x",
        "gs://exports/carbon/x",
    ],
)
def test_outside_of_the_roots_of_the_deployment_nothing_is_read(files, monkeypatch, where):
    root = files / "2026-10"
    monkeypatch.setenv("AIRFLOW__CARBONMARK__EMISSIONS_ROOTS", f"s3://exports/carbon, {root.as_uri()}")
    os.symlink(files / "other" / "y.txt", root / "link")
    with pytest.raises(
        EmissionsError, match=r"outside of the places that \[carbonmark\] emissions_roots allows|is no path"
    ):
        emissions_files(where.replace("{root}", root.as_uri()), "2026-10")
