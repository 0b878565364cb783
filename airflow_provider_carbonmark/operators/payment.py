"""Wait until a person has paid."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import airflow.sdk.exceptions
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    BaseNotifier,
    Param,
    TaskDeferred,
)
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk.definitions.param import ParamsDict

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import parse_payment_id, parse_url
from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook, failing_without_retry
from airflow_provider_carbonmark.hooks.payment_check import Finding, check_payment
from airflow_provider_carbonmark.hooks.purchase_line import (
    find_line,
    record_claimed,
    record_declined,
    record_paid,
)
from airflow_provider_carbonmark.web.link import PAYMENT_KEY, RECORD_KEY, LinkKey

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.execution_time.hitl import HITLUser

    from airflow_provider_carbonmark.ledger.schema import PurchaseLine

PAID = "I have paid"
DECLINE = "Decline"

# seen (3.3.2): when the answer comes within a second or two of parking, the scheduler takes the end of the worker process that parked
# the task for the end of the one that resumes it ("state mismatch"), and fails this try.
RETRIES = 3

# How HITLOperator parks a task: TaskAwaitingInput came with Airflow 3.3, before that a trigger waited.
PARKING = (TaskDeferred, getattr(airflow.sdk.exceptions, "TaskAwaitingInput", TaskDeferred))

# What Carbonmark says of an id that was entered when it was typed wrong, and when a person had better look at it once more.
_SURELY_WRONG = (Finding.OTHER, Finding.NOT_PAID)
_NO_REASON_NOT_TO_ASK = (*_SURELY_WRONG, Finding.UNTOLD)

_LINK = tuple(field.name for field in fields(LinkKey))
_SHOWN = ("checkout_url", "quantity_tonnes", "beneficiary_name")


class CarbonmarkAwaitPaymentOperator(HITLOperator):
    """
    Show a payment link under Required Actions, and wait until it is paid or declined. Waiting costs no worker slot.

    The task goes on by itself when the buyer's browser comes back to the return URL of the link, whether that happens before,
    while or after it waits. Where the browser can't reach Airflow, a person enters the payment id in the form. An answer without a
    usable id, or with that of a payment for something else, is asked for again; a ledger keeps the id for the runs that come after.

    Returns (XCom): the payment id, a string. A payment that is recorded for the link counts, whatever the form says.

    :param checkout: what ``CarbonmarkCreateCheckoutOperator`` returned. A template may render it as JSON text.
        (templated)
    :param subject: the headline; "Pay for 12.345 t CO2e, Acme EMEA" when not given. (templated)
    :param body: Markdown; link, tonnes, cost, beneficiary and message when not given. (templated)
    :param cost_usd: what it costs, USD, as the quote says; shown in the body. (templated)
    :param notifiers: Airflow notifiers, called when the task begins to wait; their templates see ``checkout``.
    :param assigned_users: who may answer the form; anybody who may answer human-in-the-loop tasks when not given. The return URL
        works for every buyer.
    :param response_timeout: how long to wait before the task fails, without a retry. For ever when not given.
    :param carbonmark_conn_id: the Airflow connection that the link was made with; asked about ids that people enter. (templated)
    :param on_declined: ``"skip"`` or ``"fail"`` the task when a person declines; neither is retried.
    :param retries: 3 when neither the task nor ``default_args`` say otherwise. Another try costs nothing, and Airflow itself fails
        one now and then.
    """

    template_fields: Collection[str] = ("subject", "body", "checkout", "cost_usd", "carbonmark_conn_id")
    ui_color = "#d9f2e3"

    def __init__(
        self,
        *,
        checkout: Mapping[str, Any] | str,
        subject: str | None = None,
        body: str | None = None,
        cost_usd: str | None = None,
        notifiers: Sequence[BaseNotifier] | BaseNotifier | None = None,
        assigned_users: HITLUser | list[HITLUser] | None = None,
        response_timeout: timedelta | None = None,
        carbonmark_conn_id: str = CarbonmarkHook.default_conn_name,
        on_declined: Literal["skip", "fail"] = "skip",
        retries: int = RETRIES,
        **kwargs: Any,
    ) -> None:
        if on_declined not in ("skip", "fail"):
            raise InvalidInputError(
                "on_declined", "is unknown", value=on_declined, remedy="Pass skip or fail"
            )
        # Airflow hands each task the DAG's params, and the form is to ask for the payment id alone.
        kwargs.pop("params", None)
        form = {PAYMENT_KEY: _payment_id_field()}
        super().__init__(
            subject=subject or "",
            body=body,
            options=[PAID, DECLINE],
            params=form,
            notifiers=notifiers,
            assigned_users=assigned_users,
            response_timeout=response_timeout,
            retries=retries,
            **kwargs,
        )
        self.params = ParamsDict(form)
        self.checkout = checkout
        self.cost_usd = cost_usd
        self.carbonmark_conn_id = carbonmark_conn_id
        self.on_declined = on_declined

    def execute(self, context: Context) -> str | None:
        """
        Return the payment if there is one; else ask for it, and park.

        The buyer may come back at any moment. The return URL records the payment, then looks for a task that says it awaits it. So
        this says so, asks, then looks for a recorded payment, and only then parks: one of the two always sees the other.
        """
        with failing_without_retry():
            self.checkout = checkout = _parse_checkout(self.checkout)
        line = find_line(checkout)
        if payment_id := self._of_ledger(line):
            return payment_id
        context["ti"].xcom_push(self._link.awaits_key, self._link.to_json())
        if payment_id := self._recorded(context) or self._claimed(line, wrong=_NO_REASON_NOT_TO_ASK):
            return payment_id
        if line is not None and line.state in ("declined", "failed"):
            raise AirflowSkipException(f"{line} is {line.state}: {line.reason}")
        self.subject = self.subject or default_subject(checkout)
        claimed = None if line is None else line.claimed_payment_id
        self.body = self.body or default_body(checkout, self.cost_usd, claimed)
        context["checkout"] = checkout  # type: ignore[typeddict-unknown-key]  # what the notifiers' templates see
        try:
            super().execute(context)
        except PARKING:
            payment_id = self._recorded(context)
            if payment_id is None:
                raise
        return payment_id

    def execute_complete(self, context: Context, event: dict[str, Any]) -> str | None:
        """Take the answer, which may be the return URL's, a person's, or that there was none in time."""
        with failing_without_retry():
            self.checkout = checkout = _parse_checkout(self.checkout)
        line = find_line(checkout)
        payment_id = self._of_ledger(line) or self._recorded(context)
        if payment_id and "error" in event:
            return payment_id
        answer = super().execute_complete(context, event)
        user = (answer["responded_by_user"] or {}).get("name", "nobody")
        entered = str(answer["params_input"].get(PAYMENT_KEY) or "").strip()
        declined = answer["chosen_options"] == [DECLINE]
        if payment_id:
            if declined or entered not in ("", payment_id):
                self.log.warning("%s answered otherwise, but %s was paid.", user, payment_id)
            return payment_id
        if declined:
            if payment_id := self._claimed(line, wrong=_SURELY_WRONG):
                self.log.warning(
                    "%s declined, but payment %s was entered before: it is followed.", user, payment_id
                )
                return payment_id
            raise self._declined(user, context)
        try:
            payment_id = parse_payment_id(entered)
        except InvalidInputError as error:
            self.log.warning(
                "%s has paid but gave no usable payment id, so it is asked for again. %s", user, error
            )
            return self.execute(context)
        self.log.info("%s entered payment %s.", user, payment_id)
        # Before anything else: a run that dies from here on leaves it to the next.
        record_claimed(checkout, payment_id)
        finding, why = self._check(payment_id)
        if finding is Finding.OTHER:
            self.log.warning("Payment %s is not this link's, so it is asked for again: %s", payment_id, why)
            return self.execute(context)
        return payment_id

    def process_trigger_event_error(self, event: dict[str, Any]) -> None:
        if event["error_type"] == "timeout":
            raise AirflowFailException(
                f"Nobody paid or declined within {self.response_timeout}. The link may still be paid: clear this task and what follows "
                "to wait again, or raise response_timeout."
            )
        super().process_trigger_event_error(event)
        raise AssertionError(
            "HITLOperator.process_trigger_event_error returned, where it is documented to raise"
        )

    @property
    def _link(self) -> LinkKey:
        """The task that made the link."""
        checkout: Any = self.checkout
        return LinkKey(**{name: checkout[name] for name in _LINK})

    def _of_ledger(self, line: PurchaseLine | None) -> str | None:
        """Return the payment that the ledger knows of."""
        if line is None or line.payment_id is None:
            return None
        self.log.info("%s is %s: %s", line, line.state, line.payment_id)
        return line.payment_id

    def _recorded(self, context: Context) -> str | None:
        """Return the payment that the buyer came back with; the ledger is told if Carbonmark said that it is this link's."""
        payment_id = self._pull(context, PAYMENT_KEY)
        if payment_id is None:
            return None
        self.log.info("The buyer came back with payment %s.", payment_id)
        record = self._pull(context, RECORD_KEY) or {}
        if record.get("verified") and record["payment_id"] == payment_id:
            checkout: Any = self.checkout
            record_paid(checkout, payment_id)
        return str(payment_id)

    def _claimed(self, line: PurchaseLine | None, *, wrong: Collection[Finding]) -> str | None:
        """
        Return the payment id that a person entered in an earlier try or run, which may have died before Carbonmark confirmed it.

        :param wrong: what Carbonmark may say of it that rules it out.
        """
        if line is None or line.claimed_payment_id is None:
            return None
        finding, why = self._check(line.claimed_payment_id)
        self.log.info("Payment %s was entered before: %s", line.claimed_payment_id, why)
        return None if finding in wrong else line.claimed_payment_id

    def _check(self, payment_id: str) -> tuple[Finding, str]:
        """Ask Carbonmark about an id that a person entered; the ledger is told if it is this link's payment."""
        checkout: Any = self.checkout
        with failing_without_retry():
            settings = CarbonmarkHook(self.carbonmark_conn_id).connection.settings
        finding, why = check_payment(settings, payment_id, [checkout])
        if finding is Finding.THIS_LINK:
            try:
                record_paid(checkout, payment_id)
            except AirflowFailException as refusal:
                # Two lines may ask for just the same, and the ledger knows whose the payment is.
                return Finding.OTHER, str(refusal)
        return finding, why

    def _pull(self, context: Context, key: str) -> Any:
        """Return an XCom of the task that made the link."""
        link = self._link
        return context["ti"].xcom_pull(
            dag_id=link.dag_id,
            run_id=link.run_id,
            task_ids=link.task_id,
            map_indexes=link.map_index,
            key=key,
        )

    def _declined(self, user: str, context: Context) -> AirflowSkipException | AirflowFailException:
        checkout: Any = self.checkout
        reason = f"{user} declined to pay for {_tonnes(checkout)}. Nobody should pay the link any more: {checkout['checkout_url']}"
        record_declined(checkout, context, reason)
        # Airflow logs why a task failed, but not why it was skipped.
        self.log.warning("%s", reason)
        return AirflowFailException(reason) if self.on_declined == "fail" else AirflowSkipException(reason)


