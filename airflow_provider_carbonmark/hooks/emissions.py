"""Which month a run is about, and what a database says was emitted in it."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowFailException, BaseHook

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_carbonmark.emissions import EmissionsColumns, EntityEmissions


def month_of_run(context: Context) -> str:
    """
    Return the month that a run is about, ``YYYY-MM``: its param ``month``, else the one in which its data interval starts.

    :raises AirflowFailException: when it has neither.
    """
    if month := context["params"].get("month"):
        return str(month)
    start = context.get("data_interval_start")
    if start is None:
        raise AirflowFailException(
            "This run has no data interval to take the month from: set the param month"
        )
    return f"{start:%Y-%m}"


def emissions_in_database(
    conn_id: str, query: str, columns: EmissionsColumns, months: Iterable[str]
) -> list[EntityEmissions]:
    """
    Have a database add up months, each by a query of its own, so that the query needs none of SQL that databases write differently.

    :param conn_id: an Airflow connection of any kind of database that Airflow has a hook for (``DbApiHook``).
    :param query: gives a month's rows, best one per entity and unit, without the month. The first day of the month and that of the
        next are bound to ``:first_day`` and ``:next_month``.
    :param columns: the columns that it gives; as ``period`` they get the month.
    :param months: each ``YYYY-MM``. Those without rows are left out.
    :raises EmissionsError: when there is a doubt about any row, or no row in any of the months.
    """
    # Imported late: a DAG file needs none of them.
    from sqlalchemy import Date, bindparam, text

    from airflow_provider_carbonmark.emissions import EmissionsError, emissions_of_month

    days = (bindparam(name, type_=Date) for name in ("first_day", "next_month"))
    statement = text(query).bindparams(*days)
    months = list(months)
    found: list[EntityEmissions] = []
    engine = BaseHook.get_hook(conn_id).get_sqlalchemy_engine()
    try:
        with engine.connect() as connection:
            for month in months:
                rows = connection.execute(statement, _days_of(month)).mappings()
                if of_month := [{**row, columns.period: month} for row in rows]:
                    found += emissions_of_month(of_month, columns, month)
    finally:
        engine.dispose()
    if not found:
        asked = " to ".join(dict.fromkeys((months[0], months[-1])))
        raise EmissionsError(
            f"The query to connection {conn_id!r} gives no rows for {asked}, and no data is never an offset of zero: check the "
            "connection and the query, wait for the data, or ask for another time"
        )
    return found


def _days_of(month: str) -> dict[str, datetime.date]:
    first_day = datetime.date.fromisoformat(f"{month}-01")
    return {
        "first_day": first_day,
        "next_month": (first_day + datetime.timedelta(days=31)).replace(day=1),
    }
