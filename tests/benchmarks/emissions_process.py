"""The measured process of the emissions: `python -m tests.benchmarks.emissions_process ours|csv|pyarrow|json <file> <month>`."""

from __future__ import annotations

import csv
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path


def reader_of(side: str) -> Callable[[Path, str], object]:
    """Import what a side needs, and only that, before the clock starts."""
    if side == "ours":
        from airflow_provider_carbonmark.emissions import AWS, CODECARBON, emissions_of_month

        return lambda path, month: emissions_of_month(
            path, CODECARBON if path.stem == "totals" else AWS, month
        )
    if side == "pyarrow":
        from pyarrow.parquet import ParquetFile

        return lambda path, month: [
            None for _ in ParquetFile(path, buffer_size=64 * 1024).iter_batches(16 * 1024)
        ]
    return read_json if side == "json" else read_csv


def read_csv(path: Path, month: str) -> None:
    with path.open(newline="", encoding="utf-8") as file:
        for _ in csv.reader(file):
            pass


def read_json(path: Path, month: str) -> None:
    with path.open(encoding="utf-8") as file:
        for line in file:
            json.loads(line)


def peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        # The peak of this program; getrusage would count what the starting process had before exec.
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(side: str, path: str, month: str) -> None:
    read = reader_of(side)
    started = time.process_time()
    read(Path(path), month)
    print(json.dumps({"seconds": time.process_time() - started, "bytes": peak_bytes()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
