"""Whatever a server does to keep a request alive, it ends at its total limit, with both clients."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import replace

import httpcore
import pytest

from airflow_provider_carbonmark.api.client import AsyncCarbonmarkClient, CarbonmarkClient
from airflow_provider_carbonmark.api.deadline import Deadline
from airflow_provider_carbonmark.api.errors import NotFoundError, TransportError
from airflow_provider_carbonmark.hooks.payment_check import Finding, check_payment
from tests.integration.api.conftest import ONE_CLIENT

LIMIT = 0.3
PAUSE = 0.02
LIMITED = r"wasn't done within 0\.3 s, the total limit of a request"
# The beginning of a TLS record of 16 KiB that holds a server's hello.
HANDSHAKE = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03"


@pytest.fixture
def trickle(servers):
    """Return a function that makes a server which reads a bit, sends a beginning, and then the rest again and again."""

    def make(beginning=b"", rest=b"", pause=PAUSE):
        def serve(connection):
            connection.recv(65536)
            connection.sendall(beginning)
            while rest and not servers.ended.wait(pause):
                connection.sendall(rest)
            servers.ended.wait()

        return f"http://127.0.0.1:{servers.start(serve)}"

    return make


TRICKLES = {
    "nothing": (b"", b""),
    "headers byte by byte": (b"HTTP/1.1 200 OK\r\nx-long: ", b"a"),
    "endless 100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a flood of 100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0),
    "a body byte by byte": (b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", b" "),
    "a body of endless chunks": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "headers without a body": (b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", b""),
}


def is_ended(call, url, method="get_payment", **arguments):
    started = time.monotonic()
    with pytest.raises(TransportError, match=LIMITED):
        call.using(checkout_url=url, timeout=LIMIT)(method, **arguments or {"payment_id": "pay_1"})
    # Whatever else the machine does.
    assert time.monotonic() - started < 10


@ONE_CLIENT
@pytest.mark.parametrize("what", TRICKLES)
def test_an_answer_that_never_ends_is_ended(call, trickle, what):
    is_ended(call, trickle(*TRICKLES[what]))


# asyncio ends what it waits for, whatever that is.
@pytest.mark.parametrize("call", [AsyncCarbonmarkClient], indirect=True)
@pytest.mark.parametrize("what", ["nothing", "a flood of 100 Continue", "a body of endless chunks"])
def test_an_answer_that_never_ends_is_ended_in_asyncio(call, trickle, what):
    is_ended(call, trickle(*TRICKLES[what]))


@pytest.mark.parametrize("rest", [b"", b"\x00"], ids=["hangs", "byte by byte"])
def test_a_tls_handshake_that_never_ends_is_ended(call, trickle, rest):
    is_ended(call, trickle(HANDSHAKE, rest).replace("http:", "https:"))


@ONE_CLIENT
@pytest.mark.parametrize("is_open", [False, True], ids=["in its handshake", "in its answer"])
def test_tls_of_another_context_is_ended(call, servers, certificate, monkeypatch, is_open):
    """As with truststore, where it is put into the place of all contexts: sockets are then made by one that nobody sees."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    wrap_socket = ssl.SSLContext.wrap_socket

    def wrap_elsewhere(asked, sock, **arguments):
        hidden = asked if asked is context else ssl.create_default_context(cafile=certificate[0])
        return wrap_socket(hidden, sock, **arguments)

    def serve(connection):
        if is_open:
            connection = context.wrap_socket(connection, server_side=True)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        # Not for ever, or nothing would end this test where it fails.
        for _ in range(100):
            if is_open:
                connection.sendall(b" ")
            if servers.ended.wait(PAUSE):
                break
        connection.close()

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", wrap_elsewhere)
    is_ended(call, f"https://127.0.0.1:{servers.start(serve)}")


def test_a_host_that_never_accepts_is_ended(call, servers):
    is_ended(call, f"http://127.0.0.1:{servers.never_connect()}")


# aiohttp would rather have such a body as a file.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
def test_a_server_that_takes_a_request_byte_by_byte_is_ended(call, servers, order):
    def serve(connection):
        while not servers.ended.wait(PAUSE):
            connection.recv(4096)

    port = servers.start(serve)
    # More than the system's buffers of both sides hold.
    big = {**order, "metadata": {**order["metadata"], "note": "x" * 16_000_000}}
    is_ended(call, f"http://127.0.0.1:{port}", "create_checkout", **big)


def test_each_attempt_has_the_whole_limit(call, servers):
    connections = []

    def serve(connection):
        connections.append(connection)
        if len(connections) == 1:
            servers.ended.wait()
        connection.sendall(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")

    calling = call.using(checkout_url=f"http://127.0.0.1:{servers.start(serve)}", timeout=1.0)
    # The second one, after the first used the limit up, gets its answer.
    with pytest.raises(NotFoundError):
        calling.retrying(attempts=2, base_delay=0.001)("get_payment", "pay_1")


def test_threads_that_share_a_client_have_a_limit_each():
    deadline = Deadline()
    deadline.start(5.0)
    other = threading.Thread(target=deadline.start, args=(500.0,))
    other.start()
    other.join()
    assert deadline.left(httpcore.ReadTimeout) <= 5.0


def test_an_address_that_says_nothing_leaves_time_for_the_next_one(call, servers, sandbox, monkeypatch):
    port = int(sandbox.url.rpartition(":")[2])
    servers.never_connect("127.0.0.2", port)
    real = socket.getaddrinfo

    def two_addresses(host, *args, **kwargs):
        addresses = ("127.0.0.2", "127.0.0.1") if host == "market.test" else (host,)
        return [place for address in addresses for place in real(address, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
    assert call.using(market_url=f"http://market.test:{port}", timeout=2.0)("list_prices")


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


def copy(source, sink):
    with suppress(OSError):
        while received := source.recv(65536):
            sink.sendall(received)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _pass_on_to(port):
    def serve(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with socket.create_connection(("127.0.0.1", port)) as target:
            back = threading.Thread(target=copy, args=(target, connection), daemon=True)
            back.start()
            copy(connection, target)
            back.join(10)

    return serve


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_tunnel_through_a_proxy_works(settings, tls_sandbox, tunnel, certificate, monkeypatch, scheme):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    port = int(tls_sandbox.url.rpartition(":")[2])
    monkeypatch.setenv("HTTPS_PROXY", tunnel(scheme, _pass_on_to(port)))
    with CarbonmarkClient(replace(settings, market_url=tls_sandbox.url)) as client:
        for _ in range(3):
            assert client.list_prices()
    assert tls_sandbox.state.connections == 1


@ONE_CLIENT
@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize("is_open", [False, True], ids=["in its answer", "in the tunnel"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_never_ends_is_ended(call, servers, tunnel, certificate, monkeypatch, scheme, is_open):
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
    is_ended(call, "https://127.0.0.1:9")


def test_the_check_that_a_buyer_waits_for_is_ended(settings, trickle, monkeypatch):
    monkeypatch.setattr("airflow_provider_carbonmark.hooks.payment_check.LONGEST_CHECK", LIMIT)
    hanging = replace(settings, checkout_url=trickle(*TRICKLES["endless 100 Continue"]))
    checked = check_payment(hanging, "pay_1", None, [], 1)
    assert checked.finding is Finding.OUT_OF_REACH
    assert "total limit" in checked.why
