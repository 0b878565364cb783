"""Rows of any emissions source become tonnes per entity and month."""

from __future__ import annotations

import datetime
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow
from functools import lru_cache

from airflow_provider_carbonmark.emissions.columns import UNITS_ACCEPTED, EmissionsColumns, tonnes_per
from airflow_provider_carbonmark.emissions.errors import EmissionsError, shown
from airflow_provider_carbonmark.emissions.tables import EmissionsSource, Table, open_table

log = logging.getLogger(__name__)

_STEP = Decimal("0.001")  # the smallest quantity Carbonmark retires, 1 kg (doc)
_MONTHS_SHOWN = 12
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_PERIOD = re.compile(
    r"(?P<month>[0-9]{4}-(?:0[1-9]|1[0-2]))"
    r"(?:-[0-9]{2}"
    r"(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?"
    r"(?: ?(?:Z|UTC|[+-][0-9]{2}(?::?[0-9]{2})?))?)?)?"
)
_PERIODS_ACCEPTED = "write 2026-10, 2026-10-01 or 2026-10-01T00:00:00Z"
_ENTRIES_ACCEPTED = 'pass mappings such as {"entity": "web", "month": "2026-10", "emitted_tonnes": "12.345"}'


@dataclass(frozen=True)
class EntityEmissions:
    """
    What one entity emitted in one month.

    :param entity: the entity, without surrounding spaces.
    :param month: ``YYYY-MM``.
    :param emitted_tonnes: the exact sum in tonnes of CO2e; negative when a provider's corrections outweigh the rest.
    :param offset_tonnes: that sum rounded up, once, to Carbonmark's step of 0.001 t; 0 unless the sum is positive.
    """

    entity: str
    month: str
    emitted_tonnes: Decimal
    offset_tonnes: Decimal


def emissions_of_month(
    source: EmissionsSource, columns: EmissionsColumns, month: str
) -> list[EntityEmissions]:
    """
    Add up one month of a table, row by row, in memory that does not grow with the number of rows.

    Every row must have a readable period; amounts and units are read in the rows of the month only.

    :param source: a path with ``open("rb")`` (``pathlib.Path``, ``ObjectStoragePath``) or a binary file, holding
        CSV in UTF-8 with a header, plain or gzip whatever its name; or an iterable of mappings, such as the
        rows of a database cursor, whose values are text, numbers, dates or null.
    :param columns: :data:`CODECARBON`, :data:`GOOGLE_CLOUD`, :data:`AWS`, or the table's own.
    :param month: ``YYYY-MM``.
    :return: one entry per entity that has rows in that month, sorted by entity.
    :raises EmissionsError: when there is a doubt about any row of the month, or no row for the month at all.
    """
    if not isinstance(month, str) or not _MONTH.fullmatch(month):
        raise EmissionsError(f"month is {shown(month)}: write YYYY-MM, such as 2026-10")
    wanted = [columns.period, columns.entity, columns.amount]
    if columns.unit_column is not None:
        wanted.append(columns.unit_column)
    with open_table(source, wanted) as table:
        totals = _add_up(table, columns, month)
    exact = Context(prec=4000, traps=[Inexact])  # holds any sum of products of what _add_up lets through
    tonnes: dict[str, Decimal] = {}
    for (entity, unit), total in totals.items():
        name = entity.strip() or columns.no_entity
        tonnes[name] = exact.add(tonnes.get(name, Decimal(0)), exact.multiply(total, totals.tonnes_per[unit]))
    return [entity_emissions(entity, month, tonnes[entity]) for entity in sorted(tonnes)]


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
    if not isinstance(entity, str) or not entity.strip():
        raise error(f"has the entity {shown(entity)}")
    if not isinstance(month, str) or not _MONTH.fullmatch(month):
        raise error(f"has the month {shown(month)}")
    # A float by its shortest text: its exact value, 0.1000000000000000055…, would be rounded up to a kilogram more.
    text = float.__repr__(tonnes) if isinstance(tonnes, float) else str(tonnes)
    try:
        emitted = Decimal(text)
    except InvalidOperation:
        emitted = Decimal("NaN")
    if "_" in text or not emitted.is_finite():
        raise error(f"has the emitted_tonnes {shown(tonnes)}")
    return entity_emissions(entity.strip(), month, emitted)


