"""The operator that waits for a payment, with a stand-in for the XComs and the human-in-the-loop requests of one run."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import airflow.sdk.exceptions
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, BaseNotifier
from airflow.sdk import DAG
from markdown_it import MarkdownIt

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.operators.payment import (
    DECLINE,
    PAID,
    PARKING,
    CarbonmarkAwaitPaymentOperator,
    default_body,
    default_subject,
)
from airflow_provider_carbonmark.web.link import PAYMENT_KEY, LinkKey

LINK = {"dag_id": "offset", "run_id": "2026-10", "task_id": "checkout", "map_index": 2}
AWAITS_KEY = LinkKey(**LINK).awaits_key
CHECKOUT = {
    "checkout_url": "https://pay.example.com/cs_1?a=b#c",
    "payment_id": None,
    "asset_price_source_id": "listing-137-0xabc",
    "quantity_tonnes": "12.345",
    "beneficiary_name": "Acme EMEA",
    "retirement_message": "Emissions of October",
    "test_mode": False,
    **LINK,
}


class Run:
    """
    One run as its tasks see it.

    :ivar requests: what was asked of people, oldest first.
    :ivar on: what happens besides, by the moment at which it does: ``pushed``, ``pulled``, ``asked``.
    """

    def __init__(self) -> None:
        self.xcoms: dict[tuple[str, int, str], Any] = {}
        self.requests: list[dict[str, Any]] = []
        self.pulls: list[dict[str, Any]] = []
        self.on: dict[str, Callable[[], None]] = {}

    def context(self) -> Any:
        ti = SimpleNamespace(
            id="ti", dag_id="offset", run_id="2026-10", task_id="await", map_index=2, xcom_push=self.push
        )
        ti.xcom_pull = self.pull
        return {"ti": ti, "task_instance": ti}

    def push(self, key: str, value: Any) -> None:
        self.xcoms["await", 2, key] = value
        self._happen("pushed")

    def pull(self, *, dag_id: str, run_id: str, task_ids: str, map_indexes: int, key: str) -> Any:
        assert (dag_id, run_id) == ("offset", "2026-10")
        value = self.xcoms.get((task_ids, map_indexes, key))
        self._happen("pulled")
        return value

    def ask(self, **request: Any) -> None:
        self.requests.append(request)
        self._happen("asked")

    def record(self, payment_id: str = "pay_1") -> None:
        """Do what the return URL does first."""
        self.xcoms["checkout", 2, PAYMENT_KEY] = payment_id

    def _happen(self, moment: str) -> None:
        self.on.get(moment, lambda: None)()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    run = Run()
    # Carbonmark is out of reach.
    monkeypatch.setenv(
        "AIRFLOW_CONN_CARBONMARK_DEFAULT",
        json.dumps(
            {"conn_type": "carbonmark", "host": "http://127.0.0.1:9", "extra": {"environment": "test"}}
        ),
    )
    monkeypatch.setattr("airflow.providers.standard.operators.hitl.upsert_hitl_detail", run.ask)
    return run


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return a function that returns what was logged, which some versions of Airflow print."""
    return lambda: caplog.text + capsys.readouterr().out


def operator(**arguments: Any) -> CarbonmarkAwaitPaymentOperator:
    return CarbonmarkAwaitPaymentOperator(task_id="await", **{"checkout": CHECKOUT, **arguments})


def answer(option: str = PAID, payment_id: str | None = None) -> dict[str, Any]:
    return {
        "chosen_options": [option],
        "params_input": {PAYMENT_KEY: payment_id},
        "responded_at": datetime(2026, 11, 21, tzinfo=UTC),
        "responded_by_user": {"id": "7", "name": "ada"},
        "timedout": False,
    }


def assert_parks(task: CarbonmarkAwaitPaymentOperator, context: Any) -> BaseException:
    with pytest.raises(PARKING) as parked:
        task.execute(context)
    return parked.value


def test_it_parks_without_a_trigger_where_airflow_can(run: Run) -> None:
    parked = assert_parks(operator(), run.context())

    assert parked.method_name == "execute_complete"
    if hasattr(airflow.sdk.exceptions, "TaskAwaitingInput"):
        assert type(parked).__name__ == "TaskAwaitingInput"
    else:
        assert type(parked.trigger).__name__ == "HITLTrigger"


