"""A tonne of Puro's credits, which are retired for a consumption: where it was, and when."""

from __future__ import annotations

from airflow.sdk import Param, dag

from airflow_provider_carbonmark.emissions.sums import stated_emissions
from airflow_provider_carbonmark.operators.ledger import CarbonmarkPlanOperator
from airflow_provider_carbonmark.planning import ListingFilter
from airflow_provider_carbonmark.task_groups import purchase


@dag(schedule=None, params={"emissions": Param(type="array"), "country": "DE", "allow_test_mode": False})
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
            "country_code": "{{ params.country }}",
            "period_start": "{{ task.purchase.months[0] }}-01",
        },
        allow_test_mode="{{ params.allow_test_mode }}",
    )


puro_offset()
