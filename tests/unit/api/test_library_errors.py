"""Every error that httpx, aiohttp and pydantic can raise comes out as one of ours, and nothing else does."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import ssl

import aiohttp
import httpx
import pytest
from aiohttp import http_exceptions
from pydantic import SecretStr

from airflow_provider_carbonmark.api.answers import Answer
from airflow_provider_carbonmark.api.calls import Calls
from airflow_provider_carbonmark.api.client import AsyncCarbonmarkClient, CarbonmarkClient, ClientSettings
from airflow_provider_carbonmark.api.errors import (
    CarbonmarkError,
    InvalidInputError,
    TransportError,
    UnreadableAnswerError,
)
from airflow_provider_carbonmark.api.retries import NO_RETRIES

KEY = "cm_api_0f0e8a0e"
SETTINGS = ClientSettings("https://checkout.example.com", "https://market.example.com", SecretStr(KEY), 1.0)


LISTING = {"asset_price_source_id": "listing-1", "quantity_tonnes": 1}
EXCHANGES = [
    lambda calls: calls.list_prices(None, None),
    lambda calls: calls.create_quote(**LISTING),
    lambda calls: calls.create_checkout(
        **LISTING,
        metadata={},
        success_url="https://a.example/b",
        cancel_url="https://a.example/c",
        idempotency_key=None,
    ),
    lambda calls: calls.get_payment("pay_1"),
]


def classes_of(module):
    return {kind for _, kind in inspect.getmembers(module, inspect.isclass) if issubclass(kind, Exception)}


def family(kind):
    return {kind}.union(*map(family, kind.__subclasses__()))


HTTPX = {kind for kind in classes_of(httpx) if kind.__module__.startswith("httpx")}
AIOHTTP = {
    kind
    for root in (aiohttp.ClientError, http_exceptions.HttpProcessingError)
    for kind in family(root)
    if kind.__module__.startswith("aiohttp")
}
SYSTEM = {
    OSError,
    TimeoutError,
    ConnectionResetError,
    ConnectionRefusedError,
    BrokenPipeError,
    ssl.SSLError,
    ssl.SSLCertVerificationError,
}


def make(kind):
    """Make an error of a kind, whatever its constructor takes; its text has the key, as a server's echo would."""
    text = f"echo of {KEY}"
    methods = {"__init__": lambda self: Exception.__init__(self, text), "__str__": lambda self: text}
    return type(kind.__name__, (kind,), methods)()


def raised_by(client_class, error, monkeypatch):
    """Return what a client raises when its HTTP library raises an error."""
    if client_class is CarbonmarkClient:
        with CarbonmarkClient(SETTINGS, retries=NO_RETRIES) as client:
            monkeypatch.setattr(client._http, "send", lambda *_, **__: throw(error))
            return caught(lambda: client.get_payment("pay_1"))

    async def ask():
        async with AsyncCarbonmarkClient(SETTINGS, retries=NO_RETRIES) as client:

            async def send(*_, **__):
                raise error

            monkeypatch.setattr(client._http, "send", send)
            try:
                await client.get_payment("pay_1")
            except Exception as raised:
                return raised

    return asyncio.run(ask())


def throw(error):
    raise error


def caught(call):
    try:
        call()
    except Exception as raised:
        return raised


def by_name(kind):
    return kind.__name__


def check(raised):
    assert isinstance(raised, CarbonmarkError)
    assert KEY not in str(raised)
    # The library's error carries the request, and that the key.
    assert raised.__cause__ is None
    assert raised.__context__ is None
    assert str(pickle.loads(pickle.dumps(raised))) == str(raised)


@pytest.mark.parametrize("kind", sorted(HTTPX | SYSTEM, key=by_name), ids=by_name)
@pytest.mark.parametrize("client_class", [CarbonmarkClient, AsyncCarbonmarkClient], ids=by_name)
def test_every_error_of_httpx_and_the_system_comes_out_mapped(client_class, kind, monkeypatch):
    check(raised_by(client_class, make(kind), monkeypatch))


@pytest.mark.parametrize("kind", sorted(AIOHTTP, key=by_name), ids=by_name)
def test_every_error_of_aiohttp_comes_out_mapped(kind, monkeypatch):
    raised = raised_by(AsyncCarbonmarkClient, make(kind), monkeypatch)
    check(raised)
    assert isinstance(raised, TransportError)


def test_the_families_are_not_empty():
    assert {httpx.ReadTimeout, httpx.InvalidURL, httpx.CookieConflict, httpx.StreamClosed} <= HTTPX
    assert {aiohttp.ServerDisconnectedError, http_exceptions.BadStatusLine} <= AIOHTTP


@pytest.mark.parametrize(
    ("kind", "ours"),
    [
        (httpx.ConnectTimeout, TransportError),
        (httpx.ReadError, TransportError),
        (httpx.RemoteProtocolError, TransportError),
        (httpx.ProxyError, TransportError),
        (httpx.StreamClosed, TransportError),
        (httpx.DecodingError, UnreadableAnswerError),
        (httpx.TooManyRedirects, UnreadableAnswerError),
        (httpx.InvalidURL, InvalidInputError),
        (httpx.UnsupportedProtocol, InvalidInputError),
        (httpx.LocalProtocolError, InvalidInputError),
    ],
    ids=str,
)
def test_an_error_is_mapped_to_what_it_means(kind, ours, monkeypatch):
    assert type(raised_by(CarbonmarkClient, make(kind), monkeypatch)) is ours


@pytest.mark.parametrize("kind", [RuntimeError, TypeError, KeyError, ValueError, AssertionError, MemoryError])
@pytest.mark.parametrize("client_class", [CarbonmarkClient, AsyncCarbonmarkClient], ids=by_name)
def test_a_mistake_of_ours_stays_what_it_is(client_class, kind, monkeypatch):
    assert type(raised_by(client_class, kind("bug"), monkeypatch)) is kind


@pytest.mark.parametrize("make_exchange", EXCHANGES)
@pytest.mark.parametrize(
    "body", [b"[]", b"5", b"null", b'"text"', b"{}", b'{"url": 5, "uuid": [], "status": {}, "items": 5}']
)
def test_no_validation_error_of_pydantic_comes_out(make_exchange, body):
    calls = Calls(
        checkout_url="https://checkout.example.com",
        market_url="https://market.example.com",
        api_key=KEY,
        user_agent="test",
        retries=NO_RETRIES,
    )
    exchange = make_exchange(calls)
    answer = Answer(next(exchange), 200, httpx.Headers(), body)
    if body == b"[]" and make_exchange is EXCHANGES[0]:
        with pytest.raises(StopIteration):
            exchange.send(answer)
        return
    with pytest.raises(UnreadableAnswerError) as caught:
        exchange.send(answer)
    check(caught.value)
