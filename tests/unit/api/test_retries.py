from __future__ import annotations

from datetime import UTC, datetime

import pytest
import time_machine
from hypothesis import given, strategies as st

from airflow_provider_carbonmark.api.errors import (
    InvalidInputError,
    ServiceError,
    TransportError,
    UnreadableAnswerError,
    status_error_class,
)
from airflow_provider_carbonmark.api.retries import (
    DEFAULT_RETRIES,
    NO_RETRIES,
    RetryPolicy,
    full_jitter,
    is_passing,
    may_send_again,
    parse_retry_after,
)

LOST = TransportError("Reset.")


def failed(status, retry_after=None):
    return status_error_class(status)("No.", status=status, retry_after=retry_after)


def bounds(policy, error=LOST, attempt=1, elapsed=0.0):
    return policy.delay_bounds(error, method="GET", attempt=attempt, elapsed=elapsed)


@pytest.mark.parametrize(
    ("error", "methods", "passes"),
    [
        (LOST, ["GET", "POST"], True),
        # What answered so has done its part: nothing is made twice.
        (UnreadableAnswerError("HTML."), ["GET"], True),
        (InvalidInputError("url", "is empty", remedy="Give one"), [], False),
        *((failed(status), ["GET", "POST"], True) for status in (408, 425, 429, 500, 502, 503, 504)),
        *((failed(status), [], True) for status in (501, 505, 599)),
        *((failed(status, 1.0), [], False) for status in (400, 401, 403, 404, 405, 409, 410, 413, 422)),
    ],
    ids=lambda value: str(getattr(value, "status", value)),
)
def test_what_is_sent_again_at_once_and_what_a_long_wait_sits_out(error, methods, passes):
    assert [method for method in ("GET", "POST") if may_send_again(error, method)] == methods
    assert is_passing(error) is passes
    assert (bounds(DEFAULT_RETRIES, error) is not None) is ("GET" in methods)


def test_delays_double_up_to_the_longest():
    policy = RetryPolicy(attempts=9, base_delay=1.0, max_delay=10.0, max_elapsed=1000.0)
    longest = [bounds(policy, attempt=number) for number in range(1, 7)]
    assert longest == [(0.0, 1.0), (0.0, 2.0), (0.0, 4.0), (0.0, 8.0), (0.0, 10.0), (0.0, 10.0)]


def test_the_last_attempt_is_followed_by_none():
    assert bounds(DEFAULT_RETRIES, attempt=3) is not None
    assert bounds(DEFAULT_RETRIES, attempt=4) is None
    assert bounds(NO_RETRIES) is None


def test_no_attempt_starts_after_the_longest_time_even_if_the_service_asks_for_it():
    policy = RetryPolicy(base_delay=8.0, max_elapsed=60.0)
    assert bounds(policy, elapsed=57.0) == (0.0, 3.0)
    assert bounds(policy, elapsed=60.0) is None
    assert bounds(policy, failed(503, 0.0)) == (0.0, 0.0)
    assert bounds(policy, failed(429, 30.0), elapsed=30.0) == (30.0, 30.0)
    assert bounds(policy, failed(429, 30.0), elapsed=30.1) is None


@given(st.integers(1, 10_000), st.floats(0, 1e6), st.floats(0.001, 60), st.none() | st.floats(0, 1e9))
def test_no_delay_ever_leads_past_the_longest_time(attempt, elapsed, base, retry_after):
    policy = RetryPolicy(attempts=20_000, base_delay=base, max_delay=30.0, max_elapsed=90.0)
    between = bounds(policy, ServiceError("No.", status=503, retry_after=retry_after), attempt, elapsed)
    if between is not None:
        assert 0 <= between[0] <= full_jitter(between) <= between[1]
        assert elapsed + between[1] <= 90.0 + 1e-9


def test_jitter_spreads_over_the_whole_range():
    picked = [full_jitter((0.0, 8.0)) for _ in range(1000)]
    assert min(picked) < 1.0
    assert max(picked) > 7.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("0", 0.0), ("120", 120.0), (" 7 ", 7.0), ("9" * 10_000, 9_999_999_999.0)),
        ("Thu, 01 Oct 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Oct 2026 14:00:30 +0200", 30.0),
        ("Thu, 01 Oct 2026 12:00:30 -0000", 30.0),
        ("Thursday, 01-Oct-26 12:00:30 GMT", 30.0),
        ("Thu, 01 Oct 2026 11:00:00 GMT", 0.0),
        # What says nothing counts as none.
        *(
            (text, None)
            for text in (None, "", "soon", "-1", "1.5", "nan", "²", "Thu, 99 Oct 2026 12:00:30 GMT")
        ),
    ],
    ids=lambda value: str(value)[:40],
)
@time_machine.travel(datetime(2026, 10, 1, 12, 0, 0, tzinfo=UTC), tick=False)
def test_retry_after_is_read_as_seconds_and_as_date(text, seconds):
    assert parse_retry_after(text) == seconds