def test_it_says_which_link_it_awaits_before_it_looks_and_asks(run: Run) -> None:
    seen = []
    run.on = {
        "pulled": lambda: seen.append(("pulled", AWAITS_KEY in {key for *_, key in run.xcoms})),
        "asked": lambda: seen.append(("asked", len(run.requests))),
    }
    assert_parks(operator(), run.context())

    assert seen == [("pulled", True), ("asked", 1), ("pulled", True)]
    assert run.xcoms["await", 2, AWAITS_KEY] == LINK


def test_a_payment_that_is_recorded_already_needs_no_person(run: Run) -> None:
    run.record()

    assert operator().execute(run.context()) == "pay_1"
    assert run.requests == []


@pytest.mark.parametrize("gap", ["pushed", "asked"])
def test_a_buyer_who_comes_back_in_a_gap_is_found(run: Run, gap: str) -> None:
    run.on = {gap: run.record}

    assert operator().execute(run.context()) == "pay_1"


def test_a_buyer_who_comes_back_between_the_first_look_and_the_request_is_found(run: Run) -> None:
    run.on = {"pulled": run.record}

    assert operator().execute(run.context()) == "pay_1"
    assert len(run.requests) == 1


def test_a_buyer_who_comes_back_while_notifiers_run_is_found(run: Run) -> None:
    class Slow(BaseNotifier):
        def notify(self, context: Any) -> None:
            run.record()

    assert operator(notifiers=Slow()).execute(run.context()) == "pay_1"


def test_the_payment_of_another_map_index_is_not_taken(run: Run) -> None:
    run.xcoms["checkout", 1, PAYMENT_KEY] = "pay_other"

    assert_parks(operator(), run.context())


def test_the_request_shows_what_is_to_be_paid_and_lets_decline_without_an_id(run: Run) -> None:
    assert_parks(operator(cost_usd="46.66", response_timeout=timedelta(days=3)), run.context())
    (request,) = run.requests

    assert request["subject"] == "Pay for 12.345 t CO2e, Acme EMEA"
    for told in ("https://pay.example.com/cs_1?a=b#c", "12.345 t", "46.66 USD", "Acme EMEA", "October"):
        assert told in request["body"]
    assert request["options"] == [PAID, DECLINE]
    assert request["multiple"] is False
    assert request["params"][PAYMENT_KEY]["schema"]["type"] == ["null", "string"]
    assert request["params"][PAYMENT_KEY]["value"] is None
    json.dumps(request["params"])


def test_the_form_asks_for_nothing_but_the_payment_id_whatever_params_the_dag_has(run: Run) -> None:
    with DAG("offset", schedule=None, params={"month": "2026-10", PAYMENT_KEY: "the DAG's own"}):
        task = operator()
    assert_parks(task, run.context())

    assert run.requests[0]["params"].keys() == {PAYMENT_KEY}
    assert run.requests[0]["params"][PAYMENT_KEY]["value"] is None


def test_an_authors_own_subject_and_body_are_kept(run: Run) -> None:
    assert_parks(operator(subject="Please pay", body="*Now*"), run.context())

    assert (run.requests[0]["subject"], run.requests[0]["body"]) == ("Please pay", "*Now*")


def test_the_assigned_users_are_passed_on(run: Run) -> None:
    assert_parks(operator(assigned_users={"id": "1", "name": "ada"}), run.context())

    assert run.requests[0]["assigned_users"] == [{"id": "1", "name": "ada"}]


def test_a_notifiers_template_sees_the_checkout(run: Run) -> None:
    told = []

    class Told(BaseNotifier):
        template_fields = ("text",)

        def __init__(self) -> None:
            super().__init__()
            self.text = "{{ checkout.quantity_tonnes }} t: {{ checkout.checkout_url }}"

        def notify(self, context: Any) -> None:
            told.append(self.text)

    task = operator(notifiers=[Told()])
    assert_parks(task, run.context() | {"task": task})

    assert told == ["12.345 t: https://pay.example.com/cs_1?a=b#c"]


