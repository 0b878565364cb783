"""Tables as rows of text, read by header, one row at a time; and mappings as such a table."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from airflow_provider_carbonmark.emissions.errors import EmissionsError, shown

if TYPE_CHECKING:
    from airflow_provider_carbonmark.emissions.columns import EmissionsColumns

_COLUMNS_SHOWN = 40
Where = TypeVar("Where")


class Rows(Protocol):
    """What ``csv.reader`` is: rows of text that know their place."""

    @property
    def line_num(self) -> int: ...

    def __iter__(self) -> Iterator[list[str]]: ...


@dataclass(frozen=True)
class FileRead:
    """A file that was read, its rows below the header, and the SHA-256 of its bytes as they are stored, in hexadecimal digits."""

    path: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class Table:
    """
    An open table whose header is the expected one: only of such a table may a message show values.

    :param place: what stands before a row's number in a message.
    :param rows: the rows after the header.
    :param width: how many cells each row must have.
    :param positions: where in a row the wanted columns are; an optional one that is missing is not among them.
    :param path: of the file; empty for mappings.
    """

    place: str
    rows: Rows
    width: int
    positions: Mapping[str, int]
    path: str = ""

    def error(self, problem: str) -> EmissionsError:
        return EmissionsError(f"{self.place} {self.rows.line_num}: {problem}")

    def bad_value(self, column: str, text: str, problem: str) -> EmissionsError:
        """Name column, row and value; bytes that could not be decoded are the problem wherever there are any."""
        for character in text:
            if "\ud800" <= character <= "\udfff":
                byte = ord(character) & 0xFF
                return self.error(
                    f"byte 0x{byte:02x} is not UTF-8; save the file as UTF-8, or name its encoding, such as "
                    f'EmissionsColumns(encoding="cp1252") (column {column!r})'
                )
        return self.error(f"column {column!r} is {shown(text)}: {problem}")


def spellings(column: str) -> tuple[str, ...]:
    """Return under which names a column is looked for."""
    return tuple(dict.fromkeys((column, column.replace(".", "_"))))


def name_among(names: Collection[str], column: str) -> str | None:
    """Return under which of these names a column is there; None for none."""
    return next((name for name in spellings(column) if name in names), None)


def position_of(column: str, names: Sequence[str], place: str) -> int | None:
    """
    Return where a column is among those of a header; None for nowhere.

    :raises EmissionsError: when it is there twice.
    """
    name = name_among(names, column)
    if name is None:
        return None
    if names.count(name) > 1:
        raise EmissionsError(f"{place}: has {names.count(name)} columns {name!r}; rename all but one")
    return names.index(name)


def missing_columns(place: str, missing: Sequence[str], hint: str = "") -> EmissionsError:
    """
    Say which columns are missing, and nothing of what else is there: it may be no table of emissions at all.

    :param hint: what is there instead, where that is no secret.
    """
    names = ", ".join(repr(column) for column in missing)
    return EmissionsError(
        f"{place}: has no column {names} (names are case-sensitive); {hint}name the table's own columns with EmissionsColumns"
    )


def find_columns(
    wanted: Iterable[str],
    columns: EmissionsColumns,
    find: Callable[[str], Where | None],
    place: str,
    hint: Callable[[Sequence[str]], str] = lambda missing: "",
) -> dict[str, Where]:
    """
    Return where the wanted columns are, but for optional ones that are nowhere.

    :param find: says where a column is; None for nowhere.
    :param place: how a message begins.
    :param hint: says what is there instead of missing ones, where that is no secret.
    :raises EmissionsError: when one is missing; names all that are.
    """
    places = {column: find(column) for column in wanted}
    missing = [column for column, at in places.items() if at is None and column not in columns.optional]
    if missing:
        raise missing_columns(place, missing, hint(missing))
    return {column: at for column, at in places.items() if at is not None}


def mapping_table(source: Iterable[Mapping[str, Any]], columns: EmissionsColumns) -> Table:
    """
    Read mappings as a table.

    :raises EmissionsError: when there are none, or the first has not the wanted columns.
    """
    records = iter(source)
    head = list(islice(records, 1))
    if not head:
        raise EmissionsError("source has no rows; a month without data is not a month without emissions")
    if not hasattr(head[0], "keys"):  # rows of sqlite3 and BigQuery have keys without being a Mapping
        raise EmissionsError(f"row 1 is {shown(head[0])}: pass mappings of column names to values")
    present = list(head[0].keys())
    rows = Records(chain(head, records), columns, "row")
    if missing := [column for column in rows.must_have if column not in present]:
        names = [shown(name) for name in present]
        more = f" and {len(names) - _COLUMNS_SHOWN} more" if len(names) > _COLUMNS_SHOWN else ""
        there = f"it has {', '.join(names[:_COLUMNS_SHOWN])}{more}; "
        raise missing_columns("row 1", missing, there)
    return Table("row", rows, len(rows.positions), rows.positions)


class Records:
    """
    Mappings as rows of text, numbered from 1.

    :param place: what stands before a row's number in a message.
    :param nulls_left_out: whether any name may be missing where its value is null. Below the top it always may.
    """

    def __init__(
        self,
        records: Iterable[Mapping[str, Any]],
        columns: EmissionsColumns,
        place: str,
        *,
        nulls_left_out: bool = False,
    ) -> None:
        self.line_num = 0
        self.positions = {column: position for position, column in enumerate(columns.wanted)}
        self._records = records
        self._place = place
        self.must_have = [
            column
            for column in columns.wanted
            if not (nulls_left_out or "." in column or column in columns.optional)
        ]
        self._unseen = set(columns.wanted) - columns.optional

    def __iter__(self) -> Iterator[list[str]]:
        readers = [self._reader(column) for column in self.positions]
        for record in self._records:
            self.line_num += 1
            try:
                present = record.keys()
            except AttributeError:
                raise self._error("is no mapping of column names to values") from None
            yield [read(record, present) for read in readers]
        # A null that is left out and a name that is misspelt look alike, but that the latter is nowhere.
        if self._unseen:
            place = f"{self._place} 1 to {self.line_num}"
            raise missing_columns(place, sorted(self._unseen))

    def _reader(self, column: str) -> Callable[[Any, Any], str]:
        names, (top, *below), unseen = spellings(column), column.split("."), self._unseen
        must_have = column in self.must_have

        def read(record: Any, present: Any) -> str:
            for name in names:
                if name in present:
                    unseen.discard(column)
                    return self._text(record[name], column)
            if below and top in present:
                unseen.discard(column)
                value = record[top]
                for name in below:
                    value = self._within(value, name, column)
                return self._text(value, column)
            if must_have:
                raise self._error(f"has no column {column!r}; give every row the same columns")
            return ""

        return read

    def _text(self, value: Any, column: str) -> str:
        if isinstance(value, (Mapping, list, tuple, bytes)):
            raise self._error(f"column {column!r} is {shown(value)}: not text, a number, a date or null")
        return as_text(value)

    def _within(self, value: Any, name: str, column: str) -> Any:
        if value is None:
            return None
        if not hasattr(value, "keys"):
            raise self._error(f"has something else than a mapping above {column!r}")
        return value[name] if name in value.keys() else None

    def _error(self, problem: str) -> EmissionsError:
        return EmissionsError(f"{self._place} {self.line_num}: {problem}")


def as_text(value: Any) -> str:
    """Give a value of any type as a table of text would have it; null is empty."""
    if value is None:
        return ""
    if isinstance(value, float):
        # The shortest text that is this float: its exact value, 0.1000000000000000055…, would be rounded up to a kilogram more. A numpy
        # float's own differs.
        return float.__repr__(value)
    return value.isoformat() if isinstance(value, datetime.date) else str(value)
