"""
The measured process of the polls: the real trigger against the real sandbox, in a time that only moves when the trigger sleeps.

`python -m tests.benchmarks.poll_process <seconds>…` waits for one retirement after another, each of which takes so long, and prints for
each how many polls it took and how many seconds after the retirement it was found.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from unittest.mock import patch

import time_machine
from pydantic import SecretStr

from airflow_provider_carbonmark.api.client import CarbonmarkClient, ClientSettings
from airflow_provider_carbonmark.api.retirement import RetirementRequest
from airflow_provider_carbonmark.api.waiting import WaitTerms
from airflow_provider_carbonmark.sandbox import SandboxServer
from airflow_provider_carbonmark.sensors.carbonmark import CarbonmarkRetirementSensor
from airflow_provider_carbonmark.triggers import carbonmark as triggers
from tests.e2e.buyer import pay

SEED = 20261121
BENEFICIARY = "Benchmark Ltd."
MESSAGE = "For the month of October"


class Waits:
    """
    Pays on the sandbox and waits for the retirement.

    :param sandbox: in this process, so that it lives in the same time.
    :param clock: that time.
    """

    def __init__(self, sandbox: SandboxServer, clock: time_machine.Traveller) -> None:
        self._sandbox = sandbox
        self._clock = clock
        self._pace = CarbonmarkRetirementSensor(task_id="pace", payment_id="pay_any")
        self._settings = ClientSettings(sandbox.url, sandbox.url, SecretStr("cm_api_benchmark"))

    def pay(self, seconds: float) -> str:
        """Buy a kilogram whose retirement takes so long, and give the payment's id."""
        self._sandbox.state.change_switches(retirement_seconds=seconds)
        with CarbonmarkClient(self._settings) as client:
            listing = next(one for one in client.list_prices() if one.liquid_supply >= 1)
            checkout = client.create_checkout(
                asset_price_source_id=listing.source_id,
                quantity_tonnes=1,
                metadata={"beneficiary_name": BENEFICIARY, "retirement_message": MESSAGE},
                success_url=f"{self._sandbox.url}/returned",
                cancel_url=self._sandbox.url,
            )
        return pay(checkout.url).payment_id

    async def wait(self, payment_id: str) -> float:
        """Wait as the sensor's trigger does by default, and give the seconds from payment to proof."""
        started = datetime.now(UTC)
        trigger = triggers.CarbonmarkRetirementTrigger(
            carbonmark_conn_id="carbonmark_default",
            terms=WaitTerms(payment_id, RetirementRequest(BENEFICIARY, None, None, MESSAGE)).to_json(),
            started_at=started.isoformat(),
            deadline=(started + timedelta(days=30)).isoformat(),
            poke_interval=self._pace.poke_interval,
            max_wait=self._pace.max_wait.total_seconds(),
        )
        events = [event.payload async for event in trigger.run()]
        if [event["outcome"] for event in events] != ["retired"]:
            raise RuntimeError(f"The wait for {payment_id} ended with {events}")
        return (datetime.now(UTC) - started).total_seconds()

    async def sleep(self, seconds: float) -> None:
        self._clock.shift(seconds)

    def polls(self) -> int:
        counts = self._sandbox.state.request_counts
        return sum(count for call, count in counts.items() if "/payments" in call)


def main(durations: list[float]) -> None:
    random.seed(SEED)
    found = []
    with (
        time_machine.travel(datetime(2026, 11, 21, tzinfo=UTC), tick=False) as clock,
        SandboxServer() as sandbox,
    ):
        connection = {
            "conn_type": "carbonmark",
            "host": sandbox.url,
            "password": "cm_api_benchmark",
            "extra": {"market_url": sandbox.url, "environment": "production"},
        }
        os.environ["AIRFLOW_CONN_CARBONMARK_DEFAULT"] = json.dumps(connection)
        waits = Waits(sandbox, clock)
        # Only the trigger's own pauses: everything else that runs here sleeps as ever.
        with patch.object(triggers, "asyncio", SimpleNamespace(sleep=waits.sleep)):
            for duration in durations:
                sandbox.state.reset()
                payment_id = waits.pay(duration)
                taken = asyncio.run(waits.wait(payment_id))
                found.append({"polls": waits.polls(), "delay": taken - duration})
    print(json.dumps(found))


if __name__ == "__main__":
    main([float(seconds) for seconds in sys.argv[1:]])
