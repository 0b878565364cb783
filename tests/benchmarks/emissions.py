"""What adding up emissions costs beyond reading the same file with `csv` alone."""

from __future__ import annotations

import random
from pathlib import Path

from tests.benchmarks.measured import progress, run_measured, scratch
from tests.benchmarks.table import Row, render

ROWS = 1_000_000
FEWER_ROWS = 100_000
ACCOUNTS = 40
ROUNDS = 5
MONTH = "2026-10"
MAX_GROWTH = 1.05  # of the peak memory, when the rows become ten times as many
HEADER = (
    "last_refresh_timestamp,location,model_version,payer_account_id,product_code,region_code,"
    "total_lbm_emissions_unit,total_lbm_emissions_value,total_mbm_emissions_unit,total_mbm_emissions_value,"
    "usage_account_id,usage_period_end,usage_period_start\n"
)


def write_table(path: Path, rows: int, months: list[str]) -> None:
    """Write an AWS export of about 190 bytes per row, the months taking turns."""
    chance = random.Random(20261021)
    with path.open("w") as file:
        file.write(HEADER)
        for number in range(rows):
            month = months[number % len(months)]
            file.write(
                "2026-11-18 04:10:00Z,US East (N. Virginia),v3.1.0,111122223333,AmazonEC2,us-east-1,"
                f"MTCO2e,{chance.random()!r},MTCO2e,{chance.random()!r},"
                f"{444455550000 + number % ACCOUNTS},{month}-28 23:59:59Z,{month}-01 00:00:00Z\n"
            )


def measure() -> tuple[dict[str, dict[str, float]], float]:
    """Run the sides in turn; give the least each took, and the megabytes of the large file."""
    with scratch() as folder:
        progress(f"emissions: writing {ROWS:,} rows twice")
        month, year, fewer = (folder / f"{name}.csv" for name in ("month", "year", "fewer"))
        write_table(month, ROWS, [MONTH])
        write_table(year, ROWS, [f"2026-{number:02}" for number in range(1, 13)])
        write_table(fewer, FEWER_ROWS, [MONTH])
        sides = {
            "ours": ("ours", month),
            "theirs": ("csv", month),
            "ours, a year": ("ours", year),
            "theirs, a year": ("csv", year),
            "ours, fewer": ("ours", fewer),
        }
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        for number in range(1, ROUNDS + 1):
            progress(f"emissions: round {number} of {ROUNDS}")
            for name, (side, path) in sides.items():
                rounds[name].append(
                    run_measured(folder, "tests.benchmarks.emissions_process", side, path, MONTH)
                )
        megabytes = month.stat().st_size / 1e6
    # The least is what the work itself takes; all above it is what else the machine did.
    least = {
        name: {figure: min(result[figure] for result in results) for figure in ("seconds", "bytes")}
        for name, results in rounds.items()
    }
    return least, megabytes


def main() -> list[Row]:
    """Compare CPU time and peak memory, the latter also with itself on a tenth of the rows."""
    found, megabytes = measure()
    rows = [
        Row(
            f"{ROWS:,} emissions rows ({megabytes:.0f} MB), {what}: CPU time",
            f"{found[ours]['seconds']:.2f} s",
            f"{found[theirs]['seconds']:.2f} s (`csv` alone)",
            found[ours]["seconds"] / found[theirs]["seconds"],
        )
        for what, ours, theirs in (
            ("all of the month", "ours", "theirs"),
            ("one month of twelve", "ours, a year", "theirs, a year"),
        )
    ]
    peak, fewer = found["ours"]["bytes"], found["ours, fewer"]["bytes"]
    return [
        *rows,
        Row(
            f"{ROWS:,} emissions rows: peak memory of the process",
            f"{peak / 1e6:.1f} MB",
            f"{found['theirs']['bytes'] / 1e6:.1f} MB (`csv` alone)",
            peak / found["theirs"]["bytes"],
        ),
        Row(
            f"Peak memory: {ROWS:,} emissions rows against {FEWER_ROWS:,}",
            f"{peak / 1e6:.1f} MB",
            f"{fewer / 1e6:.1f} MB (ours, {FEWER_ROWS:,} rows)",
            peak / fewer,
            f"≤ {MAX_GROWTH:.2f}",
            peak / fewer <= MAX_GROWTH,
        ),
    ]


if __name__ == "__main__":
    print(render(main()))
