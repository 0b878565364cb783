"""
### Offset a year of months at once

For a year that nobody offset yet, or one that was restated: the warehouse adds up its months, one plan over all of them, and one link for all that
is not covered; more where no listing holds it all. What the ledger covers already is left alone, so it may be run again at any time. Months without rows are left
out; a year without any fails. To go month by month instead, each in a run of its own, backfill `carbonmark_warehouse_offset`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from airflow.sdk import Param, dag

from airflow_provider_carbonmark.emissions import EmissionsColumns, EntityEmissions
from airflow_provider_carbonmark.hooks.emissions import emissions_in_database
from airflow_provider_carbonmark.operators.ledger import CarbonmarkPlanOperator
from airflow_provider_carbonmark.planning import Limits
from airflow_provider_carbonmark.task_groups import purchase

# Change these to your table: a month's rows, which the database then adds up; it is asked for each month. See
# carbonmark_warehouse_offset for tables that are large.
EMISSIONS = """
    SELECT entity, unit, amount
    FROM emissions
    WHERE SUBSTR(CAST(period AS CHAR(10)), 1, 7) = :month
"""
COLUMNS = EmissionsColumns(period="month", entity="entity", amount="amount", unit_column="unit")


def emissions(context: Any) -> list[EntityEmissions]:
    """Add up each month for each entity, in the database."""
    params = context["params"]
    months = [f"{params['year']}-{number:02}" for number in range(1, 13)]
    return emissions_in_database(params["warehouse_conn_id"], EMISSIONS, COLUMNS, months)


def limits(context: Any) -> Limits:
    return Limits(max_cost_per_run_usd=Decimal(str(context["params"]["max_run_cost_usd"])))


@dag(
    schedule=None,
    params={
        "year": Param(type="integer", minimum=2000, maximum=2100),
        "warehouse_conn_id": Param("warehouse", type="string"),
        "beneficiary": Param("Example Corp", type="string", description="Named on the certificate"),
        "max_run_cost_usd": Param(5000, type="number", exclusiveMinimum=0, description="For the whole year"),
        "catch_up": Param(True, type="boolean", description="Also buy what earlier months of this DAG lack"),
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
        retirement_message="Emissions of {months}, ref. {reference}",
        limits=limits,
        catch_up="{{ params.catch_up }}",
        preview="{{ params.preview }}",
    )
    purchase(plan, allow_test_mode="{{ params.allow_test_mode }}")


carbonmark_year_offset()
