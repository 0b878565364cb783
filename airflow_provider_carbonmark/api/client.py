"""
Carbonmark over HTTP, blocking and for asyncio.

Both clients only drive the calls of :mod:`airflow_provider_carbonmark.api.calls`, each with its own transport.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata as distributions
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
from pydantic import SecretStr

from airflow_provider_carbonmark.api.answers import Answer, Body, out_of_time
from airflow_provider_carbonmark.api.calls import Calls, Exchange, Quantity
from airflow_provider_carbonmark.api.deadline import Deadline, hold_to
from airflow_provider_carbonmark.api.errors import CarbonmarkError, InvalidInputError
from airflow_provider_carbonmark.api.inputs import parse_url
from airflow_provider_carbonmark.api.retries import DEFAULT_RETRIES, RetryPolicy

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.models import Checkout, Listing, Payment, Quote

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

    :param checkout_url: base URL of the Checkout Service.
    :param market_url: base URL of the market API.
    :param api_key: the key; None or an empty one sends none.
    :param timeout: seconds for one request as a whole, from connecting to the last byte of its answer.
    :raises InvalidInputError: a URL, the key or the timeout can't be used.
    """

    checkout_url: str
    market_url: str
    api_key: SecretStr | None = None
    timeout: float = 30.0

    def __post_init__(self) -> None:
        for name in ("checkout_url", "market_url"):
            object.__setattr__(self, name, _base_url(getattr(self, name), name))
        object.__setattr__(self, "api_key", _clean_key(self.api_key))
        timeout = self.timeout
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < math.inf:
            raise InvalidInputError(
                "timeout",
                "is not a number of seconds above zero",
                value=timeout,
                remedy="Give seconds, such as 30",
            )


def _base_url(value: object, field: str) -> str:
    url = parse_url(value.strip().rstrip("/") if isinstance(value, str) else value, field, takes_suffix=True)
    try:
        httpx.URL(url)
    except httpx.InvalidURL as error:
        remedy = "Give a full address such as https://checkout.carbonmark.com"
        raise InvalidInputError(field, f"is not a valid address: {error}", value=url, remedy=remedy) from None
    return url


def _clean_key(api_key: SecretStr | None) -> SecretStr | None:
    key = api_key.get_secret_value().strip() if api_key else ""
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidInputError(
            "api_key",
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


class CarbonmarkClient:
    """
    The blocking client. Use it as a context manager, or :meth:`close` it.

    Every call may raise :class:`InvalidInputError` (before anything is sent), :class:`TransportError`,
    :class:`UnreadableAnswerError` or a :class:`StatusError`. Each request of it keeps to the settings' timeout, but for the look-up
    of the host's name, see :mod:`airflow_provider_carbonmark.api.deadline`.

    :param settings: where and as whom to call.
    :param retries: how often and how long each call is tried.
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def list_prices(
        self, project_ids: Collection[str] | None = None, min_supply: Quantity | None = None
    ) -> list[Listing]:
        """
        Read the market's price sources (doc: ``GET /prices``). Public: the key is not sent.

        :param project_ids: only of these projects, e.g. ``["VCS-191"]``.
        :param min_supply: only with at least that many tonnes.
        """
        return self._run(self._calls.list_prices(project_ids, min_supply))

    def create_quote(self, *, asset_price_source_id: str, quantity_tonnes: Quantity) -> Quote:
        """
        Ask what a quantity of a listing costs (doc: ``POST /quotes``).

        :param asset_price_source_id: the listing's ``source_id``.
        :param quantity_tonnes: tonnes in steps of 0.001.
        """
        return self._run(self._calls.create_quote(asset_price_source_id, quantity_tonnes))

    def create_checkout(
        self,
        *,
        asset_price_source_id: str,
        quantity_tonnes: Quantity,
        metadata: Mapping[str, Any],
        success_url: str,
        cancel_url: str,
        idempotency_key: str | None = None,
    ) -> Checkout:
        """
        Make a hosted payment page (doc: ``POST /checkout``).

        :param asset_price_source_id: the listing's ``source_id``.
        :param quantity_tonnes: tonnes in steps of 0.001.
        :param metadata: goes along with the order; ``beneficiary_name`` (at most 255 characters) and
            ``retirement_message`` (at most 500) end up in the public record.
        :param success_url: where the buyer goes after paying; the service adds ``/<payment_id>``.
        :param cancel_url: where the buyer goes instead.
        :param idempotency_key: the same for every attempt at one purchase; made up for this call when None.
        """
        return self._run(
            self._calls.create_checkout(
                asset_price_source_id, quantity_tonnes, metadata, success_url, cancel_url, idempotency_key
            )
        )

    def get_payment(self, payment_id: str) -> Payment:
        """
        Read a payment and its retirement (doc: ``GET /payments/{id}``).

        :param payment_id: as the service added it to the success URL.
        """
        return self._run(self._calls.get_payment(payment_id))

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
        try:
            self._deadline.start(self._timeout)
            response = self._http.send(request, stream=True)
            try:
                body = Body(response)
                for part in response.iter_raw():
                    if not body.takes(part):
                        break
            finally:
                response.close()
        except httpx.TimeoutException:
            return out_of_time(request, self._timeout)
        except _HTTP_ERRORS as error:
            return self._calls.reader.failure(error, request)
        return body.answer()


class AsyncCarbonmarkClient:
    """
    The client for asyncio, with the same calls. Use it as an async context manager, or :meth:`aclose` it.

    It belongs to the event loop of its first call. Its transport is aiohttp's, which takes less than half of the
    CPU of httpx's own; proxies and certificates come from the environment all the same.

    :param settings: where and as whom to call.
    :param retries: how often and how long each call is tried.
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

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def list_prices(
        self, project_ids: Collection[str] | None = None, min_supply: Quantity | None = None
    ) -> list[Listing]:
        """Read the market's price sources; see :meth:`CarbonmarkClient.list_prices`."""
        return await self._run(self._calls.list_prices(project_ids, min_supply))

    async def create_quote(self, *, asset_price_source_id: str, quantity_tonnes: Quantity) -> Quote:
        """Ask what a quantity of a listing costs; see :meth:`CarbonmarkClient.create_quote`."""
        return await self._run(self._calls.create_quote(asset_price_source_id, quantity_tonnes))

    async def create_checkout(
        self,
        *,
        asset_price_source_id: str,
        quantity_tonnes: Quantity,
        metadata: Mapping[str, Any],
        success_url: str,
        cancel_url: str,
        idempotency_key: str | None = None,
    ) -> Checkout:
        """Make a hosted payment page; see :meth:`CarbonmarkClient.create_checkout`."""
        return await self._run(
            self._calls.create_checkout(
                asset_price_source_id, quantity_tonnes, metadata, success_url, cancel_url, idempotency_key
            )
        )

    async def get_payment(self, payment_id: str) -> Payment:
        """Read a payment and its retirement; see :meth:`CarbonmarkClient.get_payment`."""
        return await self._run(self._calls.get_payment(payment_id))

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
        try:
            async with limit:
                response = await self._http.send(request, stream=True)
                try:
                    body = Body(response)
                    async for part in response.aiter_raw():
                        if not body.takes(part):
                            break
                finally:
                    await response.aclose()
        except self._http_errors as error:
            # Asked of the limit: an operating system that gives a connection up raises TimeoutError as well.
            if limit.expired():
                return out_of_time(request, self._timeout)
            return self._calls.reader.failure(error, request)
        return body.answer()
