"""The benchmark that plays with the trigger's time still waits as the trigger does: seen, it had lost what the trigger had come to use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.benchmarks.polls import measured

if TYPE_CHECKING:
    import pytest


def test_a_retirement_is_seen_within_the_pace_of_the_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CARBONMARK_DEFAULT", "set by the benchmark")
    (wait,) = measured("3")
    assert wait["polls"] > 1
    assert 0 <= wait["delay"] < 5
