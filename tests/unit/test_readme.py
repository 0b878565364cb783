from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_provider_carbonmark.api import errors
from airflow_provider_carbonmark.get_provider_info import CONFIG
from airflow_provider_carbonmark.hooks.connection_form import CONN_FIELDS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()

ERRORS = [
    name
    for name, thing in vars(errors).items()
    if isinstance(thing, type) and issubclass(thing, errors.CarbonmarkError) and not thing.__subclasses__()
]


def test_the_example_is_the_sample_dag():
    sample = (ROOT / "dags" / "carbonmark_checkout_link.py").read_text()
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "@dag(" in block]
    assert sample.endswith(block)


@pytest.mark.parametrize("target", ["demo", "test", "lint", "bench"])
def test_each_command_it_names_exists(target):
    assert f"make {target}" in README
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize("option", CONFIG["carbonmark"]["options"])
def test_each_config_option_is_documented(option):
    assert f"| `{option}` |" in README


@pytest.mark.parametrize("field", CONN_FIELDS)
def test_each_connection_extra_is_documented(field):
    assert f"| extra `{field}` |" in README


@pytest.mark.parametrize("error", ERRORS)
def test_each_error_is_documented(error):
    assert f"`{error}`" in README


@pytest.mark.parametrize("path", sorted((ROOT / "dags").glob("*.py")), ids=lambda path: path.stem)
def test_each_sample_dag_is_named(path):
    assert f"`{path.stem}`" in README


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", README))))
def test_each_link_into_the_repository_leads_somewhere(link):
    assert (ROOT / link).exists()
