"""The ledger's database: connections, and transactions that are all or nothing on every database."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from airflow_provider_carbonmark.ledger.names import LedgerError, LedgerUnreachableError
from airflow_provider_carbonmark.ledger.tables import versions

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from airflow_provider_carbonmark.ledger.tables.versions import Identity

log = logging.getLogger(__name__)

_ATTEMPTS: Final = 20
_BUSY_MILLISECONDS: Final = 30_000
# What a database says that ended a transaction, of two that waited for each other: the SQL standard's code, PostgreSQL's, MySQL's.
_DEADLOCK: Final = frozenset({"40001", "40P01", 1213})

_Result = TypeVar("_Result")


class OutrunError(Exception):
    """Another process was faster. Nothing was written; doing it again helps."""


class Database:
    """
    A database that a ledger is in, or will be: the tables are made by the first write, and before it all reading gives nothing.

    Every call takes a connection for its own time only.

    :param engine: as for :class:`~airflow_provider_carbonmark.ledger.book.Ledger`; the first write tries its unique keys out.
    :param deployment: the Airflow that opens it, whose rows those of a ledger of version 1 become.
    """

    def __init__(self, engine: Engine, deployment: str) -> None:
        self._engine = engine
        self._deployment = deployment
        self._identity: Identity | None = None

    @property
    def place(self) -> str:
        return place(self._engine)

    @contextmanager
    def reading(self) -> Iterator[Connection | None]:
        """
        Give a connection, or None where there are no tables yet; makes none, nor a file for them.

        Those of an older version are brought up to date first: a reader needs today's.
        """
        if not self._is_there():
            yield None
            return
        if self._identity is None:
            with self._opening(), self._connected() as connection:
                found = versions.identity(connection)
            if found is not None and found.version != versions.LATEST:
                self.make_tables()
            else:
                self._identity = found
        with self._connected() as connection:
            yield connection if self._identity else None

    def identity(self) -> Identity | None:
        """Return what tells this ledger from others; None where there are no tables yet."""
        if self._identity is None:
            with self.reading():
                pass
        return self._identity

    def make_tables(self) -> None:
        """Make the tables where they are not there, or bring those of an older version up to date."""
        if self._identity is None:
            with self._opening():
                if file := _sqlite_file(self._engine):
                    file.parent.mkdir(parents=True, exist_ok=True)
            self._use_wal()
            self._identity = self._until_first(
                lambda connection: versions.make_tables(connection, self._deployment),
                "Making the ledger's tables",
            )

    def in_transaction(self, act: Callable[[Connection], _Result], doing: str) -> _Result:
        """
        Act in a transaction; if another process was faster, once more, from the start.

        :raises LedgerError: when others were faster 20 times.
        """
        self.make_tables()
        return self._until_first(act, doing)

    def _until_first(self, act: Callable[[Connection], _Result], doing: str) -> _Result:
        for _ in range(_ATTEMPTS):
            try:
                with self._writing() as connection:
                    return act(connection)
            except OutrunError as outrun:
                log.info("%s; reading again", outrun)
        raise LedgerError(
            f"{doing}: others were faster {_ATTEMPTS} times; try again, with fewer runs at once"
        )

    def _is_there(self) -> bool:
        # To connect to an SQLite file makes it.
        file = _sqlite_file(self._engine)
        return file is None or file.exists()

    def _use_wal(self) -> None:
        """Let SQLite's readers go on while somebody writes; the file remembers."""
        if self._engine.dialect.name == "sqlite":
            # Another process may be at it already, and SQLite doesn't always wait for that.
            with self._opening(), self._connected() as connection, suppress(OperationalError):
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """Say of which database it is that it can't be opened."""
        try:
            yield
        except (DBAPIError, OSError) as error:
            said = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
            raise LedgerUnreachableError(f"The ledger, {self.place}, can't be opened: {said}") from error

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with self._opening():
            connection = self._engine.connect()
        with connection:
            with self._opening():
                if connection.dialect.name == "sqlite":
                    # Python's driver would begin a transaction only at the first change, after what it was based on was read.
                    connection.execution_options(isolation_level="AUTOCOMMIT")
                    connection.exec_driver_sql(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
                    connection.exec_driver_sql("PRAGMA foreign_keys = ON")
                else:
                    # A planner that is turned away must see, on reading again, what turned it away.
                    connection.execution_options(isolation_level="READ COMMITTED")
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Give a connection in a transaction; on SQLite with the write lock from its start."""
        with self._connected() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.commit()
            except BaseException as error:
                connection.rollback()
                if isinstance(error, DBAPIError) and _is_deadlock(error):
                    raise OutrunError("Another process held what was to be changed") from error
                raise


def place(engine: Engine) -> str:
    """Name a database for a message; without a password."""
    file = _sqlite_file(engine)
    return f"SQLite file {file}" if file else engine.url.render_as_string(hide_password=True)


@contextmanager
def outrun_if_taken(what: str) -> Iterator[None]:
    """Take it for another process's being faster when the database refuses a key as taken."""
    try:
        yield
    except IntegrityError as clash:
        raise OutrunError(what) from clash


def _sqlite_file(engine: Engine) -> Path | None:
    """Return the file that the database is in; None when it is not in one, or in one that only SQLite can tell."""
    path = engine.url.database or ":memory:"
    is_path = engine.dialect.name == "sqlite" and not path.startswith((":memory:", "file:"))
    return Path(path) if is_path else None


def _is_deadlock(error: DBAPIError) -> bool:
    """Tell whether the database ended the transaction, because it and another one waited for each other."""
    said = {getattr(error.orig, name, None) for name in ("sqlstate", "pgcode")}
    return bool(_DEADLOCK & {*said, *error.orig.args[:1]}) if error.orig else False
