"""nginx with the README's example in front of an API server, or of what stands in for one."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from cryptography import x509

from tests.certificates import make_certificate
from tests.e2e.processes import Process, free_ports, program, serving

EXAMPLE = Path(__file__).with_name("nginx.conf")
NAME = "pay.example.com"

# The frame that a distribution gives: it logs every request, unless the example says otherwise.
_FRAME = """
daemon off;
pid nginx.pid;
error_log errors.log;
events {}
http {
    access_log requests.log;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include example.conf;
}
"""


@dataclass(frozen=True)
class Answer:
    """What the proxy answered."""

    status: int
    headers: Message
    text: str


@dataclass
class Proxy:
    """
    A running nginx.

    :param port: where it listens.
    :param folder: where its logs are.
    """

    port: int
    folder: Path

    def ask(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None, body: str | None = None
    ) -> Answer:
        """Send a path exactly as it is."""
        trusting = ssl.create_default_context(cafile=self.folder / "certificate.pem")
        with closing(_Connection(self.port, trusting)) as connection:
            connection.request(method, path, body, headers or {})
            with connection.getresponse() as response:
                return Answer(response.status, response.headers, response.read().decode())

    def logs(self) -> str:
        """Return all that nginx wrote anywhere."""
        return "".join(path.read_text() for path in self.folder.glob("*.log"))


class _Connection(http.client.HTTPSConnection):
    """To the port of the proxy, by its public name."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__(NAME, port, context=context, timeout=30)
        self._trusting = context

    def connect(self) -> None:
        plain = socket.create_connection(("127.0.0.1", self.port or 0), timeout=30)
        self.sock = self._trusting.wrap_socket(plain, server_hostname=NAME)


@contextmanager
def nginx(folder: Path, upstream_port: int) -> Iterator[Proxy]:
    """
    Run the example while the block runs.

    :param folder: an empty folder for its files.
    :param upstream_port: where the API server listens.
    """
    (port,) = free_ports(1)
    make_certificate(folder, x509.DNSName(NAME))
    changes = {
        "server 127.0.0.1:8080;": f"server 127.0.0.1:{upstream_port};",
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "/etc/ssl/certs/pay.example.com.pem": f"{folder}/certificate.pem",
        "/etc/ssl/private/pay.example.com.key": f"{folder}/key.pem",
        "/var/log/nginx/": f"{folder}/",
    }
    example = EXAMPLE.read_text()
    for old, new in changes.items():
        if example.count(old) != 1:
            raise ValueError(f"The example has no single {old!r}")
        example = example.replace(old, new)
    (folder / "example.conf").write_text(example)
    (folder / "frame.conf").write_text(_FRAME)
    command = [
        program("NGINX", "/usr/sbin/nginx"),
        "-p",
        f"{folder}/",
        "-c",
        "frame.conf",
        "-e",
        "errors.log",
    ]

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with serving(Process("nginx", command, env={}, log=folder / "output.log"), listens):
        yield Proxy(port, folder)


@dataclass
class Upstream:
    """
    Something that answers every request with 200.

    :param port: where it listens.
    :param seen: method, path and headers of each request.
    """

    port: int = 0
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)


@contextmanager
def upstream() -> Iterator[Upstream]:
    """Serve while the block runs."""
    stands_in = Upstream()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            stands_in.seen.append((self.command, self.path, headers))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.send_header("Set-Cookie", "session=of-airflow")
            self.end_headers()

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stands_in.port = server.server_port
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield stands_in
        finally:
            server.shutdown()
            thread.join()
