"""Offset what a file says was emitted, and pay as soon as somebody is told to."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from airflow.providers.common.compat.sdk import BaseNotifier
from airflow.sdk import dag

from airflow_provider_carbonmark.emissions import EmissionsColumns, EntityEmissions, emissions_of_month
from airflow_provider_carbonmark.hooks.ledger import open_ledger
from airflow_provider_carbonmark.ledger.names import Source
from airflow_provider_carbonmark.operators.ledger import CarbonmarkPlanOperator
from airflow_provider_carbonmark.task_groups import purchase

COLUMNS = EmissionsColumns(period="month", entity="team", amount="kg", unit="kg")


class Buyer(BaseNotifier):
    """Pays as soon as it is told, and comes back."""

    def notify(self, context: Any) -> None:
        checkout = context["checkout"]
        card = {"card_number": "4242424242424242", "expiry": "12 / 34", "cvc": "123"}
        payment_id = httpx.post(checkout["checkout_url"], data=card).headers["location"].rpartition("/")[2]
        with open_ledger() as ledger:
            how = {"source": Source.RETURNED, "verified": True, "now": datetime.now(UTC)}
            ledger.bring(checkout["purchase"], 1, payment_id, **how)


def emissions(context: Any) -> list[EntityEmissions]:
    return emissions_of_month(Path(context["params"]["file"]), COLUMNS, "2026-10")


@dag(schedule=None, params={"file": ""})
def bought_at_once() -> None:
    plan = CarbonmarkPlanOperator(
        task_id="plan",
        emissions=emissions,
        beneficiary_name="Example Corp",
        retirement_message="Emissions of {months}",
    )
    purchase(plan, notifiers=[Buyer()])


bought_at_once()
