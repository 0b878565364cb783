"""Which tests can differ by Airflow's version: those that import something of it, however far down, or run it as a program."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def needs_airflow(path: Path) -> bool:
    """Return whether a test, or a conftest beside it, leads to an import of Airflow, at its top or in a function, or to its program."""
    if b'"-m", "airflow"' in path.read_bytes():
        return True
    beside = path.with_name("conftest.py")
    seen = {path} if beside.parent.parent == ROOT / "tests" or not beside.exists() else {path, beside}
    left = list(seen)
    while left:
        for name in _imports(left.pop()):
            if name.partition(".")[0] == "airflow":
                return True
            new = [file for file in _files(name) if file not in seen]
            seen.update(new)
            left += new
    return False


@cache
def _imports(path: Path) -> frozenset[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # What is imported from a package may be a module.
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def _files(name: str) -> Iterator[Path]:
    """Yield what is run when a module of ours is imported: the packages it is in, and the module."""
    path = ROOT
    for part in name.split("."):
        path /= part
        if path.with_suffix(".py").exists():
            yield path.with_suffix(".py")
        elif (path / "__init__.py").exists():
            yield path / "__init__.py"
        else:
            return
