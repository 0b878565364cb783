"""Until when a payment page can be used, wherever that is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_carbonmark.api.models import Checkout
from airflow_provider_carbonmark.hooks.checkout import good_until

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
END = NOW + timedelta(minutes=30)
URL = "https://checkout.stripe.com/c/pay/cs_live_1"


@pytest.mark.parametrize("name", ["expires_at", "expires_on", "expiresAt"])
@pytest.mark.parametrize("told", [END.isoformat(), int(END.timestamp())])
def test_what_the_service_tells_counts_wherever_it_stands(name, told):
    assert good_until(Checkout.model_validate({"url": URL, name: told}), NOW) == END


@pytest.mark.parametrize("told", [None, "", "soon"])
def test_where_nothing_readable_is_told_the_configured_hours_count(monkeypatch, told):
    page = Checkout.model_validate({"url": URL, "expires_at": told})
    assert good_until(page, NOW) == NOW + timedelta(hours=24)
    monkeypatch.setenv("AIRFLOW__CARBONMARK__LINK_HOURS", "72")
    assert good_until(page, NOW) == NOW + timedelta(hours=72)


def test_a_payment_link_of_stripes_has_no_end():
    assert good_until(Checkout(url="https://buy.stripe.com/abc"), NOW) is None
    assert good_until(Checkout(url="https://buy.stripe.com.evil.example/abc"), NOW) is not None
