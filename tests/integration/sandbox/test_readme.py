"""The sandbox's README: whole, and its example does what it says."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from airflow_provider_carbonmark import sandbox
from airflow_provider_carbonmark.hooks.runs import is_over
from airflow_provider_carbonmark.ledger.names import Run
from airflow_provider_carbonmark.sandbox.switches import Switches
from airflow_provider_carbonmark.sandbox.world.cards import cards_as_markdown

README = (Path(sandbox.__file__).with_name("README.md")).read_text(encoding="utf-8")
DAGS = Path(__file__).parents[3] / "dags"


def test_it_lists_every_card_and_every_switch():
    assert cards_as_markdown() in README
    assert [name for name in Switches.model_fields if f"`{name}`" not in README] == []


def test_its_example_passes_as_a_user_s_own_test(database, tmp_path, tmp_path_factory):
    kept = tmp_path_factory.mktemp("kept")
    (example,) = [
        block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "def test_" in block
    ]
    (tmp_path / "test_example.py").write_text(example)
    # Parsing the others takes longer than the test.
    for name in re.findall(r"^from (carbonmark_\w+) import", example, re.MULTILINE):
        shutil.copy(DAGS / f"{name}.py", tmp_path)
    # Its DAG and run are for no other test to find.
    shutil.copy(Path(os.environ["AIRFLOW_HOME"]) / "airflow.db", tmp_path)
    homes = {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path)}
    done = subprocess.run(
        f"{sys.executable} -m pytest -q -p no:cacheprovider --basetemp={kept} test_example.py".split(),
        env={**os.environ, **homes, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    # Its runs, by dag.test(), are none of the deployment's, and are over with their process.
    (file,) = {each.resolve() for each in kept.glob("*/carbonmark-ledger.db")}
    with closing(sqlite3.connect(file)) as ledger:
        (run,) = (
            Run(*row) for row in ledger.execute("SELECT dag_id, run_id, deployment FROM carbonmark_purchases")
        )
    assert run.deployment.startswith("(test ")
    assert is_over({"ti": None})(run, datetime.now(UTC))
