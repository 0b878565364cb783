"""The house: which room may import which, and that no files go round in a circle, late and TYPE_CHECKING imports included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "airflow_provider_carbonmark"
ROOT = Path(__file__).parents[2] / PACKAGE

#: What every room but the sandbox may import: modules without a client.
EVERYBODYS = {"api.errors", "api.inputs", "api.markup"}
#: Rooms, modules, or names of a module that a room may import besides. Who may import a room may import what that room may.
ALLOWED: dict[str, set[str]] = {
    "get_provider_info": {"hooks.connection_form"},
    "api": set(),
    "emissions": set(),
    "ledger": set(),
    "planning": {
        "api.models.Listing",
        "emissions",
        "ledger.limits",
        "ledger.projects.Project",
        "ledger.values",
    },
    "reporting": {"ledger"},
    "hooks": {"api", "ledger", "emissions"},
    "dag": {"hooks", "planning"},
    "web": {"hooks", "ledger", "reporting"},
    "sandbox": set(),
    "cli": {"hooks", "ledger", "reporting", "sandbox"},
    "pytest_plugin": {"sandbox"},
}
#: What a DAG author uses is one room.
DAG_AUTHORS = {"operators", "sensors", "triggers", "links", "task_groups"}
IMPORT_AIRFLOW = {"hooks", "dag", "web", "cli"}


class Import(NamedTuple):
    """
    An import of one name.

    :param by: the module that imports, without the package's name.
    :param of: the module that is imported, likewise; a module outside of the package with all of its name.
    :param name: what is taken of it; empty for the module itself.
    """

    by: str
    of: str
    name: str = ""


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {
    module_of(path): path
    for path in sorted(ROOT.rglob("*.py"))
    if path.parent != ROOT or path.stem != "__init__"
}


def imports_of(module: str, code: str) -> Iterator[Import]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (ours(module, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            yield from (ours(module, node.module or "", alias.name) for alias in node.names)


def ours(by: str, of: str, name: str) -> Import:
    """Tell a module that is imported out of its package from a name that is imported out of a module."""
    if of != PACKAGE and not of.startswith(f"{PACKAGE}."):
        return Import(by, of, name)
    inner = of.removeprefix(PACKAGE).removeprefix(".")
    whole = ".".join(filter(None, (inner, name)))
    return Import(by, whole) if name and whole in MODULES else Import(by, inner, name)


ALL = [found for module, path in MODULES.items() for found in imports_of(module, path.read_text())]
OURS = [found for found in ALL if found.of in MODULES]


def room_of(module: str) -> str:
    room = module.partition(".")[0]
    return "dag" if room in DAG_AUTHORS else room


def reach(room: str) -> set[str]:
    """Return what a room may import, by itself and through the rooms that it may import."""
    found = set(ALLOWED[room])
    for other in ALLOWED[room] & ALLOWED.keys():
        found |= reach(other)
    return found


def is_allowed(found: Import) -> bool:
    room = room_of(found.by)
    if room == room_of(found.of) or (found.of in EVERYBODYS and room != "sandbox"):
        return True
    return bool({room_of(found.of), found.of, f"{found.of}.{found.name}"} & reach(room))


def test_every_import_of_ours_is_of_a_module_that_is_there():
    assert len(MODULES) > 80
    assert len(OURS) > 300
    assert [found for found in ALL if found.of.startswith(PACKAGE)] == []


def test_no_room_is_forgotten():
    assert {room_of(module) for module in MODULES} == ALLOWED.keys()


def test_arrows_go_only_where_the_design_lets_them():
    assert {(found.by, found.of) for found in OURS if not is_allowed(found)} == set()


def test_no_files_import_each_other_in_a_circle():
    graph: dict[str, set[str]] = {}
    for found in OURS:
        graph.setdefault(found.by, set()).add(found.of)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" → ".join(circle.args[1]))


def test_only_what_airflow_runs_imports_airflow():
    importers = {room_of(found.by) for found in ALL if found.of.partition(".")[0] == "airflow"}
    assert importers == IMPORT_AIRFLOW


@pytest.mark.parametrize(
    ("by", "code", "allowed"),
    [
        ("planning.plan", "from airflow_provider_carbonmark.ledger.values import Need", True),
        ("planning.plan", "from airflow_provider_carbonmark.ledger import values", True),
        ("planning.plan", "from airflow_provider_carbonmark.ledger import Ledger", False),
        ("planning.plan", "import airflow_provider_carbonmark.ledger.tables.schema", False),
        ("planning.plan", "from airflow_provider_carbonmark.api.models import Listing", True),
        ("planning.plan", "from airflow_provider_carbonmark.api.models import Quote", False),
        ("ledger.book", "def f():\n from airflow_provider_carbonmark.planning import Limits", False),
        ("ledger.book", "if TYPE_CHECKING:\n from airflow_provider_carbonmark.emissions import AWS", False),
        ("sensors.carbonmark", "from airflow_provider_carbonmark.api.waiting import give_up", True),
        ("sandbox.app", "from airflow_provider_carbonmark.api.errors import CarbonmarkError", False),
        ("web.views", "from airflow_provider_carbonmark.operators import ledger", False),
    ],
)
def test_what_this_test_would_say(by: str, code: str, allowed: bool):
    (found,) = imports_of(by, code)
    assert found.of in MODULES
    assert is_allowed(found) is allowed
