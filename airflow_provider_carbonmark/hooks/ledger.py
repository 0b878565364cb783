"""The deployment's ledger, wherever its configuration says it is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
    BaseHook,
    conf,
)

from airflow_provider_carbonmark.api.inputs import parse_money
from airflow_provider_carbonmark.hooks.carbonmark import failing_without_retry
from airflow_provider_carbonmark.hooks.runs import deployment
from airflow_provider_carbonmark.ledger.names import (
    HandledElsewhereError,
    LedgerError,
    LedgerUnreachableError,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from airflow_provider_carbonmark.ledger import Ledger

DEFAULT_FILE = "carbonmark-ledger.db"

#: The executor whose tasks run on the machine of the scheduler, by the names that the configuration may give it.
_LOCAL = frozenset({"LocalExecutor", "airflow.executors.local_executor.LocalExecutor"})
#: What executors tell the containers that they start for a task. Airflow's pod templates configure LocalExecutor in their pods.
_CONTAINERS = {
    "AIRFLOW_IS_K8S_EXECUTOR_POD": "KubernetesExecutor",
    "AIRFLOW_IS_EXECUTOR_CONTAINER": "An executor of containers",
}


@contextmanager
def open_ledger() -> Iterator[Ledger]:
    """
    Give the ledger, and let go of its database on leaving.

    It is in the database of the connection ``[carbonmark] ledger_conn_id``, else in the SQLite file ``[carbonmark] ledger_path``.

    :raises LedgerError: when the connection is none of a database, and when neither is configured and tasks run on several machines.
    :raises LedgerUnreachableError: when the database can't be opened. Another try may help.
    :raises AirflowNotFoundException: when the connection isn't defined, or can't be read right now.
    """
    # Imported late: a DAG file needs none of SQLAlchemy.
    from airflow_provider_carbonmark.ledger import Ledger

    engine = _engine()
    try:
        yield Ledger(engine, deployment())
    except LedgerUnreachableError as error:
        by = (
            "ledger_conn_id and that connection"
            if ledger_conn_id()
            else "ledger_path: all tasks and API servers have to be able to write there"
        )
        raise LedgerUnreachableError(f"{error}. Check [carbonmark] {by}") from error
    finally:
        engine.dispose()


@contextmanager
def keeping_books() -> Iterator[Ledger]:
    """
    Give the ledger to a task: what it refuses fails the task without a retry, and a purchase of another run's skips it.

    :raises AirflowSkipException: when another run carries the purchase on.
    :raises AirflowFailException: when the ledger refuses for another reason, or what it is given is bad input.
    """
    try:
        with failing_without_retry(), open_ledger() as ledger:
            yield ledger
    except HandledElsewhereError as elsewhere:
        raise AirflowSkipException(str(elsewhere)) from elsewhere
    except LedgerError as refusal:
        raise AirflowFailException(str(refusal)) from refusal


def minimum_payment_usd() -> Decimal:
    """
    Return the least that can be paid, USD.

    :raises InvalidInputError: when the configuration says no amount of money.
    """
    # assumed: what Stripe, which takes the payments, documents for card payments in USD; the service names no minimum of its own.
    configured = (conf.get("carbonmark", "minimum_payment_usd", fallback=None) or "0.50").strip()
    return parse_money(configured, "[carbonmark] minimum_payment_usd")


def ledger_conn_id() -> str:
    """Return the connection of the database that holds the ledger; empty where it is an SQLite file."""
    return (conf.get("carbonmark", "ledger_conn_id", fallback=None) or "").strip()


def ledger_path() -> Path:
    """
    Return the SQLite file that holds the ledger where no connection is configured.

    :raises LedgerError: when a relative path is configured; when no file is, and tasks run where the default one would not be seen.
    """
    if configured := (conf.get("carbonmark", "ledger_path", fallback=None) or "").strip():
        path = Path(configured).expanduser()
        if not path.is_absolute():
            raise LedgerError(
                f"[carbonmark] ledger_path is no whole path (got {configured!r}): each process would keep a ledger of its own in the folder that it "
                f"was started in. Give one such as /srv/airflow/{DEFAULT_FILE}"
            )
        return path
    default = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / DEFAULT_FILE
    if executor := _executor_elsewhere():
        raise LedgerError(
            f"{executor} runs tasks on more than one machine, and each would keep a ledger of its own in {default}: what one bought, "
            "another would buy again. Set [carbonmark] ledger_conn_id to the connection of a database, such as PostgreSQL, "
            "or ledger_path to a file that all machines mount"
        )
    return default


def _executor_elsewhere() -> str | None:
    """Return the first executor of this deployment that may run tasks on other machines; None when there is none."""
    for marker, executor in _CONTAINERS.items():
        if os.environ.get(marker):
            return executor
    # Such as "LocalExecutor,K8S:KubernetesExecutor;team1=my.package.MyExecutor": lists of executors, by team, with an alias or without.
    configured = conf.get("core", "executor", fallback=None) or "LocalExecutor"
    for entry in re.split("[,;]", configured):
        executor = re.sub(".*[=:]", "", entry).strip()
        if executor and executor not in _LOCAL:
            return executor.rpartition(".")[2]
    return None


def _engine() -> Engine:
    from sqlalchemy import NullPool, create_engine

    conn_id = ledger_conn_id()
    if not conn_id:
        return create_engine(f"sqlite:///{ledger_path()}", poolclass=NullPool)
    from airflow.providers.common.sql.hooks.sql import DbApiHook

    try:
        hook = BaseHook.get_hook(conn_id)
    except AirflowNotFoundException as missing:
        raise AirflowNotFoundException(
            f"[carbonmark] ledger_conn_id names the connection {conn_id!r}, which isn't defined. Add one of that id for a database, such as "
            "PostgreSQL, or leave the option empty for an SQLite file"
        ) from missing
    if not isinstance(hook, DbApiHook):
        raise LedgerError(
            f"[carbonmark] ledger_conn_id names the connection {conn_id!r}, which is no database ({type(hook).__name__}). "
            "Name one of a database, such as PostgreSQL, or leave it empty for an SQLite file."
        )
    # A task needs one connection for a moment; a pool would keep more for longer.
    return hook.get_sqlalchemy_engine(engine_kwargs={"poolclass": NullPool})
