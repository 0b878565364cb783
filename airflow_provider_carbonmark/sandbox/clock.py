"""The sandbox's time, which can be put forward."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

TimeSource = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


class Clock:
    """
    A time source and how far it has been put forward.

    :param source: returns the present as an aware datetime.
    """

    def __init__(self, source: TimeSource = utc_now) -> None:
        self._source = source
        self._ahead = timedelta()

    def now(self) -> datetime:
        return self._source() + self._ahead

    def advance(self, seconds: float) -> None:
        """
        Put the clock forward.

        :param seconds: how far; not negative.
        """
        if seconds < 0:
            raise ValueError(f"advance_seconds is {seconds}: time only goes forward, use 0 or more")
        self._ahead += timedelta(seconds=seconds)

    def reset(self) -> None:
        self._ahead = timedelta()
