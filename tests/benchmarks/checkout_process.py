"""
The measured process of the checkouts: through the hook and through bare httpx, in turn.

`python -m tests.benchmarks.checkout_process <url> <checkouts> <blocks>`, with the connection in the environment. Prints the seconds
that each block took.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial

import httpx

from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook

API_KEY = "cm_api_benchmark"
PURCHASE = {
    "asset_price_source_id": "listing-137-0x79a42f1c5c1b4b8e9d6a7f3e2d1c0b9a8f7e6d5c",
    "metadata": {"beneficiary_name": "Benchmark Ltd.", "retirement_message": "For the month of October"},
    "success_url": "https://airflow.example.com/carbonmark/return",
    "cancel_url": "https://airflow.example.com/",
}


def through_hook(hook: CarbonmarkHook) -> str:
    return hook.create_checkout(quantity_tonnes="12.345", **PURCHASE).url  # type: ignore[arg-type]


def through_httpx(client: httpx.Client) -> str:
    answer = client.post("/checkout", json={"quantity_tonnes": 12.345, **PURCHASE})
    return str(answer.raise_for_status().json()["url"])


def seconds_of(checkout: Callable[[], str], times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        checkout()
    return time.perf_counter() - started


def main(url: str, checkouts: int, blocks: int) -> None:
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {API_KEY}"}, timeout=30) as client:
        sides = {
            "hook": partial(through_hook, CarbonmarkHook()),
            "httpx": partial(through_httpx, client),
        }
        for checkout in sides.values():
            seconds_of(checkout, 20)
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(blocks):
            for name, checkout in sides.items():
                seconds[name].append(seconds_of(checkout, checkouts // blocks))
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
