"""The operator that waits for a payment, with a ledger of its own and a stand-in for human-in-the-loop requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import airflow.sdk.exceptions
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, BaseNotifier
from airflow.providers.standard.operators import hitl
from airflow.sdk import DAG
from markdown_it import MarkdownIt
from sqlalchemy import NullPool, create_engine

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.hooks.checkout import checkout_of
from airflow_provider_carbonmark.ledger import Ledger
from airflow_provider_carbonmark.ledger.names import Run, Source, Task
from airflow_provider_carbonmark.ledger.purchase import Order
from airflow_provider_carbonmark.operators.payment import (
    DECLINE,
    NEW_LINK,
    PAID,
    PARKING,
    PAYMENT_KEY,
    CarbonmarkAwaitPaymentOperator,
)
from airflow_provider_carbonmark.operators.request import default_body, default_subject

NOW = datetime(2026, 11, 21, tzinfo=UTC)
RUN = Run("offset", "2026-10")
ORDER = Order("listing-137-0xabc", Decimal("12.345"), "Acme EMEA", "Emissions of October")
CHECKOUT = {
    "purchase": 7,
    "checkout_url": "https://pay.example.com/cs_1?a=b#c",
    "quantity_tonnes": "12.345",
    "beneficiary_name": "Acme EMEA",
    "retirement_message": "Emissions of October",
    "test_mode": False,
}


class Waiting:
    """
    A purchase with its link, and the task that waits for its payment.

    :ivar requests: what was asked of people, oldest first.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.requests: list[dict[str, Any]] = []
        self.checkout = self.order("link", CHECKOUT["checkout_url"])

    def order(self, task_id: str, url: str) -> dict[str, Any]:
        """Order what a task orders, and return its checkout."""
        id = self.ledger.order(task := Task(RUN, task_id, 2), ORDER, test_mode=False, now=NOW).id
        asked = self.ledger.ask_link(id, task, lambda number: {}, conn_id="carbonmark_default", now=NOW)
        return checkout_of(self.ledger, self.ledger.link_made(id, RUN, asked, url=url, now=NOW))

    def context(self) -> Any:
        ti = SimpleNamespace(id="ti", dag_id=RUN.dag_id, run_id=RUN.run_id, task_id="await", map_index=2)
        return {"ti": ti, "task_instance": ti}

    def record(self, *, verified: bool = True) -> None:
        """Do what the return URL does first."""
        about = {"source": Source.RETURNED, "verified": verified, "now": NOW}
        self.ledger.bring(self.checkout["purchase"], 1, "pay_1", **about)

    def operator(self, **arguments: Any) -> CarbonmarkAwaitPaymentOperator:
        return CarbonmarkAwaitPaymentOperator(task_id="await", **{"checkout": self.checkout, **arguments})

    def resume(self, event: dict[str, Any], **arguments: Any) -> str | None:
        """Answer the task, and return what it makes of that."""
        return self.operator(**arguments).execute_complete(self.context(), event)

    def park(self, **arguments: Any) -> BaseException:
        with pytest.raises(PARKING) as parked:
            self.operator(**arguments).execute(self.context())
        return parked.value


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Waiting:
    # Carbonmark is out of reach.
    connection = {"conn_type": "carbonmark", "host": "http://127.0.0.1:9", "extra": {"environment": "test"}}
    monkeypatch.setenv("AIRFLOW_CONN_CARBONMARK_DEFAULT", json.dumps(connection))
    file = tmp_path / "ledger.db"
    monkeypatch.setenv("AIRFLOW__CARBONMARK__LEDGER_PATH", str(file))
    waiting = Waiting(Ledger(create_engine(f"sqlite:///{file}", poolclass=NullPool)))
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **request: waiting.requests.append(request))
    monkeypatch.setattr("airflow_provider_carbonmark.hooks.api_server.show_again", lambda *arguments: None)
    return waiting


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return a function that returns what was logged, which some versions of Airflow print."""
    return lambda: caplog.text + capsys.readouterr().out


def answer(option: str = PAID, payment_id: object = None) -> dict[str, Any]:
    return {
        "chosen_options": [option],
        "params_input": {PAYMENT_KEY: payment_id},
        "responded_at": datetime(2026, 11, 21, tzinfo=UTC),
        "responded_by_user": {"id": "7", "name": "ada"},
        "timedout": False,
    }


def test_it_parks_without_a_trigger_where_airflow_can(waiting: Waiting) -> None:
    parked = waiting.park()

    assert parked.method_name == "execute_complete"
    if hasattr(airflow.sdk.exceptions, "TaskAwaitingInput"):
        assert type(parked).__name__ == "TaskAwaitingInput"
    else:
        assert type(parked.trigger).__name__ == "HITLTrigger"


# After each of these, a buyer may come back.
MOMENTS = {"said": (Ledger, "awaits"), "looked": (Ledger, "payments"), "asked": (hitl, "upsert_hitl_detail")}


@pytest.mark.parametrize("verified", [True, False])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_buyer_who_comes_back_before_it_parks_is_found(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch, moment: str, verified: bool
) -> None:
    place, name = MOMENTS[moment]
    real = getattr(place, name)

    def followed(*arguments: Any, **more: Any) -> Any:
        result = real(*arguments, **more)
        monkeypatch.setattr(place, name, real)
        # The return URL wakes who says to wait.
        assert waiting.ledger.waiting(waiting.checkout["purchase"]) == [Task(RUN, "await", 2)]
        waiting.record(verified=verified)
        return result

    monkeypatch.setattr(place, name, followed)
    assert waiting.operator().execute(waiting.context()) == "pay_1"
    assert len(waiting.requests) == (0 if moment == "said" else 1)


def test_the_request_shows_what_is_to_be_paid_and_asks_for_nothing_but_an_id_that_may_be_left_out(
    waiting: Waiting,
) -> None:
    with DAG("offset", schedule=None, params={"month": "2026-10", PAYMENT_KEY: "the DAG's own"}):
        task = waiting.operator(response_timeout=timedelta(days=3))
    with pytest.raises(PARKING):
        task.execute(waiting.context())
    (request,) = waiting.requests

    assert request["subject"] == "Pay for 12.345 t CO2e, Acme EMEA"
    for told in ("https://pay.example.com/cs_1?a=b#c", "12.345 t", "Acme EMEA", "October"):
        assert told in request["body"]
    assert request["options"] == [PAID, DECLINE, NEW_LINK]
    assert request["multiple"] is False
    assert request["params"].keys() == {PAYMENT_KEY}
    assert request["params"][PAYMENT_KEY]["schema"]["type"] == ["null", "string", "object"]
    assert request["params"][PAYMENT_KEY]["value"] is None
    json.dumps(request["params"])


def test_an_authors_own_subject_body_and_assigned_users_are_kept(waiting: Waiting) -> None:
    waiting.park(subject="Please pay", body="*Now*", assigned_users={"id": "1", "name": "ada"})
    (request,) = waiting.requests

    assert (request["subject"], request["body"]) == ("Please pay", "*Now*")
    assert request["assigned_users"] == [{"id": "1", "name": "ada"}]


def test_a_notifiers_template_sees_the_checkout_and_the_purchase_of_each_task_that_it_is_given_to(
    waiting: Waiting,
) -> None:
    told = []

    class Told(BaseNotifier):
        template_fields = ("text",)

        def __init__(self) -> None:
            super().__init__()
            self.text = "{{ purchase.for_whom }}: {{ checkout.checkout_url }}"

        def notify(self, context: Any) -> None:
            told.append(self.text)

    notifier, other = Told(), "https://pay.example.com/cs_2"
    waiting.park(notifiers=notifier)
    waiting.park(notifiers=notifier, checkout=waiting.order("other", other))

    whom = "12.345 t for Acme EMEA"
    assert told == [f"{whom}: {CHECKOUT['checkout_url']}", f"{whom}: {other}"]


def test_the_checkout_may_come_as_json_text(waiting: Waiting) -> None:
    waiting.park(checkout=json.dumps(waiting.checkout))

    assert waiting.requests


@pytest.mark.parametrize(
    ("checkout", "problem"),
    [
        (None, "is not a mapping"),
        ("", "is not a mapping"),
        ("[1]", "is not a mapping"),
        ({**CHECKOUT, "purchase": None}, "lacks purchase"),
        ({"checkout_url": "https://a.example"}, "lacks purchase and quantity_tonnes and beneficiary_name"),
        ({**CHECKOUT, "checkout_url": "javascript:alert(1)"}, "checkout checkout_url"),
    ],
)
def test_what_is_no_checkout_fails_without_a_retry_and_says_what_to_pass(
    waiting: Waiting, checkout: Any, problem: str
) -> None:
    with pytest.raises(AirflowFailException, match=problem):
        waiting.operator(checkout=checkout).execute(waiting.context())
    assert waiting.requests == []


def test_an_id_entered_by_hand_is_returned(waiting: Waiting) -> None:
    assert waiting.resume(answer(payment_id="  pay_9 \n")) == "pay_9"


# What the form sends where nothing was entered.
FIELD = {"value": None, "description": "Only if…", "schema": {"type": ["null", "string"]}}


@pytest.mark.parametrize(
    ("entered", "said"),
    [*((nothing, "Enter the payment id") for nothing in (None, " ", FIELD)), ("../x", "“../x”")],
)
def test_an_answer_without_a_usable_id_is_asked_for_again(
    waiting: Waiting, entered: object, said: str, logged: Callable[[], str]
) -> None:
    with pytest.raises(PARKING):
        waiting.resume(answer(payment_id=entered))

    (request,) = waiting.requests
    assert request["body"].startswith(f"**{said}")
    assert request["params"][PAYMENT_KEY]["value"] is None
    assert "ada has paid but gave no usable payment id, so it is asked for again" in logged()


def test_what_no_plan_buys_anew_is_asked_for_again_when_a_declined_task_is_cleared(waiting: Waiting) -> None:
    with pytest.raises(AirflowSkipException):
        waiting.resume(answer(DECLINE, FIELD))
    waiting.park()
    waiting.record()

    assert waiting.operator().execute(waiting.context()) == "pay_1"


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (answer(payment_id="pay_1"), ""),
        (answer(), ""),
        (answer(payment_id="pay_2"), "ada answered otherwise, but pay_1 was paid"),
        (answer(DECLINE), "ada answered otherwise, but pay_1 was paid"),
        ({"error": "late", "error_type": "timeout"}, ""),
    ],
    ids=["by the return URL", "without an id", "with another id", "declined", "too late"],
)
def test_a_recorded_payment_counts_whatever_the_form_says(
    waiting: Waiting, logged: Callable[[], str], event: dict[str, Any], told: str
) -> None:
    waiting.record()

    assert waiting.resume(event) == "pay_1"
    assert told in logged()


def test_a_try_that_airflow_fails_is_followed_by_another_unless_the_author_says_otherwise() -> None:
    with DAG("offset", schedule=None, default_args={"retries": 1}):
        by_default = CarbonmarkAwaitPaymentOperator(task_id="await", checkout=CHECKOUT)
    without = CarbonmarkAwaitPaymentOperator(task_id="await", checkout=CHECKOUT, retries=0)
    alone = CarbonmarkAwaitPaymentOperator(task_id="await", checkout=CHECKOUT)

    assert (alone.retries, without.retries, by_default.retries) == (3, 0, 1)


def test_a_response_timeout_fails_without_a_retry_and_says_what_to_do(waiting: Waiting) -> None:
    event = {"error": "too late", "error_type": "timeout"}
    with pytest.raises(AirflowFailException, match="within 3 days.*clear this task"):
        waiting.resume(event, response_timeout=timedelta(days=3))


def test_an_unknown_way_to_decline_is_refused_where_the_dag_is_written() -> None:
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
def test_names_are_shown_as_they_are(name: str) -> None:
    body = default_body({**CHECKOUT, "beneficiary_name": name, "retirement_message": name}, Decimal(1))
    tokens = MarkdownIt("commonmark").parse(body)
    inline = [token for token in tokens if token.type == "inline"]

    shown = ["".join(part.content for part in token.children) for token in inline]
    assert shown[3] == f"Beneficiary: {' '.join(name.split())}"
    assert shown[4] == f"Message: {' '.join(name.split())}"
    assert [
        part.attrs["href"] for token in inline for part in token.children if part.type == "link_open"
    ] == [CHECKOUT["checkout_url"]]
    assert not [part for token in inline for part in token.children if part.type == "html_inline"]


@pytest.mark.parametrize("url", ["https://a.example/)x", "https://a.example/<b>", "https://a.example/`x`"])
def test_no_character_of_the_link_ends_it(url: str) -> None:
    tokens = MarkdownIt("commonmark").parse(default_body({**CHECKOUT, "checkout_url": url}))
    (href,) = [
        part.attrs["href"] for token in tokens for part in token.children or [] if part.type == "link_open"
    ]

    assert href.startswith("https://a.example/")
    assert not set(href) & set("<>` ")


def test_a_rehearsal_says_so() -> None:
    assert "nothing is retired" in default_body({**CHECKOUT, "test_mode": True})
    assert "nothing is retired" not in default_body(CHECKOUT)


def test_the_headline_is_plain_text() -> None:
    assert default_subject({**CHECKOUT, "beneficiary_name": "A*B"}) == "Pay for 12.345 t CO2e, A*B"
