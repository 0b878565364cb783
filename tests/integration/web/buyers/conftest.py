"""The app in a real server, Airflow's own database behind it, a ledger, the sandbox on the other side, and buyers who come back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import NullPool, create_engine
from starlette.applications import Starlette
from starlette.routing import Mount

from airflow_provider_carbonmark.hooks.return_url import PREFIX
from airflow_provider_carbonmark.ledger import Ledger
from airflow_provider_carbonmark.ledger.names import Run
from airflow_provider_carbonmark.operators.carbonmark import CarbonmarkCreateCheckoutOperator
from airflow_provider_carbonmark.operators.ledger import CarbonmarkCheckoutPurchaseOperator
from tests.integration.airflow.parts import make_context
from tests.integration.ledger import parts as planning
from tests.integration.web.buyers.parts import (
    DAG_ID,
    PATIENT,
    RUN_ID,
    Buyer,
    Link,
    buyers,
    forget_all,
)
from tests.integration.web.serving import serving

if TYPE_CHECKING:
    from airflow_provider_carbonmark.sandbox import SandboxServer
    from airflow_provider_carbonmark.sandbox.world.market import Listing


@pytest.fixture
def sandbox(sandbox: SandboxServer) -> SandboxServer:
    """A sandbox that retires at once."""
    sandbox.state.change_switches(retirement_seconds=0)
    return sandbox


class ApiServer:
    """Airflow's API server, as far as a plugin's app knows it: the app is mounted, and each test has one of its own."""

    def __init__(self) -> None:
        self.app: Any = None
        self.url = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


@pytest.fixture(scope="session")
def _api_server(database: None) -> Iterator[ApiServer]:
    from airflow.api_fastapi.app import create_auth_manager

    mounted = ApiServer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "AIRFLOW__API_AUTH__JWT_SECRET",
            "a secret of 64 bytes, which is what the longest of its hashes wants.",
        )
        create_auth_manager()
        with serving(Starlette(routes=[Mount(PREFIX, mounted)])) as mounted.url:
            yield mounted


@pytest.fixture
def api_server(_api_server: ApiServer) -> ApiServer:
    _api_server.app = buyers.create_app(PATIENT)
    return _api_server


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ledger:
    """The ledger that this Airflow is configured with, read past it."""
    monkeypatch.setenv("AIRFLOW__CARBONMARK__LEDGER_PATH", str(tmp_path / "ledger.db"))
    return Ledger(create_engine(f"sqlite:///{tmp_path}/ledger.db", poolclass=NullPool))


@pytest.fixture
def make_link(
    monkeypatch: pytest.MonkeyPatch,
    api_server: ApiServer,
    connect: Callable[..., None],
    ledger: Ledger,
    listing: Listing,
) -> Iterator[Callable[..., Link]]:
    """Return a function that lets the operator make a link in a task of its own."""
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", api_server.url)
    forget_all()

    def make_link(map_index: int = -1, run_id: str = RUN_ID, **changes: Any) -> Link:
        arguments = {
            "task_id": "checkout",
            "asset_price_source_id": listing.source_id,
            "quantity_tonnes": "1.234",
            "beneficiary_name": "Acme GmbH",
            "retirement_message": "Cloud emissions of July 2026",
        }
        operator = CarbonmarkCreateCheckoutOperator(**arguments | changes)
        context = make_context(run_id=run_id, task_id="checkout", map_index=map_index)
        return Link(operator.execute(context), ledger)

    yield make_link
    forget_all()


@pytest.fixture
def link(make_link: Callable[..., Link]) -> Link:
    """A link that nobody has paid yet."""
    return make_link()


@pytest.fixture
def planned(ledger: Ledger, make_link: Callable[..., Link], listing: Listing) -> Link:
    """A purchase that is planned, and has no link yet."""
    line = planning.line(tonnes="1.234", asset_price_source_id=listing.source_id)
    (purchase,) = planning.plan(ledger, planning.buying(line), run=Run(DAG_ID, RUN_ID))
    return Link({"purchase": purchase.id}, ledger)


@pytest.fixture
def follow(planned: Link) -> Callable[..., Link]:
    """Return a function that makes the link of what is planned, within limits."""

    def follow(**terms: Any) -> Link:
        operator = CarbonmarkCheckoutPurchaseOperator(
            task_id="checkout", purchase=planned.purchase.to_json(), **terms
        )
        return Link(operator.execute(make_context(run_id=RUN_ID, task_id="checkout")), planned.ledger)

    return follow


@pytest.fixture
def july(make_link: Callable[..., Link]) -> Link:
    return make_link(run_id="july")


@pytest.fixture
def august(make_link: Callable[..., Link]) -> Link:
    """A link for just the same as that of July."""
    return make_link(run_id="august")


@pytest.fixture
def buyer(sandbox: SandboxServer) -> Iterator[Buyer]:
    with httpx.Client(timeout=30, trust_env=False) as browser:
        yield Buyer(browser, sandbox)


@pytest.fixture
def addresses(api_server: ApiServer) -> str:
    return api_server.url + PREFIX


@pytest.fixture
def gate() -> Iterator[SimpleNamespace]:
    """What makes a call hang until the test lets it go on."""
    opened = threading.Event()

    def closed(real, *, is_closed=lambda *arguments, **more: True, after=False):
        def call(*arguments, **more):
            result = real(*arguments, **more) if after else None
            if is_closed(*arguments, **more):
                opened.wait(60)
            return result if after else real(*arguments, **more)

        return call

    yield SimpleNamespace(close=closed, open=opened.set)
    opened.set()
