"""Proxies and certificates come from the environment, for both clients."""

from __future__ import annotations

import pytest


def test_a_certificate_trusted_by_the_environment_is_accepted(tls_sandbox, call, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    assert call.using(market_url=tls_sandbox.url)("list_prices")


@pytest.fixture
def proxy(servers, no_proxies):
    """Return a proxy that answers everything itself: its address, and the list of what it was asked for."""
    asked: list[bytes] = []

    def serve(connection):
        asked.append(connection.recv(65536).partition(b"\r\n")[0])
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]")

    return f"http://127.0.0.1:{servers.start(serve)}", asked


def test_a_proxy_of_the_environment_is_used(call, proxy, monkeypatch):
    address, asked = proxy
    monkeypatch.setenv("HTTP_PROXY", address)
    assert call.using(market_url="http://market.invalid")("list_prices") == []
    assert asked == [b"GET http://market.invalid/prices HTTP/1.1"]


def test_a_host_the_environment_exempts_is_asked_directly(call, proxy, sandbox, monkeypatch):
    address, asked = proxy
    monkeypatch.setenv("HTTP_PROXY", address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert call("list_prices")
    assert not asked
