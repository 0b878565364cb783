"""
A limit for a whole request of the blocking client.

httpx's timeouts bound each read and each write. A server that sends a byte now and then, or ``100 Continue`` for ever, keeps a
request alive for as long as it likes. So the sockets below httpx give each operation what is left of the request's time.

One thing is out of reach without a thread: the look-up of a host's name, which the system's resolver bounds (``resolv.conf``:
5 seconds per try and server when nothing is said).
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import httpcore
from httpcore._backends.sync import SyncStream, TLSinTLSStream

if TYPE_CHECKING:
    import httpx


class _Deadline(threading.local):
    """
    When the request that the current thread is sending has to be done.

    Known by thread and not by httpcore's timeouts, which don't get everywhere: its SOCKS handshake reads without any.
    """

    moment = 0.0


_deadline = _Deadline()


def start_request(seconds: float) -> None:
    """Give the current thread's next request so many seconds from now."""
    _deadline.moment = time.monotonic() + seconds


def seconds_left() -> float:
    """Return what is left of the current thread's request, always more than 0. :raises TimeoutError: when nothing is."""
    left = _deadline.moment - time.monotonic()
    if left <= 0:
        raise TimeoutError("the request's time is up")
    return left


def hold_to_deadlines(client: httpx.Client) -> None:
    """
    Hold everything that a client does on the network to the deadline of its request.

    :param client: with httpx's own transports, those to proxies included.
    """
    transports: list[Any] = [client._transport, *client._mounts.values()]
    for transport in transports:
        if transport is not None:  # None: a host that the environment exempts from its proxy
            # httpx passes no backend on to httpcore. Read first, so that another name in a later version is an error.
            pool = transport._pool
            pool._network_backend = _Backend(pool._network_backend)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            places = [place for *_, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        while True:
            try:
                # An address that says nothing, as of a network without IPv6, must leave time for the next one.
                share = seconds_left() / len(places)
            except TimeoutError as error:
                raise httpcore.ConnectTimeout(str(error)) from error
            address = str(places.pop(0)[0])
            try:
                stream = self._backend.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if not places:
                    raise
            else:
                return _Stream(_Socket(fileno=stream.get_extra_info("socket").detach()))


class _Stream(SyncStream):
    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        ssl_context.sslsocket_class = _TLSSocket
        try:
            # httpcore 1.0 has this second TLS and doesn't use it.
            if isinstance(self._sock, ssl.SSLSocket):
                return TLSinTLSStream(self._sock, ssl_context, server_hostname)
            return _Stream(ssl_context.wrap_socket(self._sock, server_hostname=server_hostname))
        except OSError as error:
            self.close()
            failed = httpcore.ConnectTimeout if isinstance(error, TimeoutError) else httpcore.ConnectError
            raise failed(str(error)) from error


class _Socket(socket.socket):
    """Gives each operation what is left of the request's time, whatever it is told."""

    def settimeout(self, value: float | None) -> None:
        super().settimeout(seconds_left())

    # httpcore sets a time for several of these where it speaks TLS to a host inside TLS to its proxy.
    def recv(self, *args: Any) -> bytes:
        self.settimeout(None)
        return super().recv(*args)

    def send(self, *args: Any) -> int:
        self.settimeout(None)
        return super().send(*args)


class _TLSSocket(_Socket, ssl.SSLSocket):
    pass
