"""Tables of any source as rows of text, read by header, one row at a time: CSV, gzip, or mappings."""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Protocol

from airflow_provider_carbonmark.emissions.errors import EmissionsError, shown

_BLOCK_BYTES = 128 * 1024
_LONGEST_LINE_BYTES = 16 * 1024 * 1024
_COLUMNS_SHOWN = 40


class _Opens(Protocol):
    def open(self, mode: Any = ...) -> Any: ...


class _Reads(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


EmissionsSource = _Opens | _Reads | Iterable[Mapping[str, Any]]


class _Reader(Protocol):
    """What ``csv.reader`` is: rows of text that know their place."""

    @property
    def line_num(self) -> int: ...

    def __iter__(self) -> Iterator[list[str]]: ...


@dataclass(frozen=True)
class Table:
    """
    An open table.

    :param place: what stands before a row's number in a message.
    :param rows: the rows after the header.
    :param width: how many cells each row must have.
    :param positions: where in a row the wanted columns are, in the order they were asked for.
    """

    place: str
    rows: _Reader
    width: int
    positions: tuple[int, ...]

    def error(self, problem: str) -> EmissionsError:
        return EmissionsError(f"{self.place} {self.rows.line_num}: {problem}")


@contextmanager
def open_table(source: EmissionsSource, columns: Sequence[str]) -> Iterator[Table]:
    """
    Open a source and find the columns; what the source raises while the table is in use is mapped too.

    :param source: a path with ``open("rb")``, a binary file, or an iterable of mappings.
    :param columns: the columns wanted. One with a dot (``project.id``) is also found as ``project_id`` and, in
        mappings, as ``row["project"]["id"]``.
    :raises EmissionsError: when there is no such file or column, or the file is not CSV in UTF-8. Other errors
        of a file system or database pass as they are: another attempt may succeed.
    """
    if hasattr(source, "open"):
        try:
            with source.open("rb") as stream, _csv_table(stream.read, str(source), columns) as table:
                yield table
        except (FileNotFoundError, IsADirectoryError) as error:
            raise EmissionsError(
                f"{source}: there is no such file; check the path and the month in it"
            ) from error
    elif (read := getattr(source, "read", None)) is not None:
        with _csv_table(read, str(getattr(source, "name", "emissions file")), columns) as table:
            yield table
    elif isinstance(source, Iterable) and not isinstance(source, (str, bytes, Mapping)):
        yield _record_table(source, columns)
    else:
        raise EmissionsError(
            f"source is {shown(source)}: pass a path object such as pathlib.Path or ObjectStoragePath, "
            "a binary file, or an iterable of mappings"
        )


@contextmanager
def _csv_table(read: Callable[[int], bytes], name: str, columns: Sequence[str]) -> Iterator[Table]:
    packed = io.BufferedReader(_Blocks(read), _BLOCK_BYTES)
    is_gzip = packed.peek(2).startswith(b"\x1f\x8b")  # object stores hold gzip under any name
    unpacked = gzip.GzipFile(fileobj=packed) if is_gzip else packed
    text = io.BufferedReader(_Blocks(_only_text(unpacked.read, name)), _BLOCK_BYTES)
    # strict: without it an unclosed quote would swallow the rows after it in silence.
    reader = csv.reader(io.TextIOWrapper(text, encoding="utf-8-sig", newline=""), strict=True)
    try:
        header = next(reader, None)
        if not header:
            raise EmissionsError(f"{name}: is empty; expected CSV with a header")
        positions = tuple(_position(header, column, name) for column in columns)
        yield Table(f"{name}, line", reader, len(header), positions)
    except csv.Error as error:
        # The limit on a cell is the process's (csv.field_size_limit), so it is not changed here.
        raise EmissionsError(
            f"{name}, line {reader.line_num}: {error}; close the quote, or take the long cell out of the export"
        ) from error
    except UnicodeDecodeError as error:
        # Text is decoded a step ahead: up to there the reader has taken every line that ended.
        line = reader.line_num + 1 + error.object.count(b"\n", 0, error.start)
        raise EmissionsError(
            f"{name}, line {line}: byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise EmissionsError(f"{name}: damaged or cut-off gzip ({error}); fetch the file again") from error


class _Blocks(io.RawIOBase):
    """Anything with a ``read`` as what ``io`` builds upon; closing it leaves the source open."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        super().__init__()
        self._read = read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._read(len(buffer))
        if isinstance(block, str):
            raise EmissionsError('source is a text file: open it in binary mode, "rb"')
        buffer[: len(block)] = block
        return len(block)


def _only_text(read: Callable[[int], bytes], name: str) -> Callable[[int], bytes]:
    """Refuse what is not text while it is read, before an endless line of it fills the memory."""
    offset = 0
    line_start = 0

    def read_text(size: int) -> bytes:
        nonlocal offset, line_start
        block = read(size)
        nul = block.find(b"\0")
        if nul >= 0:
            raise EmissionsError(
                f"{name}: NUL byte at offset {offset + nul}: UTF-16, or no text at all; save the file as CSV in UTF-8"
            )
        newline = block.rfind(b"\n")
        line_start = offset + newline if newline >= 0 else line_start
        offset += len(block)
        if offset - line_start > _LONGEST_LINE_BYTES:
            raise EmissionsError(
                f"{name}: a line of more than 16 MiB at offset {line_start}: this is not CSV"
            )
        return block

    return read_text


def _position(header: list[str], column: str, name: str) -> int:
    for spelling in (column, column.replace(".", "_")):
        if header.count(spelling) > 1:
            raise EmissionsError(
                f"{name}: has {header.count(spelling)} columns {spelling!r}; rename all but one"
            )
        if spelling in header:
            return header.index(spelling)
    raise _missing_column(column, header, name)


def _missing_column(column: str, present: Iterable[object], name: str) -> EmissionsError:
    names = [shown(one) for one in present]
    more = f" and {len(names) - _COLUMNS_SHOWN} more" if len(names) > _COLUMNS_SHOWN else ""
    return EmissionsError(
        f"{name}: has no column {column!r} (names are case-sensitive) but {', '.join(names[:_COLUMNS_SHOWN])}{more}; "
        "name the table's own columns with EmissionsColumns"
    )


def _record_table(source: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Table:
    records = iter(source)
    head = list(islice(records, 1))
    if not head:
        raise EmissionsError("source has no rows; a month without data is not a month without emissions")
    first = head[0]
    if not hasattr(first, "keys"):  # rows of sqlite3 and BigQuery have keys without being a Mapping
        raise EmissionsError(f"row 1 is {shown(first)}: pass mappings of column names to values")
    paths = [_path(list(first.keys()), column) for column in columns]
    return Table("row", _Records(chain(head, records), paths), len(paths), tuple(range(len(paths))))


def _path(present: list[str], column: str) -> tuple[str, ...]:
    for spelling in (column, column.replace(".", "_")):
        if spelling in present:
            return (spelling,)
    nested = tuple(column.split("."))
    if len(nested) > 1 and nested[0] in present:
        return nested
    raise _missing_column(column, present, "row 1")


class _Records:
    """Mappings as rows of text, numbered from 1."""

    def __init__(self, records: Iterable[Mapping[str, Any]], paths: Sequence[tuple[str, ...]]) -> None:
        self.line_num = 0
        self._records = records
        self._paths = paths

    def __iter__(self) -> Iterator[list[str]]:
        for record in self._records:
            self.line_num += 1
            yield [_as_text(self._value(record, path)) for path in self._paths]

    def _value(self, record: Mapping[str, Any], path: tuple[str, ...]) -> Any:
        value: Any = record
        for name in path:
            if value is None:
                return None
            try:
                value = value[name]
            except (KeyError, IndexError, TypeError):
                raise EmissionsError(
                    f"row {self.line_num}: has no column {'.'.join(path)!r}; give every row the same columns"
                ) from None
        return value


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return float.__repr__(value)  # the shortest text that is this float; a numpy float's own differs
    return value.isoformat() if isinstance(value, datetime.date) else str(value)
