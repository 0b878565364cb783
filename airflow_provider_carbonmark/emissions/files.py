"""Files of any kind as tables: opened, unpacked, told apart by what is in them, and summed up by their SHA-256."""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from airflow_provider_carbonmark.emissions.errors import EmissionsError, shown
from airflow_provider_carbonmark.emissions.tables import Table, mapping_table
from airflow_provider_carbonmark.emissions.text import csv_table, json_table

if TYPE_CHECKING:
    from airflow_provider_carbonmark.emissions.columns import EmissionsColumns

_BLOCK_BYTES = 128 * 1024
_LONGEST_LINE_BYTES = 16 * 1024 * 1024
_PARQUET = b"PAR1"
_AS_ROWS = "read it with its own library and pass the rows, as mappings"
#: How files begin that are no text, what they are, and what to do.
_OTHER_KINDS = {
    b"Obj\x01": ("Avro", f"{_AS_ROWS} (fastavro.reader gives them)"),
    b"PK\x03\x04": ("XLSX or another ZIP", "save the sheet as CSV, or unpack the file"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", "save the sheet as CSV"),
    b"ORC": ("ORC", _AS_ROWS),
    b"SQLite format 3\0": ("SQLite", "read it with emissions_in_database"),
    b"\x28\xb5\x2f\xfd": ("packed with zstd", "unpack it, or pack it with gzip"),
    b"BZh": ("packed with bzip2", "unpack it, or pack it with gzip"),
    b"\xfd7zXZ": ("packed with xz", "unpack it, or pack it with gzip"),
    b"\x1f\x8b": ("gzip within gzip", "unpack it once"),
    b"%PDF": ("PDF", "ask for the figures as CSV"),
    b"[": ("JSON in one piece", "write JSON lines, an object a row, as `jq -c '.[]'` does, or pass the rows"),
}
_LONGEST_MARK = max(map(len, _OTHER_KINDS))


class Opens(Protocol):
    """A path object."""

    def open(self, mode: Any = ...) -> Any: ...


class Reads(Protocol):
    """A binary file."""

    def read(self, size: int = ..., /) -> bytes: ...


EmissionsSource = Opens | Reads | Iterable[Mapping[str, Any]] | Iterable[Opens | Reads]


def sources_in(source: EmissionsSource) -> list[Any]:
    """Take a list of files apart; anything else is one source."""
    if isinstance(source, (list, tuple)) and source and all(map(_is_file, source)):
        return list(source)
    return [source]


@contextmanager
def open_table(source: Any, columns: EmissionsColumns) -> Iterator[tuple[Table, Callable[[], str]]]:
    """
    Open a source and find the columns; what the source raises while the table is in use is mapped too.

    :param source: a path with ``open("rb")``, a binary file, or an iterable of mappings.
    :return: the table, and what gives the SHA-256 of a file that was read to its end.
    :raises EmissionsError: when there is no such file or column, or the file can't be read as a table. Other errors
        of a file system or database pass as they are: another attempt may succeed.
    """
    if hasattr(source, "open"):
        try:
            with source.open("rb") as stream, _file_table(stream.read, str(source), columns) as opened:
                yield opened
        except (FileNotFoundError, IsADirectoryError) as error:
            raise EmissionsError(
                f"{source}: there is no such file; check the path and the month in it"
            ) from error
    elif hasattr(source, "read"):
        name = str(getattr(source, "name", "emissions file"))
        with _file_table(source.read, name, columns) as opened:
            yield opened
    elif isinstance(source, Iterable) and not isinstance(source, (str, bytes, Mapping)):
        yield mapping_table(source, columns), str
    else:
        raise EmissionsError(
            f"source is {shown(source)}: pass a path object such as pathlib.Path or ObjectStoragePath, "
            "a binary file, a list of these, or an iterable of mappings"
        )


def _is_file(source: Any) -> bool:
    return hasattr(source, "open") or hasattr(source, "read")


@contextmanager
def _file_table(
    read: Callable[[int], bytes], path: str, columns: EmissionsColumns
) -> Iterator[tuple[Table, Callable[[], str]]]:
    digest = hashlib.sha256()

    def read_stored(size: int) -> bytes:
        block = read(size)
        if isinstance(block, str):
            raise EmissionsError('source is a text file: open it in binary mode, "rb"')
        digest.update(block)
        return block

    stored = _stream(read_stored)
    is_gzip = stored.peek(2).startswith(b"\x1f\x8b")  # object stores hold gzip under any name
    place, line_num = path, None
    try:
        unpacked = _stream(gzip.GzipFile(fileobj=stored).read) if is_gzip else stored
        head = unpacked.peek(_LONGEST_MARK)
        if head.startswith(_PARQUET):
            from airflow_provider_carbonmark.emissions.parquet import parquet_table

            with parquet_table(unpacked, path, columns) as table:
                yield table, digest.hexdigest
            return
        table = _text_table(unpacked, head, path, columns)
        line_num = table.rows
        yield table, digest.hexdigest
    except csv.Error as error:
        # The limit on a cell is the process's (csv.field_size_limit), so it is not changed here.
        place = f"{path}, line {line_num.line_num if line_num else 1}"
        raise EmissionsError(
            f"{place}: {error}; close the quote, or take the long cell out of the export"
        ) from error
    except UnicodeError:
        raise EmissionsError(
            f"{path}: is not text in {columns.encoding}; name its encoding with EmissionsColumns"
        ) from None
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise EmissionsError(f"{path}: damaged or cut-off gzip; fetch the file again") from None


def _text_table(unpacked: io.BufferedReader, head: bytes, path: str, columns: EmissionsColumns) -> Table:
    if columns.text_encoding.replace("_", "-").lower().startswith(("utf-16", "utf-32")):
        return csv_table(unpacked, path, columns)
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    for mark, (kind, remedy) in _OTHER_KINDS.items():
        if start.startswith(mark):
            raise EmissionsError(f"{path}: is {kind}, not CSV, JSON lines or Parquet; {remedy}")
    text = _stream(_only_text(unpacked.read, path))
    if start.startswith(b"{"):
        return json_table(cast("BinaryIO", text), path, columns)
    return csv_table(cast("BinaryIO", text), path, columns)


class _Blocks(io.RawIOBase):
    """Anything with a ``read`` as what ``io`` builds upon; closing it leaves the source open."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        super().__init__()
        self._read = read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._read(len(buffer))
        buffer[: len(block)] = block
        return len(block)


def _stream(read: Callable[[int], bytes]) -> io.BufferedReader:
    return io.BufferedReader(_Blocks(read), _BLOCK_BYTES)


def _only_text(read: Callable[[int], bytes], path: str) -> Callable[[int], bytes]:
    """Refuse what is not text while it is read, before an endless line of it fills the memory."""
    offset = 0
    line_start = 0

    def read_text(size: int) -> bytes:
        nonlocal offset, line_start
        block = read(size)
        nul = block.find(b"\0")
        if nul >= 0:
            raise EmissionsError(
                f"{path}: NUL byte at offset {offset + nul}: UTF-16, or no text at all; save the file as CSV in UTF-8, or write "
                'EmissionsColumns(encoding="utf-16")'
            )
        newline = block.rfind(b"\n")
        line_start = offset + newline if newline >= 0 else line_start
        offset += len(block)
        if offset - line_start > _LONGEST_LINE_BYTES:
            raise EmissionsError(
                f"{path}: a line of more than 16 MiB at offset {line_start}: this is not CSV or JSON lines"
            )
        return block

    return read_text
