"""Months and moments, as tables write them."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from airflow_provider_carbonmark.emissions.errors import EmissionsError, shown

MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_ISO = re.compile(
    r"(?P<day>(?P<month>[0-9]{4}-(?:0[1-9]|1[0-2]))(?:-[0-9]{2})?)"
    r"(?:[T ](?P<time>[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?)"
    r"(?: ?(?P<zone>Z|UTC|[+-][0-9]{2}(?::?[0-9]{2})?))?)?"
)
_LEADING_ZEROS = re.compile(r"\b0+(?=[0-9])")
_ONE_TICK = datetime.timedelta(microseconds=1)


class Moment(NamedTuple):
    """
    When something was.

    :param month: the month as it is written, ``YYYY-MM``: ``2026-10-31T23:30:00-05:00`` is October.
    :param at: for the order of moments; the start of the day or month where nothing finer is written.
    :param has_day: whether a day was written.
    """

    month: str
    at: datetime.datetime
    has_day: bool


def check_month(month: object) -> None:
    """Let a month pass. :raises EmissionsError: when it is none, ``YYYY-MM``."""
    if not isinstance(month, str) or not MONTH.fullmatch(month):
        raise EmissionsError(f"month is {shown(month)}: write YYYY-MM, such as 2026-10")


def moment_reader(period_format: str | None) -> Callable[[str], Moment | None]:
    """
    Return what reads a period; None for a text that is none.

    :param period_format: as for ``datetime.strptime``; None for ISO months, dates and timestamps.
    """
    if period_format is None:
        return _iso_moment
    return partial(_formatted_moment, period_format)


def tells_months_apart(period_format: str) -> bool:
    """Say whether a format writes each month in its own way, so that it can be read back."""
    try:
        return all(
            datetime.datetime.strptime(day.strftime(period_format), period_format).strftime("%Y-%m")
            == day.strftime("%Y-%m")
            for day in (datetime.datetime(year, month, 1) for year in (2026, 2027) for month in range(1, 13))
        )
    except (ValueError, re.error):
        return False


def last_month(start: Moment, end: Moment) -> str:
    """Return the last month that a period touches; an end at the first instant of a month belongs to the month before."""
    starts, ends = start.at.replace(tzinfo=None), end.at.replace(tzinfo=None)
    is_first_instant = end.has_day and ends.day == 1 and ends.time() == datetime.time()
    return (ends - _ONE_TICK).strftime("%Y-%m") if is_first_instant and ends > starts else end.month


def _iso_moment(text: str) -> Moment | None:
    found = _ISO.fullmatch(text.strip())
    if found is None:
        return None
    has_day = found["day"] != found["month"]
    zone = (found["zone"] or "").replace("UTC", "Z")
    written = f"{found['day']}{'' if has_day else '-01'}T{found['time'] or '00:00'}{zone}"
    try:
        at = datetime.datetime.fromisoformat(written)
    except ValueError:  # 31 February, 25 o'clock
        return None
    return Moment(found["month"], at, has_day) if has_day or not found["time"] else None


def _formatted_moment(period_format: str, text: str) -> Moment | None:
    text = text.strip()
    try:
        at = datetime.datetime.strptime(text, period_format)
    except ValueError:
        return None
    # strptime takes 2024111 for November, which may be January: what reads two ways is refused.
    if _plain(at.strftime(period_format)) != _plain(text):
        return None
    return Moment(at.strftime("%Y-%m"), at, has_day=any(code in period_format for code in ("%d", "%j", "%x")))


def _plain(text: str) -> str:
    return _LEADING_ZEROS.sub("", text.casefold())
