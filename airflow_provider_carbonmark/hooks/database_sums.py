"""Emissions added up by a database, whatever it makes of nulls and of text that is no number."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Date,
    LargeBinary,
    Numeric,
    Select,
    String,
    Subquery,
    TextClause,
    and_,
    bindparam,
    case,
    cast,
    column,
    false,
    func,
    literal_column,
    or_,
    select,
    text,
    true,
)
from sqlalchemy.exc import CompileError

from airflow_provider_carbonmark.emissions import EmissionsColumns, EmissionsError
from airflow_provider_carbonmark.emissions.tables import find_columns, name_among
from airflow_provider_carbonmark.emissions.units import AMOUNTS

log = logging.getLogger(__name__)

_NUMBER = "^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?$"
_BINDS: dict[str, Any] = {"first_day": Date(), "next_month": Date(), "month": String()}
#: What loses nothing of a text, where there is such a type. Of MySQL's, it is the largest.
_EXACT = {
    "postgresql": Numeric(),
    **dict.fromkeys(("mysql", "mariadb"), Numeric(65, 30)),
}
#: Where a column may take "Web", "web" and "wéb" for one, and MT for mt.
_MAY_IGNORE_CASE = frozenset({"mysql", "mariadb", "mssql", "sqlite"})
#: Of a sum of floats the digits after these are noise; rounded up, it would be a kilogram.
_DIGITS_OF_A_FLOAT = 12


def sums_of_month(
    connection: Connection, query: str, columns: EmissionsColumns, values: Mapping[str, Any], where: str
) -> Iterator[dict[str, Any]]:
    """
    Yield a row per entity, unit and version, with the sums of the amounts.

    :param query: gives the month's rows.
    :param values: what may be bound in it: ``month``, ``first_day``, ``next_month``.
    :param where: how a message begins.
    :raises EmissionsError: when a column is missing, or an amount is blank or no number.
    """
    statement = text(f"{query.strip().rstrip(';')}\n")  # it may end in a comment
    used = {name: values[name] for name in statement.compile().params if name in values}
    statement = statement.bindparams(*(bindparam(name, type_=_BINDS[name]) for name in used))
    present = _columns_of(connection, statement, used)
    wanted = [each for each in columns.wanted if each != columns.period]
    named = find_columns(wanted, columns, lambda column: name_among(present, column), where)
    rows = statement.columns(*(column(name) for name in named.values())).subquery("emission_rows")
    amounts = {each: rows.c[named[each]] for each in columns.measured}
    keys = {each: rows.c[named[each]] for each in named if each not in amounts}
    summed = _sums(rows, keys, amounts, columns, connection)
    for found in connection.execute(summed, used).mappings():
        if blanks := sum(int(found[f"blank_{number}"] or 0) for number in range(len(amounts))):
            _check_blanks(blanks, columns, where)
        for number, each in enumerate(amounts):
            if faulty := int(found[f"faulty_{number}"] or 0):
                raise EmissionsError(
                    f"{where} gives {faulty} rows whose {each!r} is no number, such as {found[f'example_{number}']!r}: write 1234.5, "
                    "without thousands separators or a unit"
                )
        if found["counted"]:
            yield {each: found[f"key_{number}"] for number, each in enumerate(keys)} | {
                each: _plain(found[f"sum_{number}"]) for number, each in enumerate(amounts)
            }


def _plain(added_up: Any) -> Any:
    if isinstance(added_up, float):
        return f"{added_up:.{_DIGITS_OF_A_FLOAT}g}"
    return added_up.normalize(AMOUNTS) if isinstance(added_up, Decimal) else added_up or 0


def _columns_of(connection: Connection, statement: TextClause, used: Mapping[str, Any]) -> list[str]:
    """Ask the database which columns a query gives, without its rows."""
    rows = statement.columns().subquery("emission_rows")
    return list(connection.execute(select(literal_column("*")).select_from(rows).where(false()), used).keys())


def _check_blanks(blanks: int, columns: EmissionsColumns, where: str) -> None:
    if columns.blank == "refuse":
        raise EmissionsError(
            f"{where} gives {blanks} blank amounts, which SUM would pass over, and only you know what they mean: write "
            'EmissionsColumns(blank="zero") if nothing was emitted, or blank="skip_row" if such a row says nothing'
        )
    done = "count as zero" if columns.blank == "zero" else "were skipped with their rows"
    log.warning("%s gives %s blank amounts, which %s", where, blanks, done)


def _sums(
    rows: Subquery,
    keys: Mapping[str, ColumnElement[Any]],
    amounts: Mapping[str, ColumnElement[Any]],
    columns: EmissionsColumns,
    connection: Connection,
) -> Select[Any]:
    texts = {each: func.trim(cast(amount, String)) for each, amount in amounts.items()}
    blanks = [or_(amounts[each].is_(None), texts[each] == "") for each in amounts]
    skipped = or_(*blanks) if columns.blank == "skip_row" else false()
    selected: list[ColumnElement[Any]] = [
        key.label(f"key_{number}") for number, key in enumerate(keys.values())
    ]
    selected.append(func.sum(case((skipped, 0), else_=1)).label("counted"))
    for number, (each, amount) in enumerate(amounts.items()):
        is_number = _is_number(texts[each], connection)
        exact = _EXACT.get(connection.dialect.name)
        value = cast(texts[each], exact) if exact else amount
        is_faulty = case((or_(blanks[number], is_number), 0), else_=1)
        selected += [
            func.sum(case((skipped, None), (is_number, value))).label(f"sum_{number}"),
            func.sum(case((blanks[number], 1), else_=0)).label(f"blank_{number}"),
            func.sum(is_faulty).label(f"faulty_{number}"),
            func.min(case((is_faulty == 1, texts[each]))).label(f"example_{number}"),
        ]
    if not keys:
        return select(*selected).select_from(rows)
    names = list(keys.values())
    if connection.dialect.name in _MAY_IGNORE_CASE:
        names += [cast(key, LargeBinary) for key in keys.values()]
    return select(*selected).group_by(*names)


def _is_number(amount: ColumnElement[Any], connection: Connection) -> ColumnElement[bool]:
    """Say whether a text is a number; where a database has no regular expressions, its SUM refuses text by itself."""
    condition = amount.regexp_match(_NUMBER)
    try:
        select(condition).compile(connection)
    except CompileError:
        return and_(amount.is_not(None), true())
    return condition
