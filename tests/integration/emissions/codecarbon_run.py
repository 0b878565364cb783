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

from codecarbon import OfflineEmissionsTracker as Tracker  # noqa: E402


def work() -> None:
    """Have something to measure."""
    until = time.monotonic() + 0.1
    while time.monotonic() < until:
        pass


def plain(tracker: Tracker) -> float:
    tracker.start()
    work()
    return tracker.stop()


def flushed(tracker: Tracker) -> float:
    tracker.start()
    for _ in range(3):
        work()
        tracker.flush()
    return tracker.stop()


def stopped_twice(tracker: Tracker) -> float:
    plain(tracker)
    return tracker.stop()


def tasks(tracker: Tracker) -> float:
    for name in ("load", "fit"):
        tracker.start_task(name)
        work()
        tracker.stop_task()
    return tracker.stop()


if __name__ == "__main__":
    # measure_power_secs: no measurement but those that are asked for, so that no thread measures between two of them.
    how = {
        "country_iso_code": "DEU",
        "output_dir": sys.argv[1],
        "measure_power_secs": 600,
        "log_level": "critical",
    }
    runs = {run.__name__: run for run in (plain, flushed, stopped_twice, tasks)}
    print(json.dumps({name: run(Tracker(project_name=name, **how)) for name, run in runs.items()}))