def test_the_checkout_may_come_as_json_text(run: Run) -> None:
    assert_parks(operator(checkout=json.dumps(CHECKOUT)), run.context())

    assert run.xcoms["await", 2, AWAITS_KEY] == LINK


@pytest.mark.parametrize(
    ("checkout", "problem"),
    [
        (None, "is not a mapping"),
        ("", "is not a mapping"),
        ("[1]", "is not a mapping"),
        ({**CHECKOUT, "map_index": None}, "lacks map_index"),
        ({"checkout_url": "https://a.example"}, "lacks dag_id"),
        ({**CHECKOUT, "checkout_url": "javascript:alert(1)"}, "checkout checkout_url"),
    ],
)
def test_what_is_no_checkout_fails_without_a_retry_and_says_what_to_pass(
    run: Run, checkout: Any, problem: str
) -> None:
    with pytest.raises(AirflowFailException, match=problem):
        operator(checkout=checkout).execute(run.context())
    assert run.requests == []


@pytest.mark.parametrize("entered", ["pay_9", "  pay_9 \n"])
def test_an_id_entered_by_hand_is_returned(run: Run, entered: str) -> None:
    assert operator().execute_complete(run.context(), answer(payment_id=entered)) == "pay_9"


def test_the_return_urls_answer_gives_the_recorded_payment(run: Run) -> None:
    run.record()

    assert operator().execute_complete(run.context(), answer(payment_id="pay_1")) == "pay_1"


@pytest.mark.parametrize("entered", [None, "", " ", "../x", "pay 1", "https://a.example/pay_1"])
def test_an_answer_without_a_usable_id_is_asked_for_again(
    run: Run, entered: str | None, logged: Callable[[], str]
) -> None:
    with pytest.raises(PARKING):
        operator().execute_complete(run.context(), answer(payment_id=entered))

    assert len(run.requests) == 1
    assert "ada has paid but gave no usable payment id, so it is asked for again" in logged()


def test_a_buyer_who_comes_back_while_it_asks_again_is_found(run: Run) -> None:
    run.on = {"asked": run.record}

    assert operator().execute_complete(run.context(), answer()) == "pay_1"


@pytest.mark.parametrize(
    ("on_declined", "error"), [("skip", AirflowSkipException), ("fail", AirflowFailException)]
)
def test_declining_ends_it_as_the_author_said(run: Run, on_declined: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="ada declined to pay for 12.345 t"):
        operator(on_declined=on_declined).execute_complete(run.context(), answer(DECLINE))


def test_declining_what_is_paid_does_not_lose_the_payment(run: Run, logged: Callable[[], str]) -> None:
    run.record()

    assert operator().execute_complete(run.context(), answer(DECLINE)) == "pay_1"
    assert "ada answered otherwise, but pay_1 was paid" in logged()


def test_the_recorded_payment_counts_and_not_another_that_was_entered(
    run: Run, logged: Callable[[], str]
) -> None:
    run.record()

    assert operator().execute_complete(run.context(), answer(payment_id="pay_2")) == "pay_1"
    assert "answered otherwise" in logged()


def test_a_try_that_airflow_fails_is_followed_by_another_unless_the_author_says_otherwise() -> None:
    with DAG("offset", schedule=None, default_args={"retries": 1}):
        by_default = operator()

    assert (operator().retries, operator(retries=0).retries, by_default.retries) == (3, 0, 1)


def test_a_response_timeout_fails_without_a_retry_and_says_what_to_do(run: Run) -> None:
    task = operator(response_timeout=timedelta(days=3))
    with pytest.raises(AirflowFailException, match="within 3 days.*clear this task"):
        task.execute_complete(run.context(), {"error": "too late", "error_type": "timeout"})


def test_a_payment_recorded_before_the_timeout_is_found(run: Run) -> None:
    run.record()

    assert operator().execute_complete(run.context(), {"error": "late", "error_type": "timeout"}) == "pay_1"


def test_an_unknown_way_to_decline_is_refused_where_the_dag_is_written() -> None:
    with pytest.raises(InvalidInputError, match="on_declined.*skip or fail"):
        operator(on_declined="ignore")


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
    body = default_body({**CHECKOUT, "beneficiary_name": name, "retirement_message": name}, cost_usd="1")
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
