"""All benchmarks: progress on standard error, the README's table on standard output."""

from __future__ import annotations

from tests.benchmarks import checkouts, emissions, imports, ledger, parked, planning, polls, waits
from tests.benchmarks.measured import render

if __name__ == "__main__":
    benchmarks = (imports, waits, polls, checkouts, emissions, planning, ledger, parked)
    print(render(row for benchmark in benchmarks for row in benchmark.main()))
