"""The app in a real server, Airflow's own database behind it, the sandbox on the other side, and buyers who come back."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from airflow_provider_carbonmark.operators.carbonmark import CarbonmarkCreateCheckoutOperator
from airflow_provider_carbonmark.sandbox import SandboxServer
from airflow_provider_carbonmark.web.link import PREFIX
from airflow_provider_carbonmark.web.plugin import CarbonmarkPlugin
from tests.integration.web.buyers.parts import Buyer, Task, forget_all

KEY = "cm_api_11111111-2222-3333-4444-555555555555"


@pytest.fixture(scope="session")
def _sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(retirement_seconds=0) as server:
        yield server


@pytest.fixture
def sandbox(_sandbox: SandboxServer) -> SandboxServer:
    """The sandbox, with nothing in its memory."""
    _sandbox.state.reset()
    return _sandbox


@pytest.fixture(scope="session")
def airflow_url(database: None) -> Iterator[str]:
    """The plugin's app where an API server mounts it, served over HTTP."""
    from airflow.api_fastapi.app import create_auth_manager

    create_auth_manager()
    app, _ = CarbonmarkPlugin.fastapi_apps
    api_server = Starlette(routes=[Mount(app["url_prefix"], app["app"])])
    server = uvicorn.Server(uvicorn.Config(api_server, port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch, sandbox: SandboxServer) -> Callable[..., None]:
    """Return a function that writes a connection; the default one is there already."""

    def connect(
        conn_id: str = "carbonmark_default", key: str = KEY, host: str | None = None, **extra: Any
    ) -> None:
        fields = {
            "conn_type": extra.pop("conn_type", "carbonmark"),
            "host": host or sandbox.url,
            "password": key,
            "extra": {"market_url": sandbox.url, "environment": "production", **extra},
        }
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))

    connect()
    return connect


@pytest.fixture
def listing(sandbox: SandboxServer) -> str:
    return next(
        each.source_id
        for each in sandbox.state.listings.values()
        if each.type == "listing" and each.liquid_supply > 100 and each.step < 1 and not each.is_ex_ante
    )


@pytest.fixture
def make_link(
    monkeypatch: pytest.MonkeyPatch, airflow_url: str, connect: Callable[..., None], listing: str
) -> Iterator[Callable[..., Task]]:
    """Return a function that lets the operator make a link in a task of its own, and tells what Airflow knows of it."""
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", airflow_url)
    forget_all()

    def make_link(task: Task | None = None, **changes: Any) -> Task:
        arguments = {
            "task_id": "checkout",
            "asset_price_source_id": listing,
            "quantity_tonnes": "1.234",
            "beneficiary_name": "Acme GmbH",
            "retirement_message": "Cloud emissions of July 2026",
        }
        made = task or Task()
        made.finish(CarbonmarkCreateCheckoutOperator(**arguments | changes).execute(made.context()))
        return made

    yield make_link
    forget_all()


@pytest.fixture
def link(make_link: Callable[..., Task]) -> Task:
    """A link that nobody has paid yet."""
    return make_link()


@pytest.fixture
def buyer(sandbox: SandboxServer) -> Iterator[Buyer]:
    with httpx.Client(timeout=30, trust_env=False) as browser:
        yield Buyer(browser, sandbox)


@pytest.fixture
def addresses(airflow_url: str) -> str:
    return airflow_url + PREFIX
