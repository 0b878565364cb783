"""
### Offset a month of emissions from a warehouse

As `carbonmark_monthly_offset`, with the emissions in a table of a database. The database adds up: only a row per entity and unit leaves it.
The connection may be of any kind of database that Airflow has a hook for (`DbApiHook`).

Past months are one backfill, each month in a run of its own:

```
airflow backfill create --dag-id carbonmark_warehouse_offset --from-date 2025-01-21 --to-date 2025-12-22
```
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pendulum
from airflow.sdk import Param, dag
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_carbonmark.emissions import EmissionsColumns, EntityEmissions
from airflow_provider_carbonmark.hooks.emissions import emissions_in_database, month_of_run
from airflow_provider_carbonmark.operators.ledger import CarbonmarkPlanOperator
from airflow_provider_carbonmark.planning import Limits
from airflow_provider_carbonmark.task_groups import purchase

# Change these to your table: a month's rows, which the database then adds up. The month is bound, never pasted in. Here the period may be
# a date, a timestamp or a text such as 2026-10. An index on dates is used by: WHERE period >= :first_day AND period < :next_month
EMISSIONS = """
    SELECT entity, unit, amount
    FROM emissions
    WHERE SUBSTR(CAST(period AS CHAR(10)), 1, 7) = :month
"""
COLUMNS = EmissionsColumns(period="month", entity="entity", amount="amount", unit_column="unit")


def emissions(context: Any) -> list[EntityEmissions]:
    """Add up the month for each entity, in the database."""
    conn_id = context["params"]["warehouse_conn_id"]
    return emissions_in_database(conn_id, EMISSIONS, COLUMNS, [month_of_run(context)])


def limits(context: Any) -> Limits:
    params = context["params"]
    return Limits(Decimal(str(params["max_cost_usd"])), Decimal(str(params["max_run_cost_usd"])))


@dag(
    schedule=CronDataIntervalTimetable("0 6 21 * *", timezone="UTC"),
    start_date=pendulum.datetime(2023, 10, 21, 6, tz="UTC"),
    catchup=False,
    params={
        "month": Param(None, type=["null", "string"], pattern=r"^\d{4}-(0[1-9]|1[0-2])$"),
        "warehouse_conn_id": Param("warehouse", type="string"),
        "beneficiary": Param("Example Corp", type="string", description="Named on the certificate"),
        "max_cost_usd": Param(100, type="number", exclusiveMinimum=0, description="For one entity"),
        "max_run_cost_usd": Param(1000, type="number", exclusiveMinimum=0, description="For all of them"),
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
def carbonmark_warehouse_offset():
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


carbonmark_warehouse_offset()
