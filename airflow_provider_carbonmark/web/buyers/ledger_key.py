"""The key that the addresses of buyers are signed with: read from the ledger once, and kept."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from airflow_provider_carbonmark.hooks.return_url import (
    InvalidTokenError,
    Token,
    pay_path,
    read,
    read_pay,
    read_text,
)

log = logging.getLogger(__name__)

T = TypeVar("T")


class NoKeyError(Exception):
    """The ledger could not be asked for its key, so nobody can tell whose a token is."""


class LedgerKey:
    """
    Checks tokens, in the event loop: whoever has none of ours takes nobody's place.

    A ledger may be made, restored or moved while the server runs. So a signature that doesn't hold lets the key be read again, but
    not for each of them, whoever sends how many.

    :param load: asks the ledger; gives None where nothing was ever written.
    :param again: seconds between two readings while there is a key.
    :param retry: seconds between two readings while there is none.
    """

    def __init__(self, load: Callable[[], Awaitable[bytes | None]], *, again: float, retry: float) -> None:
        self._load = load
        self._again = again
        self._retry = retry
        self._key: bytes | None = None
        self._is_away = False
        self._not_before = 0.0
        self._loading: asyncio.Task[None] | None = None

    async def token(self, text: str) -> Token:
        """
        Return what a return URL's token says.

        :param text: the token, from anybody.
        :raises InvalidTokenError: when it is none of this ledger's.
        :raises NoKeyError: when the ledger can't be asked.
        """
        return await self._checked(text, read)

    async def purchase(self, text: str) -> int:
        """Return which purchase a pay address's token names; otherwise as :meth:`token`."""
        return await self._checked(text, read_pay)

    async def text(self, signed: str) -> tuple[str, str]:
        """Return which task asks people something, by its key, and what; otherwise as :meth:`token`."""
        return await self._checked(signed, read_text)

    def pay_path(self, purchase: int) -> str | None:
        """Return where a purchase can be paid, below this Airflow's address; None before any token was checked."""
        return None if self._key is None else pay_path(purchase, self._key)

    async def _checked(self, text: str, read: Callable[[str, bytes], T]) -> T:
        if self._key is not None:
            try:
                return read(text, self._key)
            except InvalidTokenError:
                if self._loading is None and time.monotonic() < self._not_before:
                    raise
        # Whoever comes meanwhile waits for the same reading.
        self._loading = self._loading or asyncio.create_task(self._reload())
        await asyncio.shield(self._loading)
        if self._key is not None:
            return read(text, self._key)
        raise NoKeyError if self._is_away else InvalidTokenError

    async def _reload(self) -> None:
        try:
            await asyncio.sleep(self._not_before - time.monotonic())
            self._key = await self._load() or self._key
            self._is_away = False
        except Exception:
            self._is_away = True
            log.warning("The ledger can't be asked for the key of return URLs", exc_info=True)
        finally:
            self._not_before = time.monotonic() + (self._retry if self._key is None else self._again)
            self._loading = None
