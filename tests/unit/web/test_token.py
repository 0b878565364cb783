"""What a token says, and that nothing else is taken for one."""

from __future__ import annotations

import base64
import json
import random
import zlib
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from hypothesis import given, settings, strategies as st
from itsdangerous import URLSafeTimedSerializer
from pydantic import SecretStr

from airflow_provider_carbonmark.api.client import ClientSettings
from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkConnection
from airflow_provider_carbonmark.web.link import LinkKey
from airflow_provider_carbonmark.web.token import (
    MAX_LENGTH,
    InvalidTokenError,
    Token,
    _serializer,
    read,
    sign,
    signing_key,
)

KEY = b"k" * 32
OTHER_KEY = b"o" * 32
DAYS_60 = 60 * 86_400
TOKEN = Token(
    "carbonmark_default", LinkKey("offset", "scheduled__2026-08-21T06:00:00+00:00", "buy.checkout", 2)
)
NOW = datetime(2026, 8, 21, tzinfo=UTC)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


def keys(**by_conn_id: bytes):
    return ({"carbonmark_default": KEY} | by_conn_id).get


OURS = keys()


def connection(api_key: str | None = None, secret: str | None = None) -> CarbonmarkConnection:
    urls = {"checkout_url": "https://c.example.com", "market_url": "https://m.example.com"}
    key, own = (None if text is None else SecretStr(text) for text in (api_key, secret))
    return CarbonmarkConnection(ClientSettings(**urls, api_key=key), test_mode=False, return_url_secret=own)


def refused(text: str, key_of=OURS, max_age: int = DAYS_60) -> bool:
    with pytest.raises(InvalidTokenError) as error:
        read(text, key_of, max_age)
    assert str(error.value) == ""
    return True


def test_what_was_signed_is_read():
    assert read(sign(TOKEN, KEY), OURS, DAYS_60) == TOKEN


names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=60)


@given(names, names, names, names, st.integers(-1, 10_000))
def test_any_names_survive(conn_id, dag_id, run_id, task_id, map_index):
    token = Token(conn_id, LinkKey(dag_id, run_id, task_id, map_index))
    text = sign(token, KEY)
    assert set(text) <= set(ALPHABET)
    assert read(text, lambda conn_id: KEY, DAYS_60) == token


def test_names_of_airflow_s_longest_fit():
    sign(Token("c" * 200, LinkKey("d" * 250, "r" * 250, "t" * 250, 1000)), KEY)


def test_names_that_do_not_fit_are_refused_with_a_remedy():
    dag_id, run_id, task_id = (
        "".join(random.Random(seed).choices([chr(sign) for sign in range(0x4E00, 0x9FFF)], k=250))
        for seed in range(3)
    )
    with pytest.raises(InvalidInputError, match=r"return URL.*shorter ids.*success_url"):
        sign(Token("c", LinkKey(dag_id, run_id, task_id, -1)), KEY)


def test_every_change_of_one_character_is_refused():
    text = sign(TOKEN, KEY)
    for place, right in enumerate(text):
        for wrong in ALPHABET:
            if wrong != right:
                assert refused(text[:place] + wrong + text[place + 1 :])


def test_every_cut_and_every_addition_is_refused():
    text = sign(TOKEN, KEY)
    assert all(refused(text[:length]) for length in range(len(text)))
    assert all(refused(text[start:]) for start in range(1, len(text)))
    assert all(refused(text + more) for more in (*ALPHABET, "=", "==", " ", "\n", "/", "%00", "é", "\x00"))
    assert all(refused(more + text) for more in (*ALPHABET, "=", " ", "\n"))


def test_a_token_is_good_until_it_is_too_old():
    with time_machine.travel(NOW, tick=False) as clock:
        text = sign(TOKEN, KEY)
        clock.shift(timedelta(days=60))
        assert read(text, OURS, DAYS_60) == TOKEN
        clock.shift(1)
        assert refused(text)
        assert read(text, OURS, 90 * 86_400) == TOKEN


def test_a_token_from_the_future_is_refused():
    with time_machine.travel(NOW + timedelta(days=1), tick=False):
        text = sign(TOKEN, KEY)
    with time_machine.travel(NOW, tick=False):
        assert refused(text)


def test_a_token_of_another_connection_is_refused():
    assert refused(sign(TOKEN, OTHER_KEY), keys(other=OTHER_KEY))
    # Its own connection may sign anything: which links it made is checked afterwards.
    theirs = Token("other", TOKEN.link)
    assert read(sign(theirs, OTHER_KEY), keys(other=OTHER_KEY), DAYS_60) == theirs


def test_a_connection_that_is_not_there_or_has_no_key_is_refused():
    assert refused(sign(Token("elsewhere", TOKEN.link), KEY))


@pytest.mark.parametrize(
    "payload",
    [
        [],
        {},
        "x",
        None,
        7,
        ["carbonmark_default"],
        ["carbonmark_default", "d", "r", "t"],
        ["carbonmark_default", "d", "r", "t", "1"],
        ["carbonmark_default", "d", "r", "t", 1.5],
        ["carbonmark_default", "d", "r", "t", 1, 2],
        ["carbonmark_default", None, "r", "t", 1],
        [["carbonmark_default"], "d", "r", "t", 1],
        {"0": "carbonmark_default"},
    ],
    ids=repr,
)
def test_a_payload_that_is_none_of_ours_is_refused(payload):
    assert refused(_serializer(KEY).dumps(payload), lambda conn_id: KEY)


def test_what_something_else_signed_with_the_same_key_is_refused():
    payload = [TOKEN.conn_id, *TOKEN.link.to_json().values()]
    assert refused(URLSafeTimedSerializer(KEY).dumps(payload))
    assert refused(URLSafeTimedSerializer(KEY, salt="airflow-provider-carbonmark.return-url").dumps(payload))


def test_a_payload_that_swells_is_bounded():
    bomb = zlib.compress(json.dumps(["x" * 50_000_000, "d", "r", "t", 1]).encode(), 9)
    text = "." + base64.urlsafe_b64encode(bomb).rstrip(b"=").decode() + ".AAAAAA.AAAA"
    assert len(text) > MAX_LENGTH
    assert refused(text, lambda conn_id: pytest.fail("read that far"))


@settings(max_examples=500)
@given(
    st.text(max_size=200)
    | st.text(ALPHABET, max_size=300)
    | st.binary(max_size=200).map(lambda b: b.decode("latin-1"))
)
def test_anything_is_refused_by_the_one_error(text):
    assert refused(text)


def test_the_key_is_derived_from_the_api_key_and_is_not_it():
    key = signing_key(connection("cm_api_secret"))
    assert b"cm_api_secret" not in key
    assert len(key) == 32
    assert key == signing_key(connection("cm_api_secret"))
    assert key != signing_key(connection("cm_api_other"))


def test_a_secret_of_its_own_comes_before_the_api_key():
    key = signing_key(connection("cm_api_secret", "own"))
    assert key == signing_key(connection("cm_api_changed", "own")) == signing_key(connection(None, "own"))
    assert key != signing_key(connection("cm_api_secret"))


def test_a_connection_with_nothing_secret_has_no_key():
    assert signing_key(connection()) is None


def test_neither_secret_is_shown():
    shown = repr(connection("cm_api_secret", "own secret"))
    assert "cm_api_secret" not in shown
    assert "own secret" not in shown
