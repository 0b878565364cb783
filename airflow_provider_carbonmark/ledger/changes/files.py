"""Which files runs read emissions from: written with the plan that they were read for, whatever came of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, insert, select

from airflow_provider_carbonmark.ledger.tables.database import outrun_if_taken
from airflow_provider_carbonmark.ledger.tables.rows import in_batches, run_in, run_values
from airflow_provider_carbonmark.ledger.tables.schema import source_files
from airflow_provider_carbonmark.ledger.values import SourceFile

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.names import Run
    from airflow_provider_carbonmark.ledger.questions.coverage import Scope

_c = source_files.c


@dataclass(frozen=True)
class FileOfRun(SourceFile):
    """A file that a run read the emissions of a month, ``YYYY-MM``, from; and when what it read was planned first."""

    month: str
    test_mode: bool
    run: Run
    read_at: datetime


def write(connection: Connection, scope: Scope, month: str, files: Iterable[SourceFile]) -> None:
    """
    Write down what a run read for a month, but for what it has read before.

    :raises OutrunError: when another try of the same run was faster.
    """
    rows = dict(_row(scope, month, file) for file in files)
    # In the same order by all, so that no two tries wait for each other.
    for keys in in_batches(sorted(rows)):
        known = set(connection.scalars(select(_c.file_key).where(_c.file_key.in_(keys))))
        if new := [rows[key] for key in keys if key not in known]:
            with outrun_if_taken("Another try of the run wrote down the same files first"):
                connection.execute(insert(source_files), new)


def read(connection: Connection, conditions: Collection[ColumnElement[bool]]) -> list[FileOfRun]:
    """Return files by month and mode, the oldest first."""
    names = ("path", "row_count", "sha256", "month", "test_mode", "read_at")
    # The databases agree on the order of hexadecimal digits, not of letters.
    in_order = select(source_files).where(*conditions).order_by(_c.file_key)
    found = connection.execute(in_order).mappings()
    files = [FileOfRun(**{name: row[name] for name in names}, run=run_in(row)) for row in found]
    return sorted(files, key=lambda file: (file.month, file.test_mode, file.read_at, file.path, file.sha256))


def _row(scope: Scope, month: str, file: SourceFile) -> tuple[str, dict[str, Any]]:
    about = run_values(scope.run) | {"month": month, "test_mode": scope.test_mode}
    all_of_it = json.dumps([*about.values(), file.path, file.sha256])
    key = hashlib.sha256(all_of_it.encode()).hexdigest()
    # A name need not be text on every disk.
    path = file.path.encode("utf-8", "backslashreplace").decode()
    return key, about | vars(file) | {"file_key": key, "path": path, "read_at": scope.now}
