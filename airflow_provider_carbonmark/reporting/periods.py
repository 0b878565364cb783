"""Which month or year a report is on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from airflow_provider_carbonmark.api.errors import InvalidInputError

_PERIOD = re.compile(r"[0-9]{4}(-(0[1-9]|1[0-2]))?")


@dataclass(frozen=True)
class Period:
    """
    A month or a year of the calendar, in UTC.

    :param text: ``YYYY-MM`` or ``YYYY``.
    :raises InvalidInputError: when it is neither.
    """

    text: str

    def __post_init__(self) -> None:
        # The first year has none before it, and the last no end.
        is_one = isinstance(self.text, str) and _PERIOD.fullmatch(self.text) and 1 < int(self.text[:4]) < 9999
        if not is_one:
            raise InvalidInputError(
                "period", "is neither a month nor a year", value=self.text, remedy='Write "2026-10" or "2026"'
            )

    def __str__(self) -> str:
        return self.text

    @property
    def is_year(self) -> bool:
        return len(self.text) == 4

    @property
    def months(self) -> tuple[str, str]:
        """The first and the last of its months."""
        return (f"{self.text}-01", f"{self.text}-12") if self.is_year else (self.text, self.text)

    @property
    def since(self) -> datetime:
        return datetime(int(self.text[:4]), int(self.months[0][5:]), 1, tzinfo=UTC)

    @property
    def until(self) -> datetime:
        years, months = divmod(int(self.months[1][5:]), 12)
        return datetime(int(self.text[:4]) + years, months + 1, 1, tzinfo=UTC)

    @property
    def before(self) -> Self:
        """The same a year before."""
        return type(self)(f"{int(self.text[:4]) - 1:04}{self.text[4:]}")

    def has_month(self, month: str) -> bool:
        first, last = self.months
        return first <= month <= last

    def has_time(self, time: datetime | None) -> bool:
        return time is not None and self.since <= time < self.until
