"""Start, watch, kill and restart real processes, each with a log file of its own."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Self, TypeVar

import psutil

Result = TypeVar("Result")
#: How many times longer than usual to wait for anything, on a machine that is busy with more than this.
PATIENCE = float(os.environ.get("PATIENCE", "1"))


class StackError(Exception):
    """Something that was started did not do what it should; the message holds the log's tail."""


class RunFailed(StackError):
    """A DAG run ended badly; the message holds the end of its failed tasks' logs."""


# Below those that Linux gives to connections: a port found free stays free while what listens there starts, or is started again.
_PORTS = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Return ports nobody listens on, all different; at random, since other tests look for some at the same time."""
    with ExitStack() as held:
        free = []
        for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
            if len(free) == count:
                break
            with suppress(OSError):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
                free.append(port)
        return free


def wait_until(
    probe: Callable[[], Result | None], *, what: str, timeout: float, interval: float = 0.2
) -> Result:
    """
    Call ``probe`` until it gives something, and return that.

    :raises StackError: when ``timeout`` seconds, or as many times that as :data:`PATIENCE` says, have passed.
    """
    deadline = time.monotonic() + timeout * PATIENCE
    while not (result := probe()):
        if time.monotonic() > deadline:
            raise StackError(f"Waited {timeout:g} s in vain for {what}")
        time.sleep(interval)
    return result


# Ends what is left of the sessions that it was told of, and not told to forget, once whoever told it is gone.
_UNDERTAKER = """
import contextlib, os, signal, sys
import psutil
sessions = set()
for line in sys.stdin:
    session = int(line)
    sessions ^= {session}
for pid in psutil.pids():
    with contextlib.suppress(OSError):
        if os.getsid(pid) in sessions:
            os.kill(pid, signal.SIGKILL)
"""


@cache
def _undertaker() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _UNDERTAKER],
        stdin=subprocess.PIPE,
        text=True,
        bufsize=1,
        start_new_session=True,
    )


@contextmanager
def ends_with_us(session: int) -> Iterator[None]:
    """
    See to it that a session doesn't outlive this process, however that ends within the block.

    On Ctrl-C, pytest-xdist kills its workers, and what they started would run for ever.
    """
    told = _undertaker().stdin
    if told is None:
        raise StackError("There is no pipe to the undertaker")
    print(session, file=told)
    try:
        yield
    finally:
        print(session, file=told)


class Started(ABC):
    """What is started on entering a block, and stopped on leaving it however that ends."""

    @abstractmethod
    def start(self) -> None:
        """Start it, and wait until it is there."""

    @abstractmethod
    def stop(self) -> None:
        """End it; may be called twice."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def program(variable: str, default: str) -> str:
    """
    Return the path of a program that is no Python package.

    :param variable: the environment variable that says where it is.
    :param default: where it is otherwise.
    :raises RuntimeError: when it isn't there, with the remedy.
    """
    path = os.path.abspath(os.environ.get(variable, default))
    if shutil.which(path) is None:
        raise RuntimeError(
            f"There is no program at {path}. `make test` fetches Debian's; otherwise set {variable} to the path of one."
        )
    return path


@contextmanager
def serving(process: Process, answers: Callable[[], bool], *, timeout: float = 60) -> Iterator[None]:
    """Start a server, wait until it answers, and end it on leaving."""

    def is_up() -> bool:
        process.check()
        return answers()

    process.start()
    try:
        wait_until(is_up, what=f"{process.name} to answer", timeout=timeout, interval=0.05)
        yield
    finally:
        process.stop()


class Process:
    """
    A program in a session of its own, so that stopping it also stops whatever it started.

    :param name: what to call it in messages.
    :param command: the program and its arguments.
    :param env: its whole environment.
    :param log: file its output is appended to.
    """

    def __init__(self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.command = command
        self.env = env
        self.log = log
        self._popen: subprocess.Popen[bytes] | None = None
        self._watch = ExitStack()

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._popen = subprocess.Popen(
                self.command,
                env=self.env,
                cwd=self.log.parent,  # not the caller's: `python -m` would import from there
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._watch.enter_context(ends_with_us(self._popen.pid))

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    @property
    def pid(self) -> int:
        """Return its id; it must have been started."""
        if self._popen is None:
            raise StackError(f"{self.name} is not running")
        return self._popen.pid

    def check(self) -> None:
        """Raise with the log's tail if the process has ended by itself."""
        if self._popen is not None and not self.running:
            raise StackError(f"{self.name} ended with status {self._popen.returncode}:\n{self.tail()}")

    def terminate(self) -> None:
        """Ask it to end; does not wait."""
        if self.running:
            self._signal(signal.SIGTERM)

    def stop(self, grace: float = 8.0) -> None:
        """Ask it to end, and kill what is left of its session after ``grace`` seconds."""
        self.terminate()
        if self._popen is not None:
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(grace)
        self.kill()

    def kill(self) -> None:
        """End it and everything in its session at once, as ``kill -9`` does."""
        if self._popen is None:
            return
        if self.running:
            self._signal(signal.SIGKILL)
            self._popen.wait()
        # Airflow's scheduler and triggerer give their children process groups of their own, but no session.
        for pid in psutil.pids():
            with suppress(OSError):
                if os.getsid(pid) == self._popen.pid:
                    os.kill(pid, signal.SIGKILL)
        self._popen = None
        self._watch.close()

    def tail(self, lines: int = 25) -> str:
        """Return the last lines of its log."""
        return tail(self.log, lines)

    def _signal(self, number: signal.Signals) -> None:
        if self._popen is not None:
            with suppress(ProcessLookupError):
                os.kill(self._popen.pid, number)


def tail(path: Path, lines: int) -> str:
    """Return the last lines of a text file, long ones cut, or nothing when there is no such file."""
    try:
        with path.open(errors="replace") as file:
            return "\n".join(line.rstrip()[:300] for line in deque(file, maxlen=lines))
    except FileNotFoundError:
        return ""
