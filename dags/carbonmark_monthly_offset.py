"""
### Offset a month of emissions

Reads the month's emissions, looks into the ledger what of them is covered already, picks the cheapest listings for the rest, and makes the
links that a person pays at. Each link waits under **Required Actions** until somebody pays or declines it there; waiting costs nothing. The
buyer's browser comes back to Airflow by itself, the retirement is checked against what was asked for and recorded in the
ledger, and `list_retired` lists what the month ended with. Nothing is bought until somebody pays, and nothing is bought twice: run it again for
any reason. To tell people, give `purchase` the notifiers you use.

It runs on the 21st, when the figures of the month before are complete, and offsets the month in which its data
interval starts: the run of 21 November covers 21 October to 21 November and offsets October. So a backfill goes by
month without further ado; `month` overrides it. A month that was restated is topped up by the difference.
"""

from __future__ import annotations

import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import Param, dag, task
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_carbonmark.emissions import (
    AWS,
    AZURE,
    AZURE_EXPORT,
    AZURE_MONTHLY_SUMMARY,
    CLIMATIQ,
    CLOUD_CARBON_FOOTPRINT,
    CODECARBON,
    GOOGLE_CLOUD,
    OVHCLOUD,
    SCALEWAY,
    EntityEmissions,
    emissions_of_month,
)
from airflow_provider_carbonmark.hooks.emissions import emissions_files, month_of_run
from airflow_provider_carbonmark.hooks.ledger import open_ledger
from airflow_provider_carbonmark.operators.ledger import CarbonmarkPlanOperator
from airflow_provider_carbonmark.planning import Limits, ListingFilter
from airflow_provider_carbonmark.task_groups import purchase

log = logging.getLogger(__name__)

SAMPLE = Path(__file__).parent / "data" / "gcp-carbon-footprint.csv"
FORMATS = {
    "codecarbon": CODECARBON,
    "google_cloud": GOOGLE_CLOUD,
    "aws": AWS,
    "azure": AZURE,
    "azure_monthly_summary": AZURE_MONTHLY_SUMMARY,
    "azure_export": AZURE_EXPORT,
    "cloud_carbon_footprint": CLOUD_CARBON_FOOTPRINT,
    "ovhcloud": OVHCLOUD,
    "scaleway": SCALEWAY,
    "climatiq": CLIMATIQ,
}


def emissions(context: Any) -> list[EntityEmissions]:
    """Add up the month for each entity."""
    params, month = context["params"], month_of_run(context)
    files = emissions_files(params["emissions_file"], month)
    return emissions_of_month(files, FORMATS[params["emissions_format"]], month)


def filters(context: Any) -> ListingFilter:
    params = context["params"]
    return ListingFilter(registries=params["registries"], max_price_usd=usd(params["max_price_usd"]))


def limits(context: Any) -> Limits:
    params = context["params"]
    return Limits(usd(params["max_cost_usd"]), usd(params["max_run_cost_usd"]))


def is_planned_again(failed: Any, ended: list[Any]) -> bool:
    """Tell whether a purchase failed before the plan was made again, which then planned its tonnes."""

    def for_whom(bought: Any) -> set[tuple[str, str]]:
        return {(share.entity, share.month) for share in bought.allocations}

    return failed.state == "failed" and any(
        each.planned_at > failed.failed_at and for_whom(each) == for_whom(failed) for each in ended
    )


def usd(param: float | None) -> Decimal | None:
    return None if param is None else Decimal(str(param))


@dag(
    schedule=CronDataIntervalTimetable("0 6 21 * *", timezone="UTC"),
    start_date=pendulum.datetime(2023, 10, 21, 6, tz="UTC"),
    catchup=False,
    params={
        "month": Param(None, type=["null", "string"], pattern=r"^\d{4}-(0[1-9]|1[0-2])$"),
        "emissions_file": Param(
            SAMPLE.as_uri(),
            type=["string", "array"],
            items={"type": "string"},
            description="s3://…, gs://…, abfs://… or file://…: a file, a folder, a pattern with *, or a list; {month}, {year} and "
            "{month_number} are those of the run",
        ),
        "emissions_format": Param("google_cloud", enum=[*FORMATS]),
        "beneficiary": Param(
            "Example Corp, {entity}", type="string", description="Named on the certificates"
        ),
        "max_cost_usd": Param(100, type="number", exclusiveMinimum=0, description="For one entity"),
        "max_run_cost_usd": Param(1000, type="number", exclusiveMinimum=0, description="For all of them"),
        "max_price_usd": Param(
            None, type=["null", "number"], exclusiveMinimum=0, description="For one tonne"
        ),
        "registries": Param(
            [], type="array", items={"type": "string"}, description="Such as VCS; empty: any"
        ),
        "preview": Param(False, type="boolean", description="Only say what would be bought"),
        "allow_test_mode": Param(
            False, type="boolean", description="Accept a rehearsal, which retires nothing"
        ),
    },
    default_args={"retries": 2},
    tags=["carbonmark"],
    doc_md=__doc__,
)
def carbonmark_monthly_offset():
    plan = CarbonmarkPlanOperator(
        task_id="plan",
        emissions=emissions,
        beneficiary_name="{{ params.beneficiary }}",
        retirement_message="Emissions of {entity} in {month}: {emitted_tonnes} t CO2e",
        filters=filters,
        limits=limits,
        preview="{{ params.preview }}",
    )

    @task(trigger_rule="all_done")
    def list_retired(planned: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
        """Show what was retired, and what somebody declined to pay for; fail if anything else is missing."""
        if planned is None:
            raise AirflowFailException("Nothing could be planned: see the task plan")
        with open_ledger() as ledger:
            ended = [ledger.purchase(each["purchase"]) for each in planned]
        for each in ended:
            proof = each.certificate_url or each.transaction_hash or each.reason or ""
            log.info("%s: %s t, %s  %s", each, each.quantity_tonnes, each.state, proof)
        missing = [
            str(each)
            for each in ended
            if each.state not in ("retired", "declined") and not is_planned_again(each, ended)
        ]
        if missing:
            raise AirflowFailException(
                f"Not retired: {'; '.join(sorted(missing))}. See their tasks in purchase"
            )
        return [
            each.to_json()
            | {"certificate_url": each.certificate_url, "transaction_hash": each.transaction_hash}
            for each in ended
            if each.state == "retired"
        ]

    bought = purchase(
        plan, max_cost="{{ params.max_cost_usd }}", allow_test_mode="{{ params.allow_test_mode }}"
    )
    bought >> list_retired(plan.output)


carbonmark_monthly_offset()
