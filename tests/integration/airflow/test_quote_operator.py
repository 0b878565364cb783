"""The quote operator: what a quantity costs, and no more than one is ready to pay."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_carbonmark.api.errors import CarbonmarkError
from airflow_provider_carbonmark.operators.carbonmark import CarbonmarkCreateQuoteOperator
from tests.integration.airflow.parts import make_context


@pytest.fixture
def quote(connect, listing):
    """Return a function that runs the operator."""
    listing.purchase_price = Decimal("3.78")

    def quote(**changes):
        arguments = {"task_id": "quote", "asset_price_source_id": listing.source_id, "quantity_tonnes": "1.5"}
        return CarbonmarkCreateQuoteOperator(**arguments | changes).execute(make_context())

    return quote


def requests(sandbox) -> list[dict]:
    return [each for each in sandbox.state.requests if each["path"] == "/quotes"]


def test_the_result_is_plain_json_with_decimal_strings_and_nothing_is_bought(quote, sandbox, listing):
    result = quote()
    assert len(result.pop("uuid")) == 36
    assert json.loads(json.dumps(result)) == {
        "asset_price_source_id": listing.source_id,
        "quantity_tonnes": "1.5",
        "cost_usd": "5.67",
        "test_mode": False,
    }
    assert sandbox.state.checkouts == {}


@pytest.mark.parametrize("max_cost", ["5.67", "5.670", Decimal("5.68"), 6, "1e3", None, ""])
def test_up_to_max_cost_is_fine(quote, max_cost):
    assert quote(max_cost=max_cost)["cost_usd"] == "5.67"


@pytest.mark.parametrize("max_cost", ["5.669999", Decimal("5.66"), 5, 0, "0"])
def test_over_max_cost_fails_and_says_both_figures(quote, max_cost):
    with pytest.raises(AirflowFailException, match=rf"cost 5\.67 USD, more than max_cost, {max_cost} USD"):
        quote(max_cost=max_cost)


@pytest.mark.parametrize("max_cost", ["-1", "nan", "inf", "much", [5], "5,67"])
def test_a_max_cost_that_is_no_money_is_refused_before_anything_is_sent(quote, sandbox, max_cost):
    with pytest.raises(AirflowFailException, match="max_cost is not an amount of money.*Give USD"):
        quote(max_cost=max_cost)
    assert requests(sandbox) == []


@pytest.mark.parametrize(
    "quantity", ["0.0001", 0, "0", -1, "nan", float("inf"), "1e400", "abc", "", None, True, 0.1 + 0.2, "1e12"]
)
def test_a_bad_quantity_is_refused_before_anything_is_sent(quote, sandbox, quantity):
    with pytest.raises(AirflowFailException, match='quantity_tonnes .*"12.345"'):
        quote(quantity_tonnes=quantity)
    assert requests(sandbox) == []


def test_a_listing_that_sold_out_between_price_and_quote_fails_without_a_retry(quote, listing):
    listing.liquid_supply = Decimal(0)
    with pytest.raises(AirflowFailException, match=r"0 t left, and 1\.5 t were asked for.*HTTP 409"):
        quote()


@pytest.mark.parametrize("key", ["wrong", "cm_api_forbidden_1"])
def test_a_refused_key_fails_without_a_retry(quote, connect, key):
    connect(key)
    with pytest.raises(AirflowFailException, match="HTTP 40[13]") as failed:
        quote()
    assert key not in str(failed.value)


@pytest.mark.parametrize(
    "fault", [{"kind": "error"}, {"kind": "drop"}, {"kind": "error", "status": 429}, {"kind": "html"}]
)
def test_an_outage_leaves_the_task_to_its_retries(quote, sandbox, clock, fault):
    sandbox.state.change_switches(faults=[{**fault, "path": "/quotes"}])
    with pytest.raises(CarbonmarkError):
        quote()


def test_a_test_connection_says_so(quote, connect):
    connect("cm_api_sandbox_1", environment=None)
    assert quote()["test_mode"] is True


def test_every_parameter_may_come_from_upstream():
    fields = ["asset_price_source_id", "quantity_tonnes", "max_cost", "carbonmark_conn_id"]
    assert sorted(CarbonmarkCreateQuoteOperator.template_fields) == sorted(fields)
    operator = CarbonmarkCreateQuoteOperator(task_id="quote", **dict.fromkeys(fields, "{{ x }}"))
    operator.render_template_fields({"x": "rendered"})
    assert {getattr(operator, field) for field in fields} == {"rendered"}
