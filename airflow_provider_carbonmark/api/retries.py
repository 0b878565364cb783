"""Which failed request may be sent again, and after how long."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from airflow_provider_carbonmark.api.errors import (
    CarbonmarkError,
    NotFoundError,
    RateLimitedError,
    RequestRefusedError,
    ServiceError,
    StatusError,
    TransportError,
    UnreadableAnswerError,
)

# Statuses that say "not now" rather than "not like this" (RFC 9110, RFC 6585, RFC 8470).
RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class RetryPolicy:
    """
    How often and how long one call is tried.

    :param attempts: how often a request is sent at most, the first time included.
    :param base_delay: seconds before the second attempt at most; doubles with each further one.
    :param max_delay: seconds between two attempts at most, unless the service asks for more.
    :param max_elapsed: seconds from the start of the first attempt to the start of the last at most. A service
        that asks to wait beyond that (``Retry-After``) ends the call at once.
    """

    attempts: int = 4
    base_delay: float = 0.5
    max_delay: float = 30.0
    max_elapsed: float = 90.0

    def delay_bounds(
        self, error: CarbonmarkError, *, method: str, attempt: int, elapsed: float
    ) -> tuple[float, float] | None:
        """
        Decide whether a failed attempt is followed by another, and between which delays; pure.

        :param attempt: number of the failed attempt, from 1.
        :param elapsed: seconds since the first attempt started.
        :return: the shortest and the longest delay in seconds, or None for no further attempt.
        """
        left = self.max_elapsed - elapsed
        if attempt >= self.attempts or left <= 0 or not may_send_again(error, method):
            return None
        if (asked_for := error.retry_after) is not None:
            return (asked_for, asked_for) if asked_for <= left else None
        # The exponent is bounded because 2.0**1024 overflows.
        return 0.0, min(self.base_delay * 2.0 ** min(attempt - 1, 60), self.max_delay, left)


DEFAULT_RETRIES = RetryPolicy()
NO_RETRIES = RetryPolicy(attempts=1)


def may_send_again(error: CarbonmarkError, method: str) -> bool:
    """Tell whether the same request may be sent once more right away; pure."""
    if isinstance(error, StatusError):
        return error.status in RETRIED_STATUSES
    # A POST may be repeated after a lost answer: a quote binds nobody, and a checkout link nobody saw costs nothing.
    # After an answer that can't be read it is not, because the service has done its part and would do the same again.
    return isinstance(error, TransportError) or (isinstance(error, UnreadableAnswerError) and method == "GET")


def is_passing(error: CarbonmarkError) -> bool:
    """
    Tell whether a later attempt may succeed without anybody changing anything: what a long wait sits out.

    :return: True for no or unreadable answers, 408, 425, 429 and every 5xx.
    """
    if isinstance(error, StatusError):
        return isinstance(error, (RateLimitedError, ServiceError)) or error.status in RETRIED_STATUSES
    return isinstance(error, (TransportError, UnreadableAnswerError))


def refuses_the_listing(error: BaseException | None) -> bool:
    """Tell whether Carbonmark itself says that what is asked for can't be bought, and won't say otherwise later."""
    # Its errors name themselves (seen); a bare 404 is some server's on the way.
    if not isinstance(error, (NotFoundError, RequestRefusedError)):
        return False
    return error.code is not None and not is_passing(error)


def full_jitter(bounds: tuple[float, float]) -> float:
    """
    Pick a delay within bounds at random, so that clients that failed together don't come back together.

    :param bounds: the shortest and the longest delay in seconds.
    """
    return random.uniform(*bounds)


def parse_retry_after(value: str | None) -> float | None:
    """
    Read a ``Retry-After`` header (RFC 9110, section 10.2.3): seconds, or an HTTP date.

    :return: seconds from now, at least 0; None when absent or unreadable.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:10])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
