"""A tonne of Puro's credits, which are retired for a consumption: where it was, and when."""

from __future__ import annotations

import pendulum
from airflow.sdk import Param, dag

from airflow_provider_carbonmark.emissions.sums import stated_emissions
from airflow_provider_carbonmark.operators.ledger import CarbonmarkPlanOperator
from airflow_provider_carbonmark.planning import ListingFilter
from airflow_provider_carbonmark.task_groups import purchase


def start_of(month: str, months_later: int = 0) -> int:
    return int(pendulum.parse(month).add(months=months_later).timestamp())


@dag(
    schedule=None,
    params={"emissions": Param(type="array"), "country": "DE", "allow_test_mode": False},
    user_defined_macros={"start_of": start_of},
)
def puro_offset():
    plan = CarbonmarkPlanOperator(
        task_id="plan",
        emissions=lambda context: stated_emissions(context["params"]["emissions"]),
        beneficiary_name="{entity}",
        retirement_message="An end-to-end test",
        filters=ListingFilter(registries=["PUR"]),
    )
    purchase(
        plan,
        metadata={
            "consumption_metadata": {
                "country_of_consumption_code": "{{ params.country }}",
                "consumption_period_start": "{{ start_of(task.purchase.months[0]) }}",
                "consumption_period_end": "{{ start_of(task.purchase.months[-1], 1) - 1 }}",
            },
        },
        allow_test_mode="{{ params.allow_test_mode }}",
    )


puro_offset()
