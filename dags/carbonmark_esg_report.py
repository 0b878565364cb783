"""
### What was emitted, what was retired for it, where is the proof

Writes a report below `folder`, one folder for a month and one for its year: `index.html` for you, `public.html` for everybody, `credits.csv` and
`report.csv` for the books, `report.json` for programs, and `index.json` with what proves that none of them was changed. Copies of the certificates are beside the folders. The
reports have what was retired
(cancelled) in the period and for its emissions, by credit, filled into what companies have to disclose.
Runs after retirements were recorded, for the months that they are for and the one that they were in; `period` asks for another. And on the 1st, for the month before the
last: on 1 December for October, whose purchases were planned on 21 November. So a month that was declined or left unpaid is reported too. With it come the
months of all that was retired since that month began: certificates and serial numbers may be told late. One run at a time, as the reports are of one ledger.
The figures are those of the ledger; rehearsals are shown apart and never count. What the market doesn't tell of credits, and nobody of your company,
is in the file that `[carbonmark] disclosure_facts` names.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterable
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.sdk import ObjectStoragePath, Param, dag, task
from airflow.timetables.assets import AssetOrTimeSchedule
from airflow.timetables.trigger import CronTriggerTimetable

from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook
from airflow_provider_carbonmark.hooks.facts.disclosure import disclosure_facts
from airflow_provider_carbonmark.hooks.facts.retirements import fetch_certificates
from airflow_provider_carbonmark.hooks.ledger import open_ledger
from airflow_provider_carbonmark.hooks.return_url import pay_url
from airflow_provider_carbonmark.operators.ledger import CARBONMARK_RETIREMENTS
from airflow_provider_carbonmark.reporting import make_report, read_records

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger import Ledger

log = logging.getLogger(__name__)

MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
FOLDER = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser().absolute() / "carbonmark-reports"


def months_of(events: Iterable[Any]) -> set[str]:
    """Return the months of what was retired. Anybody who may can make an event in Airflow, and may forget its months."""
    found: set[str] = set()
    for event in events:
        months = (event.extra or {}).get("months")
        if not isinstance(months, list) or not all(
            isinstance(month, str) and MONTH.fullmatch(month) for month in months
        ):
            log.warning("Passed over an event of carbonmark_retirements whose months are %.40r", months)
            continue
        found.update(months)
    return found


def months_due(run_after: datetime) -> set[str]:
    """Return the month that was planned on the 21st of the month before, and those that what was retired since it began is for and was in."""
    since = pendulum.instance(run_after).start_of("month").subtract(months=2)
    planned = since.format("YYYY-MM")
    with open_ledger() as ledger:
        retired = ledger.cancelled(since, run_after, (planned, planned))
    return {planned}.union(*({f"{each.cancelled_at:%Y-%m}", *each.for_months} for each in retired))


def certificates(ledger: Ledger, folder: ObjectStoragePath, purchases: Collection[int]) -> dict[int, str]:
    """Store copies of certificates, once for all reports; return where each is from a report's folder."""
    stored = fetch_certificates(ledger, CarbonmarkHook(), purchases, folder)
    return {purchase: f"../{place}" for purchase, place in stored.items()}


@dag(
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("0 7 1 * *", timezone="UTC"), assets=[CARBONMARK_RETIREMENTS]
    ),
    start_date=pendulum.datetime(2023, 11, 1, 7, tz="UTC"),
    catchup=False,
    # Of two at once on the same period, the page of one could stand beside the checksums of the other.
    max_active_runs=1,
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
        if params["period"]:
            periods = {params["period"]}
        else:
            # What was retired belongs to the months that it is for, and to the month in which it was.
            events = [*chain.from_iterable((triggering_asset_events or {}).values())]
            retired = {*months_of(events), f"{dag_run.run_after:%Y-%m}"}
            months = retired if events else months_due(dag_run.run_after)
            periods = {*months, *(month[:4] for month in months)}
        facts, folder = disclosure_facts(), ObjectStoragePath(params["folder"])
        pages = []
        for period in sorted(periods):
            with open_ledger() as ledger:
                copies = partial(certificates, ledger, folder)
                records = read_records(ledger, period, facts=facts, pay_url=pay_url, certificates=copies)
            made = make_report(records)
            *_, page = made.write(folder / period)
            log.info(
                "%s: %s t retired for %s t emitted, and %s t retired in the period: %s",
                period,
                made.totals.retired_tonnes,
                made.totals.emitted_tonnes,
                made.cancelled.in_period_tonnes,
                page,
            )
            pages.append(str(page))
        return pages

    report()


carbonmark_esg_report()
