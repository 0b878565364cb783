"""
One client for all waits of a triggerer that use the same connection.

A client for each wait costs a TLS handshake for each poll. Hundreds of tasks that queue inside httpx's own pool are slow as
well (its queue is scanned linearly), so they queue at a semaphore in front of the client.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.sdk import conf

from airflow_provider_carbonmark.api.client import AsyncCarbonmarkClient
from airflow_provider_carbonmark.api.retries import NO_RETRIES
from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkConnection, CarbonmarkHook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_carbonmark.api.models import Payment

DEFAULT_CONCURRENT_POLLS = 10


class SharedClient:
    """A client that lives as long as somebody waits with it; its connection as it was read when the first wait began."""

    connection: CarbonmarkConnection

    def __init__(self, conn_id: str) -> None:
        self.conn_id = conn_id
        self.waits = 0
        self._opening = asyncio.Lock()
        self._client: AsyncCarbonmarkClient | None = None
        polls = conf.getint("carbonmark", "max_concurrent_polls", fallback=DEFAULT_CONCURRENT_POLLS)
        self._turns = asyncio.Semaphore(max(1, polls))

    async def open(self) -> None:
        """Read the connection (a request to Airflow's API server) and make the client, once for all waits."""
        async with self._opening:
            if self._client is None:
                connection = await CarbonmarkHook.aget_connection(self.conn_id)
                self.connection = CarbonmarkConnection.of(connection)
                # In a thread, because importing aiohttp and reading certificates holds up everything else in the triggerer.
                self._client = await asyncio.to_thread(
                    # A wait has its own schedule of polls, which a failed poll is part of.
                    AsyncCarbonmarkClient,
                    self.connection.settings,
                    retries=NO_RETRIES,
                )

    async def get_payment(self, payment_id: str) -> Payment:
        """Ask for a payment when it is this wait's turn."""
        if self._client is None:
            raise RuntimeError(f"The client of connection {self.conn_id!r} is not open.")
        async with self._turns:
            return await self._client.get_payment(payment_id)

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()


# A client belongs to the event loop it was made in; with the loop, its entry goes.
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedClient]] = WeakKeyDictionary()


@asynccontextmanager
async def shared_client(conn_id: str) -> AsyncIterator[SharedClient]:
    """
    Share the connection's client for as long as the block runs; the last to leave closes it.

    :raises InvalidInputError: when the connection can't be used.
    """
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    shared = clients.get(conn_id)
    if shared is None:
        shared = clients[conn_id] = SharedClient(conn_id)
    shared.waits += 1
    try:
        await shared.open()
        yield shared
    finally:
        shared.waits -= 1
        if not shared.waits:
            forget(shared)
            await shared.aclose()


def forget(shared: SharedClient) -> None:
    """Let those who come from now on read the connection again; who shares the client now keeps it."""
    clients = _clients[asyncio.get_running_loop()]
    if clients.get(shared.conn_id) is shared:
        del clients[shared.conn_id]
