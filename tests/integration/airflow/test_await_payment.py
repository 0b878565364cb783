"""The operator that waits for a payment, of a purchase that no plan made, while Carbonmark is out of reach."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from functools import partial

import airflow.sdk.exceptions
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.sdk import DAG
from markdown_it import MarkdownIt

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.ledger import Ledger
from airflow_provider_carbonmark.operators.payment import (
    DECLINE,
    NEW_LINK,
    PAID,
    PARKING,
    PAYMENT_KEY,
    CarbonmarkAwaitPaymentOperator,
)
from airflow_provider_carbonmark.operators.request import default_body, default_subject
from tests.integration.airflow.model import Airflow, answer, declined, paid
from tests.integration.airflow.parts import Told, make_context
from tests.integration.conftest import NOWHERE

CHECKOUT = {
    "purchase": 7,
    "checkout_url": "https://pay.example.com/cs_1?a=b#c",
    "quantity_tonnes": "12.345",
    "beneficiary_name": "Acme EMEA",
    "retirement_message": "Emissions of October",
    "test_mode": False,
}


@pytest.fixture
def checkout(checkout_operator, ledger, connect):
    """A link that a task made without a plan."""
    made = checkout_operator().execute(make_context())
    connect(host=NOWHERE)
    return made


@pytest.fixture
def await_payment(dag_run, checkout):
    """Return a function that runs the task that awaits its payment, from its beginning or from an answer."""
    return partial(dag_run.run, "payment", checkout=checkout)


@pytest.fixture
def request_of(dag_run, await_payment):
    """Return a function that lets the task park, and returns what it asks people."""

    def request_of(**arguments):
        with pytest.raises(PARKING):
            await_payment(**arguments)
        return dag_run.airflow.requests[dag_run.task("payment")]

    return request_of


def test_it_parks_without_a_trigger_where_airflow_can(await_payment):
    with pytest.raises(PARKING) as parked:
        await_payment()
    assert parked.value.method_name == "execute_complete"
    if hasattr(airflow.sdk.exceptions, "TaskAwaitingInput"):
        assert type(parked.value).__name__ == "TaskAwaitingInput"
    else:
        assert type(parked.value.trigger).__name__ == "HITLTrigger"


# After each of these, a buyer may come back.
MOMENTS = {"said": (Ledger, "awaits"), "looked": (Ledger, "payments"), "asked": (Airflow, "ask")}


@pytest.mark.parametrize("verified", [True, False])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_buyer_who_comes_back_before_it_parks_is_found(
    dag_run, ledger, checkout, await_payment, monkeypatch, moment, verified
):
    place, name = MOMENTS[moment]
    real = getattr(place, name)

    def followed(*arguments, **more):
        result = real(*arguments, **more)
        monkeypatch.setattr(place, name, real)
        # The return URL wakes who says to wait.
        assert ledger.waiting(checkout["purchase"]) == [dag_run.task("payment")]
        dag_run.airflow.come_back(checkout, "pay_1", verified=verified)
        return result

    monkeypatch.setattr(place, name, followed)
    assert await_payment() == "pay_1"
    assert len(dag_run.airflow.requests) == (0 if moment == "said" else 1)


def test_the_request_shows_what_is_to_be_paid_and_asks_for_nothing_but_an_id_that_may_be_left_out(
    request_of, checkout
):
    with DAG("offset", schedule=None, params={"month": "2026-10", PAYMENT_KEY: "the DAG's own"}):
        request = request_of(response_timeout=timedelta(days=3))
    assert request["subject"] == "Pay for 1.234 t CO2e, Acme GmbH"
    for told in (checkout["pay_url"], "1.234 t", "Acme GmbH", "July"):
        assert told in request["body"]
    assert request["options"] == [PAID, DECLINE, NEW_LINK]
    assert request["multiple"] is False
    assert request["params"].keys() == {PAYMENT_KEY}
    assert request["params"][PAYMENT_KEY]["schema"]["type"] == ["null", "string", "object"]
    assert request["params"][PAYMENT_KEY]["value"] is None
    json.dumps(request["params"])


def test_an_authors_own_subject_body_and_assigned_users_are_kept(request_of):
    request = request_of(subject="Please pay", body="*Now*", assigned_users={"id": "1", "name": "ada"})
    assert (request["subject"], request["body"]) == ("Please pay", "*Now*")
    assert request["assigned_users"] == [{"id": "1", "name": "ada"}]


def test_a_notifiers_template_sees_the_checkout_and_the_purchase_of_each_task_that_it_is_given_to(
    request_of, checkout, checkout_operator, connect
):
    connect()
    other = checkout_operator().execute(make_context(run_id="other"))
    notifier = Told("{{ purchase.for_whom }}: {{ checkout.checkout_url }}")
    request_of(notifiers=notifier)
    request_of(notifiers=notifier, checkout=other)
    assert notifier.told == [f"1.234 t for Acme GmbH: {each['checkout_url']}" for each in (checkout, other)]


def test_the_checkout_may_come_as_json_text(request_of, checkout):
    assert request_of(checkout=json.dumps(checkout))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (None, "is not a mapping"),
        ("", "is not a mapping"),
        ("[1]", "is not a mapping"),
        ({**CHECKOUT, "purchase": None}, "lacks purchase"),
        ({"checkout_url": "https://a.example"}, "lacks purchase and quantity_tonnes and beneficiary_name"),
        ({**CHECKOUT, "checkout_url": "javascript:alert(1)"}, "checkout checkout_url"),
    ],
)
def test_what_is_no_checkout_fails_without_a_retry_and_says_what_to_pass(dag_run, given, problem):
    with pytest.raises(AirflowFailException, match=problem):
        dag_run.run("payment", checkout=given)
    assert dag_run.airflow.requests == {}


def test_an_id_entered_by_hand_is_returned(await_payment):
    assert await_payment(event=answer(PAID, "  pay_9 \n")) == "pay_9"


def test_what_was_entered_is_not_in_the_form_that_is_shown_again(request_of):
    request = request_of(event=answer(PAID, "../x"))
    assert request["params"][PAYMENT_KEY]["value"] is None


def test_what_no_plan_buys_anew_is_asked_for_again_when_a_declined_task_is_cleared(
    dag_run, checkout, await_payment, request_of
):
    with pytest.raises(AirflowSkipException):
        await_payment(event=declined)
    assert request_of()
    dag_run.airflow.come_back(checkout, "pay_1")
    assert await_payment() == "pay_1"


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (answer(PAID, "pay_1"), ""),
        (paid, ""),
        (answer(PAID, "pay_2"), "ada answered otherwise, but pay_1 was paid"),
        (declined, "ada answered otherwise, but pay_1 was paid"),
        ({"error": "late", "error_type": "timeout"}, ""),
    ],
    ids=["by the return URL", "without an id", "with another id", "declined", "too late"],
)
def test_a_recorded_payment_counts_whatever_the_form_says(
    dag_run, checkout, await_payment, logged, event, told
):
    dag_run.airflow.come_back(checkout, "pay_1")
    assert await_payment(event=event) == "pay_1"
    assert told in logged()


def test_a_try_that_airflow_fails_is_followed_by_another_unless_the_author_says_otherwise():
    with DAG("offset", schedule=None, default_args={"retries": 1}):
        by_default = CarbonmarkAwaitPaymentOperator(task_id="await", checkout=CHECKOUT)
    without = CarbonmarkAwaitPaymentOperator(task_id="await", checkout=CHECKOUT, retries=0)
    alone = CarbonmarkAwaitPaymentOperator(task_id="await", checkout=CHECKOUT)

    assert (alone.retries, without.retries, by_default.retries) == (3, 0, 1)


def test_a_response_timeout_fails_without_a_retry_and_says_what_to_do(await_payment):
    event = {"error": "too late", "error_type": "timeout"}
    with pytest.raises(AirflowFailException, match="within 3 days.*clear this task"):
        await_payment(event=event, response_timeout=timedelta(days=3))


def test_an_unknown_way_to_decline_is_refused_where_the_dag_is_written():
    with pytest.raises(InvalidInputError, match="on_declined.*skip or fail"):
        CarbonmarkAwaitPaymentOperator(task_id="await", checkout=CHECKOUT, on_declined="ignore")


@pytest.mark.parametrize(
    "name",
    [
        "**Acme** <img src=x onerror=alert(1)>",
        "[pay here](https://evil.example)",
        "`code` _it_ ~~no~~",
        "back\\slash",
        "&lt;b&gt;",
        "two\n\n# lines\n- and a list",
    ],
)
def test_names_are_shown_as_they_are(name):
    text = default_body({**CHECKOUT, "beneficiary_name": name, "retirement_message": name}, Decimal(1))
    tokens = MarkdownIt("commonmark").parse(text)
    inline = [token for token in tokens if token.type == "inline"]

    shown = ["".join(part.content for part in token.children) for token in inline]
    assert shown[3] == f"Beneficiary: {' '.join(name.split())}"
    assert shown[4] == f"Message: {' '.join(name.split())}"
    assert [
        part.attrs["href"] for token in inline for part in token.children if part.type == "link_open"
    ] == [CHECKOUT["checkout_url"]]
    assert not [part for token in inline for part in token.children if part.type == "html_inline"]


@pytest.mark.parametrize("url", ["https://a.example/)x", "https://a.example/<b>", "https://a.example/`x`"])
def test_no_character_of_the_link_ends_it(url):
    tokens = MarkdownIt("commonmark").parse(default_body({**CHECKOUT, "checkout_url": url}))
    (href,) = [
        part.attrs["href"] for token in tokens for part in token.children or [] if part.type == "link_open"
    ]

    assert href.startswith("https://a.example/")
    assert not set(href) & set("<>` ")


def test_a_rehearsal_says_so():
    assert "nothing is retired" in default_body({**CHECKOUT, "test_mode": True})
    assert "nothing is retired" not in default_body(CHECKOUT)


def test_the_headline_is_plain_text():
    assert default_subject({**CHECKOUT, "beneficiary_name": "A*B"}) == "Pay for 12.345 t CO2e, A*B"
