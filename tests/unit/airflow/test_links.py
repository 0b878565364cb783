"""The buttons on the task page: http(s) or nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_provider_carbonmark import links
from airflow_provider_carbonmark.operators.carbonmark import CarbonmarkCreateCheckoutOperator
from airflow_provider_carbonmark.sensors.carbonmark import CarbonmarkRetirementSensor

LINKS = [(links.CheckoutLink(), "pay_url"), (links.RetirementLink(), "certificate_url")]
TI_KEY = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=3, try_number=1)


@pytest.mark.parametrize(("link", "attribute"), LINKS)
@pytest.mark.parametrize(
    "url", ["https://example.com/a?b=c", "http://127.0.0.1:8787/pay/cs_1", "HTTPS://EXAMPLE.COM"]
)
def test_a_link_opens_the_address_that_the_task_found(link, attribute, url):
    assert link.get_link(SimpleNamespace(**{attribute: url}), ti_key=TI_KEY) == url


@pytest.mark.parametrize(("link", "attribute"), LINKS)
@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(document.domain)",
        " javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "vbscript:x",
        "//example.com",
        "/relative",
        "httpsx://example.com",
        "",
        None,
        7,
        ["https://example.com"],
    ],
)
def test_a_link_to_anything_else_goes_nowhere(link, attribute, url):
    assert link.get_link(SimpleNamespace(**{attribute: url}), ti_key=TI_KEY) == ""


def test_a_task_that_found_nothing_yet_has_a_link_to_nowhere():
    checkout = CarbonmarkCreateCheckoutOperator(
        task_id="c",
        asset_price_source_id="x",
        quantity_tonnes="1",
        beneficiary_name="b",
        retirement_message="m",
    )
    sensor = CarbonmarkRetirementSensor(task_id="s", payment_id="pay_1")
    assert links.CheckoutLink().get_link(checkout, ti_key=TI_KEY) == ""
    assert links.RetirementLink().get_link(sensor, ti_key=TI_KEY) == ""


def test_each_task_has_the_link_to_what_it_makes():
    assert [link.name for link in CarbonmarkCreateCheckoutOperator.operator_extra_links] == ["Open checkout"]
    assert [link.name for link in CarbonmarkRetirementSensor.operator_extra_links] == ["View retirement"]
