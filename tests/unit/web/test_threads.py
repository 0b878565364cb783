"""Calls that hang: they make room for others, so many and no more, and go on to their end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from airflow_provider_carbonmark.web.buyers.desk import Desk, Limits, TurnedAwayError
from airflow_provider_carbonmark.web.buyers.threads import Threads


class Call:
    """A call that ends when it is told to."""

    def __init__(self) -> None:
        self._may_end = threading.Event()
        self._loop = asyncio.get_running_loop()
        self.started = asyncio.Event()
        self.ended = asyncio.Event()

    def __call__(self) -> str:
        self._loop.call_soon_threadsafe(self.started.set)
        self._may_end.wait(60)
        self._loop.call_soon_threadsafe(self.ended.set)
        return "done"

    def end(self) -> None:
        self._may_end.set()


async def settled() -> None:
    """Let everything happen that needs no more than the event loop."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_a_call_returns_or_raises_comes_back():
    threads = Threads(1, hanging=0, seconds=60)
    assert await threads.run(lambda: 7) == 7
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await threads.run(lambda: 1 / 0)


async def test_one_that_hangs_makes_room_up_to_a_bound_and_takes_its_place_back_with_it():
    threads = Threads(1, hanging=1, seconds=0)
    calls = [Call() for _ in range(4)]
    running = [asyncio.create_task(threads.run(call)) for call in calls]
    for call in calls[:2]:
        await call.started.wait()
    await settled()
    assert not calls[2].started.is_set()
    for ends, starts in ((0, 2), (1, 3)):
        calls[ends].end()
        await calls[starts].started.wait()
    for call in calls:
        call.end()
    assert await asyncio.gather(*running) == ["done"] * 4
    assert await threads.run(lambda: "free") == "free"


async def test_a_call_goes_on_when_nobody_waits_for_it_any_more():
    threads = Threads(1, hanging=0, seconds=60)
    call = Call()
    waiting = asyncio.create_task(threads.run(call))
    await call.started.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    call.end()
    await call.ended.wait()
    assert await threads.run(lambda: "free") == "free"


async def test_somebody_who_leaves_while_waiting_for_a_place_takes_none():
    threads = Threads(1, hanging=0, seconds=60)
    call = Call()
    first = asyncio.create_task(threads.run(call))
    await call.started.wait()
    second = asyncio.create_task(threads.run(lambda: pytest.fail("nobody waits for it")))
    await settled()
    second.cancel()
    call.end()
    assert await first == "done"
    assert await threads.run(lambda: "free") == "free"


async def test_who_is_turned_away_when_the_page_has_given_up_leaves_no_line_in_the_log(caplog):
    """Whoever has a link can do that as often as they like. Python 3.14 logs what is shielded and fails when nobody waits any more."""
    may_end = asyncio.Event()

    async def visit() -> None:
        await may_end.wait()
        raise TurnedAwayError

    desk = Desk(Limits())
    page = asyncio.create_task(desk.to_its_end("visit", visit))
    await settled()
    page.cancel()
    with pytest.raises(asyncio.CancelledError):
        await page
    joined = asyncio.create_task(desk.to_its_end("visit", visit))
    may_end.set()
    with pytest.raises(TurnedAwayError):
        await joined
    await settled()
    assert not caplog.records
