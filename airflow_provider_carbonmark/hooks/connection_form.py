"""
The connection form, as it stands in the provider's metadata.

Airflow reads the metadata while it is being imported itself, so nothing of Airflow is imported here.
"""

from __future__ import annotations

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


#: The fields of the form that Airflow keeps in the connection's extra, as the provider metadata's ``conn-fields``.
CONN_FIELDS: dict[str, dict[str, Any]] = {
    "market_url": {
        "label": "Market API URL",
        "description": "Base URL of the market API, which lists prices. The host carries the API's version.",
        "schema": {"type": ["string", "null"]},
    },
    "timeout": {
        "label": "Timeout (seconds)",
        "description": "How long one request may take as a whole, from connecting to the last byte of its answer. 30 when empty.",
        "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
    },
    "environment": {
        "label": "Environment",
        "description": "production or test. Nothing that comes from test counts as a retirement. When empty: test for a key that "
        "starts with cm_api_sandbox, else production. A host outside carbonmark.com needs it said for any other key.",
        "schema": {"type": ["string", "null"], "enum": [*ENVIRONMENTS, None]},
    },
}

#: What the form does to Airflow's standard fields, as the provider metadata's ``ui-field-behaviour``.
UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema", "login", "port", "extra"],
    "relabeling": {"host": "Checkout Service URL", "password": "API key"},
    "placeholders": {
        "host": DEFAULT_CHECKOUT_URL,
        "password": "cm_api_…",
        "market_url": DEFAULT_MARKET_URL,
        "timeout": f"{DEFAULT_TIMEOUT:g}",
        "environment": "production",
    },
}
