"""Running the sandbox: on a thread of this process, on a port of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any, Self

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_provider_carbonmark.sandbox.app import create_app
from airflow_provider_carbonmark.sandbox.switches import Switches
from airflow_provider_carbonmark.sandbox.world.cards import GOOD_CARD, charge
from airflow_provider_carbonmark.sandbox.world.state import SandboxState, TimeSource, utc_now

# As long as nginx keeps idle connections, so that a client which keeps its own can be seen to.
KEEP_ALIVE_SECONDS = 75


class SandboxServer:
    """
    The sandbox as a context manager: it answers when the block is entered, and is gone after it.

    :param host: address to bind.
    :param port: port to bind; 0 takes a free one.
    :param ssl_certfile: PEM certificate; with it, the sandbox speaks HTTPS.
    :param ssl_keyfile: PEM key of the certificate.
    :param time_source: returns the present as an aware datetime.
    :param log_level: how much uvicorn says, such as ``info`` for a line per request.
    :param switches: any of :class:`~airflow_provider_carbonmark.sandbox.switches.Switches`.
    :raises pydantic.ValidationError: when a switch or its value is unknown.
    :raises OSError: on entering, when the port is taken or a PEM file can't be read.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        ssl_certfile: str | None = None,
        ssl_keyfile: str | None = None,
        time_source: TimeSource = utc_now,
        log_level: str = "critical",
        **switches: Any,
    ) -> None:
        self.state = SandboxState(Switches(**switches), time_source)
        self._address = (host, port)
        self._config = uvicorn.Config(
            create_app(self.state),
            http=_protocol(self.state),
            ws="none",
            lifespan="off",
            ssl_certfile=ssl_certfile,
            ssl_keyfile=ssl_keyfile,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            log_config=None,
            log_level=log_level,
        )
        self.url = ""

    def __enter__(self) -> Self:
        self._config.load()
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=2048)
        name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
        scheme = "https" if self._config.is_ssl else "http"
        self.url = f"{scheme}://{name}:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(self._config)
        # Who connects before it has begun waits in the socket's queue.
        self._thread = threading.Thread(
            target=self._server.run,
            kwargs={"sockets": [self._socket]},
            name=f"carbonmark-sandbox {self.url}",
            daemon=True,
        )
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._server.should_exit = True
        # Answers that are still on their way, such as those of a slow fault, are not waited for.
        self._server.force_exit = True
        self._thread.join()
        self._socket.close()

    def pay(self, checkout_url: str, card: str = GOOD_CARD.number) -> str:
        """
        Pay a checkout as a buyer does on its payment page, and return the payment's id; the address that the buyer is sent to isn't opened.

        :param checkout_url: address of the payment page.
        :param card: number of a test card, which decides how it ends.
        :raises ServiceRefusal: with what the page says when it takes no payment: declined, expired, sold out.
        """
        checkout = self.state.find_checkout(checkout_url.rpartition("/")[2])
        self.state.pay(checkout.id, charge(card, "12 / 34", "123", self.state.now().date()))
        return checkout.payment_id


def _protocol(state: SandboxState) -> type[H11Protocol]:
    class CountedProtocol(H11Protocol):
        """Counts connections, and hands the gate each one's transport so that it can be dropped."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.app_state = {**self.app_state, "transport": transport}
            with state.lock:
                state.connections += 1

    return CountedProtocol
