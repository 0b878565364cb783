"""Reading an Airflow connection from the environment, as a deployment may have it there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkConnection, CarbonmarkHook


@pytest.fixture
def read(monkeypatch):
    """Return a function that writes a connection the way Airflow reads it, and reads it."""

    def read(uri: str | None = None, **fields: Any) -> CarbonmarkConnection:
        value = uri or json.dumps({"conn_type": "carbonmark", **fields})
        monkeypatch.setenv("AIRFLOW_CONN_CARBONMARK_DEFAULT", value)
        return CarbonmarkHook().connection

    return read
