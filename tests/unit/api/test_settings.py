from __future__ import annotations

import pickle

import pytest
from pydantic import SecretStr

from airflow_provider_carbonmark.api.client import (
    AsyncCarbonmarkClient,
    CarbonmarkClient,
    parse_key,
)
from airflow_provider_carbonmark.api.errors import InvalidInputError
from tests.unit.api.conftest import KEY, SETTINGS


@pytest.mark.parametrize(("key", "kept"), [(f" \t{KEY}\r\n", SecretStr(KEY)), ("", None), ("  \n", None)])
def test_a_key_loses_the_white_space_around_it_and_an_empty_one_is_none(key, kept):
    assert parse_key(key, "password") == kept


@pytest.mark.parametrize(
    "key", ["a b", "a\r\nX-Evil: 1", "a\x00b", "a\x7fb", "schlüssel", "key\u200b", "a\tb"]
)
def test_a_key_that_fits_no_header_is_refused_without_showing_it(key):
    with pytest.raises(InvalidInputError, match="password") as caught:
        parse_key(key, "api_key")
    assert caught.value.field == "api_key"
    for part in (key, repr(key), ascii(key)):
        assert part not in str(caught.value)


def test_the_key_is_in_no_repr_and_settings_survive_pickling():
    with CarbonmarkClient(SETTINGS) as client:
        request = next(client._calls.get_payment("pay_1"))
        shown = [repr(each) for each in (SETTINGS, client, client._calls, request.headers)]
    assert KEY not in "".join(shown)
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
