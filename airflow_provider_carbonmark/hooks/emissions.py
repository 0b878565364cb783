"""Which month a run is about, which files hold its emissions, and what a database says was emitted in it."""

from __future__ import annotations

import datetime
import hashlib
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.providers.common.compat.sdk import AirflowFailException, BaseHook, conf

if TYPE_CHECKING:
    from airflow.sdk import Context, ObjectStoragePath

    from airflow_provider_carbonmark.emissions import EmissionsColumns, EntityEmissions

log = logging.getLogger(__name__)

_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_LOCAL = frozenset({"", "file", "local"})


def month_of_run(context: Context, *, allow_unfinished: bool = False) -> str:
    """
    Return the month that a run is about, ``YYYY-MM``, in the time zone of the DAG.

    That is its param ``month``; else the one in which its data interval starts; else, where the interval is empty, as it is for a
    schedule written as text in Airflow 3, the last one that was over then.

    :param allow_unfinished: whether it may be a month that is not over yet.
    :raises AirflowFailException: when it has neither month nor data interval, or its month is not over.
    """
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    zone = _zone_of(context.get("dag"))
    month = context["params"].get("month")
    if month and not _MONTH.fullmatch(str(month)):
        raise AirflowFailException(f"The param month is {month!r}: write YYYY-MM, such as 2026-10")
    if not month:
        if start is None:
            raise AirflowFailException(
                "This run has no data interval to take the month from: set the param month"
            )
        begin = pendulum.instance(start)
        begin = begin.in_timezone(zone) if zone else begin
        is_empty = end is not None and end <= start
        month = (begin.start_of("month").subtract(months=1) if is_empty else begin).format("YYYY-MM")
    if not allow_unfinished and month >= pendulum.now(zone or "UTC").format("YYYY-MM"):
        raise AirflowFailException(
            f"The month {month} is not over yet, and what is bought for a part of it can't be taken back: run this later, or set the "
            "param month to one that is over. To buy for the month so far, call month_of_run(context, allow_unfinished=True)"
        )
    return str(month)


def _zone_of(dag: Any) -> Any:
    """Return the time zone that a DAG's schedule counts in; None where there is no DAG."""
    timetable = getattr(dag, "timetable", None)
    # One of assets and time holds another, and one of several crons holds one for each, all of one zone.
    timetable = getattr(timetable, "timetable", timetable)
    several = getattr(timetable, "timetables", None) or getattr(timetable, "_timetables", None)
    timetable = several[0] if several else timetable
    # Airflow's timetables keep it as timezone in the SDK, and as _timezone in its core.
    zone = getattr(timetable, "timezone", None) or getattr(timetable, "_timezone", None)
    zone = zone or getattr(dag, "timezone", None)
    return pendulum.timezone(zone) if isinstance(zone, str) else zone


def emissions_files(where: str | Sequence[str], month: str) -> list[ObjectStoragePath]:
    """
    Find the files that hold a month's emissions.

    :param where: a file, a folder, or a pattern with ``*``; or several of these. Each may contain ``{month}`` (2026-10), ``{year}`` and
        ``{month_number}`` (10).
    :param month: ``YYYY-MM``.
    :raises EmissionsError: when there is none, and when one is outside of ``[carbonmark] emissions_roots``.
    """
    # Imported late: a DAG file needs none of them.
    from airflow.sdk import ObjectStoragePath

    from airflow_provider_carbonmark.emissions import EmissionsError

    values = {"month": month, "year": month[:4], "month_number": month[5:]}
    found: dict[str, ObjectStoragePath] = {}
    for pattern in [where] if isinstance(where, str) else where:
        if unknown := set(_PLACEHOLDER.findall(pattern)) - values.keys():
            raise EmissionsError(
                f"{pattern}: there is no {{{min(unknown)}}}; write {{month}}, {{year}} or {{month_number}}"
            )
        place = _PLACEHOLDER.sub(lambda name: values[name[1]], pattern)
        try:
            path = ObjectStoragePath(place)
            found |= {str(each): each for each in _files_at(path, _roots())}
        except EmissionsError:
            raise
        except ValueError as error:  # what Airflow raises where it has no such storage
            raise EmissionsError(f"{place}: is no path that this Airflow knows ({error})") from None
    return list(found.values())


def _files_at(path: ObjectStoragePath, roots: Sequence[ObjectStoragePath]) -> list[ObjectStoragePath]:
    from airflow_provider_carbonmark.emissions import EmissionsError

    base, star, rest = str(path).partition("*")
    if star:
        folder, _, first = base.rpartition("/")
        top = type(path)(folder or "/")
        _check_root(top, roots)
        found = [each for each in top.glob(f"{first}*{rest}") if each.is_file()]
    else:
        _check_root(path, roots)
        if not path.is_dir():
            return [path]
        # Some object stores list a folder as an empty object in itself.
        inside = [each for each in path.iterdir() if each.path.rstrip("/") != path.path.rstrip("/")]
        if any(each.is_dir() for each in inside):
            raise EmissionsError(
                f"{path}: has folders in it, whose files would be left out; write the files, such as {path}/*/*"
            )
        # What begins like this is a mark of the program that wrote the folder, such as _SUCCESS.
        found = [each for each in inside if not each.name.startswith((".", "_"))]
    if not found:
        raise EmissionsError(f"{path}: there is no such file; check the path and the month in it")
    for each in found:
        _check_root(each, roots)
    return sorted(found, key=str)


