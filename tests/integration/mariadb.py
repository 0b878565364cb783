"""A MariaDB of our own: Debian's programs on a folder that is gone afterwards, and no network."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL

from tests.e2e.processes import Process, wait_until

# Where the Makefile puts it.
_SERVER = Path(os.environ.get("MARIADBD", "/usr/sbin/mariadbd"))


@contextmanager
def mariadb() -> Iterator[URL]:
    """Start a server, and return its address."""
    if not _SERVER.exists():
        raise FileNotFoundError(
            f"There is no MariaDB at {_SERVER}: run the tests by make, which installs it, or set MARIADBD to its mariadbd"
        )
    folder = Path(tempfile.mkdtemp(prefix="carbonmark-mariadb-"))
    options = [f"--datadir={folder}/data", f"--user={getpass.getuser()}"]
    # seen: in the common one, two that are made at the same moment take each other's temporary tables.
    env = {**os.environ, "TMPDIR": str(folder)}
    try:
        # Not in the server's own folder on all systems.
        install = shutil.which("mariadb-install-db", path=f"{_SERVER.parent}:{os.environ['PATH']}:/usr/bin")
        made = subprocess.run(
            [
                str(install),
                "--no-defaults",
                *options,
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--force",  # though it can look up no name, not even localhost
            ],
            env=env,
            check=False,
            capture_output=True,
            text=True,
        )
        if made.returncode:
            raise RuntimeError(f"MariaDB made no empty database: {made.stdout}{made.stderr}")
        # Nothing here outlives the server, so nobody waits for its disk.
        unsafe = ["--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--skip-name-resolve"]
        address = URL.create(
            "mysql+pymysql", "root", host="localhost", query={"unix_socket": f"{folder}/socket"}
        )
        command = [
            str(_SERVER),
            "--no-defaults",
            *options,
            *unsafe,
            "--skip-networking",
            f"--socket={folder}/socket",
        ]
        server = Process("MariaDB", command, env=env, log=folder / "log")

        def answers() -> bool:
            server.check()
            with socket.socket(socket.AF_UNIX) as end:
                return end.connect_ex(f"{folder}/socket") == 0

        server.start()
        try:
            wait_until(answers, what="MariaDB to answer", timeout=60, interval=0.05)
            yield address
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
