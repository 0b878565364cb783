"""What a token says, and that nothing else is taken for one."""

from __future__ import annotations

import base64
import json
import random
import zlib

import pytest
from hypothesis import given, settings, strategies as st
from itsdangerous import URLSafeSerializer

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.hooks.return_url import (
    _RETURN,
    MAX_LENGTH,
    InvalidTokenError,
    Token,
    _serializer,
    read,
    sign,
)

KEY = b"k" * 32
OTHER_KEY = b"o" * 32
TOKEN = Token(871_635_875_104_158, 1, "carbonmark_default")
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


def refused(text: str) -> bool:
    with pytest.raises(InvalidTokenError) as error:
        read(text, KEY)
    assert str(error.value) == ""
    return True


@given(st.integers(1, 2**52), st.integers(1, 10_000), st.text(st.characters(exclude_categories=("Cs",))))
def test_what_was_signed_is_read(purchase, link, conn_id):
    token = Token(purchase, link, conn_id[:60])
    text = sign(token, KEY)
    assert set(text) <= set(ALPHABET)
    assert read(text, KEY) == token


def test_the_same_link_always_has_the_same_address():
    assert sign(TOKEN, KEY) == sign(TOKEN, KEY)
    assert sign(TOKEN, KEY) != sign(TOKEN, OTHER_KEY)


def test_an_id_of_airflow_s_longest_fits_and_one_that_does_not_is_refused_with_a_remedy():
    sign(Token(2**52, 99, "c" * 200), KEY)
    letters = [chr(sign) for sign in range(0x4E00, 0x9FFF)]
    with pytest.raises(InvalidInputError, match=r"return URL.*shorter id.*success_url"):
        sign(Token(1, 1, "".join(random.Random(1).choices(letters, k=1000))), KEY)


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


def test_a_payload_that_is_none_of_ours_is_refused():
    wrong = [1, 1], [1, 1, None], [1, 1, "c", 1], ["1", 1, "c"], [1, 1.5, "c"], [[1], 1, "c"]
    for payload in ([], {}, "x", None, 7, {"0": 1}, *wrong):
        assert refused(_serializer(KEY, _RETURN).dumps(payload)), payload


def test_what_something_else_signed_with_the_same_key_is_refused():
    payload = [TOKEN.purchase, TOKEN.link, TOKEN.conn_id]
    assert refused(URLSafeSerializer(KEY).dumps(payload))
    assert refused(URLSafeSerializer(KEY, salt="airflow-provider-carbonmark.return-url").dumps(payload))


def test_a_payload_that_swells_is_bounded_and_never_unpacked(monkeypatch):
    bomb = zlib.compress(json.dumps([1, 1, "x" * 50_000_000]).encode(), 9)
    packed = base64.urlsafe_b64encode(bomb).rstrip(b"=").decode()
    assert len(packed) > MAX_LENGTH
    monkeypatch.setattr(zlib, "decompress", lambda *arguments: pytest.fail("unpacked before it was checked"))
    assert refused(f".{packed}.{sign(TOKEN, KEY).rpartition('.')[2]}")
    small = base64.urlsafe_b64encode(zlib.compress(b"1" * 100_000, 9)).rstrip(b"=").decode()
    assert len(small) < MAX_LENGTH
    assert refused(f".{small}.{sign(TOKEN, KEY).rpartition('.')[2]}")


@settings(max_examples=300)
@given(
    st.text(max_size=200)
    | st.text(ALPHABET, max_size=300)
    | st.binary(max_size=200).map(lambda b: b.decode("latin-1"))
)
def test_anything_is_refused_by_the_one_error(text):
    assert refused(text)
