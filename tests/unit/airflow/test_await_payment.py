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
    :ivar on: what happens besides, by the moment at which it does: ``said``, ``looked``, ``asked``.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.requests: list[dict[str, Any]] = []
        self.on: dict[str, Callable[[], object]] = {}
        self.checkout = self.order("link", CHECKOUT["checkout_url"])

    def order(self, task_id: str, url: str) -> dict[str, Any]:
        """Order what a task orders, and return its checkout."""
        id = self.ledger.order(task := Task(RUN, task_id, 2), ORDER, test_mode=False, now=NOW).id
        asked = self.ledger.ask_link(id, task, lambda number: {}, conn_id="carbonmark_default", now=NOW)
        return checkout_of(self.ledger, self.ledger.link_made(id, RUN, asked, url=url, now=NOW))

    def context(self) -> Any:
        ti = SimpleNamespace(id="ti", dag_id=RUN.dag_id, run_id=RUN.run_id, task_id="await", map_index=2)
        return {"ti": ti, "task_instance": ti}

    def ask(self, **request: Any) -> None:
        self.requests.append(request)
        self.happen("asked")

    def record(self, payment_id: str = "pay_1", *, verified: bool = True) -> None:
        """Do what the return URL does first."""
        self.on.clear()
        self.ledger.bring(
            self.checkout["purchase"], 1, payment_id, source=Source.RETURNED, verified=verified, now=NOW
        )

    def happen(self, moment: str) -> None:
        self.on.get(moment, lambda: None)()

    @property
    def tasks(self) -> list[Task]:
        """Who said to wait."""
        return self.ledger.waiting(self.checkout["purchase"])

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
    monkeypatch.setattr("airflow.providers.standard.operators.hitl.upsert_hitl_detail", waiting.ask)
    monkeypatch.setattr("airflow_provider_carbonmark.hooks.api_server.show_again", lambda *arguments: None)
    for name, moment in (("awaits", "said"), ("payments", "looked")):
        monkeypatch.setattr(Ledger, name, _telling(getattr(Ledger, name), waiting, moment))
    return waiting


def _telling(method: Callable[..., Any], waiting: Waiting, moment: str) -> Callable[..., Any]:
    def told(*arguments: Any, **more: Any) -> Any:
        result = method(*arguments, **more)
        waiting.happen(moment)
        return result

    return told


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


def test_it_says_what_it_awaits_before_it_looks_and_looks_again_after_it_asked(waiting: Waiting) -> None:
    seen: list[str] = []
    waiting.on = {moment: lambda moment=moment: seen.append(moment) for moment in ("said", "looked", "asked")}
    waiting.park()

    assert (seen[:2], seen[-2:]) == (["said", "looked"], ["asked", "looked"])
    assert waiting.tasks == [Task(RUN, "await", 2)]


@pytest.mark.parametrize("verified", [True, False])
def test_a_payment_that_came_back_already_needs_no_person(waiting: Waiting, verified: bool) -> None:
    waiting.record(verified=verified)

    assert waiting.operator().execute(waiting.context()) == "pay_1"
    assert waiting.requests == []


@pytest.mark.parametrize("verified", [True, False])
@pytest.mark.parametrize("gap", ["said", "looked", "asked"])
def test_a_buyer_who_comes_back_in_a_gap_is_found(waiting: Waiting, gap: str, verified: bool) -> None:
    waiting.on = {gap: lambda: waiting.record(verified=verified)}

    assert waiting.operator().execute(waiting.context()) == "pay_1"
    assert len(waiting.requests) == (0 if gap == "said" else 1)


def test_a_buyer_who_comes_back_while_notifiers_run_is_found(waiting: Waiting) -> None:
    class Slow(BaseNotifier):
        def notify(self, context: Any) -> None:
            waiting.record()

    assert waiting.operator(notifiers=Slow()).execute(waiting.context()) == "pay_1"


def test_the_payment_of_another_purchase_is_not_taken(waiting: Waiting) -> None:
    other = waiting.order("another", "https://pay.example.com/cs_2")
    waiting.ledger.bring(other["purchase"], 1, "pay_2", source=Source.RETURNED, verified=True, now=NOW)
    waiting.record("pay_2", verified=False)

    waiting.park()


def test_the_request_shows_what_is_to_be_paid_and_lets_decline_without_an_id(waiting: Waiting) -> None:
    waiting.park(response_timeout=timedelta(days=3))
    (request,) = waiting.requests

    assert request["subject"] == "Pay for 12.345 t CO2e, Acme EMEA"
    for told in ("https://pay.example.com/cs_1?a=b#c", "12.345 t", "Acme EMEA", "October"):
        assert told in request["body"]
    assert request["options"] == [PAID, DECLINE, NEW_LINK]
    assert request["multiple"] is False
    assert request["params"][PAYMENT_KEY]["schema"]["type"] == ["null", "string", "object"]
    assert request["params"][PAYMENT_KEY]["value"] is None
    json.dumps(request["params"])


def test_the_form_asks_for_nothing_but_the_payment_id_whatever_params_the_dag_has(waiting: Waiting) -> None:
    with DAG("offset", schedule=None, params={"month": "2026-10", PAYMENT_KEY: "the DAG's own"}):
        task = waiting.operator()
    with pytest.raises(PARKING):
        task.execute(waiting.context())

    assert waiting.requests[0]["params"].keys() == {PAYMENT_KEY}
    assert waiting.requests[0]["params"][PAYMENT_KEY]["value"] is None


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

    assert len(waiting.tasks) == 1


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


@pytest.mark.parametrize("entered", ["pay_9", "  pay_9 \n"])
def test_an_id_entered_by_hand_is_returned(waiting: Waiting, entered: str) -> None:
    assert waiting.resume(answer(payment_id=entered)) == "pay_9"


@pytest.mark.parametrize("entered", [None, "", " ", "../x", "pay 1", "https://a.example/pay_1"])
def test_an_answer_without_a_usable_id_is_asked_for_again(
    waiting: Waiting, entered: str | None, logged: Callable[[], str]
) -> None:
    with pytest.raises(PARKING):
        waiting.resume(answer(payment_id=entered))

    (request,) = waiting.requests
    assert request["params"][PAYMENT_KEY]["value"] is None
    assert "ada has paid but gave no usable payment id, so it is asked for again" in logged()


@pytest.mark.parametrize(("option", "ending"), [(DECLINE, (AirflowSkipException,)), (PAID, PARKING)])
def test_a_form_that_sends_the_whole_field_where_nothing_was_entered_is_understood(
    waiting: Waiting, option: str, ending: tuple[type[BaseException], ...]
) -> None:
    field = {"value": None, "description": "Only if…", "schema": {"type": ["null", "string"]}}

    with pytest.raises(ending):
        waiting.resume(answer(option, field))


def test_a_buyer_who_comes_back_while_it_asks_again_is_found(waiting: Waiting) -> None:
    waiting.on = {"asked": waiting.record}

    assert waiting.resume(answer()) == "pay_1"


def test_what_no_plan_buys_anew_is_asked_for_again_when_a_declined_task_is_cleared(waiting: Waiting) -> None:
    with pytest.raises(AirflowSkipException):
        waiting.resume(answer(DECLINE))
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
