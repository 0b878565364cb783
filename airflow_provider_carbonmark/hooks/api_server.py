"""
What a task tells this Airflow's API server, at a purchase's pay address, as a browser would.

A task can't answer another's request by itself, nor change its own. What can't be told is in the ledger, and in the task's log.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from airflow.providers.common.compat.sdk import conf

from airflow_provider_carbonmark.hooks.return_url import (
    LONGEST_TEXT,
    key_of,
    own_addresses,
    pay_path,
    sign_text,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_carbonmark.ledger.book import Ledger
    from airflow_provider_carbonmark.ledger.names import Task
    from airflow_provider_carbonmark.ledger.purchase import Purchase

log = logging.getLogger(__name__)

#: Said at a pay address: that the purchase is not to be paid any more, and what a task asks people now.
LOOK: Final = "look"
SHOW: Final = "show"
_SECONDS: Final = 15.0
# What Airflow takes where it isn't told.
_DEFAULT_ADDRESS: Final = "http://localhost:8080"


def tell_server(ledger: Ledger, purchase: Purchase) -> None:
    """Have what is parked for a purchase go on, which is not to be paid any more."""
    if trouble := _say(ledger, purchase, {"said": LOOK}):
        log.warning(
            "%s is %s, but the API server could not be told (%s): clear the task that waits for it",
            *(purchase, purchase.state, trouble),
        )


def show_again(ledger: Ledger, purchase: Purchase, task: Task, body: str) -> None:
    """Have the open request of a task, which waits for a purchase, shown with another text, in Markdown."""
    text = sign_text(task, body, key_of(ledger))
    is_too_long = len(text) > LONGEST_TEXT
    if trouble := "it is too long" if is_too_long else _say(ledger, purchase, {"said": SHOW, "text": text}):
        log.warning(
            "The request under Required Actions keeps the text that it had, since the API server can't be told another (%s):\n%s",
            *(trouble, body),
        )


def _say(ledger: Ledger, purchase: Purchase, form: Mapping[str, str]) -> str:
    """Say something, and return why nobody heard it; empty when somebody did."""
    # Imported late: a DAG file doesn't need it.
    import httpx

    path, trouble = pay_path(purchase.id, key_of(ledger)), []
    for address in _addresses():
        try:
            # What a browser says of a form that is on the page itself.
            headers = {"sec-fetch-site": "same-origin"}
            answer = httpx.post(f"{address}{path}", data=form, headers=headers, timeout=_SECONDS)
            answer.raise_for_status()
            return ""
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            trouble.append(str(error))
    return "; ".join(trouble)


def _addresses() -> list[str]:
    """Return where the API server may be: where tasks talk to one, which may be for tasks only; then where people do."""
    own = own_addresses()
    of_tasks = (conf.get("core", "execution_api_server_url", fallback=None) or "").strip()
    default = own[-1] if own else _DEFAULT_ADDRESS
    first = of_tasks.rstrip("/").removesuffix("/execution") or default
    return list(dict.fromkeys([first, *own]))
