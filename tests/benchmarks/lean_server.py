"""
A server that costs as little as possible, in a process of its own, so that the client's side is what is measured.

Run as a program it serves HTTPS until its standard input ends: `python -m tests.benchmarks.lean_server certificate.pem key.pem`. It answers every payment
as one whose retirement is under way, every dbt Cloud run as running, and every checkout with a URL.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

from tests.benchmarks.measured import connection_to

COUNTS_PATH = "/counts"

_CHECKOUT = {"url": "https://checkout.example.com/pay/cs_bench", "id": "cs_bench"}
_PAYMENT = {
    "status": "PAID",
    "quantity_tonnes": 1.5,
    "beneficiary_name": "Benchmark Ltd.",
    "retirement": {"status": "COMMITTED", "transaction_hash": None, "view_retirement_url": None},
}
_RUN = {"status": {"code": 200, "is_success": True}, "data": {"status": 3, "is_complete": False}}


class LeanProtocol(asyncio.Protocol):
    """Just enough HTTP/1.1 for clients that send one request at a time and wait for its answer."""

    connections = 0
    requests: Counter[str] = Counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        LeanProtocol.connections += 1
        self._transport: Any = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < _content_length(head):
            return
        self._received = b""
        path = head.split(b" ", 2)[1].decode().partition("?")[0]
        if path == COUNTS_PATH:
            answer: Any = [self.connections, self.requests]
        else:
            self.requests[path] += 1
            answer = _answer(path)
        payload = json.dumps(answer).encode()
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(payload), payload)
        )


def _content_length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


def _answer(path: str) -> dict[str, Any]:
    if path.startswith("/payments/"):
        return {"id": path.rpartition("/")[2], **_PAYMENT}
    return _CHECKOUT if path == "/checkout" else _RUN


async def _serve(certificate: str, key: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(LeanProtocol, "127.0.0.1", 0, ssl=context, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@dataclass(frozen=True)
class LeanServer:
    """
    A running server.

    :param port: its port on 127.0.0.1.
    :param ca_file: PEM file of the authority that signed its certificate.
    """

    port: int
    ca_file: Path

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """Return the environment of a process that trusts it, with Airflow connections to it."""
        # Its hook puts https:// in front of the host.
        dbt = {"conn_type": "dbt_cloud", "host": f"127.0.0.1:{self.port}", "password": "benchmark"}
        return {
            "SSL_CERT_FILE": str(self.ca_file),
            "AIRFLOW_CONN_CARBONMARK_DEFAULT": connection_to(self.url),
            "AIRFLOW_CONN_DBT_CLOUD_DEFAULT": json.dumps(dbt),
        }

    def counts(self) -> tuple[int, dict[str, int]]:
        """
        Ask for what it has seen.

        :return: connections whose handshake succeeded, with this request's own, and without it the answered requests by path.
        """
        trusting = HTTPSHandler(context=ssl.create_default_context(cafile=self.ca_file))
        with build_opener(ProxyHandler({}), trusting).open(f"{self.url}{COUNTS_PATH}", timeout=60) as answer:
            connections, requests = json.load(answer)
        return connections, requests


@contextmanager
def lean_server(folder: Path) -> Iterator[LeanServer]:
    """
    Serve while the block runs.

    :param folder: where to keep a throw-away authority and its certificate.
    """
    authority, *own = _make_certificates(folder)
    command = [sys.executable, "-m", __name__, *map(str, own)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            if not process.stdout or not (port := process.stdout.readline()):
                raise RuntimeError("The benchmark's server did not start")
            yield LeanServer(int(port), authority)
        finally:
            process.kill()


def _make_certificates(folder: Path) -> list[Path]:
    import trustme  # only here: the serving process does without

    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    pems = [folder / name for name in ("ca.pem", "certificate.pem", "key.pem")]
    authority.cert_pem.write_to_path(pems[0])
    certificate.cert_chain_pems[0].write_to_path(pems[1])
    certificate.private_key_pem.write_to_path(pems[2])
    return pems


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
