"""Ledgers in a database each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, create_engine

from airflow_provider_carbonmark.offsets.ledger import Ledger


@pytest.fixture
def postgresql_url(new_database: Callable[[str], str]) -> str:
    return new_database("postgresql")


@pytest.fixture
def engines() -> Iterator[Callable[[str], Engine]]:
    """Return a function that makes engines, which are gone after the test."""
    made: list[Engine] = []

    def engine(url: str) -> Engine:
        made.append(create_engine(url))
        return made[-1]

    yield engine
    for engine_made in made:
        engine_made.dispose()


@pytest.fixture
def engine(url: str, engines: Callable[[str], Engine]) -> Engine:
    return engines(url)


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    return Ledger(engine)
