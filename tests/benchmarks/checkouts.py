"""What the hook adds to bare httpx: a thousand checkouts over TLS through each."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from statistics import median

from tests.benchmarks.lean_server import lean_server
from tests.benchmarks.measured import Row, compare, progress, run, run_measured, scratch

CHECKOUTS = 1000
BLOCKS = 500
PURCHASE = {
    "asset_price_source_id": "listing-137-0x79a42f1c5c1b4b8e9d6a7f3e2d1c0b9a8f7e6d5c",
    "metadata": {"beneficiary_name": "Benchmark Ltd.", "retirement_message": "For the month of October"},
    "success_url": "https://airflow.example.com/carbonmark/return",
    "cancel_url": "https://airflow.example.com/",
}


def seconds_of(checkout: Callable[[], object], times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        checkout()
    return time.perf_counter() - started


def measured(url: str) -> dict[str, list[float]]:
    """
    Let both sides take turns, block by block, and give the seconds that each block took.

    In an order of chance: seen, in a fixed one Python's collector, which comes every so many objects, came in the same side's blocks.
    """
    import httpx

    from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook

    hook, headers = CarbonmarkHook(), {"Authorization": "Bearer cm_api_benchmark"}
    with httpx.Client(base_url=url, headers=headers, timeout=30) as client:

        def through_httpx() -> str:
            answer = client.post("/checkout", json={"quantity_tonnes": 12.345, **PURCHASE})
            return str(answer.raise_for_status().json()["url"])

        sides: dict[str, Callable[[], object]] = {
            "hook": lambda: hook.create_checkout(quantity_tonnes="12.345", **PURCHASE),
            "httpx": through_httpx,
        }
        for checkout in sides.values():
            seconds_of(checkout, 20)
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        chance = random.Random(1)
        for _ in range(BLOCKS):
            for name in chance.sample([*sides], len(sides)):
                seconds[name].append(seconds_of(sides[name], CHECKOUTS // BLOCKS))
    return seconds


def main() -> list[Row]:
    """Compare the median block: what disturbs one block is left out."""
    progress(f"checkouts: {CHECKOUTS:,} through the hook and {CHECKOUTS:,} through httpx")
    with scratch() as folder, lean_server(folder) as server:
        blocks = run_measured(folder, "checkouts", server.url, env=server.environment())
    hook, httpx = (1000 * BLOCKS / CHECKOUTS * median(blocks[side]) for side in ("hook", "httpx"))
    what = f"{CHECKOUTS:,} checkouts through the hook: time for each"
    return [compare(what, hook, httpx, "{:.2f} ms", "one `httpx.Client`", "≤ 1.15")]


if __name__ == "__main__":
    run(main, measured)
