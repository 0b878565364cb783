"""What the deployment states of credits and of itself, wherever its configuration says it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import conf

from airflow_provider_carbonmark.api.errors import InvalidInputError

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.facts import DisclosureFacts


def disclosure_facts() -> DisclosureFacts:
    """
    Read ``[carbonmark] disclosure_facts``: a file on this machine, or in any storage that Airflow knows. None is configured: nothing is stated.

    :raises InvalidInputError: when there is no such file, and for anything in it that is not known; names file, key and value.
    """
    # Imported late: a DAG file needs none of them.
    from airflow.sdk import ObjectStoragePath

    from airflow_provider_carbonmark.ledger.facts import DisclosureFacts, parse_facts

    place = (conf.get("carbonmark", "disclosure_facts", fallback=None) or "").strip()
    if not place:
        return DisclosureFacts()
    try:
        text = ObjectStoragePath(place).read_text("utf-8")
    except (OSError, ValueError) as error:  # the latter where Airflow has no such storage, or it is no text
        remedy = "Name a file that all workers can read, or leave the option empty"
        raise InvalidInputError(
            "[carbonmark] disclosure_facts", f"can't be read ({error})", value=place, remedy=remedy
        ) from None
    return parse_facts(text, place)
