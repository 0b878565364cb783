"""The checkout operator: what it sends, returns and refuses."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from decimal import Decimal

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_carbonmark.api.errors import CarbonmarkError, UnreadableAnswerError
from airflow_provider_carbonmark.hooks.return_url import pay_url
from airflow_provider_carbonmark.ledger.purchase import Run, State, Task
from airflow_provider_carbonmark.operators.carbonmark import CarbonmarkCreateCheckoutOperator
from tests.integration.airflow.conftest import KEY
from tests.integration.airflow.parts import make_context


def sent(sandbox) -> list[dict]:
    return [each for each in sandbox.state.requests if each["path"] == "/checkout"]


def test_the_result_is_plain_json_with_exactly_these_keys(ledger, checkout_operator, sandbox, listing):
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


def test_the_payment_id_is_passed_on_when_the_service_tells_it(checkout_operator, sandbox):
    sandbox.state.change_switches(checkout_layout="rich")
    result = checkout_operator().execute(make_context())
    (checkout,) = sandbox.state.checkouts.values()
    assert result["payment_id"] == checkout.payment_id


@pytest.mark.parametrize(("key", "environment"), [("cm_api_sandbox_1", None), (KEY, "test")])
def test_what_a_test_connection_makes_says_so(checkout_operator, connect, key, environment):
    connect(key, environment=environment)
    assert checkout_operator().execute(make_context())["test_mode"] is True


def test_metadata_goes_along_with_beneficiary_and_message(checkout_operator, sandbox):
    checkout_operator(metadata={"cost_center": "4711"}, beneficiary_name="Zoë & Söhne <b>").execute(
        make_context()
    )
    assert json.loads(sent(sandbox)[0]["body"])["metadata"] == {
        "cost_center": "4711",
        "beneficiary_name": "Zoë & Söhne <b>",
        "retirement_message": "Cloud emissions of July 2026",
    }


TOKEN = r"[\w.-]{20,200}"


@pytest.mark.parametrize(
    ("settings", "base"),
    [
        ({"API__BASE_URL": "https://airflow.example.com"}, "https://airflow.example.com"),
        ({"API__BASE_URL": "https://example.com/team-a/"}, "https://example.com/team-a"),
        (
            {
                "API__BASE_URL": "http://inside:8080",
                "CARBONMARK__RETURN_BASE_URL": "https://out.example.com/",
            },
            "https://out.example.com",
        ),
    ],
)
def test_the_buyer_comes_back_to_this_airflow_when_the_task_names_no_address(
    checkout_operator, sandbox, monkeypatch, settings, base
):
    for name, value in settings.items():
        monkeypatch.setenv(f"AIRFLOW__{name}", value)
    checkout_operator(success_url=None, cancel_url="").execute(make_context())
    (checkout,) = sandbox.state.checkouts.values()
    assert re.fullmatch(rf"{base}/carbonmark/return/{TOKEN}", checkout.order.success_url)
    assert re.fullmatch(rf"{base}/carbonmark/cancelled/{TOKEN}", checkout.order.cancel_url)
    assert checkout.order.success_url.rpartition("/")[2] == checkout.order.cancel_url.rpartition("/")[2]


@pytest.mark.parametrize("field", ["success_url", "cancel_url"])
def test_the_task_s_own_address_wins(checkout_operator, sandbox, monkeypatch, field):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com")
    other = {"success_url": "cancel_url", "cancel_url": "success_url"}[field]
    checkout_operator(**{field: "https://mine.example.com/here", other: None}).execute(make_context())
    (checkout,) = sandbox.state.checkouts.values()
    assert getattr(checkout.order, field) == "https://mine.example.com/here"
    assert getattr(checkout.order, other).startswith("https://airflow.example.com/carbonmark/")


def test_without_an_address_of_this_airflow_both_remedies_are_named(checkout_operator, sandbox):
    with pytest.raises(
        AirflowFailException, match=r"return_base_url is not set, nor is \[api\] base_url.*success_url"
    ):
        checkout_operator(success_url=None).execute(make_context())
    assert sent(sandbox) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("success_url", "https://example.com/paid?run=1"),
        ("success_url", "/paid"),
        ("success_url", " "),
        ("cancel_url", "javascript:alert(1)"),
        ("cancel_url", " "),
        ("beneficiary_name", ""),
        ("beneficiary_name", None),
        ("beneficiary_name", "A" * 10_000),
        ("retirement_message", "\n"),
        ("retirement_message", "x" * 10_000),
        ("quantity_tonnes", "0.0001"),
        ("quantity_tonnes", None),
        ("asset_price_source_id", ""),
        ("metadata", {"beneficiary_name": "Somebody else"}),
        ("metadata", {"retirement_message": "x"}),
        ("metadata", "cost_center=4711"),
        ("metadata", ["cost_center"]),
        ("metadata", {"at": Decimal("1.5")}),
        ("metadata", {"at": float("nan")}),
    ],
)
def test_bad_input_fails_without_a_retry_before_anything_is_sent(checkout_operator, sandbox, field, value):
    with pytest.raises(AirflowFailException, match=field) as refused:
        checkout_operator(**{field: value}).execute(make_context())
    assert len(str(refused.value)) < 600
    assert "." in str(refused.value)
    assert sent(sandbox) == []


def test_an_answer_whose_address_is_a_script_is_refused(checkout_operator, sandbox):
    sandbox.state.change_switches(faults=[{"kind": "bad_urls", "path": "/checkout"}])
    with pytest.raises(UnreadableAnswerError, match="checkout_url|url"):
        checkout_operator().execute(make_context())


@pytest.mark.parametrize("key", ["wrong", "", "cm_api_forbidden_1"])
def test_a_refused_key_fails_without_a_retry_and_stays_secret(checkout_operator, connect, key):
    connect(key)
    with pytest.raises(AirflowFailException, match="40[13]") as refused:
        checkout_operator().execute(make_context())
    assert not key or key not in str(refused.value)


def test_a_sold_out_listing_fails_without_a_retry(checkout_operator, listing):
    listing.liquid_supply = Decimal(1)
    with pytest.raises(AirflowFailException, match="1 t left.*HTTP 409"):
        checkout_operator().execute(make_context())


def test_an_unknown_listing_fails_without_a_retry(checkout_operator):
    with pytest.raises(AirflowFailException, match="no asset price source.*HTTP 404"):
        checkout_operator(asset_price_source_id="listing-137-0xdead").execute(make_context())


@pytest.mark.parametrize("fault", ["error", "drop", "drop_mid_body"])
def test_an_outage_leaves_the_task_to_its_retries(checkout_operator, sandbox, clock, fault):
    sandbox.state.change_switches(faults=[{"kind": fault, "path": "/checkout"}])
    with pytest.raises(CarbonmarkError) as failed:
        checkout_operator().execute(make_context())
    assert not isinstance(failed.value, AirflowFailException)
    assert len(sent(sandbox)) == 4
    assert len({each["idempotency_key"] for each in sent(sandbox)}) == 1


def test_every_parameter_may_come_from_upstream(checkout_operator):
    fields = set(CarbonmarkCreateCheckoutOperator.template_fields)
    assert fields == {
        "asset_price_source_id",
        "quantity_tonnes",
        "beneficiary_name",
        "retirement_message",
        "success_url",
        "cancel_url",
        "metadata",
        "max_cost",
        "carbonmark_conn_id",
    }
    operator = checkout_operator(
        **{field: "{{ x }}" for field in fields if field != "metadata"}, metadata={"a": "{{ x }}"}
    )
    operator.render_template_fields({"x": "rendered"})
    values = {getattr(operator, field) for field in fields - {"metadata"}}
    assert values == {"rendered"}
    assert operator.metadata == {"a": "rendered"}
