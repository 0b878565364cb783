"""Proxies and certificates come from the environment, for both clients."""

from __future__ import annotations

import socketserver
import threading

import pytest

from airflow_provider_carbonmark.api.errors import TransportError


def test_a_certificate_nobody_trusts_is_refused(tls_sandbox, call):
    with pytest.raises(TransportError, match="certificate"):
        call.using(market_url=tls_sandbox.url)("list_prices")


def test_a_certificate_trusted_by_the_environment_is_accepted(tls_sandbox, call, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    assert call.using(market_url=tls_sandbox.url)("list_prices")


@pytest.fixture
def proxy():
    """Return a proxy that answers everything itself: its address, and the list of what it was asked for."""
    asked: list[str] = []

    class Answer(socketserver.StreamRequestHandler):
        def handle(self):
            asked.append(self.rfile.readline().decode().strip())
            while self.rfile.readline().strip():
                pass
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("no_proxies")
def test_a_proxy_of_the_environment_is_used(call, proxy, monkeypatch):
    address, asked = proxy
    monkeypatch.setenv("HTTP_PROXY", address)
    assert call.using(market_url="http://market.invalid")("list_prices") == []
    assert asked == ["GET http://market.invalid/prices HTTP/1.1"]


@pytest.mark.usefixtures("no_proxies")
def test_a_host_the_environment_exempts_is_asked_directly(call, proxy, sandbox, monkeypatch):
    address, asked = proxy
    monkeypatch.setenv("HTTP_PROXY", address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert call("list_prices")
    assert not asked
