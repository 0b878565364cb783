"""
What CodeCarbon writes, in an environment of its own: `python codecarbon_run.py <folder>`.

Runs its offline tracker in the ways that write several rows for a run, and prints what `stop()` returned as JSON, by project, in kg.
"""

from __future__ import annotations

import json
import sys
import time
import warnings

warnings.simplefilter("ignore")

from codecarbon import OfflineEmissionsTracker  # noqa: E402


def tracker(project: str) -> OfflineEmissionsTracker:
    # measure_power_secs: no measurement but those that are asked for, so that no thread measures between two of them.
    return OfflineEmissionsTracker(
        country_iso_code="DEU",
        output_dir=sys.argv[1],
        project_name=project,
        measure_power_secs=600,
        log_level="critical",
    )


def work() -> None:
    """Have something to measure."""
    until = time.monotonic() + 0.1
    while time.monotonic() < until:
        pass


def plain() -> float:
    one = tracker("plain")
    one.start()
    work()
    return one.stop()


def flushed() -> float:
    one = tracker("flushed")
    one.start()
    for _ in range(3):
        work()
        one.flush()
    return one.stop()


def stopped_twice() -> float:
    one = tracker("stopped-twice")
    one.start()
    work()
    one.stop()
    return one.stop()


def in_tasks() -> float:
    one = tracker("tasks")
    for name in ("load", "fit"):
        one.start_task(name)
        work()
        one.stop_task()
    return one.stop()


def main() -> None:
    returned = {"plain": plain(), "flushed": flushed(), "stopped-twice": stopped_twice(), "tasks": in_tasks()}
    print(json.dumps(returned))


if __name__ == "__main__":
    main()
