"""Rows of any emissions source become tonnes per entity and month."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation
from functools import reduce
from typing import Any

from airflow_provider_carbonmark.emissions.columns import NEWEST, EmissionsColumns
from airflow_provider_carbonmark.emissions.errors import EmissionsError, shown
from airflow_provider_carbonmark.emissions.files import EmissionsSource, open_table, sources_in
from airflow_provider_carbonmark.emissions.names import entity_name
from airflow_provider_carbonmark.emissions.periods import MONTH, check_month
from airflow_provider_carbonmark.emissions.reading import Reading
from airflow_provider_carbonmark.emissions.tables import FileRead, as_text
from airflow_provider_carbonmark.emissions.units import TONNES

log = logging.getLogger(__name__)

_STEP = Decimal("0.001")  # the smallest quantity Carbonmark retires, 1 kg (doc)
_VERSION = re.compile(r"v?([0-9]+(?:\.[0-9]+)*)", re.IGNORECASE)
_ENTRIES_ACCEPTED = 'pass mappings such as {"entity": "web", "month": "2026-10", "emitted_tonnes": "12.345"}'

_Amounts = Mapping[str, Decimal]


@dataclass(frozen=True)
class Part:
    """
    What of an entity's emissions one column of amounts gave.

    :param scopes: ``"1"``, ``"2"``, ``"3"`` or several, ``"1+2+3"``; empty where the source does not say.
    :param method: ``"market-based"``, ``"location-based"``, or empty.
    :param tonnes: the exact sum in tonnes of CO2e.
    """

    column: str
    scopes: str
    method: str
    tonnes: Decimal


@dataclass(frozen=True)
class Query:
    """The SQL that the database of an Airflow connection was asked for emissions with."""

    conn_id: str
    sql: str


@dataclass(frozen=True)
class EntityEmissions:
    """
    What one entity emitted in one month. Where it is from does not matter for being equal.

    :param entity: the entity, without surrounding spaces.
    :param month: ``YYYY-MM``.
    :param emitted_tonnes: the exact sum in tonnes of CO2e; negative when a provider's corrections outweigh the rest.
    :param offset_tonnes: that sum rounded up, once, to Carbonmark's step of 0.001 t; 0 unless the sum is positive.
    :param source: the source's name, such as ``AWS``; empty for a table of one's own.
    :param version: the version of the model that the amounts were worked out with; empty where none is stated.
    :param parts: what the sum is made of, by column of amounts.
    :param files: all files that were read for the month, in the order they were given.
    :param query: what a database was asked for it; None where none was.
    """

    entity: str
    month: str
    emitted_tonnes: Decimal
    offset_tonnes: Decimal
    source: str = field(default="", compare=False)
    version: str = field(default="", compare=False)
    parts: tuple[Part, ...] = field(default=(), compare=False)
    files: tuple[FileRead, ...] = field(default=(), compare=False)
    query: Query | None = field(default=None, compare=False)


def emissions_of_month(
    source: EmissionsSource, columns: EmissionsColumns, month: str
) -> list[EntityEmissions]:
    """
    Add up one month of a table, row by row, in memory that does not grow with the number of rows.

    Every row must have a readable period; amounts and units are read in the rows of the month only, those of running totals in
    the rows before it, too.

    :param source: a path with ``open("rb")`` (``pathlib.Path``, ``ObjectStoragePath``) or a binary file, or a list of these: CSV
        with a header, JSON lines, or Parquet, which is told by the content, plain or gzip; or an iterable of mappings, such as
        the rows of a database cursor, whose values are text, numbers, dates or null.
    :param columns: :data:`CODECARBON`, :data:`GOOGLE_CLOUD`, :data:`AWS`, or the table's own.
    :param month: ``YYYY-MM``.
    :return: one entry per entity that has rows in that month, sorted by entity.
    :raises EmissionsError: when there is a doubt about any row of the month, or no row for the month at all.
    """
    check_month(month)
    reading = Reading(columns, month)
    files, place = _read_all(source, columns, reading)
    by_entity: dict[str, dict[str, _Amounts]] = defaultdict(dict)
    for (entity, version), by_column in reading.tonnes(place).items():
        by_entity[entity][version] = by_column
    chosen = {entity: _version_of(entity, by_entity[entity], columns, month) for entity in sorted(by_entity)}
    _log_versions(by_entity, chosen, month)
    scopes = "; ".join(f"{column}: {scope}" for column, scope in columns.measured.items())
    log.info("%s in %s: %s entities; %s", columns.name or "Emissions", month, len(chosen), scopes)
    found = []
    for entity, version in chosen.items():
        amounts = by_entity[entity][version]
        parts = [Part(each, of.scopes, of.method, amounts[each]) for each, of in columns.measured.items()]
        total = reduce(TONNES.add, amounts.values())
        found.append(
            replace(
                entity_emissions(entity, month, total),
                source=columns.name,
                version=version,
                parts=tuple(parts),
                files=files,
            )
        )
    return found


def _read_all(
    source: EmissionsSource, columns: EmissionsColumns, reading: Reading
) -> tuple[tuple[FileRead, ...], str]:
    """Read one table after the other; return what files these were, and where the last one ended."""
    files: list[FileRead] = []
    places: dict[str, str] = {}
    place = ""
    for one in sources_in(source):
        with open_table(one, columns) as (table, sha256):
            rows, would_count_again = reading.read(table)
            place = f"{table.place} {table.rows.line_num}"
            if table.path:
                file = FileRead(table.path, rows, sha256())
                log.info("Read %s: %s rows, SHA-256 %s", file.path, file.rows, file.sha256)
                if file.sha256 in places and would_count_again:
                    raise EmissionsError(
                        f"{file.path}: is the same as {places[file.sha256]}, byte for byte, and its rows would count twice; "
                        "leave one out"
                    )
                files.append(file)
                places[file.sha256] = file.path
    return tuple(files), place


def _version_of(entity: str, versions: Mapping[str, _Amounts], columns: EmissionsColumns, month: str) -> str:
    """Choose which version of the model counts for an entity."""
    chosen = columns.version
    if len(versions) == 1 and chosen in (None, NEWEST):
        return next(iter(versions))
    names = ", ".join(shown(version) for version in sorted(versions))
    several = f"{shown(entity)} has rows of {columns.version_column!r} {names} for {month}"
    if chosen is None:
        raise EmissionsError(
            f'{several}, and adding them would count it twice: choose with EmissionsColumns(version="newest"), or name one'
        )
    if chosen != NEWEST:
        if chosen not in versions:
            raise EmissionsError(f"{several}, none of {chosen!r}: choose another, or wait for that one")
        return chosen
    *_, second, newest = sorted(versions, key=_rank)
    if () in map(_rank, versions) or _rank(second) == _rank(newest):
        raise EmissionsError(f"{several}, of which none is plainly the newest: name one, version=…")
    return newest


def _rank(version: str) -> tuple[int, ...]:
    """Return what sorts versions by age, v10.0 after v9.1; empty for what is no version number."""
    found = _VERSION.fullmatch(version)
    if found is None:
        return ()
    numbers = [int(number) for number in found[1].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _log_versions(by_entity: Mapping[str, Mapping[str, Any]], chosen: Mapping[str, str], month: str) -> None:
    """Say which version counts, once for all entities alike."""
    passed_over: Counter[tuple[str, str]] = Counter()
    for entity, version in chosen.items():
        passed_over.update((version, other) for other in by_entity[entity] if other != version)
    for (version, other), times in passed_over.items():
        log.warning(
            "%s: version %s counts, and version %s does not, for %s entities that have both",
            month,
            version,
            other,
            times,
        )
    if len(used := set(chosen.values())) > 1:
        log.warning("%s: not all entities have the same version: %s", month, ", ".join(sorted(used)))


def stated_emissions(entries: object) -> list[EntityEmissions]:
    """
    Read emissions that are added up already.

    :param entries: mappings with ``entity``, ``month`` (``YYYY-MM``) and ``emitted_tonnes``, a decimal string or a number.
    :raises EmissionsError: when they are anything else; names the entry.
    """
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise EmissionsError(f"the emissions are {shown(entries)}: {_ENTRIES_ACCEPTED}")
    return [_stated(entry, number) for number, entry in enumerate(entries, 1)]


def _stated(entry: object, number: int) -> EntityEmissions:
    def error(what: str) -> EmissionsError:
        return EmissionsError(f"entry {number} of the emissions {what}: {_ENTRIES_ACCEPTED}")

    if not isinstance(entry, Mapping):
        raise error(f"is {shown(entry)}")
    if missing := [name for name in ("entity", "month", "emitted_tonnes") if name not in entry]:
        raise error(f"lacks {' and '.join(missing)}")
    entity, month, tonnes = entry["entity"], entry["month"], entry["emitted_tonnes"]
    if not isinstance(entity, str) or not entity_name(entity):
        raise error(f"has the entity {shown(entity)}")
    if not isinstance(month, str) or not MONTH.fullmatch(month):
        raise error(f"has the month {shown(month)}")
    text = as_text(tonnes)
    try:
        emitted = Decimal(text)
    except InvalidOperation:
        emitted = Decimal("NaN")
    if "_" in text or not emitted.is_finite():
        raise error(f"has the emitted_tonnes {shown(tonnes)}")
    return entity_emissions(entity_name(entity), month, emitted)


def entity_emissions(entity: str, month: str, emitted: Decimal) -> EntityEmissions:
    """Round a sum, in tonnes, up to what can be bought."""
    if emitted <= 0:
        log.info("%s emitted %s t in %s: a total that is not positive buys no offset", entity, emitted, month)
        return EntityEmissions(entity, month, emitted, Decimal(0))
    offset = emitted.quantize(_STEP, rounding=ROUND_CEILING, context=Context(prec=4000))
    return EntityEmissions(entity, month, emitted, offset)
