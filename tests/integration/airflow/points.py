"""The points at which a worker may be killed or overtaken: around each request to Carbonmark, before each statement and each commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NoReturn
from unittest.mock import patch

import httpx
from sqlalchemy import Connection, Engine, event

#: Called with the name of each point.
Reach = Callable[[str], None]


class Killed(BaseException):
    """The worker is gone, and nothing catches that."""


class At:
    """
    Does something at the point of a number, once.

    :ivar point: where it did; None while it has not.
    """

    def __init__(self, number: int, do: Callable[[], object]) -> None:
        self._left = number
        self._do = do
        self.point: str | None = None

    def __call__(self, point: str) -> None:
        self._left -= 1
        if self._left < 0 and self.point is None:
            self.point = point
            self._do()


class KillAt(At):
    """Kills at the point of a number."""

    def __init__(self, number: int) -> None:
        super().__init__(number, self._kill)

    def _kill(self) -> NoReturn:
        raise Killed


class OvertakeAt(At):
    """Lets another process run at the point of a number, counting those at which one can: where no lock is held."""

    def __init__(self, number: int, overtake: Callable[[], object]) -> None:
        super().__init__(number, overtake)
        self._last = ""
        self._holds_lock = False

    def __call__(self, point: str) -> None:
        if self._last == "COMMIT":
            self._holds_lock = False
        elif self._last in ("BEGIN", "INSERT", "LOCK", "UPDATE"):
            self._holds_lock = True
        self._last = point
        if not self._holds_lock:
            super().__call__(point)


#: Who is told, of workers of which one runs within another.
_innermost: ContextVar[Reach | None] = ContextVar("innermost", default=None)


@contextmanager
def watching(reach: Reach) -> Iterator[None]:
    """Tell each point that this process comes to; while one watches within another, to that one alone."""
    # One that begins within another may begin at an event, where SQLAlchemy takes no more listeners.
    telling = _telling() if _innermost.get() is None else nullcontext()
    before = _innermost.set(reach)
    try:
        with telling:
            yield
    finally:
        _innermost.reset(before)


@contextmanager
def _telling() -> Iterator[None]:
    handle = httpx.HTTPTransport.handle_request

    def tell(point: str) -> None:
        reach = _innermost.get()
        assert reach is not None
        reach(point)

    def handle_request(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        name = f"{request.method} {request.url.path}"
        tell(f"{name} asked")
        answer = handle(self, request)
        try:
            tell(f"{name} answered")
        except BaseException:
            answer.close()
            raise
        return answer

    def on_statement(connection: Connection, cursor: Any, statement: str, *rest: Any) -> None:
        name = "LOCK" if statement.endswith("FOR UPDATE") else statement.split(maxsplit=1)[0]
        # Settings of a connection and questions about tables: between these and the next statement nothing happens.
        if name != "PRAGMA":
            tell(name)

    def on_commit(connection: Connection) -> None:
        tell("COMMIT")

    event.listen(Engine, "before_cursor_execute", on_statement)
    event.listen(Engine, "commit", on_commit)
    try:
        with patch.object(httpx.HTTPTransport, "handle_request", handle_request):
            yield
    finally:
        event.remove(Engine, "before_cursor_execute", on_statement)
        event.remove(Engine, "commit", on_commit)
