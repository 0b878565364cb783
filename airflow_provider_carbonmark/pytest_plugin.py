"""
The pytest fixture ``carbonmark_sandbox``, for tests of your own DAGs.

Whoever has this package installed has every pytest run import this, so nothing of it is imported before a test asks for the fixture.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_provider_carbonmark.sandbox import SandboxServer


@pytest.fixture(scope="session")
def _carbonmark_sandbox() -> Iterator[SandboxServer]:
    """Start the sandbox that all tests of a run share: that takes a while, and forgetting everything none."""
    from airflow_provider_carbonmark.sandbox import SandboxServer

    with SandboxServer(retirement_seconds=0) as server:
        yield server


@pytest.fixture
def carbonmark_sandbox(
    _carbonmark_sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> SandboxServer:
    """
    Give a sandbox that has seen nothing yet, to which the connection ``carbonmark_default`` leads, and the test a ledger of its own.

    The connection says that it is production, so that sensors end well and rows count as they do in earnest.
    """
    _carbonmark_sandbox.state.reset()
    url = _carbonmark_sandbox.url
    connection = {
        "conn_type": "carbonmark",
        "host": url,
        "password": "cm_api_local",
        "extra": {"market_url": url, "environment": "production"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_CARBONMARK_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW__CARBONMARK__LEDGER_CONN_ID", "")
    monkeypatch.setenv("AIRFLOW__CARBONMARK__LEDGER_PATH", str(tmp_path / "carbonmark-ledger.db"))
    return _carbonmark_sandbox
