"""The page in a real API server: Airflow's own app, its middlewares, its metadata database, and this deployment's plugins."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, NullPool, create_engine

from tests.integration.web.readers.parts import Reader, know_dags, token_of
from tests.integration.web.serving import serving
from tests.unit.ledger.rows import write
from tests.unit.reporting.sample import RUN

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.purchase import PurchaseLine

AUTH_MANAGER = "tests.integration.web.readers.parts.PerDagAuthManager"


@pytest.fixture(scope="package")
def airflow_url(database: None) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__AUTH_MANAGER", AUTH_MANAGER)
        patch.setenv(
            "AIRFLOW__API_AUTH__JWT_SECRET",
            "a secret of 64 bytes, which is what the longest of its hashes wants.",
        )
        patch.setenv("AIRFLOW__API__SECRET_KEY", "another one")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from airflow.api_fastapi import app as airflow_app

            app = airflow_app.create_app("core")
        with serving(app) as url:
            yield url


@pytest.fixture
def ledger_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    monkeypatch.setenv("AIRFLOW__CARBONMARK__LEDGER_PATH", str(path))
    # The one whose runs the rows are of.
    monkeypatch.setenv("AIRFLOW__CARBONMARK__DEPLOYMENT", RUN.deployment)
    return path


@pytest.fixture
def ledger(ledger_path: Path) -> Engine:
    return create_engine(f"sqlite:///{ledger_path}", poolclass=NullPool)


@pytest.fixture
def fill(ledger: Engine) -> Callable[..., None]:
    """Return a function that writes rows, and lets Airflow know the DAGs that planned them."""

    def fill(*lines: PurchaseLine) -> None:
        write(ledger, lines)
        know_dags({line.run.dag_id for line in lines})

    return fill


@pytest.fixture
def stranger(airflow_url: str, ledger_path: Path) -> Reader:
    """Somebody who is not signed in."""
    return Reader(airflow_url)


@pytest.fixture
def reader(stranger: Reader) -> Callable[..., Reader]:
    """Return a function that signs somebody in; see the auth manager for what a name may read."""

    def reader(name: str = "all", role: str | None = "viewer") -> Reader:
        return Reader(stranger.url, token_of(name, role))

    return reader
