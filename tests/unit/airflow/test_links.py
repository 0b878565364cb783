"""The buttons on the task page: http(s) or nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_provider_carbonmark import links
from airflow_provider_carbonmark.operators.carbonmark import CarbonmarkCreateCheckoutOperator
from airflow_provider_carbonmark.sensors.carbonmark import CarbonmarkRetirementSensor

LINKS = [(links.CheckoutLink(), "checkout_url"), (links.RetirementLink(), "certificate_url")]
TI_KEY = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=3, try_number=1)


@pytest.fixture
def result(monkeypatch):
    """Return a function that sets what the task returned."""

    def returned(value: object) -> None:
        def get_value(*, ti_key: object, key: str) -> object:
            assert (ti_key, key) == (TI_KEY, "return_value")
            return value

        monkeypatch.setattr(links.XCom, "get_value", get_value)

    return returned


@pytest.mark.parametrize(("link", "field"), LINKS)
@pytest.mark.parametrize(
    "url", ["https://example.com/a?b=c", "http://127.0.0.1:8787/pay/cs_1", "HTTPS://EXAMPLE.COM"]
)
def test_a_link_opens_the_address_in_the_result(result, link, field, url):
    result({field: url})
    assert link.get_link(None, ti_key=TI_KEY) == url


@pytest.mark.parametrize(("link", "field"), LINKS)
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
def test_a_link_to_anything_else_goes_nowhere(result, link, field, url):
    result({field: url})
    assert link.get_link(None, ti_key=TI_KEY) == ""


@pytest.mark.parametrize(("link", "field"), LINKS)
@pytest.mark.parametrize("value", [None, {}, "https://example.com", ["https://example.com"]])
def test_a_task_without_such_a_result_has_a_link_to_nowhere(result, link, field, value):
    result(value)
    assert link.get_link(None, ti_key=TI_KEY) == ""


def test_each_task_has_the_link_to_what_it_makes():
    assert [link.name for link in CarbonmarkCreateCheckoutOperator.operator_extra_links] == ["Open checkout"]
    assert [link.name for link in CarbonmarkRetirementSensor.operator_extra_links] == ["View retirement"]
