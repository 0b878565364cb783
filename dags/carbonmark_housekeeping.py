"""
### See to what no run sees to

Once a day it looks through the ledger. What waits to be paid for 7, 14 and 28 days is reminded of: give the operator the notifiers you use, as
`carbonmark_monthly_offset` shows. Payment numbers that nobody could confirm are asked about again. A payment whose run is gone is followed until its retirement is
proven and recorded. What needs a person is an error in the log of `review`: what may be paid, was paid twice, or is paid and not retired.

It makes no link and declines nothing. With `GIVE_UP_AFTER`, what nobody paid for so long is declined once its payment page can't be
used any more; the next run of its DAG plans the tonnes anew.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import Param, dag, task_group

from airflow_provider_carbonmark.operators.housekeeping import CarbonmarkHousekeepingOperator
from airflow_provider_carbonmark.operators.ledger import CarbonmarkRecordRetirementOperator
from airflow_provider_carbonmark.sensors.carbonmark import CarbonmarkRetirementSensor

# None, or for example timedelta(days=60).
GIVE_UP_AFTER: timedelta | None = None


@dag(
    schedule="0 8 * * *",
    start_date=pendulum.datetime(2026, 11, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    params={
        "allow_test_mode": Param(False, type="boolean", description="Follow rehearsals to their end, too")
    },
    default_args={"retries": 2},
    tags=["carbonmark"],
    doc_md=__doc__,
)
def carbonmark_housekeeping():
    review = CarbonmarkHousekeepingOperator(task_id="review", notifiers=[], give_up_after=GIVE_UP_AFTER)

    @task_group
    def follow(payment_id: Any, checkout: Any, carbonmark_conn_id: Any) -> None:
        retirement = CarbonmarkRetirementSensor(
            task_id="retirement",
            payment_id=payment_id,
            checkout=checkout,
            carbonmark_conn_id=carbonmark_conn_id,
            allow_test_mode="{{ params.allow_test_mode }}",
            deferrable=True,
            # Tomorrow's run goes on with what is not retired by then.
            timeout=timedelta(hours=20).total_seconds(),
            soft_fail=True,
        )
        CarbonmarkRecordRetirementOperator(task_id="record", checkout=checkout, retirement=retirement.output)

    follow.expand_kwargs(review.output)


carbonmark_housekeeping()
