"""What the tests share: Airflow's own database, those that the ledger may be in, with a ledger in each, and a sandbox with a connection to it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from sqlalchemy import URL, Engine, NullPool, create_engine, text

from airflow_provider_carbonmark.ledger import Ledger
from airflow_provider_carbonmark.sandbox import SandboxServer
from tests.certificates import make_certificate
from tests.e2e.postgresql import postgresql
from tests.integration.mariadb import mariadb

if TYPE_CHECKING:
    from airflow_provider_carbonmark.sandbox.world.market import Listing

#: The databases that all tests of something that asks the ledger run with.
KINDS = ["sqlite", "postgresql"]
#: Those that the tests of the ledger itself run with.
LEDGER_KINDS = [*KINDS, "mariadb"]

#: Where nothing listens.
NOWHERE = "http://127.0.0.1:9"
KEY = "cm_api_11111111-2222-3333-4444-555555555555"

_numbers = count()


@pytest.fixture(scope="session")
def database() -> None:
    """Airflow's own database in this test's home, made as a deployment makes it."""
    subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        check=True,
        capture_output=True,
        env=dict(os.environ),
    )


@pytest.fixture(scope="session")
def _postgresql() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture(scope="session")
def _mariadb() -> Iterator[URL]:
    with mariadb() as url:
        yield url


@pytest.fixture(scope="session")
def new_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], str]:
    """Return a function that gives the address of an empty database of a kind."""

    def new_database(kind: str) -> str:
        if kind == "sqlite":
            folder: Path = tmp_path_factory.mktemp("ledger")
            return f"sqlite:///{folder}/ledger.db"
        schema = f"test_{next(_numbers)}"
        if kind == "mariadb":
            address: URL = request.getfixturevalue("_mariadb")
            with create_engine(address, poolclass=NullPool).begin() as connection:
                connection.execute(text(f"CREATE DATABASE {schema}"))
            return address.set(database=schema).render_as_string(hide_password=False)
        server: str = request.getfixturevalue("_postgresql")
        with create_engine(server, poolclass=NullPool).begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
        return f"{server}&options=-csearch_path%3D{schema}"

    return new_database


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> str:
    """The address of an empty database: the test runs with one of each kind."""
    return new_database(request.param)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the files of a certificate for 127.0.0.1 that nobody trusts, and of its key."""
    name = x509.IPAddress(ip_address("127.0.0.1"))
    return make_certificate(tmp_path_factory.mktemp("tls"), name)


@pytest.fixture(scope="session")
def _sandbox() -> Iterator[SandboxServer]:
    with SandboxServer() as server:
        yield server


@pytest.fixture
def sandbox(_sandbox: SandboxServer) -> SandboxServer:
    """The sandbox, with nothing in its memory."""
    _sandbox.state.reset()
    return _sandbox


@pytest.fixture
def listing(sandbox: SandboxServer) -> Listing:
    """A listing with a few hundred kilograms to sell at least."""
    return next(
        each
        for each in sandbox.state.listings.values()
        if each.type == "listing" and each.liquid_supply > 10 and each.step < 1 and not each.is_ex_ante
    )


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch, sandbox: SandboxServer) -> Callable[..., None]:
    """Return a function that writes a connection, by default one that says that the sandbox is production; the default one is there already."""

    def connect(
        key: str = KEY,
        host: str | None = None,
        environment: str | None = "production",
        conn_id: str = "carbonmark_default",
        **extra: Any,
    ) -> None:
        fields = {
            "conn_type": "carbonmark",
            "host": host or sandbox.url,
            "password": key,
            "extra": {"market_url": sandbox.url, "environment": environment, **extra},
        }
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))

    connect()
    return connect


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a socket that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listening:
        yield listening.getsockname()[1]


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
