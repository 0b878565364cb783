"""Proxies and certificates come from the environment, for both clients."""

from __future__ import annotations

import datetime
import ipaddress
import socketserver
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airflow_provider_carbonmark.api.errors import TransportError
from airflow_provider_carbonmark.sandbox import SandboxServer


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """Return the files of a certificate that nobody trusts, and of its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sandbox")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def tls_sandbox(certificate):
    cert, key = certificate
    with SandboxServer(port=0, ssl_certfile=str(cert), ssl_keyfile=str(key)) as sandbox:
        yield sandbox


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


@pytest.fixture
def no_proxies(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


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
