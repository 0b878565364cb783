"""Whatever a server does to keep a request alive, it ends at its total limit, with both clients."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from airflow_provider_carbonmark.api.client import CarbonmarkClient
from airflow_provider_carbonmark.api.errors import NotFoundError, TransportError
from airflow_provider_carbonmark.api.retries import NO_RETRIES
from airflow_provider_carbonmark.hooks.payment_check import Finding, check_payment

LIMIT = 0.3
PAUSE = 0.02
LIMITED = r"wasn't done within 0\.3 s, the total limit of a request"
# The beginning of a TLS record of 16 KiB that holds a server's hello.
HANDSHAKE = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03"


class Servers:
    """Servers of a few lines, each connection in a thread, all ended with the test."""

    def __init__(self):
        self._sockets = []
        self._threads = []
        self.ended = threading.Event()

    def start(self, serve, host="127.0.0.1", port=0, backlog=16):
        """Hand each connection to a function, and return the port."""
        listener = self.listen(host, port, backlog)
        self._run(self._accept, listener, serve)
        return listener.getsockname()[1]

    def listen(self, host="127.0.0.1", port=0, backlog=16):
        listener = socket.create_server((host, port), backlog=backlog)
        self._sockets.append(listener)
        return listener

    def never_connect(self, host="127.0.0.1", port=0):
        """Let nobody connect: the queue of those that nobody accepts is full, as if a firewall dropped what comes."""
        listener = self.listen(host, port, backlog=0)
        for _ in range(2):
            waiting = socket.socket()
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
            self._sockets.append(waiting)
        return listener.getsockname()[1]

    def _run(self, function, *args):
        thread = threading.Thread(target=function, args=args, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _accept(self, listener, serve):
        with suppress(OSError):
            while True:
                self._run(self._serve, listener.accept()[0], serve)

    def _serve(self, connection, serve):
        self._sockets.append(connection)
        with suppress(OSError), connection:
            serve(connection)

    def end(self):
        self.ended.set()
        for each in self._sockets:
            # A close alone wakes nobody who is in accept() or recv().
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture
def servers():
    servers = Servers()
    yield servers
    servers.end()


@pytest.fixture
def trickle(servers):
    """Return a function that makes a server which reads a bit, sends a beginning, and then the rest again and again."""

    def make(beginning, rest, pause=PAUSE):
        def serve(connection):
            connection.recv(65536)
            connection.sendall(beginning)
            while rest and not servers.ended.wait(pause):
                connection.sendall(rest)
            servers.ended.wait()

        return servers.start(serve)

    return make


TRICKLES = {
    "nothing": (b"", b""),
    "headers byte by byte": (b"HTTP/1.1 200 OK\r\nx-long: ", b"a"),
    "the status line byte by byte": (b"HTTP/1.1 200 ", b"a"),
    "endless 100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a flood of 100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0),
    "endless 103 Early Hints": (b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
    "a body byte by byte": (b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", b" "),
    "a body of endless chunks": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "headers without a body": (b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", b""),
}


@contextmanager
def blocking_client(settings, **changes):
    with CarbonmarkClient(replace(settings, **changes), retries=NO_RETRIES) as client:
        yield client


@pytest.mark.parametrize("what", TRICKLES)
def test_an_answer_that_never_ends_is_ended(call, trickle, what):
    port = trickle(*TRICKLES[what])
    with pytest.raises(TransportError, match=LIMITED):
        call.using(checkout_url=f"http://127.0.0.1:{port}", timeout=LIMIT)("get_payment", "pay_1")


@pytest.mark.parametrize("rest", [b"", b"\x00"], ids=["hangs", "byte by byte"])
def test_a_tls_handshake_that_never_ends_is_ended(call, trickle, rest):
    port = trickle(HANDSHAKE, rest)
    with pytest.raises(TransportError, match=LIMITED):
        call.using(checkout_url=f"https://127.0.0.1:{port}", timeout=LIMIT)("get_payment", "pay_1")


def test_a_host_that_never_accepts_is_ended(call, servers):
    port = servers.never_connect()
    with pytest.raises(TransportError, match=LIMITED):
        call.using(checkout_url=f"http://127.0.0.1:{port}", timeout=LIMIT)("get_payment", "pay_1")


# aiohttp would rather have such a body as a file.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
def test_a_server_that_takes_a_request_byte_by_byte_is_ended(call, servers, order):
    def serve(connection):
        while not servers.ended.wait(PAUSE):
            connection.recv(4096)

    port = servers.start(serve)
    # More than the system's buffers of both sides hold.
    big = {**order, "metadata": {**order["metadata"], "note": "x" * 16_000_000}}
    with pytest.raises(TransportError, match=LIMITED):
        call.using(checkout_url=f"http://127.0.0.1:{port}", timeout=LIMIT)("create_checkout", **big)


def test_each_attempt_has_the_whole_limit(call, servers):
    connections = []

    def serve(connection):
        connections.append(connection)
        if len(connections) == 1:
            servers.ended.wait()
        connection.sendall(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")

    calling = call.using(checkout_url=f"http://127.0.0.1:{servers.start(serve)}", timeout=2.0)
    # The second one, after the first used the limit up, gets its answer.
    with pytest.raises(NotFoundError):
        calling.retrying(attempts=2, base_delay=0.001)("get_payment", "pay_1")


def test_a_request_after_one_that_was_ended_has_a_limit_of_its_own(call, trickle, sandbox):
    calling = call.using(checkout_url=f"http://127.0.0.1:{trickle(b'', b'')}", timeout=2.0)
    for _ in range(2):
        with pytest.raises(TransportError, match="total limit"):
            calling("get_payment", "pay_1")
        assert calling("list_prices")


def test_threads_that_share_a_client_have_a_limit_each(settings, trickle, sandbox):
    hanging = trickle(b"", b"")
    ends = []

    def ask():
        with pytest.raises(TransportError, match="total limit"):
            client.get_payment("pay_1")
        ends.append(time.monotonic())

    with blocking_client(settings, checkout_url=f"http://127.0.0.1:{hanging}", timeout=1.0) as client:
        thread = threading.Thread(target=ask)
        started = time.monotonic()
        thread.start()
        time.sleep(0.3)
        # Would move the other one's deadline if there were only one.
        assert client.list_prices()
        thread.join(30)
    assert ends[0] - started > 0.9


def test_an_address_that_says_nothing_leaves_time_for_the_next_one(call, servers, sandbox, monkeypatch):
    port = int(sandbox.url.rpartition(":")[2])
    servers.never_connect("127.0.0.2", port)
    real = socket.getaddrinfo

    def two_addresses(host, *args, **kwargs):
        if host != "market.test":
            return real(host, *args, **kwargs)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address in ("127.0.0.2", "127.0.0.1")
        ]

    monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
    assert call.using(market_url=f"http://market.test:{port}", timeout=4.0)("list_prices")


@pytest.fixture
def tunnel(servers, certificate):
    """Return a function that makes a proxy, with TLS or without, which answers CONNECT with 200 and passes on, or as told."""

    def make(scheme, serve_tunnel):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)

        def serve(connection):
            if scheme == "https":
                connection = context.wrap_socket(connection, server_side=True)
            with connection:
                asked = b""
                while b"\r\n\r\n" not in asked:
                    asked += connection.recv(65536)
                serve_tunnel(connection)

        return f"{scheme}://127.0.0.1:{servers.start(serve)}"

    return make


def _pass_on_to(port):
    def serve(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with socket.create_connection(("127.0.0.1", port)) as target:

            def back():
                with suppress(OSError):
                    while received := target.recv(65536):
                        connection.sendall(received)

            thread = threading.Thread(target=back, daemon=True)
            thread.start()
            with suppress(OSError):
                while received := connection.recv(65536):
                    target.sendall(received)
            with suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)
            thread.join(10)

    return serve


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_tunnel_through_a_proxy_works(settings, tls_sandbox, tunnel, certificate, monkeypatch, scheme):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    port = int(tls_sandbox.url.rpartition(":")[2])
    monkeypatch.setenv("HTTPS_PROXY", tunnel(scheme, _pass_on_to(port)))
    with blocking_client(settings, market_url=tls_sandbox.url) as client:
        for _ in range(3):
            assert client.list_prices()
    assert tls_sandbox.state.connections == 1


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize("is_open", [False, True], ids=["in its answer", "in the tunnel"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_never_ends_is_ended(
    settings, servers, tunnel, certificate, monkeypatch, scheme, is_open
):
    def serve(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        if is_open:
            connection.sendall(b"\r\n")
            connection.recv(65536)
            connection.sendall(HANDSHAKE)
        while not servers.ended.wait(PAUSE):
            connection.sendall(b"x")

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    monkeypatch.setenv("HTTPS_PROXY", tunnel(scheme, serve))
    with blocking_client(settings, market_url="https://127.0.0.1:9", timeout=LIMIT) as client:
        with pytest.raises(TransportError, match=LIMITED):
            client.list_prices()


def test_the_check_that_a_buyer_waits_for_is_ended(settings, trickle, monkeypatch):
    monkeypatch.setattr("airflow_provider_carbonmark.hooks.payment_check.LONGEST_CHECK", LIMIT)
    port = trickle(*TRICKLES["endless 100 Continue"])
    hanging = replace(settings, checkout_url=f"http://127.0.0.1:{port}")
    checked = check_payment(hanging, "pay_1", None, [], 1)
    assert checked.finding is Finding.OUT_OF_REACH
    assert "total limit" in checked.why
