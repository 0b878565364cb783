"""Whether the ledger's database and tables are there, and how they are made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, func, insert, inspect, select

from airflow_provider_carbonmark.offsets.ledger_schema import LedgerError, metadata, versions

SCHEMA_VERSION: Final = 1

# Names the lock that PostgreSQL's processes take while they make the tables: any number that nobody else uses.
_SCHEMA_LOCK = 0x6361726264


def sqlite_file(engine: Engine) -> Path | None:
    """Return the file that the database is in; None when it is not in one, or in one that only SQLite can tell."""
    path = engine.url.database or ":memory:"
    is_path = engine.dialect.name == "sqlite" and not path.startswith((":memory:", "file:"))
    return Path(path) if is_path else None


def is_there(engine: Engine) -> bool:
    """Tell whether there is a database to ask: to connect to an SQLite file makes it."""
    file = sqlite_file(engine)
    return file is None or file.exists()


def has_schema(connection: Connection) -> bool:
    """
    Tell whether the tables are there; writes nothing.

    :raises LedgerError: when another version of this package made them.
    """
    if not inspect(connection).has_table(versions.name):
        return False
    found: Sequence[int] = connection.scalars(select(versions.c.version)).all()
    if list(found) != [SCHEMA_VERSION]:
        raise LedgerError(
            f"Table {versions.name} says {', '.join(map(str, found)) or 'nothing'} where this version of "
            f"airflow-provider-carbonmark knows {SCHEMA_VERSION} only: install the version that made the ledger, or a newer one"
        )
    return True


def make_schema(connection: Connection) -> None:
    """
    Make the tables where they are not there; whoever comes second waits, then finds them.

    :param connection: one in a transaction that, on SQLite, already holds the write lock.
    """
    if connection.dialect.name == "postgresql":
        # CREATE TABLE IF NOT EXISTS alone fails when two do it at once.
        connection.execute(select(func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
    if not has_schema(connection):
        metadata.create_all(connection)
        connection.execute(insert(versions).values(only_row=1, version=SCHEMA_VERSION))
