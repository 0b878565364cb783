"""What a DAG file pays for us, and every other process: each check in an interpreter of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

PACKAGE = "airflow_provider_carbonmark"
ROOT = Path(__file__).parents[3] / PACKAGE
MODULES = sorted(
    ".".join((PACKAGE, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if path.stem != "__main__"
)
# What every DAG file has loaded: the base classes, and the metadata that Airflow reads of every provider.
BASE = f"""
from airflow.sdk import BaseHook, BaseOperator, BaseOperatorLink, BaseSensorOperator
import airflow.triggers.base, {PACKAGE}.get_provider_info
"""
# The arithmetic of offsetting, and the ledger.
CORE = ("emissions", "planning", "ledger", "reporting")
# What a DAG file must not wait for.
HEAVY = {
    "aiohttp",
    "fastapi",
    "flask",
    "httpx_aiohttp",
    "jinja2",
    "openlineage",
    "pygal",
    "sqlalchemy",
    "starlette",
    "uvicorn",
}


def loaded_by(*modules: str, after: str = "") -> set[str]:
    """Return the modules that a fresh interpreter loads for these."""
    code = "\n".join(
        [
            after,
            "import json, sys",
            "before = set(sys.modules)",
            *(f"import {module}" for module in modules),
            "print(json.dumps(sorted(set(sys.modules) - before)))",
        ]
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(run.stdout.splitlines()[-1]))


def packages(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


def parts_of_ours(modules: set[str]) -> set[str]:
    return {module.split(".")[1] for module in modules if module.startswith(f"{PACKAGE}.")}


def test_the_core_takes_from_the_api_only_what_needs_no_client():
    modules = [module for module in MODULES if parts_of_ours({module}) & {*CORE}]
    assert len(modules) > 50
    assert f"{PACKAGE}.api.client" not in loaded_by(*modules)


def test_what_a_dag_file_plans_with_is_cheap():
    loaded = loaded_by(f"{PACKAGE}.emissions", f"{PACKAGE}.planning", f"{PACKAGE}.ledger")
    assert f"{PACKAGE}.ledger.values" in loaded
    assert not packages(loaded) & HEAVY


def test_operators_sensor_and_trigger_are_cheap_for_a_dag_file():
    loaded = loaded_by(
        *(f"{PACKAGE}.{kind}.carbonmark" for kind in ("operators", "sensors", "triggers")),
        f"{PACKAGE}.links",
        after=BASE,
    )
    assert f"{PACKAGE}.triggers.carbonmark" in loaded
    assert len(loaded) <= 25, sorted(loaded)
    assert not packages(loaded) & HEAVY
    assert "sandbox" not in parts_of_ours(loaded)


def test_the_tasks_that_keep_the_ledger_are_cheap_for_a_dag_file():
    # A DAG file with tasks of its own has loaded the decorators; Airflow's own task that asks a person costs what it costs.
    decorators = (
        "from airflow.sdk import dag, task, task_group\nimport airflow.providers.standard.operators.hitl"
    )
    loaded = loaded_by(
        *(f"{PACKAGE}.{module}" for module in ("operators.ledger", "operators.payment", "task_groups")),
        after=f"{BASE}\n{decorators}",
    )
    assert f"{PACKAGE}.hooks.ledger" in loaded
    assert len(loaded) <= 30, sorted(loaded)
    assert not packages(loaded) & HEAVY
    assert not parts_of_ours(loaded) & {"emissions", "planning", "reporting", "sandbox"}
    of_the_ledger = {module for module in loaded if module.startswith(f"{PACKAGE}.ledger")}
    assert of_the_ledger == {f"{PACKAGE}.ledger", f"{PACKAGE}.ledger.names"}


@pytest.mark.parametrize(
    ("modules", "unneeded"),
    [
        # By themselves, in a program without Airflow.
        (["api.client"], {"aiohttp", "airflow", "httpx_aiohttp"}),
        (["ledger.book"], {"aiohttp", "airflow", "httpx", "pydantic"}),
        # They wait for their first use.
        (["get_provider_info", "sandbox"], {"airflow", "fastapi", "httpx", "pydantic", "uvicorn"}),
    ],
)
def test_what_a_module_does_not_need_it_does_not_load(modules, unneeded):
    assert not packages(loaded_by(*(f"{PACKAGE}.{module}" for module in modules))) & unneeded


def test_what_every_pytest_run_imports_of_ours_is_one_module():
    ours = {PACKAGE, f"{PACKAGE}.pytest_plugin"}
    assert loaded_by(f"{PACKAGE}.pytest_plugin", after="import pytest") == ours


def test_buyers_are_served_where_what_is_not_public_of_airflow_is_another():
    gone = ("airflow.api_fastapi", "airflow.models.hitl", "airflow.models.taskinstance")
    loaded = loaded_by(f"{PACKAGE}.web.buyers.app", after=f"import sys\nsys.modules |= dict.fromkeys({gone})")
    assert f"{PACKAGE}.web.waking" in loaded


def test_the_plugin_costs_nothing_where_nothing_is_served():
    # Every Airflow process imports it; the first request to an API server brings the rest.
    loaded = loaded_by(f"{PACKAGE}.web.plugin", after=BASE)
    ours = tuple(f"{PACKAGE}.{room}" for room in (*CORE, "web"))
    assert {module for module in loaded if module.startswith(ours)} == {
        f"{PACKAGE}.web",
        f"{PACKAGE}.web.place",
        f"{PACKAGE}.web.plugin",
    }
    # The rest is what Airflow's own class of plugins brings, which from 3.4 on is a part of its SDK.
    most = 10 if version("apache-airflow-core") < "3.4" else 13
    assert len(loaded) <= most, sorted(loaded)
