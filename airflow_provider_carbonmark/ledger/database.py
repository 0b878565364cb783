"""Whether the ledger's database and tables are there, how they are made, and what is asked of the database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, func, insert, inspect, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from airflow_provider_carbonmark.ledger.schema import MYSQL, LedgerError, metadata, purchases, versions

SCHEMA_VERSION: Final = 1

# Names the lock that processes take while they make the tables: any number that nobody else uses.
_SCHEMA_LOCK: Final = 0x6361726264
_SCHEMA_LOCK_SECONDS: Final = 30
# What a database says that ended a transaction, of two that waited for each other: the SQL standard's code, PostgreSQL's, MySQL's.
_DEADLOCK: Final = frozenset({"40001", "40P01", 1213})


class OutrunError(Exception):
    """Another process was faster. Nothing was written; doing it again helps."""


def is_deadlock(error: DBAPIError) -> bool:
    """Tell whether the database ended the transaction, because it and another one waited for each other."""
    said = {getattr(error.orig, name, None) for name in ("sqlstate", "pgcode")}
    return bool(_DEADLOCK & {*said, *error.orig.args[:1]}) if error.orig else False


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
    Tell whether the tables are there, all of them; writes nothing.

    :raises LedgerError: when another version of this package made them.
    """
    if not inspect(connection).has_table(versions.name):
        return False
    found: Sequence[int] = connection.scalars(select(versions.c.version)).all()
    # Nothing is written before the version is: where nothing is, the tables are still being made.
    is_begun = not found and connection.execute(select(purchases.c.id).limit(1)).first() is None
    if not is_begun and list(found) != [SCHEMA_VERSION]:
        raise LedgerError(
            f"Table {versions.name} says {', '.join(map(str, found)) or 'nothing'} where this version of "
            f"airflow-provider-carbonmark knows {SCHEMA_VERSION} only: install the version that made the ledger, or a newer one"
        )
    return not is_begun


def make_schema(connection: Connection) -> None:
    """
    Make the tables where they are not there, and commit; whoever comes second waits, then finds them.

    Some databases, such as MySQL, commit after each table and index. The row that says the version comes last, so that what was cut
    off is not taken for the whole, and is finished by the next one.

    :param connection: one in a transaction that, on SQLite, already holds the write lock.
    :raises LedgerError: when the database takes the same key twice.
    """
    with _alone(connection):
        if not has_schema(connection):
            metadata.create_all(connection)
            for index in purchases.indexes:
                index.create(connection, checkfirst=True)
            _say_version(connection)
        connection.commit()


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Hold the lock of those who make tables, where it takes one: CREATE TABLE IF NOT EXISTS alone fails when two do it at once."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
    if connection.dialect.name not in MYSQL:
        yield
        return
    name = str(_SCHEMA_LOCK)
    connection.execute(select(func.get_lock(name, _SCHEMA_LOCK_SECONDS)))
    try:
        yield
    finally:
        connection.execute(select(func.release_lock(name)))


def _say_version(connection: Connection) -> None:
    """Write down the version, twice: a database that takes it can't be trusted to keep two planners apart."""
    row = insert(versions).values(only_row=1, version=SCHEMA_VERSION)
    connection.execute(row)
    try:
        with connection.begin_nested():
            connection.execute(row)
    except IntegrityError:
        return
    raise LedgerError(
        f"The database ({connection.dialect.name}) took the key of table {versions.name} twice. The ledger needs one that enforces "
        "unique keys, as data warehouses don't: name another connection in [carbonmark] ledger_conn_id, such as one of PostgreSQL"
    )
