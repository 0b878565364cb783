"""What planning and showing a month take when the ledger holds a million rows, against a tenth of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.benchmarks.measured import progress, run_measured, scratch
from tests.benchmarks.table import Row, render
from tests.e2e.postgresql import ledger_connection, postgresql

ROWS, FEWER_ROWS = 1_000_000, 100_000
PROCESS_ROUNDS = 2
MAX_GROWTH = 1.5  # of the time, when the ledger becomes ten times as large: none, and half for the noise of short times
# What is asked for is of this size in both ledgers; ledger_process.py says what is in it.
SAME = {
    "plan": "`Ledger.plan` of a month of 2,500 rows, 1,000 entities of which 200 are to be bought",
    "month": "the page of a month of 2,500 rows",
    "year": "the page of a year of 25,000 rows",
}


@contextmanager
def ledgers(folder: Path) -> Iterator[dict[tuple[str, int], dict[str, str]]]:
    """Fill two ledgers in each database, and give the environment that finds each, by database and rows."""
    with ExitStack() as stack:
        found: dict[tuple[str, int], dict[str, str]] = {}
        for rows in (FEWER_ROWS, ROWS):
            found["SQLite", rows] = {"AIRFLOW__CARBONMARK__LEDGER_PATH": str(folder / f"{rows}.db")}
            found["PostgreSQL", rows] = ledger_connection(stack.enter_context(postgresql()))
        for (database, rows), env in found.items():
            progress(f"ledger: writing {rows:,} rows in {database}")
            run_measured(folder, "tests.benchmarks.ledger_process", "fill", rows, env=env)
        yield found


def measure() -> dict[tuple[str, int], dict[str, float]]:
    """Measure the ledgers in turn; give the least seconds of each, and the least megabytes of the report, by database and rows."""
    with scratch() as folder, ledgers(folder) as found:
        rounds: dict[tuple[str, int], list[dict[str, float]]] = {which: [] for which in found}
        for number in range(1, PROCESS_ROUNDS + 1):
            progress(f"ledger: round {number} of {PROCESS_ROUNDS}")
            for which, env in found.items():
                seconds = run_measured(folder, "tests.benchmarks.ledger_process", "measure", env=env)
                report = run_measured(folder, "tests.benchmarks.ledger_process", "report", folder, env=env)
                rounds[which].append(seconds | report)
    # The least is what the work itself takes; all above it is what else the machine did.
    return {
        which: {what: min(each[what] for each in results) for what in results[0]}
        for which, results in rounds.items()
    }


def main() -> list[Row]:
    """Compare a ledger with one of a tenth of its rows, and the page of a large year with that of a small one."""
    found = measure()
    rows = []
    for database in ("SQLite", "PostgreSQL"):
        large, small = found[database, ROWS], found[database, FEWER_ROWS]
        title = f"Ledger of {ROWS:,} rows in {database}"
        rows += [
            Row(
                f"{title}, {what}: time",
                f"{large[name]:.3f} s",
                f"{small[name]:.3f} s (ours, ledger of {FEWER_ROWS:,} rows)",
                large[name] / small[name],
                f"≤ {MAX_GROWTH}",
                large[name] / small[name] <= MAX_GROWTH,
            )
            for name, what in SAME.items()
        ]
        rows += [
            Row(
                f"{title}, the report on a year in which {large['purchases']:,.0f} purchases were retired: {what}",
                f"{large[name]:,.0f} {unit}",
                f"{small[name]:,.0f} {unit} (ours, {small['purchases']:,.0f} purchases)",
                large[name] / small[name],
            )
            for what, name, unit in (("time", "seconds", "s"), ("memory", "megabytes", "MB"))
        ]
        rows.append(
            Row(
                f"{title}, the page of a year of 390,000 rows: time",
                f"{large['year before']:.2f} s",
                f"{large['year']:.3f} s (ours, same ledger, a year of 25,000 rows)",
                large["year before"] / large["year"],
            )
        )
    return rows


if __name__ == "__main__":
    print(render(main()))
