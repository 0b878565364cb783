"""Tables in text: CSV and JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow_provider_carbonmark.emissions.errors import EmissionsError
from airflow_provider_carbonmark.emissions.tables import (
    Records,
    Table,
    find_columns,
    missing_columns,
    name_among,
    position_of,
)

if TYPE_CHECKING:
    from airflow_provider_carbonmark.emissions.columns import EmissionsColumns

_OTHER_DELIMITERS = {",": "commas", ";": "';'", "\t": "tabs", "|": "'|'"}
# Numbers stay the text that they are: a float would be another one.
_JSON = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)


def csv_table(stream: BinaryIO, path: str, columns: EmissionsColumns) -> Table:
    """
    Read CSV by its header.

    :param stream: unpacked, checked to be text.
    :param path: its name in messages.
    :raises EmissionsError: when the header is not the expected one; shows nothing of it.
    """
    # Bytes that are no text matter in the columns that are read alone, and are found there.
    text = io.TextIOWrapper(stream, columns.text_encoding, errors="surrogateescape", newline="")
    # strict: without it an unclosed quote would swallow the rows after it in silence.
    reader = csv.reader(text, delimiter=columns.delimiter, strict=True)
    header = [cell.strip() for cell in next(reader, [])]
    if not any(header):
        raise EmissionsError(f"{path}: is empty; expected CSV with a header")

    positions = find_columns(
        columns.wanted,
        columns,
        lambda column: position_of(column, header, path),
        path,
        lambda missing: _hint(header, missing, columns),
    )
    return Table(f"{path}, line", reader, len(header), positions, path)


def _hint(header: list[str], missing: Sequence[str], columns: EmissionsColumns) -> str:
    """Say what the file is instead, as far as that takes nothing but the names that are wanted."""
    line = columns.delimiter.join(header)
    for delimiter, called in _OTHER_DELIMITERS.items():
        cells = [cell.strip(' "') for cell in line.split(delimiter)]
        if len(cells) > 1 and all(name_among(cells, column) for column in missing):
            return (
                f"its cells are separated by {called}: write EmissionsColumns(delimiter={delimiter!r}), or "
            )
    folded = {cell.casefold() for cell in header}
    if other_case := [repr(column) for column in missing if column.casefold() in folded]:
        return f"it has {', '.join(other_case)} in other letters; "
    return ""


def json_table(stream: BinaryIO, path: str, columns: EmissionsColumns) -> Table:
    """
    Read JSON lines: an object a row, in which nulls may be left out; otherwise as :func:`csv_table`.

    :raises EmissionsError: when the first object is no row of the expected table; shows nothing of it.
    """
    records = _json_lines(stream, path)
    first = next(records, {})
    needed = [column for column in columns.wanted if column not in columns.optional]
    absent = [column for column in needed if not _has(first, column)]
    # Any but the period may be a null that is left out, though not all of them.
    if columns.period in absent or len(absent) == len(needed) - 1 > 0:
        raise missing_columns(f"{path}, the JSON in line 1", absent)
    rows = Records(chain([first], records), columns, f"{path}, row", nulls_left_out=True)
    return Table(f"{path}, row", rows, len(rows.positions), rows.positions, path)


def _has(record: dict[str, Any], column: str) -> bool:
    return name_among(record, column) is not None or column.split(".")[0] in record


def _json_lines(stream: BinaryIO, path: str) -> Iterator[dict[str, Any]]:
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="\n")
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            record = _JSON.decode(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise EmissionsError(
                f"{path}, line {number}: is no JSON object on a line of its own; write JSON lines, an object a row, "
                "as `jq -c '.[]'` does"
            )
        yield record
