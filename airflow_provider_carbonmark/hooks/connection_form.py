"""
The connection form, as it stands in the provider's metadata.

Airflow reads the metadata while it is being imported itself, so nothing of Airflow is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CONN_TYPE = "carbonmark"
HOOK_NAME = "Carbonmark"

#: doc: the Checkout Service has this one public address.
DEFAULT_CHECKOUT_URL = "https://checkout.carbonmark.com"
#: doc: the host carries the version; the unversioned host follows the latest one and breaks clients.
DEFAULT_MARKET_URL = "https://v20.api.carbonmark.com"
#: Seconds for one request as a whole, from connecting to the last byte of its answer.
DEFAULT_TIMEOUT = 30.0

ENVIRONMENTS = ("production", "test")


@dataclass(frozen=True)
class ExtraField:
    """One field of the form that Airflow keeps in the connection's extra."""

    name: str
    label: str
    description: str
    kind: str = "string"
    choices: tuple[str, ...] = ()
    placeholder: str = ""


EXTRA_FIELDS = (
    ExtraField(
        "market_url",
        "Market API URL",
        "Base URL of the market API, which lists prices. The host carries the API's version.",
        placeholder=DEFAULT_MARKET_URL,
    ),
    ExtraField(
        "timeout",
        "Timeout (seconds)",
        "How long one request may take as a whole, from connecting to the last byte of its answer. 30 when empty.",
        kind="number",
        placeholder=f"{DEFAULT_TIMEOUT:g}",
    ),
    ExtraField(
        "environment",
        "Environment",
        "production or test. Nothing that comes from test counts as a retirement. When empty: test for a key that starts "
        "with cm_api_sandbox, else production. A host outside carbonmark.com needs it said for any other key.",
        choices=ENVIRONMENTS,
        placeholder="production",
    ),
)

HIDDEN_FIELDS = ["schema", "login", "port", "extra"]
RELABELING = {"host": "Checkout Service URL", "password": "API key"}
PLACEHOLDERS = {"host": DEFAULT_CHECKOUT_URL, "password": "cm_api_…"}


def conn_fields() -> dict[str, Any]:
    """Return the extra fields as the provider metadata's ``conn-fields``."""
    return {field.name: _conn_field(field) for field in EXTRA_FIELDS}


def _conn_field(field: ExtraField) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": [field.kind, "null"]}
    if field.choices:
        schema["enum"] = [*field.choices, None]
    if field.kind == "number":
        schema["exclusiveMinimum"] = 0
    return {"label": field.label, "description": field.description, "schema": schema}


def ui_field_behaviour() -> dict[str, Any]:
    """Return what the form does to Airflow's standard fields, as the provider metadata's ``ui-field-behaviour``."""
    placeholders = PLACEHOLDERS | {
        field.name: field.placeholder for field in EXTRA_FIELDS if field.placeholder
    }
    return {"hidden-fields": HIDDEN_FIELDS, "relabeling": RELABELING, "placeholders": placeholders}
