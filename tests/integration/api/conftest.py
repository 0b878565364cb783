from __future__ import annotations

import asyncio
import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from airflow_provider_carbonmark.api import client
from airflow_provider_carbonmark.api.client import AsyncCarbonmarkClient, CarbonmarkClient, ClientSettings
from airflow_provider_carbonmark.api.retries import NO_RETRIES, RetryPolicy
from airflow_provider_carbonmark.sandbox import SandboxServer
from airflow_provider_carbonmark.sandbox.world.retirements import has_provenance
from tests.integration.conftest import KEY


@pytest.fixture
def sandbox(sandbox):
    """The sandbox, whose retirements are instantaneous."""
    sandbox.state.change_switches(retirement_seconds=0.0)
    return sandbox


@pytest.fixture
def settings(sandbox):
    return ClientSettings(sandbox.url, sandbox.url, SecretStr(KEY), 10.0)


@dataclass(frozen=True)
class Caller:
    """Calls with a client of either kind, which is made at the first call."""

    client_class: type
    settings: ClientSettings
    stack: ExitStack
    retries: RetryPolicy = NO_RETRIES

    @cached_property
    def _client(self) -> Any:
        client = self.client_class(self.settings, retries=self.retries)
        if self._runner is None:
            return self.stack.enter_context(client)
        self.stack.callback(lambda: self._runner.run(client.aclose()))
        return client

    @cached_property
    def _runner(self) -> asyncio.Runner | None:
        is_async = self.client_class is AsyncCarbonmarkClient
        return self.stack.enter_context(asyncio.Runner()) if is_async else None

    def __call__(self, method: str, *args: Any, **kwargs: Any) -> Any:
        call = getattr(self._client, method)(*args, **kwargs)
        return self._runner.run(call) if self._runner else call

    def using(self, **settings: Any) -> Caller:
        return replace(self, settings=replace(self.settings, **settings))

    def retrying(self, **policy: Any) -> Caller:
        return replace(self, retries=RetryPolicy(**policy))


#: For what both clients share, and is no matter of their transports.
ONE_CLIENT = pytest.mark.parametrize("call", [CarbonmarkClient], ids=["sync"], indirect=True)


@pytest.fixture(params=[CarbonmarkClient, AsyncCarbonmarkClient], ids=["sync", "async"])
def call(request, settings):
    with ExitStack() as stack:
        yield Caller(request.param, settings, stack)


@pytest.fixture
def order(sandbox):
    """Return the arguments of a checkout that the sandbox sells."""
    now = sandbox.state.now()
    listing = next(
        each
        for each in sandbox.state.listings.values()
        if each.type == "listing" and each.liquid_supply > 20 and each.step < 1 and not each.is_expired(now)
        if has_provenance(each)
    )
    return {
        "asset_price_source_id": listing.source_id,
        "quantity_tonnes": "12.345",
        "metadata": {"beneficiary_name": "Acme GmbH", "retirement_message": "For October 2026"},
        "success_url": f"{sandbox.url}/returned",
        "cancel_url": f"{sandbox.url}/cancelled",
    }


class Servers:
    """Servers of a few lines, each connection in a thread, all ended with the test."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._stack = ExitStack()
        self.ended = threading.Event()

    def start(self, serve: Callable[[socket.socket], None]) -> int:
        """Hand each connection to a function, and return the port."""

        class Handler(socketserver.BaseRequestHandler):
            def handle(handler) -> None:
                self._sockets.append(handler.request)
                with suppress(OSError):
                    serve(handler.request)

        server = self._stack.enter_context(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self._stack.callback(server.shutdown)
        return server.server_address[1]

    def never_connect(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Let nobody connect: the queue of those that nobody accepts is full, as if a firewall dropped what comes."""
        listener = socket.create_server((host, port), backlog=0)
        self._sockets.append(listener)
        for _ in range(2):
            waiting = socket.socket()
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
            self._sockets.append(waiting)
        return listener.getsockname()[1]

    def end(self) -> None:
        self.ended.set()
        for each in self._sockets:
            # A close alone wakes nobody who is in recv().
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._stack.close()


@pytest.fixture
def servers():
    servers = Servers()
    yield servers
    servers.end()


@pytest.fixture
def delays(monkeypatch):
    """Let time pass at once, and return the list of delays that were waited for."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    # Not the modules' own functions: the sandbox's thread sleeps too.
    monkeypatch.setattr(client, "time", SimpleNamespace(sleep=waited.append))
    monkeypatch.setattr(client, "asyncio", SimpleNamespace(sleep=sleep, timeout=asyncio.timeout))
    return waited


@pytest.fixture
def no_proxies(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def tls_sandbox(certificate):
    cert, key = certificate
    with SandboxServer(ssl_certfile=str(cert), ssl_keyfile=str(key)) as sandbox:
        yield sandbox
