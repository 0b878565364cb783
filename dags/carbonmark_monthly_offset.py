"""
### Offset a month of emissions

Reads the month's emissions, picks the cheapest listing for each entity, checks what it costs and makes the link a person
pays at: the button **Open checkout** on the pages of the tasks `purchase.checkout`, and the table in the log of
`list_links`. Nothing is bought until somebody pays.

It runs on the 21st, when the figures of the month before are complete, and offsets the month in which its data
interval starts: the run of 21 November covers 21 October to 21 November and offsets October. So a backfill goes by
month without further ado; `month` overrides it.

Buyers land where `[carbonmark] success_url` says. What serves that page starts `carbonmark_confirm_retirement`.
"""

from __future__ import annotations

import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import ObjectStoragePath, Param, dag, task, task_group
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook
from airflow_provider_carbonmark.offsets.emissions import (
    AWS,
    CODECARBON,
    GOOGLE_CLOUD,
    EmissionsError,
    emissions_of_month,
)
from airflow_provider_carbonmark.offsets.purchase import (
    ListingFilter,
    NoListingError,
    cheapest_listing,
    order_quantity,
)
from airflow_provider_carbonmark.operators.carbonmark import (
    CarbonmarkCreateCheckoutOperator,
    CarbonmarkCreateQuoteOperator,
)

log = logging.getLogger(__name__)

SAMPLE = Path(__file__).parent / "data" / "gcp-carbon-footprint.csv"
FORMATS = {"codecarbon": CODECARBON, "google_cloud": GOOGLE_CLOUD, "aws": AWS}
ENTITY = "{{ ti.xcom_pull('choose_listings')[ti.map_index].entity }}"
COST = "{{ ti.xcom_pull('purchase.quote', map_indexes=ti.map_index).cost_usd }}"


@dag(
    schedule=CronDataIntervalTimetable("0 6 21 * *", timezone="UTC"),
    start_date=pendulum.datetime(2023, 10, 21, 6, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    params={
        "month": Param(None, type=["null", "string"], pattern=r"^\d{4}-(0[1-9]|1[0-2])$"),
        "emissions_file": Param(
            SAMPLE.as_uri(), type="string", description="s3://…, gs://…, abfs://… or file://…"
        ),
        "emissions_format": Param("google_cloud", enum=[*FORMATS]),
        "beneficiary": Param(
            "Example Corp, {entity}", type="string", description="Named on the certificates"
        ),
        "max_cost_usd": Param(100, type="number", exclusiveMinimum=0, description="For one entity"),
        "max_price_usd": Param(
            None, type=["null", "number"], exclusiveMinimum=0, description="For one tonne"
        ),
        "registries": Param(
            [], type="array", items={"type": "string"}, description="Such as VCS; empty: any"
        ),
    },
    default_args={"retries": 2},
    tags=["carbonmark"],
    doc_md=__doc__,
)
def carbonmark_monthly_offset():
    @task
    def read_emissions(*, params: dict[str, Any], data_interval_start=None) -> list[dict[str, str]]:
        """Add up the month for each entity; leave out those with nothing to offset."""
        if not (params["month"] or data_interval_start):
            raise AirflowFailException(
                "This run has no data interval to take the month from: set the param month"
            )
        month = params["month"] or data_interval_start.format("YYYY-MM")
        source = ObjectStoragePath(params["emissions_file"])
        try:
            emissions = emissions_of_month(source, FORMATS[params["emissions_format"]], month)
        except EmissionsError as error:
            raise AirflowFailException(str(error)) from error
        return [
            {
                "entity": found.entity,
                "month": month,
                "emitted_tonnes": f"{found.emitted_tonnes:f}",
                "offset_tonnes": f"{found.offset_tonnes:f}",
            }
            for found in emissions
            if found.offset_tonnes
        ]

    @task
    def choose_listings(emissions: list[dict[str, str]], *, params: dict[str, Any]) -> list[dict[str, str]]:
        """Pick the cheapest listing for each entity; what one takes is no longer there for the next."""
        listings = CarbonmarkHook().list_prices()
        price = params["max_price_usd"]
        filters = ListingFilter(
            registries=params["registries"], max_price_usd=Decimal(str(price)) if price else None
        )
        purchases = []
        for offset in emissions:
            tonnes = Decimal(offset["offset_tonnes"])
            try:
                listing = cheapest_listing(listings, tonnes, filters, now=pendulum.now("UTC"))
            except NoListingError as error:
                raise AirflowFailException(f"{offset['entity']}: {error}") from error
            quantity = order_quantity(listing, tonnes)
            left = listing.model_copy(update={"liquid_supply": listing.liquid_supply - quantity})
            listings[listings.index(listing)] = left
            purchases.append(
                offset
                | {
                    "asset_price_source_id": listing.source_id,
                    "quantity_tonnes": f"{quantity:f}",
                    "beneficiary_name": params["beneficiary"].format(**offset),
                    "retirement_message": "Emissions of {entity} in {month}: {emitted_tonnes} t CO2e".format(
                        **offset
                    ),
                }
            )
        return purchases

    @task_group
    def purchase(asset_price_source_id, quantity_tonnes, beneficiary_name, retirement_message):
        """Check the cost, then make the link; each entity goes its own way."""
        quote = CarbonmarkCreateQuoteOperator(
            task_id="quote",
            map_index_template=ENTITY,
            asset_price_source_id=asset_price_source_id,
            quantity_tonnes=quantity_tonnes,
            max_cost="{{ params.max_cost_usd }}",
        )
        checkout = CarbonmarkCreateCheckoutOperator(
            task_id="checkout",
            map_index_template=f"{ENTITY}: {{{{ task.quantity_tonnes }}}} t for {COST} USD",
            asset_price_source_id=asset_price_source_id,
            quantity_tonnes=quantity_tonnes,
            beneficiary_name=beneficiary_name,
            retirement_message=retirement_message,
        )
        quote >> checkout

    @task(trigger_rule="all_done_min_one_success")
    def list_links(purchases: list[dict[str, str]], *, ti) -> list[dict[str, Any]]:
        """Show a person what to pay for; fail if an entity has no link, once the others are shown."""
        links, missing = [], []
        for index, bought in enumerate(purchases):
            quote = ti.xcom_pull(task_ids="purchase.quote", map_indexes=index)
            checkout = ti.xcom_pull(task_ids="purchase.checkout", map_indexes=index)
            if checkout is None:
                missing.append(bought["entity"])
                continue
            links.append(bought | {"cost_usd": quote["cost_usd"], "checkout": checkout})
            log.info(
                "%-24s %s %12s t %12s USD  %s",
                *(bought["entity"], bought["month"], bought["quantity_tonnes"]),
                *(quote["cost_usd"], checkout["checkout_url"]),
            )
        if missing:
            raise AirflowFailException(f"No link for {', '.join(missing)}: see their tasks in purchase")
        return links

    purchases = choose_listings(read_emissions())
    purchase.expand_kwargs(purchases) >> list_links(purchases)


carbonmark_monthly_offset()
