"""What planning and showing a month take when the ledger holds a million rows, against a tenth of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.benchmarks.measured import Row, compare, in_turn, progress, run, run_measured, scratch
from tests.e2e.postgresql import ledger_connection, postgresql

ROWS, FEWER_ROWS = 1_000_000, 100_000
PROCESS_ROUNDS = 2
TARGET = "≤ 1.5"  # of the time, when the ledger becomes ten times as large: none, and half for the noise of short times
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
            run_measured(folder, "ledger_process", "fill", rows, env=env)
        yield found


def measure(folder: Path, env: dict[str, str]) -> dict[str, float]:
    """Measure a ledger; and, in a process of its own, whose memory that is, the report."""
    processes = ("measure",), ("report", folder)
    what, report = (run_measured(folder, "ledger_process", *arguments, env=env) for arguments in processes)
    return {**what, **report}


def main() -> list[Row]:
    """Compare a ledger with one of a tenth of its rows, and the page of a large year with that of a small one."""
    with scratch() as folder, ledgers(folder) as envs:
        sides = {side: partial(measure, folder, env) for side, env in envs.items()}
        found = in_turn("ledger", PROCESS_ROUNDS, sides)
    rows = []
    for database in ("SQLite", "PostgreSQL"):
        large, small = found[database, ROWS], found[database, FEWER_ROWS]
        title = f"Ledger of {ROWS:,} rows in {database}"
        fewer = f"ours, ledger of {FEWER_ROWS:,} rows"
        for name, what in SAME.items():
            rows.append(
                compare(f"{title}, {what}: time", large[name], small[name], "{:.3f} s", fewer, TARGET)
            )
        years, other = (large["year before"], large["year"]), "ours, same ledger, a year of 25,000 rows"
        what = f"{title}, the page of a year of 390,000 rows: time"
        rows.append(compare(what, *years, "{:.2f} s", other, their_text="{:.3f} s"))
        bought, fewer = (f"{each['purchases']:,.0f} purchases" for each in (large, small))
        for what, name, form in (("time", "seconds", "{:.1f} s"), ("memory", "megabytes", "{:.0f} MB")):
            title_of_report = f"{title}, the report on a year in which {bought} were retired: {what}"
            rows.append(compare(title_of_report, large[name], small[name], form, f"ours, {fewer}"))
    return rows


if __name__ == "__main__":
    run(main)
