"""How the tests of this room give a table, and tell what is made of it."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_carbonmark.emissions import (
    EmissionsColumns,
    EmissionsError,
    EntityEmissions,
    emissions_of_month,
)

OWN = EmissionsColumns(period="when", entity="who", amount="mass", unit="kg")


def row(**changes: Any) -> dict[str, Any]:
    return {"when": "2026-10", "who": "a", "mass": 1} | changes


def parquet_of(table: pa.Table | list[dict[str, object]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(table if isinstance(table, pa.Table) else pa.Table.from_pylist(table), file)
    return file.getvalue()


def read(
    source: Any, columns: EmissionsColumns = OWN, month: str = "2026-10", **changes: Any
) -> list[EntityEmissions]:
    """Read a source, which is a file when it is given as text or bytes, with changed columns."""
    content = source.encode() if isinstance(source, str) else source
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    return emissions_of_month(file, replace(columns, **changes), month)


def tonnes(*args: Any, **kwargs: Any) -> dict[str, str]:
    """What each entity emitted, exactly, in the fewest digits."""
    found = {one.entity: f"{one.emitted_tonnes:f}" for one in read(*args, **kwargs)}
    return {who: text.rstrip("0").rstrip(".") if "." in text else text for who, text in found.items()}


def problem(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(EmissionsError) as caught:
        read(*args, **kwargs)
    assert len(str(caught.value)) < 800
    return str(caught.value)
