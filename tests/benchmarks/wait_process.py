"""
The measured process of the waits: many waits of one kind on one event loop, for a fixed time.

`python -m tests.benchmarks.wait_process carbonmark|dbt <waits> <seconds>`, with the connection in the environment. Prints what
it measured as JSON.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.sdk import BaseHook

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

POLL_SECONDS = 1.0
MONITOR_SECONDS = 0.01


def _carbonmark_triggers(waits: int) -> list[BaseTrigger]:
    from airflow_provider_carbonmark.api.retirement import RetirementRequest
    from airflow_provider_carbonmark.api.waiting import WaitTerms
    from airflow_provider_carbonmark.triggers.carbonmark import CarbonmarkRetirementTrigger

    now = pendulum.now("UTC")
    asked = RetirementRequest("Benchmark Ltd.", None, None, None)
    return [
        CarbonmarkRetirementTrigger(
            carbonmark_conn_id="carbonmark_default",
            terms=WaitTerms(f"pay_{number}", asked).to_json(),
            started_at=now.isoformat(),
            deadline=(now + timedelta(days=1)).isoformat(),
            poke_interval=POLL_SECONDS,
            max_wait=POLL_SECONDS,
        )
        for number in range(waits)
    ]


def _dbt_triggers(waits: int) -> list[BaseTrigger]:
    from airflow.providers.dbt.cloud.triggers.dbt import DbtCloudRunJobTrigger

    return [
        DbtCloudRunJobTrigger(
            conn_id="dbt_cloud_default",
            run_id=number,
            end_time=time.time() + 86400,
            poll_interval=POLL_SECONDS,
            account_id=1,
        )
        for number in range(waits)
    ]


MAKERS = {"carbonmark": _carbonmark_triggers, "dbt": _dbt_triggers}


async def _watch_lag(lags: list[float]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        before = loop.time()
        await asyncio.sleep(MONITOR_SECONDS)
        lags.append(loop.time() - before - MONITOR_SECONDS)


async def _wait(trigger: BaseTrigger) -> str:
    async for event in trigger.run():
        return f"{event.payload}"
    return "ended without an event"


async def measure(triggers: list[BaseTrigger], seconds: float) -> dict[str, Any]:
    """Run the triggers' waits, which all start at once; none may end."""
    # What Airflow itself loads to read the first connection, a triggerer loaded long ago.
    await BaseHook.aget_connection("carbonmark_default")
    lags: list[float] = []
    monitor = asyncio.create_task(_watch_lag(lags))
    await asyncio.sleep(10 * MONITOR_SECONDS)
    lags.clear()
    cpu = time.process_time()
    waits = [asyncio.create_task(_wait(trigger)) for trigger in triggers]
    await asyncio.sleep(seconds)
    cpu = time.process_time() - cpu
    monitor.cancel()
    ended = [wait.result() for wait in waits if wait.done()]
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    return {
        "cpu": cpu,
        "worst_lag": max(lags),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "ended": len(ended),
        "first_end": ended[0] if ended else "",
    }


def main(kind: str, waits: str, seconds: str) -> None:
    print(json.dumps(asyncio.run(measure(MAKERS[kind](int(waits)), float(seconds)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
