"""
### One purchase, one link

Asks what a quantity of a listing costs, refuses it above `max_cost_usd`, and makes the link a person pays at: the button
**Open checkout** on the page of the task `checkout`. Nothing is bought until somebody pays there.
"""

from __future__ import annotations

from airflow.sdk import Param, dag

from airflow_provider_carbonmark.operators.carbonmark import (
    CarbonmarkCreateCheckoutOperator,
    CarbonmarkCreateQuoteOperator,
)


@dag(
    schedule=None,
    params={
        "asset_price_source_id": Param(
            type="string", description="A listing: sourceId in the market's prices"
        ),
        "quantity_tonnes": Param(1, type="number", exclusiveMinimum=0, description="In steps of 0.001"),
        "max_cost_usd": Param(100, type="number", exclusiveMinimum=0),
        "beneficiary_name": Param("Example Corp", type="string", description="Named on the certificate"),
        "retirement_message": Param("Offset by Example Corp, ref. {reference}", type="string"),
    },
    default_args={"retries": 2},
    tags=["carbonmark"],
    doc_md=__doc__,
)
def carbonmark_checkout_link():
    purchase = {
        "asset_price_source_id": "{{ params.asset_price_source_id }}",
        "quantity_tonnes": "{{ params.quantity_tonnes }}",
        "max_cost": "{{ params.max_cost_usd }}",
    }
    quote = CarbonmarkCreateQuoteOperator(task_id="quote", **purchase)
    checkout = CarbonmarkCreateCheckoutOperator(
        task_id="checkout",
        beneficiary_name="{{ params.beneficiary_name }}",
        retirement_message="{{ params.retirement_message }}",
        **purchase,
    )
    quote >> checkout


carbonmark_checkout_link()
