"""Ledgers in a database each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, create_engine

from airflow_provider_carbonmark.offsets.ledger import Ledger
from tests.integration.conftest import LEDGER_KINDS


@pytest.fixture(params=LEDGER_KINDS)
def url(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> str:
    """The address of an empty database: the test runs with one of each kind."""
    return new_database(request.param)


@pytest.fixture(params=[kind for kind in LEDGER_KINDS if kind != "sqlite"])
def server_url(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> str:
    """The same, of those that let two write at once."""
    return new_database(request.param)


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
