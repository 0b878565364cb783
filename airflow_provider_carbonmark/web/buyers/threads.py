"""Threads for what may hang: so many at once, and those that hang make room for others, up to a bound."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class Threads:
    """
    Runs blocking calls beside the event loop.

    Whoever waits may stop waiting at any time; the call goes on to its end all the same. The threads are daemons, so a server that is
    to stop waits for none of them.

    :param at_once: how many calls may run at once.
    :param hanging: how many more may hang beside them.
    :param seconds: after how long a call that still runs counts as hanging.
    """

    def __init__(self, at_once: int, *, hanging: int, seconds: float) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._most_hanging = hanging
        self._seconds = seconds
        self._hanging: set[asyncio.Future[Any]] = set()

    async def run(self, call: Callable[[], T]) -> T:
        """Return what a call returns, or raise what it raises, once there is room for it."""
        await self._free.acquire()
        ended = _start(call)
        ended.add_done_callback(self._make_room)
        self._look_later(ended)
        return await asyncio.shield(ended)

    def _look_later(self, ended: asyncio.Future[Any]) -> None:
        asyncio.get_running_loop().call_later(self._seconds, self._look, ended)

    def _look(self, ended: asyncio.Future[Any]) -> None:
        if ended.done():
            return
        if len(self._hanging) < self._most_hanging:
            self._hanging.add(ended)
            self._free.release()
        else:
            self._look_later(ended)

    def _make_room(self, ended: asyncio.Future[Any]) -> None:
        # Nobody may be waiting for it any more, and asyncio complains of errors that nobody looks at.
        if error := ended.exception():
            log.debug("A call ended with %r", error)
        if ended in self._hanging:
            self._hanging.remove(ended)
        else:
            self._free.release()


def _start(call: Callable[[], T]) -> asyncio.Future[T]:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[T] = loop.create_future()

    def work() -> None:
        tell: tuple[Callable[[Any], None], Any]
        try:
            tell = ended.set_result, call()
        except BaseException as error:
            tell = ended.set_exception, error
        # Closed while this ran, the loop wants to hear nothing.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(*tell)

    threading.Thread(target=work, name="carbonmark", daemon=True).start()
    return ended
