"""The deployment's ledger, wherever its configuration says it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    BaseHook,
    conf,
)

from airflow_provider_carbonmark.hooks.carbonmark import failing_without_retry
from airflow_provider_carbonmark.hooks.runs import deployment
from airflow_provider_carbonmark.ledger.purchase import HandledElsewhereError, LedgerError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from airflow_provider_carbonmark.ledger import Ledger

DEFAULT_FILE = "carbonmark-ledger.db"


@contextmanager
def open_ledger() -> Iterator[Ledger]:
    """
    Give the ledger, and let go of its database on leaving.

    It is in the database of the connection ``[carbonmark] ledger_conn_id``, else in the SQLite file ``[carbonmark] ledger_path``.

    :raises LedgerError: when the connection is none of a database.
    """
    # Imported late: a DAG file needs none of SQLAlchemy.
    from airflow_provider_carbonmark.ledger import Ledger

    engine = _engine()
    try:
        yield Ledger(engine, deployment())
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


def ledger_path() -> Path:
    """Return the SQLite file that holds the ledger where no connection is configured."""
    configured = (conf.get("carbonmark", "ledger_path", fallback=None) or "").strip()
    return (
        Path(configured).expanduser()
        if configured
        else Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / DEFAULT_FILE
    )


def _conn_id() -> str:
    return (conf.get("carbonmark", "ledger_conn_id", fallback=None) or "").strip()


def _engine() -> Engine:
    from sqlalchemy import NullPool, create_engine

    conn_id = _conn_id()
    if not conn_id:
        return create_engine(f"sqlite:///{ledger_path()}", poolclass=NullPool)
    from airflow.providers.common.sql.hooks.sql import DbApiHook

    hook = BaseHook.get_hook(conn_id)
    if not isinstance(hook, DbApiHook):
        raise LedgerError(
            f"[carbonmark] ledger_conn_id names the connection {conn_id!r}, which is no database ({type(hook).__name__}). "
            "Name one of a database, such as PostgreSQL, or leave it empty for an SQLite file."
        )
    # A task needs one connection for a moment; a pool would keep more for longer.
    return hook.get_sqlalchemy_engine(engine_kwargs={"poolclass": NullPool})
