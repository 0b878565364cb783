"""
### Offset a month of emissions

Reads the month's emissions, picks the cheapest listing for each entity, checks what it costs and makes the link a person
pays at. Each link waits under **Required Actions** until somebody pays or declines it there; waiting costs nothing. The buyer's
browser comes back to Airflow by itself, the retirement is checked against what was asked for, and `list_retired` lists what
the month ended with. Nothing is bought until somebody pays. To tell people, give `payment` the notifiers you use.

It runs on the 21st, when the figures of the month before are complete, and offsets the month in which its data
interval starts: the run of 21 November covers 21 October to 21 November and offsets October. So a backfill goes by
month without further ado; `month` overrides it.
"""

from __future__ import annotations

import logging
from datetime import timedelta
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
from airflow_provider_carbonmark.operators.payment import CarbonmarkAwaitPaymentOperator
from airflow_provider_carbonmark.sensors.carbonmark import CarbonmarkRetirementSensor

log = logging.getLogger(__name__)

SAMPLE = Path(__file__).parent / "data" / "gcp-carbon-footprint.csv"
FORMATS = {"codecarbon": CODECARBON, "google_cloud": GOOGLE_CLOUD, "aws": AWS}
PURCHASE = "ti.xcom_pull('choose_listings')[ti.map_index]"
ENTITY = f"{{{{ {PURCHASE}.entity }}}}"
COST = "{{ ti.xcom_pull('purchase.quote', map_indexes=ti.map_index).cost_usd }}"


@dag(
    schedule=CronDataIntervalTimetable("0 6 21 * *", timezone="UTC"),
    start_date=pendulum.datetime(2023, 10, 21, 6, tz="UTC"),
    catchup=False,
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
        "allow_test_mode": Param(
            False, type="boolean", description="Accept a rehearsal, which retires nothing"
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
        """Check the cost, make the link, wait for a person to pay, wait for the retirement; each entity goes its own way."""
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
        payment = CarbonmarkAwaitPaymentOperator(
            task_id="payment",
            map_index_template=ENTITY,
            checkout=checkout.output,
            cost_usd=COST,
            subject=f"Pay for {{{{ {PURCHASE}.quantity_tonnes }}}} t CO2e, {ENTITY}, {{{{ {PURCHASE}.month }}}}",
        )
        retirement = CarbonmarkRetirementSensor(
            task_id="retirement",
            map_index_template=ENTITY,
            payment_id=payment.output,
            checkout=checkout.output,
            allow_test_mode="{{ params.allow_test_mode }}",
            deferrable=True,
            timeout=timedelta(days=7),
        )
        quote >> checkout >> payment >> retirement

    # Not all_done_min_one_success: that rule skips the task as soon as one purchase is declined, and the run would end well.
    @task(trigger_rule="all_done")
    def list_retired(purchases: list[dict[str, str]] | None, *, ti) -> list[dict[str, Any]]:
        """Show what was retired, and what somebody declined to pay for; fail if anything else is missing."""
        if purchases is None:
            raise AirflowFailException("Nothing could be bought: see the tasks before")
        retired, missing = [], []
        for index, bought in enumerate(purchases):
            about = (bought["entity"], bought["month"], bought["quantity_tonnes"])
            retirement = ti.xcom_pull(task_ids="purchase.retirement", map_indexes=index)
            if retirement:
                retired.append(bought | {"retirement": retirement})
                proof = retirement["certificate_url"] or retirement["transaction_hash"]
                log.info("%-24s %s %12s t  %s", *about, proof)
                continue
            states = ti.get_task_states(
                dag_id=ti.dag_id, run_ids=[ti.run_id], task_ids=["purchase.payment"], map_index=index
            )
            if "skipped" in states[ti.run_id].values():
                log.info("%-24s %s %12s t  declined", *about)
            else:
                missing.append(bought["entity"])
        if missing:
            raise AirflowFailException(f"Not retired for {', '.join(missing)}: see their tasks in purchase")
        return retired

    purchases = choose_listings(read_emissions())
    purchase.expand_kwargs(purchases) >> list_retired(purchases)


carbonmark_monthly_offset()
