"""What adding up emissions costs beyond reading the same file with `csv`, `pyarrow` or `json` alone."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta
from pathlib import Path

from tests.benchmarks.measured import progress, run_measured, scratch
from tests.benchmarks.table import Row, render

ROWS = 1_000_000
FEWER_ROWS = 100_000
ACCOUNTS = 40
RUNS = 400
ROUNDS = 3
MONTH = "2026-10"
MAX_GROWTH = 1.10  # of the peak memory, when the rows become ten times as many
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


def write_totals(path: Path, rows: int) -> None:
    """Write what CodeCarbon writes with a flush now and then: the runs taking turns, each growing."""
    start = datetime(2026, 10, 1)
    with path.open("w") as file:
        file.write(
            "timestamp,project_name,run_id,experiment_id,duration,emissions,emissions_rate,country_name,os\n"
        )
        for number in range(rows):
            run, flushes = number % RUNS, number // RUNS
            when = (start + timedelta(seconds=number)).isoformat()
            project, name = f"project-{run % ACCOUNTS}", f"2edf50bd-8bee-48a2-b053-{run:012}"
            total = f"{flushes * 1.4002835663386364e-06!r}"
            file.write(
                f"{when},{project},{name},5b0fa12a,{flushes * 15},{total},4.64e-06,Germany,Linux-6.18\n"
            )


def write_others(table: Path) -> None:
    """Write a CSV as Parquet and as JSON lines beside it."""
    from pyarrow import csv, parquet

    names = [name for name in HEADER.strip().split(",") if not name.endswith("_value")]
    texts = csv.ConvertOptions(column_types=dict.fromkeys(names, "string"))
    found = csv.read_csv(table, convert_options=texts)
    parquet.write_table(found, table.with_suffix(".parquet"))
    with table.with_suffix(".jsonl").open("w") as file:
        for batch in found.to_batches(10_000):
            file.writelines(f"{json.dumps(row)}\n" for row in batch.to_pylist())


#: What is read, the file and who reads it besides us.
KINDS = {
    "all of the month": ("month.csv", "csv"),
    "one month of twelve": ("year.csv", "csv"),
    "running totals": ("totals.csv", "csv"),
    "Parquet": ("month.parquet", "pyarrow"),
    "JSON lines": ("month.jsonl", "json"),
}


def measure() -> tuple[dict[tuple[str, str], dict[str, float]], dict[str, float]]:
    """Run the sides in turn; give the least each took by kind and side, and the megabytes of each file."""
    with scratch() as folder:
        progress(f"emissions: writing {ROWS:,} rows five times")
        for rows, name in ((ROWS, "."), (FEWER_ROWS, "fewer")):
            (folder / name).mkdir(exist_ok=True)
            write_table(folder / name / "month.csv", rows, [MONTH])
            write_table(folder / name / "year.csv", rows, [f"2026-{number:02}" for number in range(1, 13)])
            write_totals(folder / name / "totals.csv", rows)
            write_others(folder / name / "month.csv")
        rounds: dict[tuple[str, str], list[dict[str, float]]] = {}
        for number in range(1, ROUNDS + 1):
            progress(f"emissions: round {number} of {ROUNDS}")
            for kind, (file, other) in KINDS.items():
                for side, path in (
                    ("ours", folder / file),
                    (other, folder / file),
                    ("fewer", folder / "fewer" / file),
                ):
                    reader = other if side == other else "ours"
                    result = run_measured(folder, "tests.benchmarks.emissions_process", reader, path, MONTH)
                    rounds.setdefault((kind, side), []).append(result)
        megabytes = {kind: (folder / file).stat().st_size / 1e6 for kind, (file, _) in KINDS.items()}
    # The least is what the work itself takes; all above it is what else the machine did.
    least = {
        key: {figure: min(result[figure] for result in results) for figure in ("seconds", "bytes")}
        for key, results in rounds.items()
    }
    return least, megabytes


def main() -> list[Row]:
    """Compare CPU time and peak memory, the latter also with itself on a tenth of the rows."""
    found, megabytes = measure()
    rows = []
    for kind, (_, other) in KINDS.items():
        ours, theirs = found[kind, "ours"], found[kind, other]
        what = f"{ROWS:,} emissions rows ({megabytes[kind]:.0f} MB), {kind}"
        seconds = (ours["seconds"], theirs["seconds"])
        rows.append(
            Row(
                f"{what}: CPU time",
                f"{seconds[0]:.2f} s",
                f"{seconds[1]:.2f} s (`{other}` alone)",
                seconds[0] / seconds[1],
            )
        )
        peak, fewer = ours["bytes"], found[kind, "fewer"]["bytes"]
        rows.append(
            Row(
                f"{what}: peak memory against {FEWER_ROWS:,} rows",
                f"{peak / 1e6:.1f} MB",
                f"{fewer / 1e6:.1f} MB (ours; `{other}` alone: {theirs['bytes'] / 1e6:.1f} MB)",
                peak / fewer,
                f"≤ {MAX_GROWTH:.2f}",
                peak / fewer <= MAX_GROWTH,
            )
        )
    return rows


if __name__ == "__main__":
    print(render(main()))
