"""When the ledger is asked for its key: once, then as seldom as strangers can be made to have it asked."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_carbonmark.hooks.return_url import InvalidTokenError, Token, sign
from airflow_provider_carbonmark.web.buyers import ledger_key
from airflow_provider_carbonmark.web.buyers.ledger_key import LedgerKey, NoKeyError

OLD, NEW = b"o" * 32, b"n" * 32
TOKEN = Token(7, 1, "carbonmark_default")
OURS, FORGED = sign(TOKEN, OLD), sign(TOKEN, b"?" * 32)


class Books:
    """A ledger whose key is asked for."""

    def __init__(self, key: bytes | None = OLD) -> None:
        self.key = key
        self.asked = 0
        self.is_away = False

    async def load(self) -> bytes | None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.is_away:
            raise OSError("nobody there")
        return self.key


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(ledger_key, "time", clock := Clock())
    return clock


def key_of(books: Books) -> LedgerKey:
    return LedgerKey(books.load, again=60, retry=0)


async def is_refused(key: LedgerKey, text: str = FORGED) -> bool:
    with pytest.raises(InvalidTokenError):
        await key.token(text)
    return True


async def test_the_ledger_is_asked_once_whoever_comes_how_often(clock):
    key = key_of(books := Books())
    assert await asyncio.gather(*(key.token(OURS) for _ in range(50))) == [TOKEN] * 50
    for _ in range(1000):
        assert await is_refused(key)
        assert await key.token(OURS) == TOKEN
    assert books.asked == 1


async def test_a_ledger_that_was_restored_or_moved_is_asked_again_at_most_once_a_minute(clock):
    key = key_of(books := Books())
    await key.token(OURS)
    books.key = NEW
    assert await is_refused(key, sign(TOKEN, NEW))
    clock.now = 61
    assert await key.token(sign(TOKEN, NEW)) == TOKEN
    assert await is_refused(key, OURS)
    assert books.asked == 2
    for minute in range(3, 6):
        clock.now += 61
        # Those who come while it is read wait for the same reading.
        assert all(await asyncio.gather(*(is_refused(key) for _ in range(100))))
        assert books.asked == minute


async def test_a_ledger_that_is_away_keeps_nobody_out_whose_signature_holds(clock):
    key = key_of(books := Books())
    await key.token(OURS)
    books.is_away = True
    clock.now = 61
    assert await is_refused(key)
    assert await key.token(OURS) == TOKEN


async def test_without_a_key_nobody_can_tell_until_the_ledger_answers(clock, caplog):
    key = key_of(books := Books())
    books.is_away = True
    for text in (OURS, FORGED):
        with pytest.raises(NoKeyError):
            await key.token(text)
    assert "nobody there" in caplog.text
    books.is_away = False
    assert await key.token(OURS) == TOKEN


async def test_where_nothing_was_written_yet_nothing_is_ours_but_what_comes_is_seen(clock):
    key = key_of(books := Books(None))
    assert await is_refused(key, OURS)
    books.key = OLD
    assert await key.token(OURS) == TOKEN


async def test_somebody_who_leaves_while_the_key_is_read_spoils_it_for_nobody(clock):
    key = key_of(books := Books())
    first, second = (asyncio.create_task(key.token(OURS)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == TOKEN
    assert books.asked == 1