def default_subject(checkout: Mapping[str, Any]) -> str:
    """Return a headline such as "Pay for 12.345 t CO2e, Acme EMEA"; plain text."""
    return f"Pay for {_tonnes(checkout)}, {checkout['beneficiary_name']}"


def default_body(
    checkout: Mapping[str, Any], cost_usd: str | None = None, claimed_payment_id: str | None = None
) -> str:
    """
    Return what a person needs to decide and to pay, as Markdown.

    :param checkout: what ``CarbonmarkCreateCheckoutOperator`` returned.
    :param cost_usd: what it costs, USD.
    :param claimed_payment_id: the payment id that was entered before, without Carbonmark confirming it.
    """
    message = checkout.get("retirement_message")
    lines = [
        # The address in angle brackets may hold any character but these.
        f"[**Open the payment page**](<{quote(checkout['checkout_url'], safe=_URL_CHARACTERS)}>)",
        "",
        f"- Amount: {_tonnes(checkout)}",
        f"- Cost: {_escaped(cost_usd)} USD" if cost_usd else None,
        f"- Beneficiary: {_escaped(checkout['beneficiary_name'])}",
        f"- Message: {_escaped(message)}" if message else None,
        "- Test mode: nothing is retired" if checkout.get("test_mode") else None,
        f"- Payment {_escaped(claimed_payment_id)} was entered before, but Carbonmark doesn’t say that it is for this link. Don’t pay "
        "again if you have paid: enter the payment id once more."
        if claimed_payment_id
        else None,
        "",
        "After paying, your browser comes back to Airflow and this task goes on by itself. Only if it could not come back: enter "
        f"the payment id, which is the last part of the address it was sent to, and choose “{PAID}”.",
    ]
    return "\n".join(line for line in lines if line is not None)


