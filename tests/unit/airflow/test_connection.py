"""What a connection says: addresses, key, timeout, environment, and what is wrong with them."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import Mock

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.sdk import BaseHook, Connection

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkConnection, CarbonmarkHook

KEY = "cm_api_11111111-2222-3333-4444-555555555555"
DEFAULT_CHECKOUT = "https://checkout.carbonmark.com"
DEFAULT_MARKET = "https://v20.api.carbonmark.com"


@pytest.fixture
def read(monkeypatch):
    """Return a function that writes a connection the way Airflow reads it, and reads it."""

    def read(uri: str | None = None, **fields: Any) -> CarbonmarkConnection:
        value = uri or json.dumps({"conn_type": "carbonmark", **fields})
        monkeypatch.setenv("AIRFLOW_CONN_CARBONMARK_DEFAULT", value)
        return CarbonmarkHook().connection

    return read


def test_an_empty_connection_means_the_public_services_and_no_key(read):
    connection = read()
    assert connection.settings.checkout_url == DEFAULT_CHECKOUT
    assert connection.settings.market_url == DEFAULT_MARKET
    assert connection.settings.api_key is None
    assert connection.settings.timeout == 30
    assert connection.test_mode is False


@pytest.mark.parametrize("blank", ["", "   ", None])
def test_empty_fields_mean_unset(read, blank):
    extra = {"market_url": blank, "timeout": blank, "environment": blank}
    assert read(host=blank, password=blank, extra=extra) == read()


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("checkout.example.com", None, "https://checkout.example.com"),
        ("checkout.example.com", 8443, "https://checkout.example.com:8443"),
        ("checkout.example.com:8443", None, "https://checkout.example.com:8443"),
        ("https://checkout.example.com/", None, "https://checkout.example.com"),
        ("  https://checkout.example.com  ", None, "https://checkout.example.com"),
        ("http://localhost", 8787, "http://localhost:8787"),
        ("http://localhost:8787", 9999, "http://localhost:8787"),
        ("http://localhost/carbonmark/", 8787, "http://localhost:8787/carbonmark"),
        ("http://[::1]", 8787, "http://[::1]:8787"),
    ],
)
def test_host_and_port_name_the_checkout_service(read, host, port, url):
    extra = {"environment": "production"}
    assert read(host=host, port=port, extra=extra).settings.checkout_url == url


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        (f"carbonmark://:{KEY}@localhost:8787", "https://localhost:8787"),
        (f"carbonmark://http://:{KEY}@localhost:8787", "http://localhost:8787"),
        (f"carbonmark://:{KEY}@http%3A%2F%2Flocalhost%3A8787", "http://localhost:8787"),
        (f"carbonmark://:{KEY}@", DEFAULT_CHECKOUT),
    ],
)
def test_a_connection_can_be_written_as_a_uri(read, uri, url):
    settings = read(
        f"{uri}/?timeout=7.5&market_url=http%3A%2F%2Fmarket.example.com&environment=test"
    ).settings
    assert settings.checkout_url == url
    assert settings.api_key.get_secret_value() == KEY
    assert settings.timeout == 7.5
    assert settings.market_url == "http://market.example.com"


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("ftp://checkout.example.com", None),
        ("javascript:alert(1)", 8787),
        ("https://", 8787),
        ("https://user:secret@checkout.example.com", None),
        ("https://checkout.example.com?a=1", None),
        ("https://checkout.example.com:port", None),
        ("::1", 8787),
        ("https://[::1", None),
        ("https://☃.example", None),
    ],
)
def test_a_host_that_is_no_address_is_refused(read, host, port):
    with pytest.raises(
        InvalidInputError, match=r"connection 'carbonmark_default', host .*(Give|Leave)"
    ) as refused:
        read(host=host, port=port, password=KEY)
    assert str(refused.value).count(refused.value.remedy) == 1
    assert KEY not in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("timeout", [1.5, "1.5", 3600])
def test_a_timeout_is_a_number_of_seconds(read, timeout):
    assert read(extra={"timeout": timeout}).settings.timeout == float(timeout)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("timeout", value) for value in (0, "soon", "nan", 3600.1, [])),
        *(("environment", value) for value in ("staging", "TEST", 1)),
        *(("market_url", value) for value in ("v20.api.carbonmark.com", "ftp://v20.api")),
    ],
)
def test_any_other_extra_is_refused_with_what_to_give(read, field, value):
    with pytest.raises(
        InvalidInputError, match=rf"connection 'carbonmark_default', extra {field} .*Give"
    ) as refused:
        read(extra={field: value})
    assert repr(value)[:20] in str(refused.value)


@pytest.mark.parametrize("extra", ["[1]", "5"])
def test_an_extra_that_is_no_object_is_refused(extra):
    # As any secrets backend may bring it.
    connection = Connection(conn_id="mine", conn_type="carbonmark", extra=extra)
    with pytest.raises(InvalidInputError, match="connection 'mine', extra is not a JSON object"):
        CarbonmarkConnection.of(connection)


@pytest.mark.parametrize("key", ["cm_api_geheim\u00e4", "cm_api geheim"])
def test_a_key_with_characters_no_key_has_is_refused_without_showing_it(read, key):
    with pytest.raises(
        InvalidInputError, match="connection 'carbonmark_default', password .*Copy the key"
    ) as refused:
        read(password=key)
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "host", "environment", "test_mode"),
    [
        (KEY, None, None, False),
        (KEY, "CHECKOUT.Carbonmark.COM", None, False),
        (KEY, "https://eu.checkout.carbonmark.com", None, False),
        ("", None, None, False),
        ("cm_api_sandbox_1", None, None, True),
        ("  cm_api_sandbox_1", None, None, True),
        ("cm_api_sandbox_1", "https://gateway.example.com", None, True),
        (KEY, "http://127.0.0.1:8787", "test", True),
        (KEY, "http://127.0.0.1:8787", "production", False),
        ("cm_api_sandbox_1", None, "production", False),
        (KEY, None, "test", True),
    ],
)
def test_the_environment_follows_key_and_host_unless_it_is_said(read, key, host, environment, test_mode):
    assert read(password=key, host=host, extra={"environment": environment}).test_mode is test_mode


@pytest.mark.parametrize(
    ("host", "key", "environment"),
    [
        ("https://gateway.example.com", KEY, None),
        ("https://gateway.example.com", KEY, " "),
        ("http://127.0.0.1:8787", "", ""),
        ("https://evilcarbonmark.com", KEY, None),
        ("https://carbonmark.com.evil.example", KEY, None),
        ("https://evil.example/carbonmark.com", KEY, None),
    ],
)
def test_a_host_outside_carbonmark_is_refused_until_somebody_says_what_it_is(read, host, key, environment):
    with pytest.raises(
        InvalidInputError,
        match=r"connection 'carbonmark_default', extra environment must be set.*Give production",
    ) as refused:
        read(password=key, host=host, extra={"environment": environment})
    assert repr(host) in str(refused.value)


def test_the_key_is_in_no_text_about_a_connection(read, monkeypatch):
    connection = read(password=KEY)
    hook = CarbonmarkHook()
    texts = [
        f(each) for f in (repr, str) for each in (connection, connection.settings, hook, hook.get_conn())
    ]
    assert all(KEY not in text for text in texts)
    assert "checkout.carbonmark.com" in repr(connection)


def test_a_connection_is_read_once_per_hook(read, monkeypatch):
    read(host="first.carbonmark.com")
    hook = CarbonmarkHook()
    assert "first" in hook.connection.settings.checkout_url
    monkeypatch.setenv("AIRFLOW_CONN_CARBONMARK_DEFAULT", "carbonmark://second.carbonmark.com")
    assert "first" in hook.connection.settings.checkout_url
    assert "second" in CarbonmarkHook().connection.settings.checkout_url


def test_one_that_is_not_there_is_said_with_how_to_make_it(monkeypatch):
    # To look for one in Airflow's own database changes what later tests find of Airflow.
    monkeypatch.setattr(BaseHook, "get_connection", Mock(side_effect=AirflowNotFoundException))
    said = "'cm_eu' isn't defined.* add cm_eu --conn-type carb.*AIRFLOW_CONN_CM_EU"
    with pytest.raises(AirflowNotFoundException, match=said):
        _ = CarbonmarkHook("cm_eu").test_mode
