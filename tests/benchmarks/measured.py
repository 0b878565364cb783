"""What is measured runs in processes of its own, so that neither side pays for what the other has loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# Bytecode is cached as in any deployment, in a folder of the run's own: whether a site caches elsewhere is no business of it.
_UNSET = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder for one benchmark: Airflow's home, bytecode, certificates."""
    with TemporaryDirectory(prefix="carbonmark-bench-") as folder:
        yield Path(folder)


def run_measured(folder: Path, module: str, *arguments: object, env: Mapping[str, str] | None = None) -> Any:
    """
    Run a module in a fresh interpreter.

    :param folder: what :func:`scratch` gave.
    :param module: its full name.
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
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env={
            **base,
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            "PYTHONPYCACHEPREFIX": str(folder / "pycache"),
            **(env or {}),
        },
    )
    if done.returncode:
        raise RuntimeError(f"{module} ended with status {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
