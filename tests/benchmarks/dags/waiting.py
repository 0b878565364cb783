"""What waits in the benchmark of waiting: payments parked for a person, and deferred sensors."""

from __future__ import annotations

from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import Param, dag, task

from airflow_provider_carbonmark.operators.carbonmark import CarbonmarkCreateCheckoutOperator
from airflow_provider_carbonmark.operators.payment import CarbonmarkAwaitPaymentOperator

LISTING = Param(type="string")


@dag(schedule=None, params={"listing": LISTING, "buyers": Param(type="integer")})
def returns():
    """Many links in one run."""

    @task
    def buyers(*, params):
        return [f"Buyer {number}" for number in range(params["buyers"])]

    checkout = CarbonmarkCreateCheckoutOperator.partial(
        task_id="checkout",
        asset_price_source_id="{{ params.listing }}",
        quantity_tonnes="0.5",
        retirement_message="A benchmark",
    ).expand(beneficiary_name=buyers())
    CarbonmarkAwaitPaymentOperator.partial(task_id="payment").expand(checkout=checkout.output)


# All copies of a run are runs that are under way.
@dag(schedule=None, params={"listing": LISTING}, max_active_runs=100_000)
def parked():
    """One link."""
    checkout = CarbonmarkCreateCheckoutOperator(
        task_id="checkout",
        asset_price_source_id="{{ params.listing }}",
        quantity_tonnes="0.5",
        beneficiary_name="Benchmark Ltd.",
        retirement_message="A benchmark",
    )
    CarbonmarkAwaitPaymentOperator(task_id="waiting", checkout=checkout.output)


@dag(schedule=None, max_active_runs=100_000)
def deferred():
    """One sensor that polls for something that never comes, as often as it does by default."""
    HttpSensor(task_id="waiting", endpoint="not/there/yet", deferrable=True)


returns()
parked()
deferred()
