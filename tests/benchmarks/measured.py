"""
What all benchmarks share: measured processes, of which neither side pays for what the other has loaded, and the README's table.

A benchmark is a module whose ``main`` returns rows. Where it measures in processes of its own, these run the same module with arguments,
or a ``…_process`` beside it whose imports would be measured too.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

Side = TypeVar("Side")

# Bytecode is cached as in any deployment, in a folder of the run's own: whether a site caches elsewhere is no business of it.
_UNSET = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder for one benchmark: Airflow's home, bytecode, certificates."""
    with TemporaryDirectory(prefix="carbonmark-bench-") as folder:
        yield Path(folder)


def run_measured(folder: Path, module: str, *arguments: object, env: Mapping[str, str] | None = None) -> Any:
    """
    Run a module of the benchmarks in a fresh interpreter.

    :param folder: what :func:`scratch` gave.
    :param module: its name in this package.
    :param arguments: its command line.
    :param env: further environment variables.
    :return: the JSON on the last line that it prints.
    :raises RuntimeError: it failed.
    """
    base = {
        name: value
        for name, value in os.environ.items()
        if name.upper() not in _UNSET and not name.startswith("AIRFLOW")
    }
    airflow = {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "PYTHONPYCACHEPREFIX": str(folder / "pycache"),
    }
    return run_module(module, *arguments, env={**base, **airflow, **(env or {})})


def run_module(module: str, *arguments: object, env: Mapping[str, str]) -> Any:
    """Do the same with this environment and no other."""
    command = [sys.executable, "-m", f"{__package__}.{module}", *map(str, arguments)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env, cwd=root)
    if done.returncode:
        raise RuntimeError(f"{module} ended with status {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def in_turn(
    name: str, rounds: int, sides: Mapping[Side, Callable[[], dict[str, float]]], *, warm_up: bool = False
) -> dict[Side, dict[str, float]]:
    """
    Measure the sides in turn and give the least of each figure: all above it is what else the machine did.

    :param warm_up: whether a round that doesn't count fills the bytecode cache.
    """
    found: dict[Side, list[dict[str, float]]] = {side: [] for side in sides}
    for number in range(0 if warm_up else 1, rounds + 1):
        progress(f"{name}: round {number} of {rounds}")
        for side, measure in sides.items():
            result = measure()
            if number:
                found[side].append(result)
    return {
        side: {figure: min(result[figure] for result in results) for figure in results[0]}
        for side, results in found.items()
    }


def progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def connection_to(url: str) -> str:
    """Return a Carbonmark connection to a stand-in, as an environment variable holds it."""
    extra = {"market_url": url, "environment": "production"}
    return json.dumps(
        {"conn_type": "carbonmark", "host": url, "password": "cm_api_benchmark", "extra": extra}
    )


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
    theirs: str = "–"
    ratio: float | None = None
    target: str = ""
    holds: bool | None = None


def compare(
    what: str, ours: float, theirs: float, text: str, name: str, target: str = "", *, their_text: str = ""
) -> Row:
    """
    Return the row of two figures.

    :param text: what they are written as, such as ``{:.2f} ms``.
    :param name: of the other side.
    :param target: the most that the ratio may be, such as ``≤ 0.40``, or our figure, such as ``ours ≤ 25``; the number in it is the limit.
    :param their_text: what the other side's figure is written as, where that is something else.
    """
    ratio = ours / theirs
    limit = re.search(r"[\d.]+", target)
    judged = ours if target.startswith("ours") else ratio
    their_figure = f"{(their_text or text).format(theirs)} ({name})"
    holds = judged <= float(limit[0]) if limit else None
    return Row(what, text.format(ours), their_figure, ratio if ours else None, target, holds)


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


def run(main: Callable[[], list[Row]], measured: Callable[..., Any] | None = None) -> None:
    """Print a benchmark's rows; or, where there are arguments, what the process that it started has measured."""
    print(json.dumps(measured(*sys.argv[1:])) if measured and sys.argv[1:] else render(main()))


def _ratio(row: Row) -> str:
    if row.ratio is None:
        return "–"
    return f"{row.ratio:.2f}" if row.ratio >= 0.1 else f"{row.ratio:.2g}"


def _target(row: Row) -> str:
    return row.target or "–" if row.holds is None else f"{row.target} {'✓' if row.holds else '✗'}"


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
