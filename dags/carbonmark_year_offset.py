"""
### Offset a year of months at once

For a year that nobody offset yet, or one that was restated: one query to the warehouse, one plan over all its months, a link for each entity
and month that is not covered. What the ledger covers already is left alone, so it may be run again at any time. The limits hold for the whole
year. To go month by month instead, each in a run of its own, backfill `carbonmark_warehouse_offset`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from airflow.providers.common.compat.sdk import BaseHook
from airflow.sdk import Param, dag

from airflow_provider_carbonmark.offsets.emissions import (
    EmissionsColumns,
    EntityEmissions,
    emissions_of_month,
)
from airflow_provider_carbonmark.offsets.purchase import Limits
from airflow_provider_carbonmark.operators.ledger import CarbonmarkPlanOperator
from airflow_provider_carbonmark.task_groups import purchase

# Change these to your table.
EMISSIONS = """
    SELECT month, entity, unit, SUM(amount) AS amount
    FROM (
        SELECT entity, unit, amount, SUBSTR(CAST(period AS VARCHAR(10)), 1, 7) AS month
        FROM emissions
        WHERE period >= :first_day AND period < :next_year
    ) AS of_year
    GROUP BY month, entity, unit
"""
COLUMNS = EmissionsColumns(period="month", entity="entity", amount="amount", unit_column="unit")


def emissions(context: Any) -> list[EntityEmissions]:
    """Add up each month for each entity, in the database; months without rows are left out."""
    import datetime

    from sqlalchemy import Date, bindparam, text

    params = context["params"]
    year = params["year"]
    bound = {"first_day": datetime.date(year, 1, 1), "next_year": datetime.date(year + 1, 1, 1)}
    query = text(EMISSIONS).bindparams(bindparam("first_day", type_=Date), bindparam("next_year", type_=Date))
    engine = BaseHook.get_hook(params["warehouse_conn_id"]).get_sqlalchemy_engine()
    try:
        with engine.connect() as connection:
            rows = [dict(row) for row in connection.execute(query, bound).mappings()]
    finally:
        engine.dispose()
    months = sorted({row["month"] for row in rows})
    return [found for month in months for found in emissions_of_month(rows, COLUMNS, month)]


def limits(context: Any) -> Limits:
    params = context["params"]
    return Limits(max_cost_per_run_usd=Decimal(str(params["max_cost_usd"])))


@dag(
    schedule=None,
    params={
        "year": Param(type="integer", minimum=2000, maximum=2100),
        "warehouse_conn_id": Param("warehouse", type="string"),
        "beneficiary": Param(
            "Example Corp, {entity}", type="string", description="Named on the certificates"
        ),
        "max_cost_usd": Param(5000, type="number", exclusiveMinimum=0, description="For the whole year"),
        "preview": Param(False, type="boolean", description="Only say what would be bought"),
        "allow_test_mode": Param(
            False, type="boolean", description="Accept a rehearsal, which retires nothing"
        ),
    },
    default_args={"retries": 2},
    tags=["carbonmark"],
    doc_md=__doc__,
)
def carbonmark_year_offset():
    plan = CarbonmarkPlanOperator(
        task_id="plan",
        emissions=emissions,
        beneficiary_name="{{ params.beneficiary }}",
        retirement_message="Emissions of {entity} in {month}: {emitted_tonnes} t CO2e",
        limits=limits,
        preview="{{ params.preview }}",
    )
    purchase(plan, allow_test_mode="{{ params.allow_test_mode }}")


carbonmark_year_offset()
