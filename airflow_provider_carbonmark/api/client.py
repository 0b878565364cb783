"""
Carbonmark over HTTP, blocking and for asyncio.

Both clients only drive the calls of :mod:`airflow_provider_carbonmark.api.calls`, each with its own transport.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, wraps
from importlib import metadata as distributions
from typing import Concatenate, ParamSpec, Self, TypeVar

import httpx
from pydantic import SecretStr

from airflow_provider_carbonmark.api.answers import MAX_BODY_BYTES, Answer, out_of_time
from airflow_provider_carbonmark.api.calls import Calls, Exchange
from airflow_provider_carbonmark.api.deadline import Deadline, hold_to
from airflow_provider_carbonmark.api.errors import CarbonmarkError, InvalidInputError
from airflow_provider_carbonmark.api.inputs import parse_url
from airflow_provider_carbonmark.api.retries import DEFAULT_RETRIES, RetryPolicy

P = ParamSpec("P")
T = TypeVar("T")

# Few: callers bound their concurrency themselves. Idle for 30 s: below the 60 s after which load balancers hang up.
_LIMITS = httpx.Limits(max_connections=20, max_keepalive_connections=20, keepalive_expiry=30.0)
# What may come out of httpx. Anything else is a mistake of ours and stays what it is.
_HTTP_ERRORS: tuple[type[Exception], ...] = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.CookieConflict,
    httpx.StreamError,
    OSError,
)


@dataclass(frozen=True)
class ClientSettings:
    """
    Where and as whom to call.

    :param checkout_url: as :func:`parse_base_url` returns it; ``market_url`` likewise.
    :param api_key: as :func:`parse_key` returns it; None sends none.
    :param timeout: seconds for one request as a whole, from connecting to the last byte of its answer; above 0.
    """

    checkout_url: str
    market_url: str
    api_key: SecretStr | None = None
    timeout: float = 30.0


def parse_base_url(value: object, field: str) -> str:
    """Read the address of a service. :raises InvalidInputError: when no path can be added to it."""
    url = parse_url(value.strip().rstrip("/") if isinstance(value, str) else value, field, takes_suffix=True)
    try:
        httpx.URL(url)
    except httpx.InvalidURL as error:
        remedy = "Give a full address such as https://checkout.carbonmark.com"
        raise InvalidInputError(field, f"is not a valid address: {error}", value=url, remedy=remedy) from None
    return url


def parse_key(text: str, field: str) -> SecretStr | None:
    """Read an API key, None for an empty one. :raises InvalidInputError: when it fits no header."""
    key = text.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidInputError(
            field,
            "holds characters that no key has (white space, control or non-ASCII ones)",
            remedy="Copy the key into the connection's password again",
        )
    return SecretStr(key) if key else None


@cache
def _user_agent() -> str:
    return f"airflow-provider-carbonmark/{distributions.version('airflow-provider-carbonmark')}"


def _calls(settings: ClientSettings, retries: RetryPolicy) -> Calls:
    return Calls(
        checkout_url=settings.checkout_url,
        market_url=settings.market_url,
        api_key=settings.api_key.get_secret_value() if settings.api_key else None,
        user_agent=_user_agent(),
        retries=retries,
    )


@contextmanager
def _environment() -> Iterator[None]:
    """Httpx reads proxies and certificates from the environment when a client is made."""
    try:
        yield
    except (OSError, ValueError, ImportError, httpx.InvalidURL) as error:
        raise InvalidInputError(
            "The environment",
            f"has proxy or certificate settings that can't be used: {error}",
            remedy="Check SSL_CERT_FILE, SSL_CERT_DIR, HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY",
        ) from None


def _call(
    call: Callable[Concatenate[Calls, P], Exchange[T]],
) -> Callable[Concatenate[CarbonmarkClient, P], T]:
    @wraps(call)
    def drive(self: CarbonmarkClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(call(self._calls, *args, **kwargs))

    return drive


def _async_call(
    call: Callable[Concatenate[Calls, P], Exchange[T]],
) -> Callable[Concatenate[AsyncCarbonmarkClient, P], Awaitable[T]]:
    @wraps(call)
    async def drive(self: AsyncCarbonmarkClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(call(self._calls, *args, **kwargs))

    return drive


class CarbonmarkClient:
    """
    The blocking client. Use it as a context manager, or :meth:`close` it.

    Every call may raise :class:`InvalidInputError` (before anything is sent), :class:`TransportError`,
    :class:`UnreadableAnswerError` or a :class:`StatusError`. Each request of it keeps to the settings' timeout, but for the look-up
    of the host's name, see :mod:`airflow_provider_carbonmark.api.deadline`.
    """

    def __init__(self, settings: ClientSettings, *, retries: RetryPolicy = DEFAULT_RETRIES) -> None:
        self._calls = _calls(settings, retries)
        self._timeout = settings.timeout
        self._deadline = Deadline()
        with _environment():
            self._http = httpx.Client(limits=_LIMITS, follow_redirects=False, timeout=settings.timeout)
        hold_to(self._deadline, self._http)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    list_prices = _call(Calls.list_prices)
    list_projects = _call(Calls.list_projects)
    create_quote = _call(Calls.create_quote)
    create_checkout = _call(Calls.create_checkout)
    get_payment = _call(Calls.get_payment)
    list_retirements = _call(Calls.list_retirements)
    get_retirement = _call(Calls.get_retirement)
    get_provenance = _call(Calls.get_provenance)
    get_certificate = _call(Calls.get_certificate)

    def _run(self, exchange: Exchange[T]) -> T:
        try:
            step = next(exchange)
            while True:
                if isinstance(step, httpx.Request):
                    step = exchange.send(self._send(step))
                else:
                    time.sleep(step)
                    step = next(exchange)
        except StopIteration as end:
            result: T = end.value
            return result

    def _send(self, request: httpx.Request) -> Answer | CarbonmarkError:
        body = bytearray()
        try:
            self._deadline.start(self._timeout)
            response = self._http.send(request, stream=True)
            try:
                for part in response.iter_raw():
                    body += part
                    if len(body) > MAX_BODY_BYTES:
                        break
            finally:
                response.close()
        except httpx.TimeoutException:
            return out_of_time(request, self._timeout)
        except _HTTP_ERRORS as error:
            return self._calls.reader.failure(error, request)
        return Answer(request, response.status_code, response.headers, bytes(body))


class AsyncCarbonmarkClient:
    """
    The client for asyncio, with the same calls. Use it as an async context manager, or :meth:`aclose` it.

    It belongs to the event loop of its first call. Its transport is aiohttp's, which takes less than half of the
    CPU of httpx's own; proxies and certificates come from the environment all the same.
    """

    def __init__(self, settings: ClientSettings, *, retries: RetryPolicy = DEFAULT_RETRIES) -> None:
        # Imported late: only waits need it, and it takes a while.
        import aiohttp
        from aiohttp.http import HttpProcessingError
        from httpx_aiohttp import HttpxAiohttpClient

        self._calls = _calls(settings, retries)
        self._timeout = settings.timeout
        with _environment():
            # Without time limits of its own, which bound the silences only and cost CPU.
            self._http = HttpxAiohttpClient(limits=_LIMITS, follow_redirects=False, timeout=None)
        # httpx-aiohttp maps some of aiohttp's errors to httpx's, and lets the others through.
        self._http_errors: tuple[type[Exception], ...] = (
            *_HTTP_ERRORS,
            aiohttp.ClientError,
            HttpProcessingError,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    list_prices = _async_call(Calls.list_prices)
    list_projects = _async_call(Calls.list_projects)
    create_quote = _async_call(Calls.create_quote)
    create_checkout = _async_call(Calls.create_checkout)
    get_payment = _async_call(Calls.get_payment)
    list_retirements = _async_call(Calls.list_retirements)
    get_retirement = _async_call(Calls.get_retirement)
    get_provenance = _async_call(Calls.get_provenance)
    get_certificate = _async_call(Calls.get_certificate)

    async def _run(self, exchange: Exchange[T]) -> T:
        try:
            step = next(exchange)
            while True:
                if isinstance(step, httpx.Request):
                    step = exchange.send(await self._send(step))
                else:
                    await asyncio.sleep(step)
                    step = next(exchange)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _send(self, request: httpx.Request) -> Answer | CarbonmarkError:
        limit = asyncio.timeout(self._timeout)
        body = bytearray()
        try:
            async with limit:
                response = await self._http.send(request, stream=True)
                try:
                    async for part in response.aiter_raw():
                        body += part
                        if len(body) > MAX_BODY_BYTES:
                            break
                finally:
                    await response.aclose()
        except self._http_errors as error:
            # Asked of the limit: an operating system that gives a connection up raises TimeoutError as well.
            if limit.expired():
                return out_of_time(request, self._timeout)
            return self._calls.reader.failure(error, request)
        return Answer(request, response.status_code, response.headers, bytes(body))
