"""The databases that the ledger's tests run with, and somebody else who is at the same ledger."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine

from airflow_provider_carbonmark.ledger import Ledger
from tests.integration.conftest import LEDGER_KINDS
from tests.integration.ledger.parts import Rival

if TYPE_CHECKING:
    from sqlalchemy import Engine

Kill = Callable[[str], None]


@pytest.fixture(params=LEDGER_KINDS)
def url(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> str:
    """The address of an empty database: the test runs with one of each kind."""
    return new_database(request.param)


@pytest.fixture(params=[kind for kind in LEDGER_KINDS if kind != "sqlite"])
def server_url(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> str:
    """The same, of those that let two write at once."""
    return new_database(request.param)


@pytest.fixture(scope="module", params=LEDGER_KINDS)
def books(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> Iterator[Ledger]:
    """One ledger for all tests of a file: each plans for an entity of its own."""
    engine = create_engine(new_database(request.param))
    yield Ledger(engine)
    engine.dispose()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


@pytest.fixture
def rival(url: str, engines: Callable[[str], Engine], threads: ThreadPoolExecutor) -> Rival:
    return Rival(engines(url), threads)


@pytest.fixture
def kill(url: str) -> Kill:
    """Return a function that lets a process come to a point and kills it there."""

    def kill(point: str) -> None:
        command = [sys.executable, "-m", "tests.integration.ledger.killed_process", url, point]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"here\n"
            process.kill()

    return kill
