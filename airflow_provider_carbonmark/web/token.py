"""
The part of a return URL that nobody can make up: which connection and which task the link belongs to, signed.

The app that reads it is open to the world. So reading costs little whatever comes, and every token has exactly one spelling.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from itsdangerous import BadData, URLSafeTimedSerializer
from itsdangerous.encoding import base64_decode, base64_encode

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.web.link import LinkKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkConnection

_SALT = b"airflow-provider-carbonmark.return-url"
# Bounds the work for a token that isn't ours (its payload may be compressed), and fits into any browser's address.
MAX_LENGTH = 2000
# A worker's clock may be so much ahead of the API server's.
CLOCK_SKEW = timedelta(minutes=5)
_TOKEN = re.compile(rf"[A-Za-z0-9_.-]{{1,{MAX_LENGTH}}}")


class InvalidTokenError(ValueError):
    """The token is none of ours, was changed, or is too old. Which of them is nobody's business."""


@dataclass(frozen=True)
class Token:
    """What a token says: the connection that the link was made with, and the task that made it."""

    conn_id: str
    link: LinkKey


def signing_key(connection: CarbonmarkConnection) -> bytes | None:
    """
    Return what tokens of a connection are signed with; None when it has nothing secret.

    :param connection: its ``return_url_secret`` is the key, else the key is derived from its API key.
    """
    secret = connection.return_url_secret or connection.settings.api_key
    return None if secret is None else hmac.digest(secret.get_secret_value().encode(), _SALT, "sha256")


def sign(token: Token, key: bytes) -> str:
    """
    Return the token as text for an address.

    :raises InvalidInputError: the ids are too long together.
    """
    text = _serializer(key).dumps([token.conn_id, *astuple(token.link)])
    if len(text) > MAX_LENGTH:
        raise InvalidInputError(
            "The return URL",
            f"would have a token of more than {MAX_LENGTH} characters",
            value=token.link.to_json(),
            remedy="Give DAG, run and task shorter ids, or pass success_url and cancel_url to the operator",
        )
    return str(text)


def read(text: str, key_of: Callable[[str], bytes | None], max_age: int) -> Token:
    """
    Return what a token says once its signature and age are checked.

    :param text: the token, from anybody.
    :param key_of: returns the key for a connection id, None when there is none.
    :param max_age: seconds after which a token is too old.
    :raises InvalidTokenError: whatever is wrong with it.
    """
    if not _TOKEN.fullmatch(text):
        raise InvalidTokenError
    _, claimed = _serializer(b"").loads_unsafe(text)
    key = key_of(_parse(claimed).conn_id)
    if key is None:
        raise InvalidTokenError
    try:
        signature = text.rpartition(".")[2]
        # Base64 has several spellings for the same bytes.
        if base64_encode(base64_decode(signature)).decode() != signature:
            raise InvalidTokenError
        payload, signed_at = _serializer(key).loads(text, return_timestamp=True)
    except BadData:
        raise InvalidTokenError from None
    age = datetime.now(UTC) - signed_at
    if not -CLOCK_SKEW <= age <= timedelta(seconds=max_age):
        raise InvalidTokenError
    return _parse(payload)


def _parse(payload: object) -> Token:
    match payload:
        case [str(conn_id), str(dag_id), str(run_id), str(task_id), int(map_index)]:
            return Token(conn_id, LinkKey(dag_id, run_id, task_id, map_index))
    raise InvalidTokenError


def _serializer(key: bytes) -> URLSafeTimedSerializer:
    strong = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeTimedSerializer(key, salt=_SALT, signer_kwargs=strong)
