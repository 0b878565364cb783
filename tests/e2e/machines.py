"""Machines of an Airflow, as far as one can play several: Celery workers, each with an ``AIRFLOW_HOME`` and DAG files of its own."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.airflow_stack import DAGS
from tests.e2e.processes import Process

if TYPE_CHECKING:
    from tests.e2e.airflow_stack import AirflowStack

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"


def celery(redis: str) -> dict[str, str]:
    """Return the environment of an Airflow that runs its tasks by Celery over this Redis."""
    return {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CELERY__BROKER_URL": f"{redis}/0",
        "AIRFLOW__CELERY__RESULT_BACKEND": f"{redis}/1",
        # The scheduler asks for results itself, and starts no processes for that.
        "AIRFLOW__CELERY__SYNC_PARALLELISM": "1",
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": f"{__name__}.hostname",
        "PYTHONPATH": str(ROOT),
    }


def hostname() -> str:
    """Return what Airflow calls the machine that this process is on."""
    return os.environ.get("MACHINE", "control")


class Machine:
    """
    A worker that runs one task at a time, to be added to an Airflow before it is started.

    :param airflow: what it works for.
    :param name: its hostname, as the API tells of each task.
    """

    def __init__(self, airflow: AirflowStack, name: str) -> None:
        self.home = airflow.home / name
        dags = shutil.copytree(DAGS, self.home / "dags")
        (bundle,) = json.loads(airflow.env[BUNDLES])
        self.worker = airflow.processes[name] = Process(
            name,
            [
                *(sys.executable, "-m", "airflow", "celery", "worker"),
                *("--concurrency=1", f"--celery-hostname={name}", "--skip-serve-logs"),
            ],
            env={
                **airflow.env,
                "AIRFLOW_HOME": str(self.home),
                "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
                BUNDLES: json.dumps([bundle | {"kwargs": {"path": str(dags)}}]),
                # One place for the logs of all, as a bucket would be.
                "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(airflow.home / "logs"),
                "MACHINE": name,
            },
            log=airflow.home / "processes" / f"{name}.log",
        )

    def kept(self) -> list[str]:
        """Return the names of the ledgers that it keeps for itself."""
        return [path.name for path in self.home.rglob("carbonmark-ledger.db*")]


@contextmanager
def without(machines: Sequence[Machine], *names: str) -> Iterator[None]:
    """Take variables from the environment of machines that have nothing to do, for a while; each is started anew for it."""
    before = [machine.worker.env for machine in machines]
    _restart(machines, [{name: env[name] for name in env.keys() - names} for env in before])
    try:
        yield
    finally:
        _restart(machines, before)


def _restart(machines: Sequence[Machine], envs: Sequence[Mapping[str, str]]) -> None:
    for machine, env in zip(machines, envs, strict=True):
        # At once: Celery takes its time to end when it is asked to, though nothing runs.
        machine.worker.kill()
        machine.worker.env = env
        machine.worker.start()
