"""
### Offset a month of emissions

Reads the month's emissions, looks into the ledger what of them is covered already, picks the cheapest listings for the rest, and makes one
link for the month that a person pays at; more where no listing holds it all. For a certificate, and a link, of each entity, put `{entity}` into
`beneficiary`. Each link waits under **Required Actions** until somebody pays or declines it there; waiting costs nothing. The buyer's browser
comes back to Airflow by itself, and the retirement is checked against what was asked for and recorded in the ledger. `bought` lists what the
month ended with, and fails if anything is missing. Nothing is bought until somebody pays, and nothing is bought twice: run it again for any
reason.

It runs on the 21st, when the figures of the month before are complete, and offsets the month in which its data
interval starts: the run of 21 November covers 21 October to 21 November and offsets October. So a backfill goes by
month without further ado; `month` overrides it. A month that was restated is topped up by the difference. What earlier months still lack, since
it was declined, failed or was too little to be paid, is bought along with it; switch `catch_up` off to leave it.

To tell people by mail (connection `smtp_default`) and in Slack (`slack_api_default`), give `purchase` notifiers, and `carbonmark_housekeeping`
the same ones, to remind:

```python
from airflow.providers.slack.notifications.slack import SlackNotifier
from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow_provider_carbonmark.operators.notices import MAIL_HTML, MAIL_SUBJECT, SLACK_TEXT

mail = SmtpNotifier(to="finance@example.com", subject=MAIL_SUBJECT, html_content=MAIL_HTML)
slack = SlackNotifier(channel="#carbon", text=SLACK_TEXT, unfurl_links=False)
purchase(plan, notifiers=[mail, slack])
```

They read, here of the sample month on the sandbox, with the pay address behind the link:

> **Pay for 1.515 t CO2e, 3 entities, 2026-10**<br>
> Cost: 12.726 USD<br>
> Beneficiary: Example Corp<br>
> Message: Emissions of 2026-10, ref. BHTFV597TK<br>
> Open the payment page<br>
> The payment page can be used until 2026-11-28 21:13 UTC; after that, the same link leads to a new one. To decline, go to Required Actions
> in Airflow.

For a text of your own: templates see `purchase` (such as `purchase.cost_usd`) and `checkout` (such as `checkout.pay_url`).
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import Param, dag
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
from airflow_provider_carbonmark.operators.ledger import CarbonmarkPlanOperator
from airflow_provider_carbonmark.planning import Limits, ListingFilter
from airflow_provider_carbonmark.task_groups import purchase

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


# As the market calls them.
CATEGORIES = [
    "Agriculture",
    "Biochar",
    "Blue Carbon",
    "Energy Efficiency",
    "Forestry",
    "Industrial Processing",
    "Other",
    "Renewable Energy",
    "Waste Disposal",
]


def chosen(description: str, **schema: Any) -> Param:
    """Return the field of a list of names, by which credits are chosen."""
    kind = {"type": "array", "items": {"type": "string"}}
    return Param([], description=description, section="Which credits", **kind, **schema)


def filters(context: Any) -> ListingFilter:
    params = context["params"]
    return ListingFilter(
        registries=params["registries"],
        vintage_from=params["vintage_from"],
        countries=params["countries"],
        excluded_countries=params["excluded_countries"],
        categories=params["categories"],
        excluded_categories=params["excluded_categories"],
        methodologies=params["methodologies"],
        excluded_methodologies=params["excluded_methodologies"],
        mechanism=None if params["mechanism"] == "any" else params["mechanism"],
        max_price_usd=usd(params["max_price_usd"]),
        supply_margin=Decimal(str(params["supply_margin"])),
    )


def limits(context: Any) -> Limits:
    params = context["params"]
    return Limits(usd(params["max_cost_usd"]), usd(params["max_run_cost_usd"]))


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
            "Example Corp",
            type="string",
            description="Named on the certificate; with {entity} in it, each entity gets one, and a link, of its own",
        ),
        "max_cost_usd": Param(100, type="number", exclusiveMinimum=0, description="For one entity"),
        "max_run_cost_usd": Param(1000, type="number", exclusiveMinimum=0, description="For all of them"),
        "max_price_usd": Param(
            None, type=["null", "number"], exclusiveMinimum=0, description="For one tonne"
        ),
        "registries": chosen("Such as VCS; empty: any"),
        "vintage_from": Param(
            None,
            type=["null", "integer"],
            minimum=1990,
            maximum=2100,
            title="Oldest vintage",
            description="A year, such as 2020",
            section="Which credits",
        ),
        "countries": chosen("As the market spells them, such as Brazil; empty: any"),
        "excluded_countries": chosen("Likewise"),
        "categories": chosen("Of the project's methodologies; empty: any", examples=CATEGORIES),
        "excluded_categories": chosen("Likewise", examples=CATEGORIES),
        "methodologies": chosen("Such as VM0042; empty: any"),
        "excluded_methodologies": chosen("Likewise"),
        "mechanism": Param(
            "any",
            type="string",
            enum=["any", "reduction", "removal"],
            description="By the file of [carbonmark] disclosure_facts",
            section="Which credits",
        ),
        "supply_margin": Param(
            1, type="number", minimum=1, description="A listing has this many times what is bought of it"
        ),
        "catch_up": Param(True, type="boolean", description="Also buy what earlier months of this DAG lack"),
        "take_over_from": Param(
            [],
            type="array",
            items={"type": "string"},
            description="DAGs, renamed or removed, whose purchases this one carries on",
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
        retirement_message="Emissions of {months}, ref. {reference}",
        filters=filters,
        limits=limits,
        catch_up="{{ params.catch_up }}",
        take_over_from="{{ params.take_over_from }}",
        preview="{{ params.preview }}",
    )

    purchase(plan, allow_test_mode="{{ params.allow_test_mode }}")


carbonmark_monthly_offset()
