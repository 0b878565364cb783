"""
A worker process of the stress test: runs one try of a task against the real sandbox and ledger, and may kill itself at any point.

It is forked from a server that has imported this module, so that it starts in milliseconds.
"""

from __future__ import annotations

import gc
import os
import signal
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.sdk.definitions.connection import Connection as AirflowConnection

from airflow_provider_carbonmark.operators.payment import PARKING
from tests.integration.airflow.model import Worker, make_operator

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.names import Task

SUCCESS, SKIPPED, FAILED, AWAITING, RETRY = "success", "skipped", "failed", "awaiting", "retry"


@dataclass(frozen=True)
class Order:
    """
    What to run.

    :param environment: where Carbonmark and the ledger are.
    :param event: what resumes the task; None starts it.
    :param kill_at: the number of the point at which the process kills itself; None never.
    """

    task: Task
    arguments: dict[str, Any]
    environment: Mapping[str, str]
    log: str
    event: dict[str, Any] | None = None
    kill_at: int | None = None


@dataclass
class _Killer:
    at: int | None
    reached: int = field(default=0)

    def __call__(self, point: str) -> None:
        if self.reached == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.reached += 1


def run(order: Order, airflow: Connection) -> None:
    """Run the task, asking Airflow through the pipe, and say how it ended."""
    os.environ.update(order.environment)
    log = os.open(order.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)

    def send(name: str, *arguments: Any) -> Any:
        airflow.send((name, arguments))
        return airflow.recv()

    worker = Worker(order.task, send, reach=_Killer(order.kill_at))
    airflow.send(("over", _outcome(worker, order)))


def _outcome(worker: Worker, order: Order) -> tuple[str, str]:
    try:
        worker.run(make_operator(order.task.task_id, order.arguments), order.event)
    except AirflowSkipException as skipped:
        return SKIPPED, str(skipped)
    except AirflowFailException as failed:
        return FAILED, str(failed)
    except PARKING:
        return AWAITING, ""
    except Exception:
        return RETRY, traceback.format_exc()
    return SUCCESS, ""


def _warm_up() -> None:
    """Import here, once, what each process would import for itself when it first needs it."""
    for late in (
        "airflow.sdk.execution_time.supervisor",
        "airflow_provider_carbonmark.api.client",
        "airflow_provider_carbonmark.emissions.sums",
        "airflow_provider_carbonmark.ledger.book",
        "airflow_provider_carbonmark.hooks.return_url",
        "encodings.idna",
        "psycopg2",
    ):
        import_module(late)
    AirflowConnection(conn_id="books", conn_type="postgres").get_hook()
    gc.freeze()


_warm_up()
