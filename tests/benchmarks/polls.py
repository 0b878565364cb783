"""
How many polls it takes to see a retirement, and how late it is seen, against polling at a fixed interval.

Measured is the real trigger against the real sandbox, in a time that only moves when the trigger sleeps.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
from datetime import UTC, datetime, timedelta
from statistics import mean
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest.mock import patch

from tests.benchmarks.measured import Row, compare, connection_to, progress, run, run_measured, scratch

if TYPE_CHECKING:
    from airflow_provider_carbonmark.sandbox import SandboxServer

SEED = 20261121
DAY = 86_400
#: What is waited for: its name, how long it takes in seconds, and how many such waits are averaged.
CASES = (("3 s", 3.0, 200), ("3 days", 3.0 * DAY, 10))
INTERVALS = (5.0, 60.0)
DESCRIBED = {"beneficiary_name": "Benchmark Ltd.", "retirement_message": "For the month of October"}


def pay_on(sandbox: SandboxServer, seconds: float) -> str:
    """Buy a kilogram whose retirement takes so long, and give the payment's id."""
    from pydantic import SecretStr

    from airflow_provider_carbonmark.api.client import CarbonmarkClient, ClientSettings
    from tests.e2e.buyer import pay

    sandbox.state.change_switches(retirement_seconds=seconds)
    with CarbonmarkClient(ClientSettings(sandbox.url, sandbox.url, SecretStr("cm_api_benchmark"))) as client:
        listing = next(one for one in client.list_prices() if one.liquid_supply >= 1)
        checkout = client.create_checkout(
            asset_price_source_id=listing.source_id,
            quantity_tonnes=1,
            metadata=DESCRIBED,
            success_url=f"{sandbox.url}/returned",
            cancel_url=sandbox.url,
        )
    return pay(checkout.url).payment_id


async def wait(payment_id: str) -> float:
    """Wait as the sensor's trigger does by default, and give the seconds from payment to proof."""
    from airflow_provider_carbonmark.api.retirement import RetirementRequest
    from airflow_provider_carbonmark.api.waiting import WaitTerms
    from airflow_provider_carbonmark.sensors.carbonmark import CarbonmarkRetirementSensor
    from airflow_provider_carbonmark.triggers.carbonmark import CarbonmarkRetirementTrigger

    pace = CarbonmarkRetirementSensor(task_id="pace", payment_id="pay_any")
    asked = RetirementRequest(DESCRIBED["beneficiary_name"], None, None, DESCRIBED["retirement_message"])
    started = datetime.now(UTC)
    trigger = CarbonmarkRetirementTrigger(
        carbonmark_conn_id="carbonmark_default",
        terms=WaitTerms(payment_id, asked).to_json(),
        started_at=started.isoformat(),
        deadline=(started + timedelta(days=30)).isoformat(),
        poke_interval=pace.poke_interval,
        max_wait=pace.max_wait.total_seconds(),
    )
    events = [event.payload async for event in trigger.run()]
    if [event["outcome"] for event in events] != ["retired"]:
        raise RuntimeError(f"The wait for {payment_id} ended with {events}")
    return (datetime.now(UTC) - started).total_seconds()


def measured(*durations: str) -> list[dict[str, float]]:
    """Wait for one retirement after another; tell how many polls each took, and how many seconds after the retirement it was found."""
    import time_machine

    from airflow_provider_carbonmark.sandbox import SandboxServer
    from airflow_provider_carbonmark.triggers import carbonmark as triggers

    random.seed(SEED)
    found = []
    with (
        time_machine.travel(datetime(2026, 11, 21, tzinfo=UTC), tick=False) as clock,
        SandboxServer() as sandbox,
    ):
        os.environ["AIRFLOW_CONN_CARBONMARK_DEFAULT"] = connection_to(sandbox.url)

        async def sleep(seconds: float) -> None:
            clock.shift(seconds)

        # Only the trigger's own pauses: everything else that runs here sleeps as ever.
        paused = SimpleNamespace(**vars(asyncio) | {"sleep": sleep})
        with patch.object(triggers, "asyncio", paused):
            for duration in map(float, durations):
                sandbox.state.reset()
                taken = asyncio.run(wait(pay_on(sandbox, duration)))
                counts = sandbox.state.request_counts
                polls = sum(count for call, count in counts.items() if "/payments" in call)
                found.append({"polls": polls, "delay": taken - duration})
    return found


def fixed_interval(duration: float, interval: float) -> tuple[int, float]:
    """Return the polls and the delay in seconds of a wait that polls at once and then every ``interval`` seconds."""
    pauses = math.ceil(duration / interval)
    return pauses + 1, pauses * interval - duration


def main() -> list[Row]:
    """Wait for retirements that take the named time, give or take a tenth, the same for each side."""
    chance = random.Random(SEED)
    rows: list[Row] = []
    for name, seconds, waits in CASES:
        progress(f"polls: {waits} waits for a retirement that takes about {name}")
        durations = [seconds * chance.uniform(0.9, 1.1) for _ in range(waits)]
        with scratch() as folder:
            found = run_measured(folder, "polls", *durations)
        ours = [mean(wait[figure] for wait in found) for figure in ("polls", "delay")]
        for interval in INTERVALS:
            fixed = zip(*(fixed_interval(duration, interval) for duration in durations), strict=True)
            rows += [
                compare(
                    f"Retirement after {name}: {what}", mine, mean(theirs), text, f"every {interval:.0f} s"
                )
                for what, text, mine, theirs in zip(
                    ("polls", "seen how late"), ("{:,.1f}", "{:.1f} s"), ours, fixed, strict=True
                )
            ]
    return rows


if __name__ == "__main__":
    run(main, measured)
