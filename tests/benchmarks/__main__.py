"""All benchmarks: progress on standard error, the README's table on standard output."""

from __future__ import annotations

from tests.benchmarks import checkouts, emissions, imports, parked, polls, waits
from tests.benchmarks.table import render

if __name__ == "__main__":
    rows = [
        row for benchmark in (imports, waits, polls, checkouts, emissions, parked) for row in benchmark.main()
    ]
    print(render(rows))
