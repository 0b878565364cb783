"""
### What was emitted, what was retired for it, where is the proof

Writes a report for people (`index.html`), for the books (`report.csv`) and for programs (`report.json`) below `folder`, one folder for a month and
one for its year. Runs after retirements were recorded, for their months, and on the 1st, for the month before; `period` asks for another.
The figures are those of the ledger; rehearsals are shown apart and never count.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import ObjectStoragePath, Param, dag, task
from airflow.timetables.assets import AssetOrTimeSchedule
from airflow.timetables.trigger import CronTriggerTimetable

from airflow_provider_carbonmark.hooks.ledger import open_ledger
from airflow_provider_carbonmark.offsets.report import make_report
from airflow_provider_carbonmark.operators.ledger import CARBONMARK_RETIREMENTS

log = logging.getLogger(__name__)

FOLDER = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser().absolute() / "carbonmark-reports"


@dag(
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("0 7 1 * *", timezone="UTC"), assets=[CARBONMARK_RETIREMENTS]
    ),
    start_date=pendulum.datetime(2023, 11, 1, 7, tz="UTC"),
    catchup=False,
    params={
        "period": Param(
            None,
            type=["null", "string"],
            pattern=r"^\d{4}(-(0[1-9]|1[0-2]))?$",
            description="A month, 2026-10, or a year, 2026",
        ),
        "folder": Param(FOLDER.as_uri(), type="string", description="s3://…, gs://…, abfs://… or file://…"),
    },
    default_args={"retries": 2},
    tags=["carbonmark"],
    doc_md=__doc__,
)
def carbonmark_esg_report():
    @task
    def report(*, params: dict[str, Any], dag_run=None, triggering_asset_events=None) -> list[str]:
        """Write the reports; return where the pages are."""
        months = {
            event.extra["month"] for events in (triggering_asset_events or {}).values() for event in events
        }
        months = months or {pendulum.instance(dag_run.run_after).subtract(months=1).format("YYYY-MM")}
        periods = (
            [params["period"]] if params["period"] else sorted({*months, *(month[:4] for month in months)})
        )
        pages = []
        for period in periods:
            with open_ledger() as ledger:
                scope = {"year": int(period)} if len(period) == 4 else {"month": period}
                made = make_report(ledger.lines(**scope), period)
            *_, page = made.write(ObjectStoragePath(params["folder"]) / period)
            log.info(
                "%s: %s t retired of %s t emitted: %s",
                period,
                made.totals.retired_tonnes,
                made.totals.emitted_tonnes,
                page,
            )
            pages.append(str(page))
        return pages

    report()


carbonmark_esg_report()
