"""
### Is it retired?

Waits until the retirement that a payment started is proven to be what was asked for; fails if it is not.

For links whose `success_url` is a site of your own. After paying, the buyer's browser comes to `success_url/<payment id>`, and
what serves that page starts this DAG (links without a `success_url` bring the buyer back to Airflow, and need none of this):

```
POST /api/v2/dags/carbonmark_confirm_retirement/dagRuns
Authorization: Bearer <token, from POST /auth/token>
Content-Type: application/json

{"logical_date": null, "conf": {"payment_id": "pay_…", "checkout": {…}}}
```

or a person does:

```
airflow dags trigger carbonmark_confirm_retirement --conf '{"payment_id": "pay_…", "checkout": {…}}'
```

`checkout` is the XCom of the task that made the link: what the retirement is compared with, and which purchase of the ledger it is.
"""

from __future__ import annotations

from airflow.sdk import Param, dag

from airflow_provider_carbonmark.sensors.carbonmark import CarbonmarkRetirementSensor


@dag(
    schedule=None,
    params={
        "payment_id": Param(type="string", minLength=1, description="Last part of the address after paying"),
        "checkout": Param(type="object", description="XCom of the task that made the link"),
        "allow_test_mode": Param(
            False, type="boolean", description="Accept a rehearsal, which retires nothing"
        ),
    },
    default_args={"retries": 2},
    tags=["carbonmark"],
    doc_md=__doc__,
)
def carbonmark_confirm_retirement():
    CarbonmarkRetirementSensor(
        task_id="retirement",
        payment_id="{{ params.payment_id }}",
        checkout="{{ params.checkout | tojson }}",
        allow_test_mode="{{ params.allow_test_mode }}",
        deferrable=True,
    )


carbonmark_confirm_retirement()
