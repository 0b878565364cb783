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

from tests.e2e.processes import Process, program, serving


@contextmanager
def mariadb() -> Iterator[URL]:
    """Start a server, and return its address."""
    path = Path(program("MARIADBD", "/usr/sbin/mariadbd"))
    folder = Path(tempfile.mkdtemp(prefix="carbonmark-mariadb-"))
    options = ["--no-defaults", f"--datadir={folder}/data", f"--user={getpass.getuser()}"]
    # seen: in the common one, two that are made at the same moment take each other's temporary tables.
    env = {**os.environ, "TMPDIR": str(folder)}
    try:
        # Not in the server's own folder on all systems.
        install = shutil.which("mariadb-install-db", path=f"{path.parent}:{os.environ['PATH']}:/usr/bin")
        # --force, though it can look up no name, not even localhost.
        how = ["--auth-root-authentication-method=normal", "--skip-test-db", "--force"]
        command = [str(install), *options, *how]
        made = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
        if made.returncode:
            raise RuntimeError(f"MariaDB made no empty database: {made.stdout}{made.stderr}")
        # Nothing here outlives the server, so nobody waits for its disk.
        unsafe = ["--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--skip-name-resolve"]
        command = [str(path), *options, *unsafe, "--skip-networking", f"--socket={folder}/socket"]

        def answers() -> bool:
            with socket.socket(socket.AF_UNIX) as end:
                return end.connect_ex(f"{folder}/socket") == 0

        with serving(Process("MariaDB", command, env=env, log=folder / "log"), answers):
            where = {"unix_socket": f"{folder}/socket"}
            yield URL.create("mysql+pymysql", "root", host="localhost", query=where)
    finally:
        shutil.rmtree(folder)