def _roots() -> list[ObjectStoragePath]:
    """Return the places that the deployment allows; none where it allows all."""
    from airflow.sdk import ObjectStoragePath

    configured = conf.get("carbonmark", "emissions_roots", fallback=None) or ""
    return [ObjectStoragePath(root) for each in re.split("[,\n]", configured) if (root := each.strip())]


def _check_root(path: ObjectStoragePath, roots: Sequence[ObjectStoragePath]) -> None:
    """Refuse what is outside of the places that the deployment allows."""
    from airflow_provider_carbonmark.emissions import EmissionsError

    if roots and not any(_is_below(path, root) for root in roots):
        raise EmissionsError(
            f"{path}: is outside of the places that [carbonmark] emissions_roots allows; put the file there, or ask whoever runs this "
            "Airflow to add its folder"
        )


def _is_below(path: ObjectStoragePath, root: ObjectStoragePath) -> bool:
    if {path.protocol, root.protocol} <= _LOCAL:
        real, top = os.path.realpath(path.path), os.path.realpath(root.path)
        return path.conn_id == root.conn_id and os.path.commonpath([real, top]) == top
    parts, above = path.path.strip("/").split("/"), root.path.strip("/").split("/")
    is_same_store = (path.protocol, path.conn_id) == (root.protocol, root.conn_id)
    return is_same_store and ".." not in parts and parts[: len(above)] == above


def emissions_in_database(
    conn_id: str, query: str, columns: EmissionsColumns, months: Iterable[str]
) -> list[EntityEmissions]:
    """
    Have a database add up months: only a row per entity, unit and version leaves it.

    Amounts that are null or no numbers are found there, too: ``SUM`` passes over the former, and SQLite and MariaDB take "1,234.5" for 1.

    :param conn_id: an Airflow connection of any kind of database that Airflow has a hook for (``DbApiHook``).
    :param query: gives a month's rows, without the month. It may use ``:month`` (``2026-10``), or the dates ``:first_day`` and
        ``:next_month``, the first days of the month and of the next one.
    :param columns: the columns that it gives; as ``period`` they get the month.
    :param months: each ``YYYY-MM``. Those without rows are left out.
    :raises EmissionsError: when there is a doubt about any row, or no row in any of the months.
    """
    # Imported late: a DAG file needs none of them.
    from airflow_provider_carbonmark.emissions import EmissionsError, emissions_of_month
    from airflow_provider_carbonmark.emissions.sums import Query
    from airflow_provider_carbonmark.hooks.database_sums import sums_of_month

    if columns.running_total_of:
        raise EmissionsError(
            "a query for one month can't tell what a running total was before it: pass the rows of all months to emissions_of_month, "
            "or have the query give what each total grew by, with columns without running_total_of"
        )
    months = list(months)
    found: list[EntityEmissions] = []
    # Of what there is no file, the query tells where it is from.
    name = f"{columns.name or 'Table'}, by a query to connection {conn_id!r} (SHA-256 {hashlib.sha256(query.encode()).hexdigest()})"
    as_summed = replace(columns, blank="refuse", decimal=".", period_format=None, name=name)
    engine = BaseHook.get_hook(conn_id).get_sqlalchemy_engine()
    try:
        with engine.connect() as connection:
            for month in months:
                where = f"The query to connection {conn_id!r} for {month}"
                sums = sums_of_month(connection, query, columns, _days_of(month), where)
                if of_month := [{**row, columns.period: month} for row in sums]:
                    added_up = emissions_of_month(of_month, as_summed, month)
                    found += (replace(each, query=Query(conn_id, query)) for each in added_up)
    finally:
        engine.dispose()
    if not found:
        asked = " to ".join(dict.fromkeys((months[0], months[-1]))) if months else "no month"
        raise EmissionsError(
            f"The query to connection {conn_id!r} gives no rows for {asked}, and no data is never an offset of zero: check the "
            "connection and the query, wait for the data, or ask for another time"
        )
    return found


def _days_of(month: str) -> Mapping[str, Any]:
    # Imported late: a DAG file needs none of it.
    from airflow_provider_carbonmark.emissions.periods import check_month

    check_month(month)
    first_day = datetime.date.fromisoformat(f"{month}-01")
    return {
        "month": month,
        "first_day": first_day,
        "next_month": (first_day + datetime.timedelta(days=31)).replace(day=1),
    }
