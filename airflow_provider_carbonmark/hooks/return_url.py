"""
The addresses under which buyers come back to this Airflow, and the part of them that nobody can make up.

A token names the purchase, the number of its link and the connection that the link was made with, signed with the ledger's key. It
holds no time, so the same link always has the same address: a try that asks Carbonmark again asks the same. Until when it is good, the
ledger tells. The app that reads it is open to the world, so reading costs little whatever comes, and a token has exactly one spelling.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import astuple, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import conf

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import parse_count, parse_url

if TYPE_CHECKING:
    from itsdangerous import URLSafeSerializer

    from airflow_provider_carbonmark.ledger.book import Ledger

#: Where Airflow's API server serves what buyers come back to.
PREFIX: Final = "/carbonmark"
DEFAULT_TOKEN_DAYS: Final = 60
LONGEST_TOKEN_DAYS: Final = 3650

_SALT = b"airflow-provider-carbonmark.return-url"
# Bounds the work for a token that isn't ours (its payload may be compressed), and fits into any browser's address.
MAX_LENGTH: Final = 1000
_TOKEN = re.compile(rf"[A-Za-z0-9_.-]{{1,{MAX_LENGTH}}}")


class InvalidTokenError(ValueError):
    """The token is none of ours, or was changed. Which of them is nobody's business."""


@dataclass(frozen=True)
class Token:
    """What a token says."""

    purchase: int
    link: int
    conn_id: str


def return_urls(ledger: Ledger, token: Token) -> dict[str, str]:
    """
    Return ``success_url`` and ``cancel_url`` for a link.

    doc: the service adds ``/<payment_id>`` to the success URL.

    :param ledger: the ledger that the purchase is in.
    :raises InvalidInputError: Airflow's own address isn't known, or the links' lifetime is configured wrongly.
    """
    lifetime()  # what buyers will be refused by, said here where somebody can mend it
    key = ledger.signing_key()
    if key is None:
        raise AssertionError("A ledger that has a purchase has a key")
    base, text = _base_url(), sign(token, key)
    return {
        "success_url": f"{base}{PREFIX}/return/{text}",
        "cancel_url": f"{base}{PREFIX}/cancelled/{text}",
    }


def lifetime() -> timedelta:
    """
    Return for how long after a link was asked for its buyer may come back.

    :raises InvalidInputError: when the configuration says no number of days.
    """
    days = (conf.get("carbonmark", "return_token_days", fallback=None) or "").strip() or str(
        DEFAULT_TOKEN_DAYS
    )
    return timedelta(
        days=parse_count(days, "[carbonmark] return_token_days", of="days", most=LONGEST_TOKEN_DAYS)
    )


def sign(token: Token, key: bytes) -> str:
    """
    Return the token as text for an address.

    :raises InvalidInputError: the connection's id is too long.
    """
    text = str(_serializer(key).dumps(astuple(token)))
    if len(text) > MAX_LENGTH:
        raise InvalidInputError(
            "carbonmark_conn_id",
            f"would make a return URL with a token of more than {MAX_LENGTH} characters",
            value=token.conn_id,
            remedy="Give the connection a shorter id, or pass success_url and cancel_url to the operator",
        )
    return text


def read(text: str, key: bytes) -> Token:
    """
    Return what a token says once its signature is checked.

    :param text: the token, from anybody.
    :raises InvalidTokenError: whatever is wrong with it.
    """
    from itsdangerous import BadData
    from itsdangerous.encoding import base64_decode, base64_encode

    if not _TOKEN.fullmatch(text):
        raise InvalidTokenError
    try:
        signature = text.rpartition(".")[2]
        # Base64 has several spellings for the same bytes.
        if base64_encode(base64_decode(signature)).decode() != signature:
            raise InvalidTokenError
        payload: Any = _serializer(key).loads(text)
    except BadData:
        raise InvalidTokenError from None
    match payload:
        case [int(purchase), int(link), str(conn_id)]:
            return Token(purchase, link, conn_id)
    raise InvalidTokenError


def _serializer(key: bytes) -> URLSafeSerializer:
    # Imported late here and above: every Airflow process imports the plugin, which needs the prefix alone.
    from itsdangerous import URLSafeSerializer

    strong = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeSerializer(key, salt=_SALT, signer_kwargs=strong)


def _base_url() -> str:
    for section, option in (("carbonmark", "return_base_url"), ("api", "base_url")):
        if url := (conf.get(section, option, fallback=None) or "").strip():
            return parse_url(url.rstrip("/"), f"[{section}] {option}", takes_suffix=True)
    raise InvalidInputError(
        "[carbonmark] return_base_url",
        "is not set, nor is [api] base_url",
        remedy="Set one to the address of this Airflow as buyers' browsers reach it, or pass success_url and cancel_url to the operator",
    )
