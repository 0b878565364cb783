"""Real CodeCarbon, the newest and 2.3.4, in environments of their own that `make test` makes: what it writes, read, is what it returned."""

from __future__ import annotations

import csv
import json
import subprocess
from decimal import Decimal
from pathlib import Path

import pytest

from airflow_provider_carbonmark.emissions import CODECARBON, emissions_of_month

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("version", ["newest", "2.3.4"])
def test_what_codecarbon_writes_is_what_its_runs_returned(tmp_path: Path, version: str) -> None:
    python = ROOT / ".venv" / f"codecarbon-{version}" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"make .venv/codecarbon-{version}/ready")
    script = Path(__file__).with_name("codecarbon_run.py")
    done = subprocess.run([python, script, tmp_path], capture_output=True, text=True, check=True, timeout=120)
    returned = {project: Decimal(repr(kg)) / 1000 for project, kg in json.loads(done.stdout).items()}
    file, tasks = tmp_path / "emissions.csv", next(tmp_path.glob("emissions_base_*.csv"))
    with file.open(newline="") as rows:
        written = list(csv.DictReader(rows))
    month = written[0]["timestamp"][:7]

    for files in ([file], [file, tasks], [tasks, file]):
        found = {one.entity: one.emitted_tonnes for one in emissions_of_month(files, CODECARBON, month)}
        assert found == returned

    # Adding the rows up would not give this.
    flushed = sum(Decimal(row["emissions"]) for row in written if row["project_name"] == "flushed") / 1000
    assert flushed > 2 * returned["flushed"]
