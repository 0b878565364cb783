"""An address that is wrong: the error says what of the connection to look at, with both clients."""

from __future__ import annotations

import re
import socket

import pytest

from airflow_provider_carbonmark.api.errors import TransportError

HOST = "the connection's host, which has to be the address of Carbonmark's Checkout Service"
MARKET_URL = "market_url in the connection's extra"


@pytest.fixture
def names(monkeypatch, no_proxies):
    """Let names that no test may look up lead to this machine, or nowhere."""
    look_up = socket.getaddrinfo

    def answer(host, *rest, **more):
        if host in ("checkout.example.com", "v18.api.carbonmark.com"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up("127.0.0.1" if host == "v19.api.carbonmark.com" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", answer)


@pytest.mark.parametrize(
    ("asked", "url", "says"),
    [
        ("checkout", "https://checkout.example.com", f"No host 'checkout.example.com' can be .* {HOST}"),
        ("checkout", "http://127.0.0.1:1", f"Check the network and the proxy, and {HOST}"),
        ("checkout", "http://127.0.0.1:{tls}", f"https:// is right instead of http://. Check {HOST}"),
        ("checkout", "https://127.0.0.1:{plain}", f"http:// instead of https:// may be .* {HOST}"),
        ("market", "https://127.0.0.1:{tls}", f"SSL_CERT_FILE; else check {MARKET_URL}"),
        (
            "market",
            "https://v19.api.carbonmark.com:{tls}",
            f"v19, has probably been retired. Set {MARKET_URL}",
        ),
        ("market", "https://v18.api.carbonmark.com", "If other hosts .* v18, has probably been retired"),
    ],
)
def test_what_to_look_at_is_told(call, names, sandbox, tls_sandbox, asked, url, says):
    tls, plain = (each.url.rpartition(":")[2] for each in (tls_sandbox, sandbox))
    method, *arguments = ("list_prices",) if asked == "market" else ("get_payment", "pay_1")
    with pytest.raises(TransportError, match=re.sub(r"\.(?!\*)", r"\.", says)):
        call.using(**{f"{asked}_url": url.format(tls=tls, plain=plain)})(method, *arguments)
