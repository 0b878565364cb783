"""A Redis of our own: Debian's program, on a free port, nothing left behind."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.processes import Process, free_ports, wait_until

REDIS_SERVER = os.environ.get("REDIS_SERVER", "/usr/bin/redis-server")


@contextmanager
def redis() -> Iterator[str]:
    """
    Start a server that keeps nothing on disk, and return its address; it is ended on leaving.

    :raises RuntimeError: when there is none, with the remedy.
    """
    if shutil.which(REDIS_SERVER) is None:
        raise RuntimeError(
            f"There is no Redis at {REDIS_SERVER}. `make test` installs Debian's; otherwise set REDIS_SERVER to the path of one."
        )
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="carbonmark-redis-") as folder:
        server = Process(
            "redis",
            [REDIS_SERVER, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"],
            env=dict(os.environ),
            log=Path(folder) / "redis.log",
        )
        server.start()
        try:
            wait_until(lambda: server.check() or _answers(port), what="Redis", timeout=60)
            yield f"redis://127.0.0.1:{port}"
        finally:
            server.stop()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as asking:
            asking.sendall(b"PING\r\n")
            return asking.recv(16).startswith(b"+PONG")
    except OSError:
        return False
