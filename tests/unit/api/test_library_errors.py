"""Every error that httpx, aiohttp and pydantic can raise comes out as one of ours, and nothing else does."""

from __future__ import annotations

import inspect
import ssl
from functools import cache
from unittest.mock import Mock

import aiohttp
import httpx
import pytest
from aiohttp import http_exceptions

from airflow_provider_carbonmark.api.client import AsyncCarbonmarkClient, CarbonmarkClient
from airflow_provider_carbonmark.api.errors import (
    CarbonmarkError,
    InvalidInputError,
    TransportError,
    UnreadableAnswerError,
)
from airflow_provider_carbonmark.api.retries import NO_RETRIES
from tests.unit.api.conftest import CHECKOUT, KEY, SETTINGS, make_calls, outcome


def family(kind):
    return {kind}.union(*map(family, kind.__subclasses__()))


HTTPX = {
    kind
    for _, kind in inspect.getmembers(httpx, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__.startswith("httpx")
}
AIOHTTP = {
    kind
    for root in (aiohttp.ClientError, http_exceptions.HttpProcessingError)
    for kind in family(root)
    if kind.__module__.startswith("aiohttp")
}
SYSTEM = {OSError, TimeoutError, ConnectionResetError, BrokenPipeError, ssl.SSLCertVerificationError}
CLIENTS = pytest.mark.parametrize("client_class", [CarbonmarkClient, AsyncCarbonmarkClient])


def kinds(some):
    by_name = sorted(some, key=lambda kind: kind.__name__)
    return pytest.mark.parametrize("kind", by_name, ids=lambda kind: kind.__name__)


def make(kind):
    """Make an error of a kind, whatever its constructor takes; its text has the key, as a server's echo would."""
    text = f"echo of {KEY}"
    methods = {"__init__": lambda self: Exception.__init__(self, text), "__str__": lambda self: text}
    return type(kind.__name__, (kind,), methods)()


@cache
def client_of(client_class):
    return client_class(SETTINGS, retries=NO_RETRIES)


async def raised_by(client_class, error):
    """Return what a client raises when its HTTP library raises an error."""
    client = client_of(client_class)
    client._http = Mock(send=Mock(side_effect=error))
    with pytest.raises(Exception) as caught:  # noqa: PT011
        await client.get_payment("pay_1")
    return caught.value


def check(raised):
    assert isinstance(raised, CarbonmarkError)
    assert KEY not in str(raised)
    # The library's error carries the request, and that the key.
    assert raised.__cause__ is None
    assert raised.__context__ is None


@CLIENTS
@kinds(HTTPX | SYSTEM)
async def test_every_error_of_httpx_and_the_system_comes_out_mapped(client_class, kind):
    check(await raised_by(client_class, make(kind)))


@kinds(AIOHTTP)
async def test_every_error_of_aiohttp_comes_out_mapped(kind):
    raised = await raised_by(AsyncCarbonmarkClient, make(kind))
    check(raised)
    assert isinstance(raised, TransportError)


def test_the_families_are_not_empty():
    assert {httpx.ReadTimeout, httpx.InvalidURL, httpx.CookieConflict, httpx.StreamClosed} <= HTTPX
    assert {aiohttp.ServerDisconnectedError, http_exceptions.BadStatusLine} <= AIOHTTP


@pytest.mark.parametrize(
    ("kind", "ours"),
    [
        *((kind, TransportError) for kind in (httpx.ConnectTimeout, httpx.ReadError, httpx.ProxyError)),
        *((kind, TransportError) for kind in (httpx.RemoteProtocolError, httpx.StreamClosed)),
        *((kind, UnreadableAnswerError) for kind in (httpx.DecodingError, httpx.TooManyRedirects)),
        *((kind, InvalidInputError) for kind in (httpx.InvalidURL, httpx.UnsupportedProtocol)),
        (httpx.LocalProtocolError, InvalidInputError),
    ],
    ids=str,
)
async def test_an_error_is_mapped_to_what_it_means(kind, ours):
    assert type(await raised_by(CarbonmarkClient, make(kind))) is ours


@CLIENTS
@kinds([RuntimeError, TypeError, ValueError, MemoryError])
async def test_a_mistake_of_ours_stays_what_it_is(client_class, kind):
    assert type(await raised_by(client_class, kind("bug"))) is kind


ORDER = {name: CHECKOUT[name] for name in ("asset_price_source_id", "quantity_tonnes")}
CALLS = {
    "list_prices": {},
    "list_projects": {"keys": ["VCS-1"]},
    # As one is asked for that no list has.
    "_project": {"key": "VCS-1"},
    "create_quote": ORDER,
    "create_checkout": CHECKOUT,
    "get_payment": {"payment_id": "pay_1"},
}


BODIES = ["[]", "5", "null", '"text"', "{}", '{"url": 5, "uuid": [], "status": {}, "items": 5}']


@pytest.mark.parametrize(
    ("call", "body"),
    # A list may be empty.
    [(call, body) for call in CALLS for body in BODIES if body != "[]" or not call.startswith("list_")],
)
def test_no_validation_error_of_pydantic_comes_out(call, body):
    error = outcome(getattr(make_calls(), call)(**CALLS[call]), body.encode())
    assert isinstance(error, UnreadableAnswerError)
    check(error)
