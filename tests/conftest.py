"""Every test gets an Airflow of its own: an empty home, no examples, no connection but the test's."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings

from tests.airflow_side import needs_airflow

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from xdist.scheduler import LoadScopeScheduling

# Airflow reads its home and its configuration when it is imported, so this can't wait for a fixture.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="carbonmark-tests-")
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
for name in [name for name in os.environ if name.startswith(("AIRFLOW_CONN_", "AIRFLOW__CARBONMARK__"))]:
    del os.environ[name]
# What tests buy mostly costs less than a card can pay; those that are about that say what it can.
os.environ["AIRFLOW__CARBONMARK__MINIMUM_PAYMENT_USD"] = "0"

# How fast examples are made says how busy the machine is, and nothing of what is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--airflow-side",
        action="store_true",
        help="leave out the test files that can't differ by Airflow's version, since nothing they import imports it",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what ``--airflow-side`` says, before it is imported."""
    is_test = collection_path.match("test_*.py")
    return (
        True if is_test and config.getoption("airflow_side") and not needs_airflow(collection_path) else None
    )


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """
    Give each core the next test, but keep together, and start with, those that have a running Airflow in common.

    A scheduler, since pytest-xdist 3.8 doesn't see the marks for that with pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if not nodeid.startswith("tests/e2e/"):
                return nodeid
            file, _, test = nodeid.partition("::")
            # The one on PostgreSQL has so many that two are started where there are cores for them.
            return "sqlite" if "[sqlite" in test else file

    return Scheduling(config, log)
