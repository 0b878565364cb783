"""
The addresses of this Airflow that buyers go to, pay at and come back to, and the part of them that nobody can make up.

A token is signed with the ledger's key. That of a return URL names the purchase, the number of its link and the connection that the link was
made with; that of the pay address names the purchase. It holds no time, so the same link always has the same address: a try that asks
Carbonmark again asks the same. Until when it is good, the ledger tells. The app that reads it is open to the world, so reading costs
little whatever comes, and a token has exactly one spelling.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import conf

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import parse_count, parse_url

if TYPE_CHECKING:
    from itsdangerous import URLSafeSerializer

    from airflow_provider_carbonmark.ledger.book import Ledger
    from airflow_provider_carbonmark.ledger.names import Task

log = logging.getLogger(__name__)

#: Where Airflow's API server serves what buyers come back to.
PREFIX: Final = "/carbonmark"
DEFAULT_TOKEN_DAYS: Final = 60
LONGEST_TOKEN_DAYS: Final = 3650

# Where it says what its address is, the first that does.
_ADDRESSES: Final = (("carbonmark", "return_base_url"), ("api", "base_url"))
# What Airflow takes for its own address where none is set (seen: 3.2 to 3.4, in the links that it makes).
_UNSAID: Final = "http://localhost:8080"
_RETURN = b"airflow-provider-carbonmark.return-url"
_PAY = b"airflow-provider-carbonmark.pay-url"
_TEXT = b"airflow-provider-carbonmark.text"
#: Of what a task asks people, signed.
LONGEST_TEXT: Final = 10_000
# Bounds the work for a token that isn't ours (its payload may be compressed), and fits into any browser's address.
MAX_LENGTH: Final = 1000
_TOKEN = re.compile(r"[A-Za-z0-9_.-]+")


class InvalidTokenError(ValueError):
    """The token is none of ours, or was changed. Which of them is nobody's business."""


@dataclass(frozen=True)
class Token:
    """What a token says."""

    purchase: int
    link: int
    conn_id: str


def pay_url(ledger: Ledger, purchase: int) -> str | None:
    """Return the address at which a purchase can be paid as long as it is open; None where this Airflow's own address isn't known."""
    with suppress(InvalidInputError):
        if base := _base_url():
            return f"{base}{pay_path(purchase, key_of(ledger))}"
    return None


def pay_path(purchase: int, key: bytes) -> str:
    """Return the same below the address of this Airflow."""
    return f"{PREFIX}/pay/{_serializer(key, _PAY).dumps(purchase)!s}"


def next_urls(ledger: Ledger, token: Token, before: Mapping[str, Any]) -> dict[str, str]:
    """
    Return ``success_url`` and ``cancel_url`` for the link after another.

    :param token: of that other link.
    :param before: what Carbonmark was asked for with that one. Addresses that a DAG's author gave stay as they are; of a link of a
        ledger of version 1, only those are known.
    """
    key, following = key_of(ledger), replace(token, link=token.link + 1)
    old, new = (sign(each, key) for each in (token, following))
    names = ("success_url", "cancel_url")
    kept = {name: re.sub(f"/{re.escape(old)}$", f"/{new}", before[name]) for name in names if name in before}
    return kept if len(kept) == len(names) else return_urls(ledger, following) | kept


def return_urls(ledger: Ledger, token: Token) -> dict[str, str]:
    """
    Return ``success_url`` and ``cancel_url`` for a link.

    Where nobody says what this Airflow's address is, they lead to where it is when somebody tries it out, and the log says whom that serves.

    doc: the service adds ``/<payment_id>`` to the success URL.

    :raises InvalidInputError: Airflow's own address is none, or the links' lifetime is configured wrongly.
    """
    lifetime()  # what buyers will be refused by, said here where somebody can mend it
    text = sign(token, key_of(ledger))
    if (base := _base_url()) is None:
        base = _UNSAID
        log.warning(
            "Neither [carbonmark] return_base_url nor [api] base_url is set: after paying, buyers are led back to %s, which serves those only whose "
            "browser is on the machine of the API server. Others have to enter the payment's number under Required Actions. Set "
            "one to the address of this Airflow as buyers' browsers reach it",
            base,
        )
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
    text = str(_serializer(key, _RETURN).dumps(astuple(token)))
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
    match _payload(text, key, _RETURN):
        case [int(purchase), int(link), str(conn_id)]:
            return Token(purchase, link, conn_id)
    raise InvalidTokenError


def read_pay(text: str, key: bytes) -> int:
    """Return which purchase a pay address is for; otherwise as :func:`read`."""
    purchase = _payload(text, key, _PAY)
    if not isinstance(purchase, int):
        raise InvalidTokenError
    return purchase


def sign_text(task: Task, text: str, key: bytes) -> str:
    """Return what a task asks people now, as its API server believes it."""
    return str(_serializer(key, _TEXT).dumps([task.key, text]))


def read_text(signed: str, key: bytes) -> tuple[str, str]:
    """Return which task asks people something, by its key, and what; otherwise as :func:`read`."""
    match _payload(signed, key, _TEXT, LONGEST_TEXT):
        case [str(task), str(text)]:
            return task, text
    raise InvalidTokenError


def _payload(text: str, key: bytes, salt: bytes, longest: int = MAX_LENGTH) -> Any:
    from itsdangerous import BadData
    from itsdangerous.encoding import base64_decode, base64_encode

    if len(text) > longest or not _TOKEN.fullmatch(text):
        raise InvalidTokenError
    try:
        signature = text.rpartition(".")[2]
        # Base64 has several spellings for the same bytes.
        if base64_encode(base64_decode(signature)).decode() != signature:
            raise InvalidTokenError
        return _serializer(key, salt).loads(text)
    except BadData:
        raise InvalidTokenError from None


def key_of(ledger: Ledger) -> bytes:
    """Return what the addresses of a ledger's purchases are signed with."""
    key = ledger.signing_key()
    if key is None:
        raise AssertionError("A ledger that has a purchase has a key")
    return key


def _serializer(key: bytes, salt: bytes) -> URLSafeSerializer:
    # Imported late here and above: every Airflow process imports the plugin, which needs the prefix alone.
    from itsdangerous import URLSafeSerializer

    strong = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeSerializer(key, salt=salt, signer_kwargs=strong)


def own_addresses() -> list[str]:
    """Return the addresses of this Airflow that it is told, as far as they are any: that for buyers, then its own."""
    addresses = []
    for option in _ADDRESSES:
        with suppress(InvalidInputError):
            addresses.append(_address(option))
    return [address for address in addresses if address]


def _base_url() -> str | None:
    """Return the address that buyers come to; None where nobody says."""
    return next(filter(None, map(_address, _ADDRESSES)), None)


def _address(option: tuple[str, str]) -> str:
    """Return the address that an option of Airflow's configuration says; empty for none."""
    said = (conf.get(*option, fallback=None) or "").strip().rstrip("/")
    return parse_url(said, "[{}] {}".format(*option), takes_suffix=True) if said else ""
