"""Who a task is for the ledger, and which runs are over: none of another Airflow, and no test run that goes on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time import supervisor, task_runner

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.hooks.runs import deployment, is_over, run_of, task_of
from airflow_provider_carbonmark.ledger.names import LONGEST_DEPLOYMENT, Run, Task

RUN = Run("offset", "first")


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that names this Airflow."""
    return lambda name: monkeypatch.setenv("AIRFLOW__CARBONMARK__DEPLOYMENT", name)


@pytest.fixture
def in_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the task as ``dag.test()`` does."""
    comms = object.__new__(supervisor.InProcessSupervisorComms)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)


def context(*under_way: str, **more: Any) -> Any:
    """Return what a task of a run sees, in an Airflow where these runs are under way."""

    def count(dag_id: str, *, run_ids: list[str], states: list[str]) -> int:
        assert (dag_id, states) == ("offset", ["queued", "running"])
        return len({*run_ids} & {*under_way})

    ti = {"dag_id": "offset", "run_id": "first", "task_id": "link", "map_index": 3, "get_dr_count": count}
    return {"ti": SimpleNamespace(**ti | more)}


def now() -> datetime:
    return datetime.now(UTC)


def gone() -> int:
    """Return the id of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_task_is_of_its_run_and_its_run_of_the_deployment(name: Callable[[str], None]) -> None:
    assert task_of(context()) == Task(RUN, "link", 3)
    assert task_of(context(map_index=None)) == Task(RUN, "link", -1)
    name(" eu ")
    assert run_of(context()) == replace(RUN, deployment="eu")


def test_a_task_in_a_loop_whose_passes_cannot_be_told_apart_is_refused() -> None:
    for region_index in (3, None):
        assert task_of(context(region_index=region_index)) == Task(RUN, "link", 3)
    with pytest.raises(InvalidInputError, match="is in a loop.*expand"):
        task_of(context(region_index=0))


@pytest.mark.parametrize("told", ["x" * 51, "eu (test)", "eu)"])
def test_a_name_that_leaves_no_room_for_test_runs_or_looks_like_one_is_refused(
    name: Callable[[str], None], told: str
) -> None:
    name(told)
    with pytest.raises(InvalidInputError, match=r"\[carbonmark\] deployment is too long, or has a bracket"):
        deployment()


@pytest.mark.usefixtures("in_test")
def test_a_test_run_is_none_of_its_deployments_and_its_name_fits(
    name: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    name("x" * 50)
    monkeypatch.setattr(socket, "gethostname", lambda: "h" * 200)
    monkeypatch.setattr(os, "getpid", lambda: 2**32)
    told = run_of(context()).deployment
    assert told.startswith("x" * 50 + "(test h")
    assert len(told) <= LONGEST_DEPLOYMENT


def test_a_run_of_this_deployment_is_over_when_airflow_does_not_know_it_as_under_way(
    name: Callable[[str], None],
) -> None:
    assert is_over(context())(RUN, now())
    assert not is_over(context("first"))(RUN, now())
    name("eu")
    assert is_over(context())(replace(RUN, deployment="eu"), now())


@pytest.mark.parametrize("other", ["", "us", "us(test vm 1)", "(test vm 1)"])
def test_runs_of_another_deployment_are_never_over(name: Callable[[str], None], other: str) -> None:
    name("eu")
    assert not is_over(context())(replace(RUN, deployment=other), now() - timedelta(days=400))


def test_a_test_run_is_over_when_its_process_is_or_tests_another_or_after_a_day() -> None:
    ask, host = is_over(context()), socket.gethostname()[:30]

    def test_run(pid: int, on: str = host) -> Run:
        return replace(RUN, deployment=f"(test {on} {pid})")

    assert not ask(test_run(os.getppid()), now())
    assert ask(test_run(gone()), now())
    assert ask(test_run(os.getpid()), now())
    assert not ask(test_run(gone(), "elsewhere"), now() - timedelta(hours=23))
    for run in (test_run(os.getppid()), test_run(1, "elsewhere")):
        assert ask(run, now() - timedelta(hours=25))


def test_where_nothing_says_that_it_is_a_test_it_is_a_run_of_the_deployment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("airflow.sdk.execution_time.task_runner")
    monkeypatch.setitem(sys.modules, "airflow.sdk.execution_time.task_runner", None)
    assert run_of(context()) == RUN


@pytest.mark.usefixtures("in_test")
def test_to_a_test_run_only_test_runs_are_over() -> None:
    ask = is_over(context())
    assert ask(run_of(context()), now())
    assert not ask(RUN, now() - timedelta(days=400))
