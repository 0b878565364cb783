"""A thousand deferred waits on one event loop over TLS, each polling every second, against dbt Cloud's trigger."""

from __future__ import annotations

import asyncio
import resource
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.lean_server import lean_server
from tests.benchmarks.measured import Row, compare, progress, run, run_measured, scratch

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

WAITS = 1000
SECONDS = 15.0
ROUNDS = 2
POLL_SECONDS = 1.0
MONITOR_SECONDS = 0.01


def _carbonmark_triggers(waits: int) -> list[BaseTrigger]:
    import pendulum

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

    about = {"conn_id": "dbt_cloud_default", "account_id": 1, "poll_interval": POLL_SECONDS}
    end = time.time() + 86400
    return [DbtCloudRunJobTrigger(run_id=number, end_time=end, **about) for number in range(waits)]


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


async def _wait_all(triggers: list[BaseTrigger], seconds: float) -> dict[str, Any]:
    """Run the triggers' waits, which all start at once; none may end."""
    from airflow.sdk import BaseHook

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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu": cpu, "lag": max(lags), "peak_mib": peak, "ended": ended}


def measured(kind: str, waits: str, seconds: str) -> dict[str, Any]:
    """
    Let one side wait.

    :return: ``cpu``: seconds of CPU, all threads. ``lag``: by how many seconds the loop was late at worst, the start of all waits included.
        ``peak_mib``: the process's resident memory at its highest. ``ended``: what ended waits.
    """
    return asyncio.run(_wait_all(MAKERS[kind](int(waits)), float(seconds)))


def measure(kind: str, folder: Path, *, waits: int = WAITS, seconds: float = SECONDS) -> dict[str, float]:
    """
    Let one side wait, in a process of its own, against a server of its own; tell its requests and new connections, too.

    :param kind: ``carbonmark`` or ``dbt``.
    :raises RuntimeError: a wait ended, or didn't poll.
    """
    with lean_server(folder) as server:
        found = run_measured(folder, "waits", kind, waits, seconds, env=server.environment())
        connections, requests = server.counts()
    if ended := found.pop("ended"):
        raise RuntimeError(f"{len(ended)} waits of {kind} ended, the first with {ended[0]}")
    if len(requests) != waits:
        raise RuntimeError(f"{waits} waits of {kind} were started, but {len(requests)} polled")
    # The last connection asked for the counts.
    return found | {"polls": sum(requests.values()), "connections": connections - 1}


def main() -> list[Row]:
    """Measure both sides in turn."""
    rounds: dict[str, list[dict[str, float]]] = {kind: [] for kind in MAKERS}
    with scratch() as folder:
        for kind in MAKERS:
            progress(f"waits: filling the bytecode cache for {kind}")
            measure(kind, folder, waits=1, seconds=1)
        for number in range(1, ROUNDS + 1):
            for kind, results in rounds.items():
                progress(f"waits: round {number} of {ROUNDS}, {WAITS:,} waits of {kind} for {SECONDS:.0f} s")
                results.append(measure(kind, folder))
                progress(f"waits: {results[-1]}")
    polls = [sum(round["polls"] for round in results) for results in rounds.values()]

    def per_poll(figure: str, times: int = 1) -> list[float]:
        return [
            times * sum(round[figure] for round in results) / count
            for results, count in zip(rounds.values(), polls, strict=True)
        ]

    def worst(figure: str, times: int = 1) -> list[float]:
        return [times * max(round[figure] for round in results) for results in rounds.values()]

    asked_for = f"polls in {ROUNDS} × {SECONDS:.0f} s (asked for: one a second)"
    table: tuple[tuple[str, list[float], str, str, str], ...] = (
        ("CPU per poll", per_poll("cpu", 1000), "{:.2f} ms", "", "≤ 0.40"),
        ("new connections per poll", per_poll("connections"), "{:.4f}", "{:.2f}", "ours ≤ 0.01"),
        ("worst loop lag", worst("lag", 1000), "{:.0f} ms", "", "< 0.25"),
        ("peak memory", worst("peak_mib"), "{:.0f} MiB", "", ""),
        (asked_for, polls, "{:,.0f}", "", ""),
    )
    title, name = f"{WAITS:,} deferred waits over TLS", "`DbtCloudRunJobTrigger`"
    return [
        compare(f"{title}: {what}", *figures, text, name, target, their_text=their_text)
        for what, figures, text, their_text, target in table
    ]


if __name__ == "__main__":
    run(main, measured)
