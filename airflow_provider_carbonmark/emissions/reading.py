"""One pass over rows: what each entity emitted in a month, by version of the model and column of amount."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal, DecimalException, InvalidOperation
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_carbonmark.emissions.columns import Constant, EmissionsColumns
from airflow_provider_carbonmark.emissions.errors import EmissionsError, shown
from airflow_provider_carbonmark.emissions.names import entity_name
from airflow_provider_carbonmark.emissions.periods import last_month, moment_reader
from airflow_provider_carbonmark.emissions.running import Owner, RunningTotals
from airflow_provider_carbonmark.emissions.units import AMOUNTS, TONNES, UNITS_ACCEPTED, tonnes_per

if TYPE_CHECKING:
    from airflow_provider_carbonmark.emissions.periods import Moment
    from airflow_provider_carbonmark.emissions.tables import Table

log = logging.getLogger(__name__)

_MONTHS_SHOWN = 12
#: What pandas writes for null.
_NULLS = frozenset({"", "nan", "NaN", "None", "NaT", "<NA>"})
#: A name that a program took for a number; of one in the second form, digits are lost.
_NUMBER_FOR_A_NAME = re.compile(r"[0-9]+\.0*|[0-9]\.[0-9]+[eE]\+?[0-9]+|[0-9][eE]\+[0-9]+")
_PERIODS_ACCEPTED = (
    "write 2026-10, 2026-10-01 or 2026-10-01T00:00:00Z, or say how it is written with EmissionsColumns(period_format=…); leave "
    'rows that are no month out by name, leave_out=("Total",)'
)
_BLANK = (
    'blank, and only you know what that means: write EmissionsColumns(blank="zero") if nothing was emitted, or blank="skip_row" '
    "if such a row says nothing; or write 1234.5, without thousands separators or a unit"
)
_NOT_EXACT = (
    "not a number that can be added exactly; write 1234.5, without thousands separators or a unit, or say that the decimal sign "
    'is a comma, EmissionsColumns(decimal=",")'
)
_ZERO, _NO_NUMBER = Decimal(0), Decimal("NaN")
#: A point, which then may stand between thousands, makes it no number.
_COMMA_AS_POINT = str.maketrans(",.", ".x")

#: Entity, unit and version, as they are written.
_Key = tuple[str, str, str]
#: By column of amount; None where it is blank.
_Amounts = list[Decimal | None]


class _RowOfRun(NamedTuple):
    """What a row says of a running total."""

    name: str
    is_part: bool
    moment: Moment


class Reading:
    """Sums of a month, ``YYYY-MM``, over one table or several with the same columns."""

    def __init__(self, columns: EmissionsColumns, month: str) -> None:
        self.rows = 0
        self._columns = columns
        self._month = month
        self._sums: dict[_Key, list[Decimal]] = {}
        self._owners: dict[_Key, Owner] = {}
        self._running = RunningTotals(columns.running_total_of or "", month)
        self._other_months: set[str] = set()
        self._blank_amounts = 0
        self._left_out: Counter[str] = Counter()
        self._moment_of = moment_reader(columns.period_format)

    def read(self, table: Table) -> tuple[int, bool]:
        """
        Read a table to its end.

        :return: how many rows it has, and whether they would count again if they were read again.
        :raises EmissionsError: when there is a doubt about any row of the month.
        """
        before = self.rows
        if self._columns.running_total_of in table.positions:
            would_count_again = self._add_totals(table)
        else:
            self._add_rows(table)
            would_count_again = self.rows > before
        return self.rows - before, would_count_again

    def tonnes(self, place: str) -> dict[Owner, dict[str, Decimal]]:
        """
        Return tonnes by entity and version, and within that by column of amount.

        :param place: what was read, for the message.
        :raises EmissionsError: when there was no row for the month, or a running total falls.
        """
        found: dict[Owner, dict[str, Decimal]] = {}

        def add(owner: Owner, amount: str, tonnes: Decimal) -> None:
            of_owner = found.setdefault(owner, dict.fromkeys(self._columns.measured, _ZERO))
            of_owner[amount] = TONNES.add(of_owner[amount], tonnes)

        for key, sums in self._sums.items():
            factor = tonnes_per(key[1]) or _ZERO
            for amount, total in zip(self._columns.measured, sums, strict=True):
                add(self._owners[key], amount, TONNES.multiply(total, factor))
        for owner, amount, tonnes in self._running.grown():
            add(owner, amount, tonnes)
        if self._blank_amounts:
            done = "count as zero" if self._columns.blank == "zero" else "were skipped with their rows"
            log.warning("%s: %s blank amounts %s", place, self._blank_amounts, done)
        for name, times in self._left_out.items():
            log.info("%s: %s rows named %r were left out", place, times, name)
        if not found:
            raise self._no_rows(place)
        return found

    def _rows(self, table: Table, *, earlier: bool) -> Iterator[tuple[list[str], Moment]]:
        """Yield the rows of the month, and on request those of earlier ones, too."""
        columns, month, width = self._columns, self._month, table.width
        at_period, at_end = table.positions[columns.period], table.positions.get(columns.period_end or "", -1)
        leaves_out = bool(columns.leave_out)
        start_of = lru_cache(maxsize=4096)(partial(self._start_of, table))
        for row in table.rows:
            if len(row) != width:
                if not row:
                    continue
                raise table.error(
                    f"{len(row)} cells under a header of {width}; quote the cells that hold commas"
                )
            self.rows += 1
            if leaves_out and self._is_left_out(table, row):
                continue
            start = start_of(row[at_period], None if at_end < 0 else row[at_end])
            if start.month == month:
                yield row, start
            else:
                self._other_months.add(start.month)
                if earlier and start.month < month:
                    yield row, start

    def _start_of(self, table: Table, period: str, end: str | None) -> Moment:
        """Return when the row's period starts. :raises EmissionsError: when nobody can tell, or the month is a part of it only."""
        columns, month = self._columns, self._month
        start = self._moment_of(period)
        if start is None:
            raise table.bad_value(columns.period, period, _PERIODS_ACCEPTED)
        last = start.month
        if end is not None and not (end.strip() in _NULLS and columns.period_end in columns.optional):
            ends = self._moment_of(end)
            if ends is None:
                raise table.bad_value(str(columns.period_end), end, _PERIODS_ACCEPTED)
            last = last_month(start, ends)
        if last < start.month or (start.month != last and start.month <= month <= last):
            raise table.error(
                f"columns {columns.period!r} and {columns.period_end!r} are {shown(period)} and {shown(end)}: not within one month, and "
                "nobody can tell how much of it is each month's; export the table by month"
            )
        return start

    def _is_left_out(self, table: Table, row: list[str]) -> bool:
        for column in (self._columns.period, self._columns.entity):
            if isinstance(column, str) and (at := table.positions.get(column, -1)) >= 0:
                name = row[at].strip()
                if name in self._columns.leave_out:
                    self._left_out[name] += 1
                    return True
        return False

    def _add_rows(self, table: Table) -> None:
        key_of, amounts_of = self._key_reader(table), self._amounts_reader(table)
        sums, add = self._sums, AMOUNTS.add
        for row, _ in self._rows(table, earlier=False):
            amounts = amounts_of(row)
            if amounts is None:
                continue
            key = key_of(row)
            totals = sums.get(key)
            if totals is None or None in amounts:
                self._add(table, row, key, amounts)
                continue
            # The same as _add, for a million rows.
            try:
                for number, amount in enumerate(amounts):
                    totals[number] = add(totals[number], amount)  # type: ignore[arg-type]
            except DecimalException:
                self._add(table, row, key, amounts)

    def _add_totals(self, table: Table) -> bool:
        """Add running totals, and say whether there are rows among them that are none."""
        has_others = False
        column, optional = str(self._columns.running_total_of), self._columns.optional
        key_of, amounts_of = self._key_reader(table), self._amounts_reader(table)
        at_run, at_part = table.positions[column], table.positions.get(self._columns.part_of_total or "", -1)
        for row, moment in self._rows(table, earlier=True):
            name, is_within = row[at_run].strip(), moment.month == self._month
            if name in _NULLS and column not in optional:
                raise table.bad_value(column, row[at_run], "name what the amount is a running total of")
            if name in _NULLS and not is_within:
                continue
            try:
                amounts = amounts_of(row)
                if amounts is None:
                    continue
                is_part = at_part >= 0 and row[at_part].strip() not in _NULLS
                has_others |= is_part or name in _NULLS
                if name in _NULLS:  # a row of an older version, which is a total by itself
                    self._add(table, row, key_of(row), amounts)
                    continue
                self._add_total(table, row, key_of(row), _RowOfRun(name, is_part, moment), amounts)
            except EmissionsError as error:
                if is_within:
                    raise
                self._running.doubt(name, error)
        return has_others

    def _add(self, table: Table, row: list[str], key: _Key, amounts: _Amounts) -> None:
        totals = self._sums.get(key)
        if totals is None:
            if amounts.count(None) == len(amounts):
                key = (key[0], "t", key[2])  # where nothing was emitted, the unit is blank, too
            self._owner(table, key)
            totals = self._sums.setdefault(key, [_ZERO] * len(amounts))
        for number, amount in enumerate(amounts):
            if amount is not None:
                totals[number] = self._exact(table, row, number, totals[number], amount)

    def _add_total(
        self, table: Table, row: list[str], key: _Key, of_run: _RowOfRun, amounts: _Amounts
    ) -> None:
        name, is_part, moment = of_run
        owner = self._owners.get(key) or self._owner(table, key)
        factor = tonnes_per(key[1]) or _ZERO
        for number, (column, amount) in enumerate(zip(self._columns.measured, amounts, strict=True)):
            run = self._running.run_of(name, column, owner, moment, table.error)
            if amount is None:  # nothing was emitted: the total is what it was
                continue
            tonnes = TONNES.multiply(self._exact(table, row, number, _ZERO, amount), factor)
            if is_part:
                self._running.add_part(run, moment, tonnes)
            else:
                self._running.add_total(run, name, moment, tonnes)

    def _exact(self, table: Table, row: list[str], number: int, total: Decimal, amount: Decimal) -> Decimal:
        try:
            return AMOUNTS.add(total, amount)
        except DecimalException:
            column = list(self._columns.measured)[number]
            raise table.bad_value(column, row[table.positions[column]], _NOT_EXACT) from None

    def _key_reader(self, table: Table) -> Callable[[list[str]], _Key]:
        columns, at = self._columns, table.positions
        constant = columns.entity.name if isinstance(columns.entity, Constant) else ""
        at_entity = at.get(columns.entity, -1) if isinstance(columns.entity, str) else -1
        at_unit, at_version = at.get(columns.unit_column or "", -1), at.get(columns.version_column or "", -1)
        fixed_unit = columns.unit or ""

        def key_of(row: list[str]) -> _Key:
            return (
                row[at_entity] if at_entity >= 0 else constant,
                row[at_unit] if at_unit >= 0 else fixed_unit,
                row[at_version] if at_version >= 0 else "",
            )

        return key_of

    def _amounts_reader(self, table: Table) -> Callable[[list[str]], _Amounts | None]:
        cells = [(column, table.positions[column]) for column in self._columns.measured]
        signs = _COMMA_AS_POINT if self._columns.decimal == "," else None
        is_skipped = self._columns.blank == "skip_row"

        def amounts_of(row: list[str]) -> _Amounts | None:
            amounts: _Amounts = []
            for column, at in cells:
                text = row[at]
                try:
                    amount = Decimal(text.translate(signs) if signs else text)
                except InvalidOperation:
                    amount = _NO_NUMBER
                if "_" in text or not amount.is_finite():
                    self._check_blank(table, column, text)
                    if is_skipped:
                        return None
                    amounts.append(None)
                else:
                    amounts.append(amount)
            return amounts

        return amounts_of

    def _check_blank(self, table: Table, column: str, text: str) -> None:
        if text.strip() not in _NULLS:
            raise table.bad_value(column, text, _NOT_EXACT)
        if self._columns.blank == "refuse":
            raise table.bad_value(column, text, _BLANK)
        self._blank_amounts += 1

    def _owner(self, table: Table, key: _Key) -> Owner:
        """Check and keep whose rows with these cells are."""
        entity, unit, version = key
        if tonnes_per(unit) is None:
            raise table.bad_value(self._columns.unit_column or "", unit, UNITS_ACCEPTED)
        name = entity_name(entity)
        column = str(self._columns.entity)
        if not name.isprintable() and any("\ud800" <= character <= "\udfff" for character in name):
            raise table.bad_value(column, entity, "")
        if _NUMBER_FOR_A_NAME.fullmatch(name) and not isinstance(self._columns.entity, Constant):
            raise table.bad_value(
                column,
                entity,
                "a name that a program took for a number, as pandas does beside blanks and Excel with long ones; write it as text",
            )
        owner = self._columns.no_entity if name in _NULLS else name, _named(version)
        self._owners[key] = owner
        return owner

    def _no_rows(self, place: str) -> EmissionsError:
        if self._blank_amounts:
            return EmissionsError(
                f"{place}: the table ends here, and all of its rows for {self._month} have a blank amount"
            )
        others = sorted(self._other_months)
        if not others:
            return EmissionsError(f"{place}: the table ends here, without a single row of emissions")
        more = len(others) - _MONTHS_SHOWN
        earlier = f" and {more} earlier months" if more > 0 else ""
        return EmissionsError(
            f"{place}: the table ends here, without a row for {self._month}; it has rows for "
            f"{', '.join(others[-_MONTHS_SHOWN:])}{earlier}. Providers publish a month two weeks after its end or later: wait for "
            "it, or ask for another month"
        )


def _named(text: str) -> str:
    name = text.strip()
    return "" if name in _NULLS else name
