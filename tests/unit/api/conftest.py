"""An exchange of the clients' one algorithm, driven by hand: no network, no clock."""

from __future__ import annotations

import json
from decimal import Decimal

import httpx
import pytest
from pydantic import SecretStr

from airflow_provider_carbonmark.api.answers import Answer
from airflow_provider_carbonmark.api.calls import Calls
from airflow_provider_carbonmark.api.client import ClientSettings
from airflow_provider_carbonmark.api.errors import CarbonmarkError
from airflow_provider_carbonmark.api.retries import NO_RETRIES

KEY = "cm_api_0f0e8a0e-9f0a-4d3e-8c49-8f0a3b1e2d3c"
SETTINGS = ClientSettings("https://checkout.example.com", "https://market.example.com", SecretStr(KEY), 1.0)
CHECKOUT = {
    "asset_price_source_id": "listing-1",
    "quantity_tonnes": Decimal("12.345"),
    "metadata": {"beneficiary_name": "Acme", "retirement_message": "For October"},
    "success_url": "https://a.example/paid",
    "cancel_url": "https://a.example/cancelled",
    "idempotency_key": "order-2026-10",
}


def make_calls(retries=NO_RETRIES, api_key=KEY):
    return Calls(
        checkout_url="https://checkout.example.com/base",
        market_url="https://market.example.com",
        api_key=api_key,
        user_agent="airflow-provider-carbonmark/0",
        retries=retries,
    )


def outcome(exchange, body, status=200, **headers):
    """Return what a call comes to when the service answers so: what it returns, or the error."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = httpx.Headers({name.replace("_", "-"): value for name, value in headers.items()})
    answer = Answer(next(exchange), status, headers, body)
    with pytest.raises((StopIteration, CarbonmarkError)) as caught:
        exchange.send(answer)
    assert KEY not in str(caught.value)
    return caught.value.value if isinstance(caught.value, StopIteration) else caught.value
