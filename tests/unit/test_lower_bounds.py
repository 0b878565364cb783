from __future__ import annotations

import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


@pytest.mark.skipif(not Path(sys.prefix, "lowest.txt").exists(), reason="make test-lowest has them")
def test_the_lower_bounds_are_what_the_tests_run_with_here():
    bounds = {
        each.name: Version(next(iter(each.specifier)).version)
        for each in map(Requirement, tomllib.loads(PROJECT.read_text())["project"]["dependencies"])
    }
    assert bounds.pop("apache-airflow") == Version(
        "3.2"
    )  # run on its last bug fix: the first are the same to us
    assert bounds == {name: Version(version(name)) for name in bounds}
