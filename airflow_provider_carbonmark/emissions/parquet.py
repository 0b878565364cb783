"""Tables in Parquet, a batch of rows at a time; pyarrow comes with the extra ``parquet``."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow_provider_carbonmark.emissions.errors import EmissionsError
from airflow_provider_carbonmark.emissions.tables import Table, as_text, find_columns, position_of

if TYPE_CHECKING:
    from airflow_provider_carbonmark.emissions.columns import EmissionsColumns

_BATCH_ROWS = 16 * 1024
_PAGE_BYTES = 64 * 1024


@contextmanager
def parquet_table(stream: BinaryIO, path: str, columns: EmissionsColumns) -> Iterator[Table]:
    """
    Read Parquet, of which only the wanted columns are decoded.

    :param stream: unpacked. Parquet is read from its end, so it is copied to a temporary file first.
    :param path: its name in messages.
    :raises EmissionsError: when pyarrow is not installed, a column is missing, or the file is damaged.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise EmissionsError(
            f"{path}: is Parquet, which takes pyarrow: pip install 'airflow-provider-carbonmark[parquet]'"
        ) from None
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(stream, copy)
        copy.seek(0)
        try:
            # A buffer: a row group may be the whole file, and is then read page by page.
            with ParquetFile(copy, buffer_size=_PAGE_BYTES) as file:
                rows = _Batches(file, path, columns)
                yield Table(f"{path}, row", rows, len(rows.positions), rows.positions, path)
        except (ArrowException, OSError):
            # The file is a local copy: what goes wrong is what is in it. Arrow's message may quote it, so it is not shown.
            raise EmissionsError(f"{path}: damaged Parquet; fetch the file again") from None


class _Batches:
    """The rows of a Parquet file as text, numbered from 1."""

    def __init__(self, file: Any, path: str, columns: EmissionsColumns) -> None:
        self.line_num = 0
        self._file = file
        self._path = path
        schema = file.schema_arrow
        self._paths = find_columns(columns.wanted, columns, lambda column: _path(schema, column, path), path)
        self.positions = {column: position for position, column in enumerate(self._paths)}

    def __iter__(self) -> Iterator[list[str]]:
        leaves = [".".join(path) for path in self._paths.values()]
        for batch in self._file.iter_batches(_BATCH_ROWS, columns=leaves):
            cells = [self._texts(batch, column) for column in self._paths]
            for row in zip(*cells, strict=True):
                self.line_num += 1
                yield list(row)

    def _texts(self, batch: Any, column: str) -> list[str]:
        import pyarrow
        from pyarrow import compute, types

        top, *below = self._paths[column]
        values = batch.column(batch.schema.get_field_index(top))
        for name in below:
            values = compute.struct_field(values, name)  # null where the struct is
        others = (types.is_nested, types.is_binary, types.is_large_binary, types.is_fixed_size_binary)
        if any(is_of(values.type) for is_of in (*others, types.is_time, types.is_duration)):
            raise EmissionsError(
                f"{self._path}: column {column!r} holds no text, numbers or dates; of what is nested name the part, such as project.id"
            )
        if types.is_timestamp(values.type):
            # Nanoseconds would take pandas; a month needs none of them.
            microseconds = pyarrow.timestamp("us", values.type.tz)
            values = values.cast(options=compute.CastOptions(microseconds, allow_time_truncate=True))
        if types.is_float32(values.type):
            values = values.cast(pyarrow.string())  # 0.1, which as a float of Python is 0.10000000149
        try:
            return [as_text(value) for value in values.to_pylist()]
        except (OverflowError, LookupError):
            raise EmissionsError(
                f"{self._path}: column {column!r} holds times after the year 9999, or in a time zone that nobody knows; have them written as text"
            ) from None


def _path(schema: Any, column: str, place: str) -> list[str] | None:
    """Return where a column is: its name, or the names that lead into a struct; None for nowhere."""
    from pyarrow import types

    if (position := position_of(column, schema.names, place)) is not None:
        return [schema.names[position]]
    names = column.split(".")
    fields = schema
    for name in names[:-1]:
        if fields.get_field_index(name) < 0 or not types.is_struct(fields.field(name).type):
            return None
        fields = fields.field(name).type
    return names if fields.get_field_index(names[-1]) >= 0 else None
