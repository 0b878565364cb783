"""The benchmarks' one table, as Markdown for the README."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """
    One comparison, both sides measured in the same run.

    :param what: what was measured.
    :param ours: our figure, with its unit.
    :param theirs: the other side's figure, with its unit and name.
    :param ratio: ours divided by theirs; None where that says nothing.
    :param target: what was promised; empty for none.
    :param holds: whether the promise is kept; None when there is none.
    """

    what: str
    ours: str
    theirs: str
    ratio: float | None
    target: str = ""
    holds: bool | None = None


def render(rows: Iterable[Row]) -> str:
    """Return the rows as a Markdown table under a line that says when and where they were measured."""
    lines = [
        f"Measured {datetime.now(UTC):%Y-%m-%d} on {_machine()}.",
        "",
        "| What | Ours | Theirs | Ratio | Target |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {row.what} | {row.ours} | {row.theirs} | {_ratio(row)} | {_target(row)} |" for row in rows]
    return "\n".join(lines)


def _ratio(row: Row) -> str:
    if row.ratio is None:
        return "–"
    return f"{row.ratio:.2f}" if row.ratio >= 0.1 else f"{row.ratio:.2g}"


def _target(row: Row) -> str:
    if row.holds is None:
        return row.target or "–"
    return f"{row.target} {'✓' if row.holds else '✗'}"


def _machine() -> str:
    return (
        f"{_cpu_model()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"Airflow {version('apache-airflow')}"
    )


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