_URL_CHARACTERS = "%/:?#[]@!$&'()*+,;=~"
_MARKDOWN = re.compile(r"[\\`*_\[\]<>~]|&(?=#?\w+;)")


def _escaped(text: object) -> str:
    """Return text that Markdown shows as it is, in one line."""
    return _MARKDOWN.sub(r"\\\g<0>", " ".join(str(text).split()))


def _tonnes(checkout: Mapping[str, Any]) -> str:
    return f"{checkout['quantity_tonnes']} t CO2e"


def _payment_id_field() -> Param:
    return Param(
        None,
        # A plain string would be mandatory, also for declining.
        type=["null", "string"],
        title="Payment id",
        description="Only if your browser could not come back to Airflow after paying: the last part of the address it was sent to",
    )


def _parse_checkout(checkout: Any) -> Mapping[str, Any]:
    remedy = "Pass the output of CarbonmarkCreateCheckoutOperator"
    if isinstance(checkout, str):
        with suppress(ValueError):
            checkout = json.loads(checkout)
    if not isinstance(checkout, Mapping):
        raise InvalidInputError("checkout", "is not a mapping", value=checkout, remedy=remedy)
    missing = [name for name in (*_LINK, *_SHOWN) if checkout.get(name) in (None, "")]
    if missing:
        raise InvalidInputError(
            "checkout", f"lacks {' and '.join(missing)}", value=dict(checkout), remedy=remedy
        )
    parse_url(checkout["checkout_url"], "checkout checkout_url")
    return checkout
