"""The operators that ask what something costs and make its payment page: what they send, return and refuse."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from decimal import Decimal

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_carbonmark.api.errors import CarbonmarkError, UnreadableAnswerError
from airflow_provider_carbonmark.hooks.return_url import pay_url
from airflow_provider_carbonmark.ledger.names import Run, State, Task
from airflow_provider_carbonmark.operators.carbonmark import (
    CarbonmarkCreateCheckoutOperator,
    CarbonmarkCreateQuoteOperator,
)
from airflow_provider_carbonmark.sensors.carbonmark import CarbonmarkRetirementSensor
from tests.integration.airflow.parts import asked, make_context
from tests.integration.conftest import KEY

QUOTE, CHECKOUT = "/quotes", "/checkout"
each_operator = pytest.mark.parametrize("path", [QUOTE, CHECKOUT])


@pytest.fixture
def run(connect, listing, checkout_operator):
    """Return a function that runs the operator that asks at a path."""
    listing.purchase_price = Decimal("3.78")

    def run(path: str, **changes):
        if path == CHECKOUT:
            return checkout_operator(**changes).execute(make_context())
        arguments = {"task_id": "quote", "asset_price_source_id": listing.source_id, "quantity_tonnes": "1.5"}
        return CarbonmarkCreateQuoteOperator(**arguments | changes).execute(make_context())

    return run


# --- what they return and send


def test_a_quote_is_plain_json_with_decimal_strings_and_buys_nothing(run, sandbox, listing):
    result = run(QUOTE)
    assert len(result.pop("uuid")) == 36
    assert json.loads(json.dumps(result)) == {
        "asset_price_source_id": listing.source_id,
        "quantity_tonnes": "1.5",
        "cost_usd": "5.67",
        "test_mode": False,
    }
    assert sandbox.state.checkouts == {}


def test_a_checkout_is_plain_json_with_exactly_these_keys(ledger, checkout_operator, sandbox, listing):
    result = checkout_operator().execute(make_context(map_index=4))
    (checkout,) = sandbox.state.checkouts.values()
    purchase = ledger.purchase_of(Task(Run("offset", "2026-07"), "link", 4))
    assert json.loads(json.dumps(result)) == {
        "purchase": purchase.id,
        "ledger": ledger.id,
        "checkout_url": f"{sandbox.url}/pay/{checkout.id}",
        "pay_url": pay_url(ledger, purchase.id),
        "expires_at": purchase.link.expires_at.isoformat(),
        "payment_id": None,
        "asset_price_source_id": listing.source_id,
        "quantity_tonnes": "1.234",
        "beneficiary_name": "Acme GmbH",
        "retirement_message": "Cloud emissions of July 2026",
        "test_mode": False,
    }
    assert (purchase.state, purchase.allocations) == (State.LINK_MADE, ())
    assert purchase.link.expires_at - purchase.link.made_at == timedelta(hours=24)


@each_operator
@pytest.mark.parametrize(("key", "environment"), [("cm_api_sandbox_1", None), (KEY, "test")])
def test_what_a_test_connection_makes_says_so(run, connect, path, key, environment):
    connect(key, environment=environment)
    assert run(path)["test_mode"] is True


def test_metadata_goes_along_with_beneficiary_and_message(run, sandbox):
    run(CHECKOUT, metadata={"cost_center": "4711"}, beneficiary_name="Zoë & Söhne <b>")
    assert json.loads(asked(sandbox, CHECKOUT)[0]["body"])["metadata"] == {
        "cost_center": "4711",
        "beneficiary_name": "Zoë & Söhne <b>",
        "retirement_message": "Cloud emissions of July 2026",
    }


@pytest.mark.parametrize(
    ("base_url", "return_base_url", "base"),
    [
        ("https://example.com/team-a/", "", "https://example.com/team-a"),
        ("http://inside:8080", "https://out.example.com/", "https://out.example.com"),
    ],
)
def test_the_buyer_comes_back_to_this_airflow_when_the_task_names_no_address(
    run, sandbox, monkeypatch, base_url, return_base_url, base
):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    monkeypatch.setenv("AIRFLOW__CARBONMARK__RETURN_BASE_URL", return_base_url)
    run(CHECKOUT, success_url=None, cancel_url="")
    (checkout,) = sandbox.state.checkouts.values()
    token = r"[\w.-]{20,200}"
    assert re.fullmatch(rf"{base}/carbonmark/return/{token}", checkout.order.success_url)
    assert re.fullmatch(rf"{base}/carbonmark/cancelled/{token}", checkout.order.cancel_url)
    assert checkout.order.success_url.rpartition("/")[2] == checkout.order.cancel_url.rpartition("/")[2]


@pytest.mark.parametrize(("field", "other"), [("success_url", "cancel_url"), ("cancel_url", "success_url")])
def test_the_task_s_own_address_wins(run, sandbox, monkeypatch, field, other):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com")
    run(CHECKOUT, **{field: "https://mine.example.com/here", other: None})
    (checkout,) = sandbox.state.checkouts.values()
    assert getattr(checkout.order, field) == "https://mine.example.com/here"
    assert getattr(checkout.order, other).startswith("https://airflow.example.com/carbonmark/")


# --- what it may cost


@pytest.mark.parametrize("max_cost", ["5.670", Decimal("5.68"), 6, "1e3", None, ""])
def test_up_to_max_cost_is_fine(run, max_cost):
    assert run(QUOTE, max_cost=max_cost)["cost_usd"] == "5.67"


@pytest.mark.parametrize("max_cost", ["5.669999", Decimal("5.66"), 5, 0])
def test_over_max_cost_fails_and_says_both_figures(run, sandbox, max_cost):
    told = rf"5\.67 USD, more than max_cost, {max_cost} USD"
    with pytest.raises(AirflowFailException, match=f"cost {told}"):
        run(QUOTE, max_cost=max_cost)
    with pytest.raises(AirflowFailException, match=f"costs {told}"):
        run(CHECKOUT, max_cost=max_cost, quantity_tonnes="1.5")
    assert sandbox.state.checkouts == {}


def test_what_costs_less_than_can_be_paid_gets_no_link(run, sandbox, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CARBONMARK__MINIMUM_PAYMENT_USD", "1000")
    with pytest.raises(AirflowFailException, match="the least that can be paid, 1000 USD.*Buy more at once"):
        run(CHECKOUT)
    assert sandbox.state.checkouts == {}


# --- what they refuse


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        *((QUOTE, "max_cost", value) for value in ("-1", "nan", "inf", "much", [5])),
        *((QUOTE, "quantity_tonnes", value) for value in ("0.0001", 0, "", True, 0.1 + 0.2)),
        (CHECKOUT, "quantity_tonnes", None),
        (CHECKOUT, "asset_price_source_id", ""),
        (CHECKOUT, "success_url", "https://example.com/paid?run=1"),
        (CHECKOUT, "success_url", " "),
        (CHECKOUT, "cancel_url", "javascript:alert(1)"),
        (CHECKOUT, "beneficiary_name", None),
        (CHECKOUT, "beneficiary_name", "A" * 10_000),
        (CHECKOUT, "retirement_message", "\n"),
        (CHECKOUT, "metadata", {"beneficiary_name": "Somebody else"}),
        (CHECKOUT, "metadata", "cost_center=4711"),
        (CHECKOUT, "metadata", {"at": float("nan")}),
    ],
)
def test_bad_input_fails_without_a_retry_before_anything_is_sent(run, sandbox, path, field, value):
    with pytest.raises(AirflowFailException, match=rf"{field} .*\. \w+") as refused:
        run(path, **{field: value})
    assert len(str(refused.value)) < 600
    assert asked(sandbox, path) == []


def test_where_nobody_says_airflow_s_address_it_is_taken_for_local_and_the_log_says_whom_that_serves(
    run, sandbox, caplog
):
    run(CHECKOUT, success_url=None)
    (checkout,) = sandbox.state.checkouts.values()
    assert checkout.order.success_url.startswith("http://localhost:8080/carbonmark/return/")
    assert "Neither [carbonmark] return_base_url nor [api] base_url is set" in caplog.text


def test_an_answer_whose_address_is_a_script_is_refused(run, sandbox):
    sandbox.state.change_switches(faults=[{"kind": "bad_urls", "path": CHECKOUT}])
    with pytest.raises(UnreadableAnswerError, match="checkout_url|url"):
        run(CHECKOUT)


@each_operator
@pytest.mark.parametrize("key", ["wrong", "cm_api_forbidden_1"])
def test_a_refused_key_fails_without_a_retry_and_stays_secret(run, connect, path, key):
    connect(key)
    with pytest.raises(AirflowFailException, match="HTTP 40[13]") as refused:
        run(path)
    assert key not in str(refused.value)


@each_operator
def test_a_listing_that_is_sold_out_or_gone_fails_without_a_retry(run, listing, path):
    listing.liquid_supply = Decimal(1)
    with pytest.raises(AirflowFailException, match="1 t left, and .* t were asked for.*HTTP 409"):
        run(path)
    with pytest.raises(AirflowFailException, match="no asset price source.*HTTP 404"):
        run(path, asset_price_source_id="listing-137-0xdead")


@each_operator
@pytest.mark.parametrize("fault", [{"kind": "error"}, {"kind": "drop"}])
def test_an_outage_leaves_the_task_to_its_retries(run, sandbox, clock, path, fault):
    sandbox.state.change_switches(faults=[{**fault, "path": path}])
    with pytest.raises(CarbonmarkError) as failed:
        run(path)
    assert not isinstance(failed.value, AirflowFailException)
    assert len(asked(sandbox, path)) == 4
    assert len({each["idempotency_key"] for each in asked(sandbox, path)}) == 1


@pytest.mark.parametrize(
    ("operator", "fields"),
    [
        (CarbonmarkCreateQuoteOperator, "asset_price_source_id quantity_tonnes max_cost"),
        (
            CarbonmarkCreateCheckoutOperator,
            "asset_price_source_id quantity_tonnes beneficiary_name retirement_message success_url cancel_url metadata max_cost",
        ),
        (CarbonmarkRetirementSensor, "payment_id checkout allow_test_mode"),
    ],
)
def test_every_parameter_may_come_from_upstream(operator, fields):
    fields = {*fields.split(), "carbonmark_conn_id"}
    assert {*operator.template_fields} == fields
    task = operator(task_id="any", **dict.fromkeys(fields, "{{ x }}"))
    task.render_template_fields({"x": "rendered"})
    assert {getattr(task, field) for field in fields} == {"rendered"}
