"""A Redis of our own: Debian's program, on a free port, nothing left behind."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.processes import Process, free_ports, program, serving


@contextmanager
def redis() -> Iterator[str]:
    """Start a server that keeps nothing on disk, and return its address; it is ended on leaving."""
    command = [program("REDIS_SERVER", "/usr/bin/redis-server"), "--bind", "127.0.0.1"]
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="carbonmark-redis-") as folder:
        options = ["--port", str(port), "--save", "", "--appendonly", "no"]
        server = Process("Redis", command + options, env=dict(os.environ), log=Path(folder) / "redis.log")
        with serving(server, lambda: _answers(port)):
            yield f"redis://127.0.0.1:{port}"


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as asking:
            asking.sendall(b"PING\r\n")
            return asking.recv(16).startswith(b"+PONG")
    except OSError:
        return False
