"""The addresses under which buyers come back to this Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import conf

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import parse_url
from airflow_provider_carbonmark.web.link import PREFIX
from airflow_provider_carbonmark.web.token import Token, sign, signing_key

if TYPE_CHECKING:
    from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkConnection
    from airflow_provider_carbonmark.web.link import LinkKey

DEFAULT_TOKEN_DAYS = 60
LONGEST_TOKEN_DAYS = 3650


def token_seconds() -> int:
    """
    Return how long a token is good for.

    :raises InvalidInputError: when the configuration says no number of days.
    """
    days = (conf.get("carbonmark", "return_token_days", fallback=None) or "").strip() or str(
        DEFAULT_TOKEN_DAYS
    )
    if not (days.isascii() and days.isdigit() and 0 < int(days) <= LONGEST_TOKEN_DAYS):
        raise InvalidInputError(
            "[carbonmark] return_token_days",
            "is no number of days",
            value=days,
            remedy=f"Give 1 to {LONGEST_TOKEN_DAYS}, or leave it empty for {DEFAULT_TOKEN_DAYS}",
        )
    return int(days) * 86_400


def return_urls(conn_id: str, connection: CarbonmarkConnection, link: LinkKey) -> dict[str, str]:
    """
    Return ``success_url`` and ``cancel_url`` for a task's link.

    doc: the service adds ``/<payment_id>`` to the success URL.

    :param conn_id: id of the Airflow connection.
    :param connection: the connection.
    :param link: the task that makes the link.
    :raises InvalidInputError: Airflow's own address isn't known, the connection has nothing to sign with, or the links' lifetime
        is configured wrongly.
    """
    key = signing_key(connection)
    if key is None:
        raise InvalidInputError(
            f"connection {conn_id!r}",
            "has neither a return_url_secret nor an API key, so no return URL can be signed",
            remedy="Set return_url_secret in its extra, or pass success_url and cancel_url to the operator",
        )
    token_seconds()  # what buyers will be refused by, said here where somebody can mend it
    base = _base_url()
    token = sign(Token(conn_id, link), key)
    return {
        "success_url": f"{base}{PREFIX}/return/{token}",
        "cancel_url": f"{base}{PREFIX}/cancelled/{token}",
    }


def _base_url() -> str:
    for section, option in (("carbonmark", "return_base_url"), ("api", "base_url")):
        if url := (conf.get(section, option, fallback=None) or "").strip():
            return parse_url(url.rstrip("/"), f"[{section}] {option}", takes_suffix=True)
    raise InvalidInputError(
        "[carbonmark] return_base_url",
        "is not set, nor is [api] base_url",
        remedy="Set one to the address of this Airflow as buyers' browsers reach it, or pass success_url and cancel_url to the operator",
    )
