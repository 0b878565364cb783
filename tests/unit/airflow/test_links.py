"""What leads to a payment page or a certificate: the buttons on the task page, and until when a page can be used."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from airflow_provider_carbonmark.api.models import Checkout
from airflow_provider_carbonmark.hooks.checkout import good_until
from airflow_provider_carbonmark.links import CheckoutLink, RetirementLink
from airflow_provider_carbonmark.operators.carbonmark import CarbonmarkCreateCheckoutOperator
from airflow_provider_carbonmark.sensors.carbonmark import CarbonmarkRetirementSensor

TI_KEY = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=3, try_number=1)
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
END = NOW + timedelta(minutes=30)
URL = "https://checkout.stripe.com/c/pay/cs_live_1"


def addresses(url: object) -> set[str]:
    """Return where the two buttons lead when their tasks found this."""
    task = SimpleNamespace(pay_url=url, certificate_url=url)
    return {link.get_link(task, ti_key=TI_KEY) for link in (CheckoutLink(), RetirementLink())}


@pytest.mark.parametrize("url", ["https://example.com/a?b=c", "http://127.0.0.1:8787/pay", "HTTPS://A.COM"])
def test_a_button_opens_the_address_that_the_task_found(url):
    assert addresses(url) == {url}


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        " javascript:alert(1)",
        "//a.com",
        "/a",
        "httpsx://a.com",
        "",
        None,
        ["https://a"],
    ],
)
def test_a_button_to_anything_else_goes_nowhere(url):
    assert addresses(url) == {""}


def test_each_task_has_the_button_to_what_it_makes_which_leads_nowhere_yet():
    order = ("asset_price_source_id", "quantity_tonnes", "beneficiary_name", "retirement_message")
    checkout = CarbonmarkCreateCheckoutOperator(task_id="c", **dict.fromkeys(order, "1"))
    sensor = CarbonmarkRetirementSensor(task_id="s", payment_id="pay_1")
    for task, name in ((checkout, "Open checkout"), (sensor, "View retirement")):
        (link,) = task.operator_extra_links
        assert (link.name, link.get_link(task, ti_key=TI_KEY)) == (name, "")


@pytest.mark.parametrize(
    ("name", "told"),
    [("expires_at", END.isoformat()), ("expires_on", int(END.timestamp())), ("expiresAt", END.isoformat())],
)
def test_until_when_a_page_is_good_is_what_the_service_tells(name, told):
    assert good_until(Checkout.model_validate({"url": URL, name: told}), NOW) == END


@pytest.mark.parametrize("told", [None, "soon"])
def test_where_nothing_readable_is_told_the_configured_hours_count(monkeypatch, told):
    page = Checkout.model_validate({"url": URL, "expires_at": told})
    assert good_until(page, NOW) == NOW + timedelta(hours=24)
    monkeypatch.setenv("AIRFLOW__CARBONMARK__LINK_HOURS", "72")
    assert good_until(page, NOW) == NOW + timedelta(hours=72)


def test_a_payment_link_of_stripes_has_no_end():
    assert good_until(Checkout(url="https://buy.stripe.com/abc"), NOW) is None
    assert good_until(Checkout(url="https://buy.stripe.com.evil.example/abc"), NOW) is not None
