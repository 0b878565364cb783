from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
from pydantic import SecretStr

from airflow_provider_carbonmark.api.client import AsyncCarbonmarkClient, CarbonmarkClient, ClientSettings
from airflow_provider_carbonmark.api.errors import InvalidInputError

KEY = "cm_api_0f0e8a0e"
SETTINGS = ClientSettings("https://checkout.example.com", "https://market.example.com", SecretStr(KEY), 30.0)


def key_of(settings):
    return settings.api_key and settings.api_key.get_secret_value()


@pytest.mark.parametrize("field", ["checkout_url", "market_url"])
def test_a_base_address_loses_its_trailing_slash(field):
    assert (
        getattr(replace(SETTINGS, **{field: " https://example.com/base/ "}), field)
        == "https://example.com/base"
    )


@pytest.mark.parametrize("field", ["checkout_url", "market_url"])
@pytest.mark.parametrize(
    "url",
    [
        "",
        None,
        "checkout.example.com",
        "ftp://a.example",
        "https://a.example?x=1",
        "https://☃.example",
        "https://a..b",
    ],
)
def test_a_base_address_that_cannot_be_called_is_refused(field, url):
    with pytest.raises(InvalidInputError, match=field):
        replace(SETTINGS, **{field: url})


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), True, "30", None])
def test_a_timeout_is_a_number_of_seconds(timeout):
    with pytest.raises(InvalidInputError, match="timeout"):
        replace(SETTINGS, timeout=timeout)


def test_white_space_around_a_key_is_cut_off():
    assert key_of(replace(SETTINGS, api_key=SecretStr(f" \t{KEY}\r\n"))) == KEY


@pytest.mark.parametrize("key", [None, SecretStr(""), SecretStr("  \n")])
def test_an_empty_key_is_none(key):
    assert replace(SETTINGS, api_key=key).api_key is None


@pytest.mark.parametrize(
    "key", ["a b", "a\nb", "a\r\nX-Evil: 1", "a\x00b", "a\x7fb", "schlüssel", "key\u200b", "a\tb"]
)
def test_a_key_that_fits_no_header_is_refused_without_showing_it(key):
    with pytest.raises(InvalidInputError) as caught:
        replace(SETTINGS, api_key=SecretStr(key))
    assert caught.value.field == "api_key"
    assert "password" in str(caught.value)
    for part in (key, repr(key), ascii(key)):
        assert part not in str(caught.value)


def test_the_key_is_in_no_repr():
    assert KEY not in repr(SETTINGS)
    with CarbonmarkClient(SETTINGS) as client:
        shown = [repr(client), repr(client._calls), repr(next(client._calls.get_payment("pay_1")).headers)]
    assert KEY not in "".join(shown)


def test_settings_survive_pickling():
    assert pickle.loads(pickle.dumps(SETTINGS)) == SETTINGS


@pytest.mark.parametrize("client_class", [CarbonmarkClient, AsyncCarbonmarkClient])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SSL_CERT_FILE", "/nowhere/ca.pem"),
        ("HTTPS_PROXY", "gopher://proxy:1"),
        ("HTTPS_PROXY", "http://proxy:port"),
    ],
)
def test_an_environment_that_cannot_be_used_is_named(client_class, name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInputError, match=name):
        client_class(SETTINGS)


def test_importing_the_client_does_not_import_aiohttp_or_airflow():
    code = "import airflow_provider_carbonmark.api.client, sys; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "httpx" in modules
    assert not [name for name in modules if name.partition(".")[0] in ("aiohttp", "httpx_aiohttp", "airflow")]