def entity_emissions(entity: str, month: str, emitted: Decimal) -> EntityEmissions:
    """
    Round a sum up to what can be bought.

    :param entity: whose emissions.
    :param month: ``YYYY-MM``.
    :param emitted: tonnes.
    """
    if emitted <= 0:
        log.info("%s emitted %s t in %s: a total that is not positive buys no offset", entity, emitted, month)
        return EntityEmissions(entity, month, emitted, Decimal(0))
    offset = emitted.quantize(_STEP, rounding=ROUND_CEILING, context=Context(prec=4000))
    return EntityEmissions(entity, month, emitted, offset)


class _Totals(dict[tuple[str, str], Decimal]):
    """Sums by entity and unit; the unit of a new pair is checked at the row that brought it."""

    def __init__(self, table: Table, unit_column: str | None) -> None:
        super().__init__()
        self.tonnes_per: dict[str, Decimal] = {}
        self._table = table
        self._unit_column = unit_column

    def __missing__(self, key: tuple[str, str]) -> Decimal:
        unit = key[1]
        factor = tonnes_per(unit)
        if factor is None:
            raise self._table.error(f"column {self._unit_column!r} is {shown(unit)}: {UNITS_ACCEPTED}")
        self.tonnes_per[unit] = factor
        return Decimal(0)


def _add_up(table: Table, columns: EmissionsColumns, month: str) -> _Totals:
    width, (at_period, at_entity, at_amount, *at_unit_column) = table.width, table.positions
    at_unit = at_unit_column[0] if at_unit_column else 0
    fixed_unit = columns.unit
    # Sums are exact or refused. 1,000 digits hold any float; an absurd exponent can't fill the memory.
    add = Context(prec=1000, Emin=-1000, Emax=900, traps=[Inexact, Overflow, InvalidOperation]).add
    month_of = lru_cache(maxsize=4096)(_month_of)
    totals = _Totals(table, columns.unit_column)
    other_months = set()
    for row in table.rows:
        if len(row) != width:
            if not row:
                continue
            raise table.error(f"{len(row)} cells under a header of {width}; quote the cells that hold commas")
        found = month_of(row[at_period])
        if found != month:
            if found is None:
                raise table.error(
                    f"column {columns.period!r} is {shown(row[at_period])}: {_PERIODS_ACCEPTED}"
                )
            other_months.add(found)
            continue
        key = row[at_entity], fixed_unit or row[at_unit]
        text = row[at_amount]
        try:
            amount = Decimal(text)
            totals[key] = add(totals[key], amount)
        except DecimalException:
            raise _bad_amount(table, columns, text) from None
        if "_" in text or not amount.is_finite():
            raise _bad_amount(table, columns, text)
    if not totals:
        raise _no_rows(table, month, sorted(other_months))
    return totals


def _bad_amount(table: Table, columns: EmissionsColumns, text: str) -> EmissionsError:
    return table.error(
        f"column {columns.amount!r} is {shown(text)}: not a number that can be added exactly; write 1234.5, without "
        "thousands separators or a unit, and 0 where nothing was emitted"
    )


def _no_rows(table: Table, month: str, others: list[str]) -> EmissionsError:
    if not others:
        return table.error("the table ends here, without a single row of emissions")
    earlier = f" and {len(others) - _MONTHS_SHOWN} earlier months" if len(others) > _MONTHS_SHOWN else ""
    return table.error(
        f"the table ends here, without a row for {month}; it has rows for {', '.join(others[-_MONTHS_SHOWN:])}{earlier}. "
        "Providers publish a month two weeks after its end or later: wait for it, or ask for another month"
    )


def _month_of(period: str) -> str | None:
    found = _PERIOD.fullmatch(period)
    if found is None:
        return None
    try:
        datetime.date.fromisoformat(f"{period}-01"[:10])
    except ValueError:  # 31 February
        return None
    return found["month"]
