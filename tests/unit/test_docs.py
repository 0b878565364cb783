"""What people read: that it leads somewhere, names what there is, and is short where it has to be."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from airflow_provider_carbonmark.api import errors
from airflow_provider_carbonmark.get_provider_info import CONFIG, get_provider_info
from airflow_provider_carbonmark.hooks.connection_form import CONN_FIELDS
from airflow_provider_carbonmark.ledger.tables.schema import metadata

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "airflow_provider_carbonmark"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "dags/README.md", "tests/benchmarks/README.md")),
    *sorted((ROOT / ".github").glob("*.md")),
    *sorted(PACKAGE.glob("*/README.md")),
]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(#[^)\s]+)?\)")
ERRORS = [
    name
    for name, thing in vars(errors).items()
    if isinstance(thing, type) and issubclass(thing, errors.CarbonmarkError) and not thing.__subclasses__()
]


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """Return what GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {"#" + re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_into_the_repository_leads_somewhere(page):
    for path, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}{anchor}"


def test_every_page_can_be_reached_from_the_readme():
    found, to_read = set(), [ROOT / "README.md"]
    while to_read:
        page = to_read.pop()
        if page in found:
            continue
        found.add(page)
        linked = (
            (page.parent / path).resolve() for path, _ in LINK.findall(page.read_text(encoding="utf-8"))
        )
        to_read += [path for path in linked if path.suffix == ".md"]
    assert found == set(DOCS)


def test_the_readme_is_read_in_one_go():
    assert len(text("README.md").splitlines()) <= 150


@pytest.mark.parametrize("target", ["demo", "test"])
def test_each_command_of_the_readme_is_there(target):
    assert f"$ make {target} " in text("README.md")
    assert re.search(rf"^{target}:", text("Makefile"), re.MULTILINE)


@pytest.mark.parametrize(
    ("page", "names"),
    [
        (
            "airflow_provider_carbonmark/hooks/README.md",
            [f"| `{name}` |" for name in CONFIG["carbonmark"]["options"]],
        ),
        ("airflow_provider_carbonmark/hooks/README.md", [f"| extra `{name}` |" for name in CONN_FIELDS]),
        ("airflow_provider_carbonmark/operators/README.md", [f"`{name}`" for name in ERRORS]),
        ("airflow_provider_carbonmark/ledger/README.md", [f"| `{name}` |" for name in metadata.tables]),
        ("dags/README.md", [f"| `{path.stem}` |" for path in sorted((ROOT / "dags").glob("*.py"))]),
    ],
    ids=["options", "connection", "errors", "tables", "dags"],
)
def test_all_that_there_is_is_documented(page, names):
    assert [name for name in names if name not in text(page)] == []


def test_the_registry_of_providers_is_told_of_every_class_that_a_dag_uses():
    told = yaml.safe_load(text(".airflow-registry.yaml"))
    assert told["docs-url"] == PROJECT["project"]["urls"]["Documentation"]
    assert told["source-url"] == PROJECT["project"]["urls"]["Source"]
    info = get_provider_info()
    assert info["package-name"] == told["package-name"] == PROJECT["project"]["name"]
    for kind in ("hooks", "operators", "sensors", "triggers"):
        modules = [module for listed in info[kind] for module in listed["python-modules"]]
        classes = [
            f"{module}.{node.name}"
            for module in modules
            for node in ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text()).body
            if isinstance(node, ast.ClassDef) and node.name.startswith("Carbonmark") and node.bases
        ]
        assert sorted(each["module"] for each in told[kind]) == sorted(classes)


def test_the_package_index_is_sent_to_this_repository():
    source = PROJECT["project"]["urls"]["Source"].removeprefix("https://github.com/")
    assert all(source in url for url in PROJECT["project"]["urls"].values())
    pictures, links = (
        each["replacement"]
        for each in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]
    )
    assert f"raw.githubusercontent.com/{source}/v" in pictures
    assert f"github.com/{source}/blob/v" in links
