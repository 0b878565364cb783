"""
Which version the ledger's tables are of, how they are made, and the steps from each version to the next.

Whatever is cut off is finished by the next one. Where the database commits after each table, as MySQL does, the row that tells the
version comes last: with it, in one transaction, what a step carries over.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, func, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError

from airflow_provider_carbonmark.ledger.names import LedgerError
from airflow_provider_carbonmark.ledger.tables import version_1, version_2, version_3
from airflow_provider_carbonmark.ledger.tables.columns import MYSQL
from airflow_provider_carbonmark.ledger.tables.schema import metadata, purchases, versions

LATEST: Final = 4

# Names the lock that processes take while they make the tables: any number that nobody else uses.
_LOCK: Final = 0x6361726264
_LOCK_SECONDS: Final = 600


@dataclass(frozen=True)
class Identity:
    """What tells a ledger from others: its id and signing key, both empty before version 2; and the version of its tables."""

    version: int
    ledger: str = ""
    signing_key: bytes = field(default=b"", repr=False)


def identity(connection: Connection) -> Identity | None:
    """
    Tell which ledger this is; None where the tables are not there, or not all of them. Writes nothing.

    :raises LedgerError: when a newer version of this package made them.
    """
    inspector = inspect(connection)
    if not inspector.has_table(versions.name):
        return None
    # By name: version 1 has neither an id nor a key.
    found = connection.execute(text(f"SELECT * FROM {versions.name}")).mappings().one_or_none()
    if found is None:
        # Nothing is written before the version is: where nothing is, the tables are still being made.
        if inspector.has_table(purchases.name) and connection.scalar(
            select(func.count()).select_from(purchases)
        ):
            raise LedgerError(
                f"Table {versions.name} is empty and {purchases.name} is not: restore the ledger"
            )
        return None
    if not 1 <= found["version"] <= LATEST:
        raise LedgerError(
            f"Table {versions.name} says {found['version']} where this version of airflow-provider-carbonmark knows up to {LATEST}: "
            "install the version that made the ledger, or a newer one"
        )
    key = bytes.fromhex(found.get("signing_key") or "")
    return Identity(found["version"], found.get("ledger") or "", key)


def make_tables(connection: Connection, deployment: str) -> Identity:
    """
    Make the tables where they are not there, bring older ones up to date, and commit; whoever comes second waits, then finds them.

    :param connection: one in a transaction that, on SQLite, already holds the write lock.
    :param deployment: whose runs the rows of version 1 are, which knew of one Airflow only.
    :raises LedgerError: when the database takes the same key twice, or others make the tables for more than ten minutes.
    """
    with _alone(connection):
        found = identity(connection)
        if found is None or found.version != LATEST:
            # Where version 1 was cut off while it made its tables, they are put aside as well.
            version_1.put_aside(connection)
            version_2.add_columns(connection, version_2.ADDED + version_3.ADDED)
            inspector = inspect(connection)
            half_made = [table for table in metadata.sorted_tables if inspector.has_table(table.name)]
            metadata.create_all(connection)
            for index in (index for table in half_made for index in table.indexes):
                index.create(connection, checkfirst=True)
            known = found or Identity(LATEST)
            key = known.signing_key or secrets.token_bytes(32)
            latest = Identity(LATEST, known.ledger or str(uuid.uuid4()), key)
            if found is None:
                _say_version(connection, latest)
            else:
                if found.version == 1:
                    version_1.carry_over(connection, deployment)
                if found.version <= 2:
                    version_2.carry_over(connection)
                version_3.carry_over(connection)
                connection.execute(update(versions).values(_row(latest)))
            found = latest
        connection.commit()
        return found


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Hold the lock of those who make tables, where it takes one: CREATE TABLE IF NOT EXISTS alone fails when two do it at once."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    if connection.dialect.name not in MYSQL:
        yield
        return
    if not connection.scalar(select(func.get_lock(str(_LOCK), _LOCK_SECONDS))):
        raise LedgerError(
            f"Another process has been making the ledger's tables for {_LOCK_SECONDS} s; try again when it is done"
        )
    try:
        yield
    finally:
        connection.execute(select(func.release_lock(str(_LOCK))))


def _row(identity: Identity) -> dict[str, object]:
    return {
        "only_row": 1,
        "version": identity.version,
        "ledger": identity.ledger,
        "signing_key": identity.signing_key.hex(),
    }


def _say_version(connection: Connection, identity: Identity) -> None:
    """Write down the version, twice: a database that takes it can't be trusted to keep two planners apart."""
    row = insert(versions).values(_row(identity))
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
