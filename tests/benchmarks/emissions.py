"""What adding up emissions costs beyond reading the same file with `csv`, `pyarrow` or `json` alone."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from tests.benchmarks.measured import Row, compare, in_turn, progress, run, run_measured, scratch

ROWS = 1_000_000
FEWER_ROWS = 100_000
ACCOUNTS = 40
RUNS = 400
ROUNDS = 3
MONTH = "2026-10"
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


def main() -> list[Row]:
    """Compare CPU time and peak memory, the latter also with itself on a tenth of the rows."""
    with scratch() as folder:
        progress(f"emissions: writing {ROWS:,} rows five times")
        for rows, name in ((ROWS, "."), (FEWER_ROWS, "fewer")):
            (folder / name).mkdir(exist_ok=True)
            write_table(folder / name / "month.csv", rows, [MONTH])
            write_table(folder / name / "year.csv", rows, [f"2026-{number:02}" for number in range(1, 13)])
            write_totals(folder / name / "totals.csv", rows)
            write_others(folder / name / "month.csv")
        least = in_turn(
            "emissions",
            ROUNDS,
            {
                (kind, side): partial(run_measured, folder, "emissions_process", reader, path, MONTH)
                for kind, (file, other) in KINDS.items()
                for side, reader, path in (
                    ("ours", "ours", folder / file),
                    ("theirs", other, folder / file),
                    ("fewer", "ours", folder / "fewer" / file),
                )
            },
        )
        megabytes = {kind: (folder / file).stat().st_size / 1e6 for kind, (file, _) in KINDS.items()}
    table = []
    for kind, (_, other) in KINDS.items():
        what = f"{ROWS:,} emissions rows ({megabytes[kind]:.0f} MB), {kind}"
        seconds = (least[kind, side]["seconds"] for side in ("ours", "theirs"))
        peak, theirs, fewer = (least[kind, side]["bytes"] / 1e6 for side in ("ours", "theirs", "fewer"))
        memory = f"{what}: peak memory against {FEWER_ROWS:,} rows"
        table += [
            compare(f"{what}: CPU time", *seconds, "{:.2f} s", f"`{other}` alone"),
            compare(memory, peak, fewer, "{:.1f} MB", f"ours; `{other}` alone: {theirs:.1f} MB", "≤ 1.10"),
        ]
    return table


if __name__ == "__main__":
    run(main)
