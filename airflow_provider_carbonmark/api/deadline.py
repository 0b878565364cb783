"""
A limit for a whole request of the blocking client.

httpx's timeouts bound each read and each write. A server that sends a byte now and then, or ``100 Continue`` for ever, keeps a
request alive for as long as it likes. So the network below httpx gets, for each operation, what is left of the request's time.

One thing is out of reach without a thread: the look-up of a host's name, which the system's resolver bounds (``resolv.conf``:
5 seconds per try and server when nothing is said).
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import httpcore

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

# A TLS record has at most 16 KiB of content and 2 KiB around it (RFC 5246, section 6.2.3).
_TLS_RECORD_BYTES = 18 * 1024


class Deadline(threading.local):
    """
    When the request that the current thread is sending has to be done.

    Known by thread and not by httpcore's timeouts, which don't get everywhere: its SOCKS handshake reads without any.
    """

    _moment = 0.0

    def start(self, seconds: float) -> None:
        """Give the thread's next request so many seconds from now."""
        self._moment = time.monotonic() + seconds

    def left(self, late: type[httpcore.TimeoutException]) -> float:
        """
        Return the seconds that are left, always more than 0.

        :param late: what to raise when none are.
        """
        left = self._moment - time.monotonic()
        if left <= 0:
            raise late("the request's time is up")
        return left


def hold_to(deadline: Deadline, client: httpx.Client) -> None:
    """
    Hold everything that a client does on the network to a deadline.

    :param deadline: to be started before each request.
    :param client: with httpx's own transports, those to proxies included.
    """
    transports: list[Any] = [client._transport, *client._mounts.values()]
    for transport in transports:
        if transport is not None:  # None: a host that the environment exempts from its proxy
            # httpx passes no backend on to httpcore. Read first, so that another name in a later version is an error.
            pool = transport._pool
            pool._network_backend = _Backend(deadline, pool._network_backend)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, deadline: Deadline, backend: httpcore.NetworkBackend) -> None:
        self._deadline = deadline
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
            # An address that says nothing, as of a network without IPv6, must leave time for the next one.
            share = self._deadline.left(httpcore.ConnectTimeout) / len(places)
            address = str(places.pop(0)[0])
            try:
                stream = self._backend.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if not places:
                    raise
            else:
                return _Stream(self._deadline, stream)


class _Stream(httpcore.NetworkStream):
    def __init__(self, deadline: Deadline, stream: httpcore.NetworkStream) -> None:
        self._deadline = deadline
        self._stream = stream
        self._socket: socket.socket = stream.get_extra_info("socket")

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # The stream's own gives each part that the other side takes the same time again.
        try:
            while buffer:
                self._socket.settimeout(self._deadline.left(httpcore.WriteTimeout))
                buffer = buffer[self._socket.send(buffer) :]
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        if self.get_extra_info("ssl_object"):
            return _TLSInTLS(self, ssl_context, server_hostname)
        left = self._deadline.left(httpcore.ConnectTimeout)
        return _Stream(self._deadline, self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _TLSInTLS(httpcore.NetworkStream):
    """TLS to a host inside TLS to its proxy. httpcore's own gives each piece of a record the same time again."""

    def __init__(self, outer: _Stream, ssl_context: ssl.SSLContext, server_hostname: str | None) -> None:
        self._outer = outer
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = ssl_context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        try:
            self._pump(self._tls.do_handshake, httpcore.ConnectError)
        except Exception:
            self.close()
            raise

    def _pump(self, operation: Callable[[], T], failed: type[httpcore.NetworkError]) -> T:
        while True:
            result: list[T] = []
            try:
                result.append(operation())
            except ssl.SSLWantReadError:
                pass
            except OSError as error:
                raise failed(str(error)) from error
            self._outer.write(self._outgoing.read())
            if result:
                return result[0]
            if received := self._outer.read(_TLS_RECORD_BYTES):
                self._incoming.write(received)
            else:
                self._incoming.write_eof()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._pump(lambda: self._tls.read(max_bytes), httpcore.ReadError)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._pump(lambda: self._tls.write(buffer), httpcore.WriteError)

    def close(self) -> None:
        self._outer.close()

    def get_extra_info(self, info: str) -> Any:
        return self._tls if info == "ssl_object" else self._outer.get_extra_info(info)
