"""Wait until a person has paid."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

import airflow
import airflow.sdk.exceptions
import pendulum
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    BaseNotifier,
    TaskDeferred,
)
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk.definitions.param import ParamsDict

from airflow_provider_carbonmark.api.errors import CarbonmarkError, InvalidInputError
from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook, failing_without_retry
from airflow_provider_carbonmark.hooks.checkout import checkout_of, find_purchase, parse_checkout
from airflow_provider_carbonmark.hooks.ledger import keeping_books
from airflow_provider_carbonmark.hooks.payment_check import Finding, parse_typed, take_payment
from airflow_provider_carbonmark.hooks.runs import run_of, task_of
from airflow_provider_carbonmark.ledger.names import LedgerError, NoNextLinkError, Source
from airflow_provider_carbonmark.operators.request import (
    DECLINE,
    NEW_LINK,
    PAID,
    PAYMENT_KEY,
    body_again,
    default_body,
    default_subject,
    entered_text,
    payment_id_field,
    tonnes,
)

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.execution_time.hitl import HITLUser

    from airflow_provider_carbonmark.api.client import ClientSettings
    from airflow_provider_carbonmark.ledger import Ledger
    from airflow_provider_carbonmark.ledger.purchase import Payment, Purchase

# seen (3.3.2): when the answer comes within a second or two of parking, the scheduler takes the end of the worker process that parked
# the task for the end of the one that resumes it ("state mismatch"), and fails this try.
RETRIES = 3

# How HITLOperator parks a task: TaskAwaitingInput came with Airflow 3.3, before that a trigger waited.
PARKING = (TaskDeferred, getattr(airflow.sdk.exceptions, "TaskAwaitingInput", TaskDeferred))

# Before Airflow 3.4, the request of a task that asks again within a try keeps the text of the first time.
KEEPS_FIRST_TEXT: Final = tuple(map(int, airflow.__version__.split(".")[:2])) < (3, 4)

_SURELY_WRONG = frozenset({Finding.OTHER, Finding.NOT_PAID, Finding.HELD})
# What rules an id out, by how it came. One that was typed, and of which Carbonmark says too little, a person had better look at again.
_RETURNED = {Source.RETURNED: _SURELY_WRONG}
_ENTERED = {Source.ENTERED: _SURELY_WRONG}
_TO_ASK = _RETURNED | {Source.ENTERED: _SURELY_WRONG | {Finding.UNTOLD}}


class CarbonmarkAwaitPaymentOperator(HITLOperator):
    """
    Show a payment link under Required Actions, and wait until it is paid or declined. Waiting costs no worker slot.

    The task goes on by itself when the buyer's browser comes back to the return URL of the link, whether that happens before,
    while or after it waits. Where the browser can't reach Airflow, a person enters the payment id in the form. An answer without a
    usable id, or with that of a payment for something else, is asked for again; the ledger keeps the id for the tries and runs that
    come after. An id that is typed here and is another open purchase's is brought to that one. Once the payment page can't be used any
    more, a person who says that nobody paid there gets another one, by the pay address or by the form, and the task parks again.

    Returns (XCom): the payment id, a string. A payment that the ledger knows counts, whatever the form says.

    :param checkout: what ``CarbonmarkCreateCheckoutOperator`` returned. A template may render it as JSON text.
        (templated)
    :param subject: the headline; "Pay for 12.345 t CO2e, Acme EMEA" when not given. (templated)
    :param body: Markdown; link, tonnes, cost, beneficiary and message when not given. Who is asked again reads before it what came of the
        answer, and the link. (templated)
    :param notifiers: Airflow notifiers, called when the task begins to wait. Their templates see ``checkout``, and ``purchase``, as
        ``Purchase.to_json`` makes it; ``operators.notices`` has texts for mail and Slack. One that fails fails the try.
    :param assigned_users: who may answer the form; anybody who may answer human-in-the-loop tasks when not given. The return URL
        works for every buyer.
    :param response_timeout: how long to wait before the task fails, without a retry. For ever when not given.
    :param carbonmark_conn_id: the Airflow connection that the link was made with; asked about ids that people enter. (templated)
    :param on_declined: ``"skip"`` or ``"fail"`` the task when a person declines; neither is retried.
    :param retries: 3 when neither the task nor ``default_args`` say otherwise. Another try costs nothing, and Airflow itself fails
        one now and then.
    """

    template_fields: Collection[str] = ("subject", "body", "checkout", "carbonmark_conn_id")
    ui_color = "#d9f2e3"

    def __init__(
        self,
        *,
        checkout: Mapping[str, Any] | str,
        subject: str | None = None,
        body: str | None = None,
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
        form = {PAYMENT_KEY: payment_id_field()}
        super().__init__(
            subject=subject or "",
            body=body,
            options=[PAID, DECLINE, NEW_LINK],
            params=form,
            notifiers=notifiers,
            assigned_users=assigned_users,
            response_timeout=response_timeout,
            retries=retries,
            **kwargs,
        )
        self.params = ParamsDict(form)
        # seen (standard 1.21): OpenLineage takes a summary of the request along. Its text has the link at which somebody can pay.
        self.hitl_summary_extra = {"body": None}
        self.checkout = checkout
        self.carbonmark_conn_id = carbonmark_conn_id
        self.on_declined = on_declined
        # What a person is told when the form is shown again.
        self._word = ""

    def execute(self, context: Context) -> str | None:
        """
        Return the payment if there is one; else ask for it, and park.

        The buyer may come back at any moment. The return URL writes the payment into the ledger, then looks there for tasks that wait
        for it. So this says that it waits, asks, then looks for a payment, and only then parks: one of the two always sees the other.
        """
        with keeping_books() as ledger:
            purchase = find_purchase(ledger, parse_checkout(self.checkout))
            # By the ledger: another link may have followed the one that the upstream task made.
            self.checkout = checkout = checkout_of(ledger, purchase)
            if purchase.payment_id is None:
                ledger.awaits(purchase.id, task_of(context), now=pendulum.now("UTC"))
            if payment_id := self._known(ledger, purchase.id, _TO_ASK):
                return payment_id
            entered = [each for each in ledger.payments(purchase.id) if each.source is Source.ENTERED]
        _refuse_if_over(purchase)
        # seen (3.4.0b2): or the form would come with what was entered the last time, which is then sent again with any answer.
        self.params = ParamsDict({PAYMENT_KEY: payment_id_field()})
        self.subject = self.subject or default_subject(checkout)
        claimed = entered[-1].payment_id if entered else None
        body = self.body or default_body(checkout, purchase.cost_usd, claimed)
        is_authors = bool(self.body)
        self.body = body_again(body, self._word, checkout, is_authors=is_authors) if self._word else body
        # What the notifiers' templates see, which are gone once a notifier is called: other tasks may have been given the same ones.
        context.update({"checkout": checkout, "purchase": purchase.to_json()})  # type: ignore[misc]
        self.notifiers = [copy(each) for each in self.notifiers]
        self.log.info("%s waits to be paid: the link is under Required Actions", purchase)
        try:
            super().execute(context)
        except PARKING:
            with keeping_books() as ledger:
                payment_id = self._known(ledger, purchase.id, _RETURNED)
                if payment_id is None and self._word and KEEPS_FIRST_TEXT:
                    # Imported late, here and below: a DAG file needs none of it.
                    from airflow_provider_carbonmark.hooks.api_server import show_again

                    show_again(ledger, purchase, task_of(context), self.body)
            if payment_id is None:
                raise
        return payment_id

    def execute_complete(self, context: Context, event: dict[str, Any]) -> str | None:
        """Take the answer, which may be the return URL's, a person's, or that there was none in time."""
        with keeping_books() as ledger:
            purchase = find_purchase(ledger, parse_checkout(self.checkout))
            self.checkout = checkout_of(ledger, purchase)
            payment_id = self._known(ledger, purchase.id, _RETURNED)
        if payment_id and "error" in event:
            return payment_id
        answer = super().execute_complete(context, event)
        user = (answer["responded_by_user"] or {}).get("name", "nobody")
        entered = entered_text(answer["params_input"].get(PAYMENT_KEY))
        if not (payment_id or entered):
            # The API server answers so when there is nothing to wait for any more.
            _refuse_if_over(purchase)
        chosen = answer["chosen_options"]
        declined = chosen == [DECLINE]
        if payment_id:
            if declined or entered not in ("", payment_id):
                self.log.warning("%s answered otherwise, but %s was paid.", user, payment_id)
            return payment_id
        with keeping_books() as ledger:
            if declined:
                return self._declined(context, ledger, purchase, user)
            # Whoever enters an id has paid, whichever button they press.
            if chosen == [NEW_LINK] and not entered:
                self._make_next_link(ledger, purchase, user)
            elif payment_id := self._entered(ledger, purchase, entered, user):
                return payment_id
        return self.execute(context)

    def process_trigger_event_error(self, event: dict[str, Any]) -> None:
        if event["error_type"] == "timeout":
            raise AirflowFailException(
                f"Nobody paid or declined within {self.response_timeout}. The link may still be paid: clear this task and what follows "
                "to wait again, or raise response_timeout."
            )
        super().process_trigger_event_error(event)
        raise AssertionError("HITLOperator.process_trigger_event_error is documented to raise")

    def _known(
        self, ledger: Ledger, id: int, ruled_out_by: Mapping[Source, Collection[Finding]]
    ) -> str | None:
        """
        Return the payment that a purchase is paid with, or else one that was brought for it and may be that.

        A buyer came back, or a person entered an id, while Carbonmark could not say what it is for; a task may have died since. It is
        asked again, and what it can't rule out is passed on: the check of the retirement decides. What buyers came back with goes first.

        :param ruled_out_by: what rules a payment out, by how it came; those that came otherwise are left alone.
        """
        purchase = ledger.purchase(id)
        if purchase.payment_id is not None:
            self.log.info("%s is %s: %s", purchase, purchase.state, purchase.payment_id)
            return purchase.payment_id
        brought = ledger.payments(id)
        returned = [each for each in brought if each.source is Source.RETURNED]
        # What was typed last corrects what was typed before.
        entered = [each for each in reversed(brought) if each.source is Source.ENTERED]
        possible = None
        for payment in (*returned, *entered):
            if payment.source not in ruled_out_by:
                continue
            finding, why = self._check(ledger, purchase, payment)
            self.log.info("Payment %s was %s before: %s", payment.payment_id, payment.source, why)
            if finding is Finding.THIS_PURCHASE:
                return payment.payment_id
            if finding not in ruled_out_by[payment.source]:
                possible = possible or payment.payment_id
            if finding is Finding.OUT_OF_REACH:
                break
        return possible

    def _make_next_link(self, ledger: Ledger, purchase: Purchase, user: str) -> None:
        """Make the next link, since a person says that nobody paid the one there is; or say why there is none."""
        from airflow_provider_carbonmark.hooks.next_link import make_next_link

        number = purchase.link.number if purchase.link else 0
        try:
            make_next_link(ledger, purchase.id, number, _settings_of, said_by=user)
        except (NoNextLinkError, CarbonmarkError) as refusal:
            self.log.warning("%s asked for a new link, and there is none: %s", user, refusal)
            self._word = f"There is no new link. {refusal}"
        else:
            self._word = "There is a new payment page."

    def _entered(self, ledger: Ledger, purchase: Purchase, entered: str, user: str) -> str | None:
        """Take an id that a person entered, with a purchase's reference after it or without; None when it has to be asked for again."""
        try:
            payment_id, reference = parse_typed(entered)
        except InvalidInputError as error:
            self.log.warning(
                "%s has paid but gave no usable payment id, so it is asked for again. %s", user, error
            )
            self._word = f"“{entered[:80]}” is no payment id." if entered else "Enter the payment id, too."
            return None
        from airflow_provider_carbonmark.ledger.purchase import Payment

        self.log.info("%s entered payment %s.", user, payment_id)
        payment = Payment(
            payment_id=payment_id,
            link=purchase.link.number if purchase.link else 0,
            source=Source.ENTERED,
            brought_by=user,
            brought_at=pendulum.now("UTC"),
        )
        finding, why = self._check(ledger, purchase, payment, reference)
        if finding not in _SURELY_WRONG:
            return payment_id
        self.log.warning("Payment %s is not this link's, so it is asked for again: %s", payment_id, why)
        self._word = f"Payment {payment_id} was entered: {why}"
        if finding is Finding.NOT_PAID:
            self._word = (
                f"Carbonmark knows of no payment {payment_id} that is paid. Look at the id again; if you paid a moment ago, enter it once "
                "more in a few minutes."
            )
        return None

    def _check(
        self, ledger: Ledger, purchase: Purchase, payment: Payment, reference: str = ""
    ) -> tuple[Finding, str]:
        """Ask Carbonmark about an id that was brought; the ledger is told if it is this purchase's payment, or another open one's."""
        conn_id = purchase.link.conn_id if purchase.link else None
        with failing_without_retry():
            settings = _settings_of(conn_id or self.carbonmark_conn_id)
        checked = take_payment(ledger, purchase, payment, settings, reference)
        return checked.finding, checked.why

    def _declined(self, context: Context, ledger: Ledger, purchase: Purchase, user: str) -> str:
        if payment_id := self._known(ledger, purchase.id, _ENTERED):
            self.log.warning(
                "%s declined, but payment %s was entered before: it is followed.", user, payment_id
            )
            return payment_id
        checkout: Any = self.checkout
        declined = f"{user} declined to pay for {tonnes(checkout)}"
        reason = f"{declined}. Nobody should pay the link any more: {checkout['checkout_url']}"
        # What no plan handles, whoever waits for it may decline.
        run = purchase.handler if purchase.task_id else run_of(context)
        try:
            ledger.declined(purchase.id, run, reason, now=pendulum.now("UTC"))
        except LedgerError:
            if payment_id := ledger.purchase(purchase.id).payment_id:
                self.log.warning("%s declined, but %s was paid in this moment.", user, payment_id)
                return payment_id
            raise
        # Airflow logs why a task failed, but not why it was skipped.
        self.log.warning("%s", reason)
        # Why a task fails goes to whatever listens, such as OpenLineage, and there the link is nobody's to read.
        raise AirflowFailException(declined) if self.on_declined == "fail" else AirflowSkipException(reason)


def _settings_of(conn_id: str) -> ClientSettings:
    return CarbonmarkHook(conn_id).connection.settings


def _refuse_if_over(purchase: Purchase) -> None:
    """End what nothing comes of any more."""
    if purchase.state not in ("declined", "failed"):
        return
    if purchase.allocations:
        raise AirflowSkipException(f"{purchase} is {purchase.state}: {purchase.reason}")
    # What no plan buys anew may be paid after all where it was declined, by somebody who clears this task.
    if purchase.state == "failed":
        raise AirflowFailException(f"{purchase} is {purchase.state}: {purchase.reason}. Start a new run")
