"""How many polls it takes to see a retirement, and how late it is seen, against polling at a fixed interval."""

from __future__ import annotations

import math
import random
from statistics import mean

from tests.benchmarks.measured import progress, run_measured, scratch
from tests.benchmarks.table import Row, render

SEED = 20261121
DAY = 86_400
#: What is waited for: its name, how long it takes in seconds, and how many such waits are averaged.
CASES = (("3 s", 3.0, 200), ("3 days", 3.0 * DAY, 10))
INTERVALS = (5.0, 60.0)


def fixed_interval(duration: float, interval: float) -> tuple[int, float]:
    """Return the polls and the delay in seconds of a wait that polls at once and then every ``interval`` seconds."""
    pauses = math.ceil(duration / interval)
    return pauses + 1, pauses * interval - duration


def _rows(name: str, durations: list[float], found: list[dict[str, float]]) -> list[Row]:
    polls, delay = (mean(wait[figure] for wait in found) for figure in ("polls", "delay"))
    rows = []
    for interval in INTERVALS:
        fixed = [fixed_interval(duration, interval) for duration in durations]
        their_polls, their_delay = (mean(figures) for figures in zip(*fixed, strict=True))
        every = f"every {interval:.0f} s"
        rows += [
            Row(
                f"Retirement after {name}: polls",
                f"{polls:,.1f}",
                f"{their_polls:,.1f} ({every})",
                polls / their_polls,
            ),
            Row(
                f"Retirement after {name}: seen how late",
                f"{delay:.1f} s",
                f"{their_delay:.1f} s ({every})",
                delay / their_delay,
            ),
        ]
    return rows


def main() -> list[Row]:
    """Wait for retirements that take the named time, give or take a tenth, the same for each side."""
    chance = random.Random(SEED)
    rows: list[Row] = []
    for name, seconds, waits in CASES:
        progress(f"polls: {waits} waits for a retirement that takes about {name}")
        durations = [seconds * chance.uniform(0.9, 1.1) for _ in range(waits)]
        with scratch() as folder:
            found = run_measured(folder, "tests.benchmarks.poll_process", *durations)
        rows += _rows(name, durations, found)
    return rows


if __name__ == "__main__":
    print(render(main()))
