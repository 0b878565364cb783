"""
One purchase whose payment is awaited, in three ways to end unpaid, and a buyer who comes back at the moment a run names.

The param ``pays`` is one of: ``before`` the await task starts, ``look 1`` right after it has looked for a payment first,
``notifier`` after it has asked and before it looks again, ``look 2`` right after that and before it parks, ``by hand``.
With ``breaks``, the task that makes the link fails once it has made it, and is tried again.
"""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

from airflow.sdk import BaseNotifier, Param, dag, task

from airflow_provider_carbonmark.operators.carbonmark import CarbonmarkCreateCheckoutOperator
from airflow_provider_carbonmark.operators.payment import CarbonmarkAwaitPaymentOperator
from airflow_provider_carbonmark.sensors.carbonmark import CarbonmarkRetirementSensor
from tests.e2e.buyer import pay


class Buyer(BaseNotifier):
    """Is told by the await task; may pay at once, or keep it from going on while a file is there."""

    template_fields = ("url", "pays", "hold")

    def __init__(self) -> None:
        super().__init__()
        self.url = "{{ checkout.checkout_url }}"
        self.pays = "{{ params.pays }}"
        self.hold = "{{ params.hold }}"

    def notify(self, context) -> None:
        if self.pays == "notifier":
            pay(self.url)
        while self.hold and Path(self.hold).exists():
            time.sleep(0.1)


class BreakingCheckout(CarbonmarkCreateCheckoutOperator):
    """Loses what it made in its first try."""

    def execute(self, context):
        made = super().execute(context)
        if context["params"]["breaks"] and context["ti"].try_number == 1:
            raise ConnectionError("The worker's network broke")
        return made


class InterruptedAwait(CarbonmarkAwaitPaymentOperator):
    """Has the buyer come back right after it has looked for a payment in vain."""

    looks = 0
    pays = ""

    def execute(self, context):
        self.pays = context["params"]["pays"]
        return super().execute(context)

    def _known(self, *arguments, **options):
        found = super()._known(*arguments, **options)
        self.looks += 1
        if self.pays == f"look {self.looks}":
            pay(self.checkout["checkout_url"])
        return found


def make(dag_id: str, **arguments) -> None:
    @dag(
        dag_id=dag_id,
        schedule=None,
        params={
            "asset_price_source_id": Param(type="string"),
            "quantity_tonnes": 0.5,
            "beneficiary_name": Param(type="string"),
            "pays": "by hand",
            "hold": "",
            "breaks": False,
        },
        default_args={"retries": 2},
    )
    def await_payment():
        checkout = BreakingCheckout(
            task_id="checkout",
            asset_price_source_id="{{ params.asset_price_source_id }}",
            quantity_tonnes="{{ params.quantity_tonnes }}",
            beneficiary_name="{{ params.beneficiary_name }}",
            retirement_message="An end-to-end test",
        )

        @task
        def buyer(made, *, params) -> None:
            if params["pays"] == "before":
                pay(made["checkout_url"])

        payment = InterruptedAwait(
            task_id="payment", checkout=checkout.output, notifiers=Buyer(), **arguments
        )
        retirement = CarbonmarkRetirementSensor(
            task_id="retirement",
            payment_id=payment.output,
            checkout=checkout.output,
            allow_test_mode=True,
            deferrable=True,
        )
        buyer(checkout.output) >> payment >> retirement

    await_payment()


make("await_payment")
make("await_payment_or_fail", on_declined="fail")
make("await_payment_briefly", response_timeout=timedelta(seconds=4))
