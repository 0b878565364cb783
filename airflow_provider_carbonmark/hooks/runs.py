"""Who a task is, for the ledger; and whether another run still carries on what it holds."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from airflow.providers.common.compat.sdk import conf

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.ledger.names import LONGEST_DEPLOYMENT, Run, Task

if TYPE_CHECKING:
    from airflow.sdk import Context

#: The other half is for what tells a test run: its host, shortened, and its process.
LONGEST_NAME: Final = LONGEST_DEPLOYMENT // 2
_HOST_CHARACTERS: Final = 30
#: ``dag.test()`` and ``airflow tasks test`` leave nothing behind that says whether they are over. On their own machine, their process
#: does; elsewhere, nobody tests for longer.
TEST_ENDS_AFTER: Final = timedelta(days=1)
_TEST = re.compile(r"(?P<deployment>.*)\(test (?P<host>[^()]*) (?P<pid>\d+)\)")


def deployment() -> str:
    """
    Return the name of this Airflow among those that share a ledger; empty when it needs none.

    :raises InvalidInputError: when it can't be one.
    """
    name = (conf.get("carbonmark", "deployment", fallback=None) or "").strip()
    if len(name) > LONGEST_NAME or set(name) & set("()"):
        raise InvalidInputError(
            "[carbonmark] deployment",
            "is too long, or has a bracket",
            value=name,
            remedy=f"Give a name of at most {LONGEST_NAME} characters, without brackets",
        )
    return name


def run_of(context: Context) -> Run:
    """Return the run that a task belongs to; a test run is none of its deployment's."""
    ti = context["ti"]
    name = deployment()
    return Run(ti.dag_id, ti.run_id, f"{name}(test {_host()} {os.getpid()})" if _is_test() else name)


def is_of_this_airflow(run: Run) -> bool:
    """Tell whether a run is of this deployment, test runs included."""
    test = _TEST.fullmatch(run.deployment)
    return (test["deployment"] if test else run.deployment) == deployment()


def task_of(context: Context) -> Task:
    """
    Return the task instance, whichever try it is.

    :raises InvalidInputError: when it is in a loop, whose passes can't be told apart.
    """
    ti = context["ti"]
    map_index = -1 if ti.map_index is None else ti.map_index
    # seen (3.4.0b2): the tasks of a loop's passes share all but this.
    if getattr(ti, "region_index", None) not in (None, map_index):
        raise InvalidInputError(
            f"Task {ti.task_id!r}",
            "is in a loop, where each pass would get what the first one ordered",
            remedy="Map the task instead (expand)",
        )
    return Task(run_of(context), ti.task_id, map_index)


def is_over(context: Context) -> Callable[[Run, datetime], bool]:
    """
    Return what tells whether a run, which holds something since some time, has ended or is gone.

    Runs of another deployment are never over: only that Airflow knows. Nor are any but test runs to a test run, whose Airflow may know
    of no others.
    """

    def ask(run: Run, since: datetime) -> bool:
        if not is_of_this_airflow(run):
            return False
        if test := _TEST.fullmatch(run.deployment):
            return _is_test_over(test, since)
        under_way = ["queued", "running"]
        return not (
            _is_test() or context["ti"].get_dr_count(run.dag_id, run_ids=[run.run_id], states=under_way)
        )

    return ask


def _is_test_over(test: re.Match[str], since: datetime) -> bool:
    if datetime.now(UTC) - since > TEST_ENDS_AFTER:
        return True
    pid = int(test["pid"])
    # A process tests one run after the other.
    return test["host"] == _host() and (pid == os.getpid() or not _is_alive(pid))


def _host() -> str:
    return socket.gethostname()[:_HOST_CHARACTERS]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _is_test() -> bool:
    """
    Tell whether the task runs in the process of ``dag.test()`` or ``airflow tasks test``.

    Airflow offers no public way to tell; seen on 3.2.2, 3.3.2 and 3.4.0b2: there, the supervisor that a task talks to is in the same
    process. Where that changes, a test counts as a run of the deployment.
    """
    try:
        from airflow.sdk.execution_time import task_runner
    except ImportError:
        return False
    comms = getattr(task_runner, "SUPERVISOR_COMMS", None)
    return type(comms).__name__ == "InProcessSupervisorComms"
