from __future__ import annotations

from datetime import UTC, datetime

import pytest
import time_machine
from hypothesis import given, strategies as st

from airflow_provider_carbonmark.api.errors import (
    AccessDeniedError,
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
UNREADABLE = UnreadableAnswerError("HTML.")


def failed(status, retry_after=None):
    return status_error_class(status)("No.", status=status, retry_after=retry_after)


def test_a_refused_input_is_never_tried_again():
    error = InvalidInputError("url", "is empty", remedy="Give one")
    assert not may_send_again(error, "GET")
    assert not is_passing(error)


@pytest.mark.parametrize("error", [LOST, UNREADABLE, *map(failed, (408, 425, 429, 500, 501, 503, 599))])
def test_a_long_wait_sits_out_what_passes(error):
    assert is_passing(error)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_a_long_wait_ends_at_what_does_not_pass(status):
    assert not is_passing(failed(status))


def test_delays_double_up_to_the_longest():
    policy = RetryPolicy(attempts=9, base_delay=1.0, max_delay=10.0, max_elapsed=1000.0)
    bounds = [policy.delay_bounds(LOST, method="GET", attempt=n, elapsed=0.0) for n in range(1, 7)]
    assert bounds == [(0.0, 1.0), (0.0, 2.0), (0.0, 4.0), (0.0, 8.0), (0.0, 10.0), (0.0, 10.0)]


def test_the_last_attempt_is_followed_by_none():
    assert DEFAULT_RETRIES.delay_bounds(LOST, method="GET", attempt=3, elapsed=0.0) is not None
    assert DEFAULT_RETRIES.delay_bounds(LOST, method="GET", attempt=4, elapsed=0.0) is None
    assert NO_RETRIES.delay_bounds(LOST, method="GET", attempt=1, elapsed=0.0) is None


def test_no_attempt_starts_after_the_longest_time():
    policy = RetryPolicy(base_delay=8.0, max_elapsed=10.0)
    assert policy.delay_bounds(LOST, method="GET", attempt=1, elapsed=7.0) == (0.0, 3.0)
    assert policy.delay_bounds(LOST, method="GET", attempt=1, elapsed=10.0) is None


def test_a_service_that_asks_for_no_delay_gets_none():
    assert DEFAULT_RETRIES.delay_bounds(failed(503, 0.0), method="GET", attempt=1, elapsed=0.0) == (0.0, 0.0)


def test_a_service_that_asks_for_more_than_is_left_ends_the_call():
    policy = RetryPolicy(max_elapsed=60.0)
    assert policy.delay_bounds(failed(429, 30.0), method="GET", attempt=1, elapsed=30.0) == (30.0, 30.0)
    assert policy.delay_bounds(failed(429, 30.0), method="GET", attempt=1, elapsed=30.1) is None


def test_a_wrong_key_is_not_tried_again_even_with_retry_after():
    error = AccessDeniedError("No.", status=401, retry_after=1.0)
    assert DEFAULT_RETRIES.delay_bounds(error, method="GET", attempt=1, elapsed=0.0) is None


@given(
    attempt=st.integers(1, 10_000),
    elapsed=st.floats(0, 1e6),
    base=st.floats(0.001, 60),
    retry_after=st.none() | st.floats(0, 1e9),
)
def test_no_delay_ever_leads_past_the_longest_time(attempt, elapsed, base, retry_after):
    policy = RetryPolicy(attempts=20_000, base_delay=base, max_delay=30.0, max_elapsed=90.0)
    bounds = policy.delay_bounds(
        ServiceError("No.", status=503, retry_after=retry_after),
        method="GET",
        attempt=attempt,
        elapsed=elapsed,
    )
    if bounds is not None:
        assert 0 <= bounds[0] <= full_jitter(bounds) <= bounds[1]
        assert elapsed + bounds[1] <= 90.0 + 1e-9


def test_jitter_spreads_over_the_whole_range():
    picked = [full_jitter((0.0, 8.0)) for _ in range(1000)]
    assert min(picked) < 1.0
    assert max(picked) > 7.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Thu, 01 Oct 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Oct 2026 14:00:30 +0200", 30.0),
        ("Thu, 01 Oct 2026 12:00:30 -0000", 30.0),
        ("Thursday, 01-Oct-26 12:00:30 GMT", 30.0),
        ("Thu, 01 Oct 2026 11:00:00 GMT", 0.0),
    ],
)
@time_machine.travel(datetime(2026, 10, 1, 12, 0, 0, tzinfo=UTC), tick=False)
def test_retry_after_is_read_as_seconds_and_as_date(text, seconds):
    assert parse_retry_after(text) == seconds


@pytest.mark.parametrize("text", [None, "", "soon", "-1", "1.5", "nan", "²", "Thu, 99 Oct 2026 12:00:30 GMT"])
def test_a_retry_after_that_says_nothing_counts_as_none(text):
    assert parse_retry_after(text) is None


def test_an_absurdly_long_retry_after_is_a_long_time_and_not_a_crash():
    assert parse_retry_after("9" * 10_000) > 1e9
