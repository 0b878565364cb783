"""Wait until the credits that a payment bought are retired."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import pendulum
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_carbonmark.api.errors import CarbonmarkError, InvalidInputError
from airflow_provider_carbonmark.api.inputs import parse_flag, parse_payment_id, parse_quantity
from airflow_provider_carbonmark.api.retirement import (
    DEFAULT_FAILED_STATES,
    DEFAULT_SUCCESS_STATES,
    Outcome,
    RetirementRequest,
    describes,
    is_not_paid,
)
from airflow_provider_carbonmark.api.retries import NO_RETRIES
from airflow_provider_carbonmark.api.waiting import (
    WaitTerms,
    asked_to_pause,
    next_pause,
    retirement_result,
    weigh,
)
from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook, failing_without_retry
from airflow_provider_carbonmark.hooks.checkout import PURCHASE_KEY, find_purchase, parse_checkout
from airflow_provider_carbonmark.hooks.ledger import keeping_books
from airflow_provider_carbonmark.hooks.payment_check import Finding, take_typed
from airflow_provider_carbonmark.ledger.names import Source, State
from airflow_provider_carbonmark.links import RetirementLink
from airflow_provider_carbonmark.triggers.carbonmark import TIMEOUT, CarbonmarkRetirementTrigger

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.sdk import Context

    from airflow_provider_carbonmark.api.models import Payment
    from airflow_provider_carbonmark.ledger.book import Ledger
    from airflow_provider_carbonmark.ledger.purchase import Purchase

TIMEOUT_AFTER = timedelta(days=30)
_CLEAR: Final = "clear the task that awaits the payment"
# The triggerer keeps the deadline itself. Should no triggerer run, the scheduler ends the wait so much later.
TRIGGER_TIMEOUT_GRACE = timedelta(minutes=5)


class CarbonmarkRetirementSensor(BaseSensorOperator):
    """
    Wait until the retirement that a payment started is proven to be the one that was asked for.

    A retirement counts when its status is a success word, it comes with a proof (certificate or transaction), and it
    describes the checkout: same beneficiary, same tonnes. A failed retirement, a retirement of something else and a
    test-mode placeholder fail the task without a retry. Network trouble, 429 and 5xx are waited out until ``timeout``; a refused
    key, or a payment still unknown after 5 minutes, ends the wait at once.

    Returns (XCom, plain JSON): ``payment_id``, ``payment_status``, ``retirement_status``, ``quantity_tonnes`` (decimal string),
    ``beneficiary_name``, ``certificate_url``, ``transaction_hash``, ``explorer_url``, ``test_mode``, ``retired_at``.

    :param payment_id: what Carbonmark appended to the success URL. (templated)
    :param checkout: what ``CarbonmarkCreateCheckoutOperator`` returned: what was asked for. Without it nobody can tell a
        retirement of something else; only proofs are checked, and placeholders refused. A template may render it as JSON text.
        (templated)
    :param carbonmark_conn_id: the Airflow connection. (templated)
    :param deferrable: wait in the triggerer, without a worker slot.
    :param poke_interval: the first pause between polls, seconds or a timedelta; the pauses grow from there, with jitter.
    :param max_wait: the longest pause between polls, seconds or a timedelta.
    :param success_states: retirement status words that mean done; letter case and separators don't matter.
    :param failed_states: words on either status that mean it never will be.
    :param allow_test_mode: whether something that retired nothing may succeed; the result still says ``test_mode``.
        A template may render it as ``true`` or ``false``. (templated)
    :param timeout: seconds, or a timedelta, from the first poll until the task fails, the same in every mode: 30 days when not given,
        since some methods of payment confirm after 14 (doc, Stripe).
    :param soft_fail: skip the task where it would fail.
    """

    template_fields: Sequence[str] = ("carbonmark_conn_id", "payment_id", "checkout", "allow_test_mode")
    operator_extra_links = (RetirementLink(),)
    ui_color = "#d9f2e3"

    def __init__(
        self,
        *,
        payment_id: str,
        checkout: Mapping[str, Any] | None = None,
        carbonmark_conn_id: str = CarbonmarkHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: float | timedelta = 1,
        max_wait: float | timedelta = 300,
        success_states: Sequence[str] = DEFAULT_SUCCESS_STATES,
        failed_states: Sequence[str] = DEFAULT_FAILED_STATES,
        allow_test_mode: bool | str = False,
        timeout: float | timedelta = TIMEOUT_AFTER,
        **kwargs: Any,
    ) -> None:
        first, longest = _parse_pause(poke_interval, "poke_interval"), _parse_pause(max_wait, "max_wait")
        if first > longest:
            raise InvalidInputError(
                "poke_interval",
                "is longer than max_wait",
                value=(first, longest),
                remedy="Raise max_wait too",
            )
        super().__init__(poke_interval=first, max_wait=longest, timeout=timeout, **kwargs)
        self._longest_pause = longest
        self.payment_id = payment_id
        self.checkout = checkout
        self.carbonmark_conn_id = carbonmark_conn_id
        self.deferrable = deferrable
        self.success_states = success_states
        self.failed_states = failed_states
        self.allow_test_mode = allow_test_mode
        self.certificate_url: str | None = None
        self._said = ""
        self._is_noted = False
        self._asked_to_pause = 0.0

    @cached_property
    def hook(self) -> CarbonmarkHook:
        return CarbonmarkHook(self.carbonmark_conn_id)

    @cached_property
    def terms(self) -> WaitTerms:
        """What is waited for, checked where it enters."""
        payment_id, checkout = parse_payment_id(self.payment_id), self._checkout
        # Before the ledger is asked, which may be out of reach.
        quantity = (
            parse_quantity(checkout["quantity_tonnes"], "checkout quantity_tonnes") if checkout else None
        )
        since, payments = self._linked()
        asked = checkout and RetirementRequest(
            beneficiary_name=checkout["beneficiary_name"],
            quantity_tonnes=quantity,
            asset_price_source_id=checkout.get("asset_price_source_id"),
            retirement_message=checkout.get("retirement_message"),
            since=since,
        )
        return WaitTerms(
            payment_id=payment_id,
            asked=asked or None,
            is_ours=payment_id in payments,
            test_mode=bool(checkout and checkout.get("test_mode")),
            allow_test_mode=parse_flag(self.allow_test_mode, "allow_test_mode"),
            success_states=tuple(self.success_states),
            failed_states=tuple(self.failed_states),
        )

    def execute(self, context: Context) -> Any:
        if not self.deferrable:
            return super().execute(context)
        started = pendulum.now("UTC")
        try:
            found = self.poke(context)
        except AirflowFailException as error:
            # Airflow's own loop and resume_execution do the same for the other two modes.
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(f"Skipped instead of failed: {error}") from error
            raise
        if isinstance(found, PokeReturnValue):
            return found.xcom_value
        self.log.info(
            "Payment %s: the wait goes on in the triggerer (`airflow triggerer`), which has to run.",
            self.terms.payment_id,
        )
        self.defer(
            trigger=CarbonmarkRetirementTrigger(
                carbonmark_conn_id=self.carbonmark_conn_id,
                terms=self.terms.to_json(),
                started_at=started.isoformat(),
                deadline=(started + timedelta(seconds=self.timeout)).isoformat(),
                poke_interval=self.poke_interval,
                max_wait=self._longest_pause,
                not_before=(started + timedelta(seconds=self._pause(0.0))).isoformat(),
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout) + TRIGGER_TIMEOUT_GRACE,
        )

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Ask once. Only a proven retirement ends the wait well; what can't get better fails it without a retry."""
        with failing_without_retry():
            terms, test_mode = self.terms, self.hook.test_mode
        self._note_brought()
        answer = self._poll()
        verdict = weigh(answer, terms, test_mode=test_mode, waited=self._waited(context))
        if not isinstance(answer, CarbonmarkError) and verdict.outcome is Outcome.RETIRED:
            self.log.info("%s", verdict.reason)
            return PokeReturnValue(True, self._retired(retirement_result(answer, terms, test_mode=test_mode)))
        if verdict.outcome is not Outcome.WAITING:
            raise self._ended(verdict.outcome, verdict.reason)
        if not isinstance(answer, CarbonmarkError) and self._is_ours(answer):
            self._note_paid()
        if verdict.reason != self._said:
            self.log.info("%s", verdict.reason)
            self._said = verdict.reason
        self._asked_to_pause = asked_to_pause(answer)
        return False

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout as late:
            if next_method == "execute_complete":
                raise
            # The trigger keeps the timeout itself, so Airflow's own is only reached where no triggerer takes it up.
            raise AirflowSensorTimeout(
                f"Nobody asked for payment {self.payment_id!r}: no triggerer ran, or none had room, until {self.timeout:g} s were over. "
                "Start one with `airflow triggerer` and clear this task, or set deferrable=False"
            ) from late

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Take over what the trigger found."""
        outcome = event.get("outcome")
        if outcome == Outcome.RETIRED:
            return self._retired(dict(event["retirement"]))
        if outcome == TIMEOUT:
            raise AirflowSensorTimeout(
                f"Payment {self.payment_id!r} had no proven retirement within {self.timeout:g} s. Last seen: {event['reason']}"
            )
        if outcome in (Outcome.FAILED, Outcome.PAYMENT_FAILED, Outcome.NOT_AS_ASKED, Outcome.UNTOLD):
            raise self._ended(outcome, event["reason"])
        raise ValueError(f"The trigger fired an event that this sensor doesn't know: {event!r}")

    def _ended(self, outcome: str, reason: str) -> AirflowFailException:
        """
        Return what fails the task. What Carbonmark gave up is over for the ledger too, and its tonnes are bought anew.

        A payment that failed leaves the purchase to be paid as before. A retirement of something else is not the end, nor what nobody can tell: somebody may have paid, and a person has to look at it.
        """
        if outcome in (Outcome.FAILED, Outcome.PAYMENT_FAILED) and self._is_of_ledger:
            with keeping_books() as ledger:
                if outcome == Outcome.FAILED:
                    failed = ledger.failed(self._paid_in(ledger).id, reason, now=pendulum.now("UTC"))
                    reason = f"{reason} {failed.todo}".rstrip()
                else:
                    number = find_purchase(ledger, self._checkout).id
                    before = ledger.payment_failed(number, self.payment_id).state
                    what = "can be paid" if before is State.LINK_MADE else f"is {before}"
                    reason = f"{reason} Nothing was taken, and it {what} as before: {_CLEAR}."
        if outcome == Outcome.NOT_AS_ASKED and self._is_of_ledger:
            with keeping_books() as ledger:
                self._refuse_if_typed_for_another(ledger, find_purchase(ledger, self._checkout))
        return AirflowFailException(reason)

    @cached_property
    def _checkout(self) -> Mapping[str, Any] | None:
        if self.checkout is None:
            return None
        return parse_checkout(self.checkout, ("beneficiary_name", "quantity_tonnes"))

    def _linked(self) -> tuple[datetime | None, set[str]]:
        """
        Return when the first link was asked for, where the ledger knows, and the payments that Carbonmark said are the checkout's own.

        :raises InvalidInputError: when it said so of each link, and this payment is not among them.
        """
        since = paid_with = None
        told = [(self._checkout or {}).get("payment_id")]
        if self._is_of_ledger:
            with keeping_books() as ledger:
                purchase = find_purchase(ledger, self._checkout)
                links = ledger.links(purchase.id)
            since, paid_with = links[0].asked_at if links else None, purchase.payment_id
            told = [link.payment_id for link in links if link.url]
        payments = {each for each in (*told, paid_with) if each}
        if all(told) and payments and self.payment_id not in payments:
            raise InvalidInputError(
                "payment_id",
                f"is not the payment of this checkout, which is {' or '.join(map(repr, sorted(payments)))}",
                value=self.payment_id,
                remedy="Pass the checkout that the payment was made for",
            )
        return since, payments

    @property
    def _is_of_ledger(self) -> bool:
        """Whether the ledger knows of what is waited for: payments may also be followed that nobody here asked for."""
        return PURCHASE_KEY in (self._checkout or {})

    def _is_ours(self, answer: Payment) -> bool:
        asked = self.terms.asked
        return bool(asked and describes(answer, asked)) and not is_not_paid(answer)

    def _note_brought(self) -> None:
        """Write the payment into the ledger before Carbonmark is asked: until it answers, nobody knows whether the purchase is paid."""
        if not self._is_of_ledger or self._said:
            return
        with keeping_books() as ledger:
            purchase = find_purchase(ledger, self._checkout)
            is_known = any(each.payment_id == self.payment_id for each in ledger.payments(purchase.id))
            if purchase.link and purchase.payment_id is None and not is_known:
                about: dict[str, Any] = {
                    "source": Source.WATCHED,
                    "verified": False,
                    "now": pendulum.now("UTC"),
                }
                ledger.bring(purchase.id, purchase.link.number, self.payment_id, **about)

    def _note_paid(self) -> None:
        """Write into the ledger, once, that the checkout is paid: now it isn't only a person who says so."""
        if self._is_of_ledger and not self._is_noted:
            with keeping_books() as ledger:
                self._paid_in(ledger)
            self._is_noted = True

    def _paid_in(self, ledger: Ledger) -> Purchase:
        purchase = find_purchase(ledger, self._checkout)
        self._refuse_if_typed_for_another(ledger, purchase)
        return ledger.paid(purchase.id, self.payment_id, now=pendulum.now("UTC"))

    def _refuse_if_typed_for_another(self, ledger: Ledger, purchase: Purchase) -> None:
        """Refuse what a person typed while nobody could say whose it is, and what is, or may be, another purchase's."""
        checked = take_typed(ledger, purchase, self.payment_id, self.hook.connection.settings)
        if checked and checked.finding in (Finding.OTHER, Finding.HELD):
            raise AirflowFailException(
                f"Payment {self.payment_id!r} was entered for {purchase}: {checked.why}. To enter another, {_CLEAR}."
            )
        if checked and checked.finding is Finding.OUT_OF_REACH:
            raise AirflowException(f"Whose payment {self.payment_id!r} is must be asked again: {checked.why}")

    def _retired(self, retirement: dict[str, Any]) -> dict[str, Any]:
        """Take a proven retirement: a planned one is recorded by the task that announces it, any other here."""
        if self._is_of_ledger:
            with keeping_books() as ledger:
                purchase = self._paid_in(ledger)
                if not purchase.allocations:
                    ledger.retired(purchase.id, retirement, now=pendulum.now("UTC"))
        self.certificate_url = retirement["certificate_url"]
        return retirement

    def _poll(self) -> Payment | CarbonmarkError:
        try:
            # The pauses between polls are the retries.
            with self.hook.get_conn(NO_RETRIES) as client:
                return client.get_payment(self.terms.payment_id)
        except CarbonmarkError as error:
            return error

    def _waited(self, context: Context) -> float:
        """Return the seconds since the first poll, which in reschedule mode another process made."""
        ti = context["ti"]
        first = ti.get_first_reschedule_date(context) if self.reschedule else None
        return max(0.0, (pendulum.now("UTC") - pendulum.instance(first or ti.start_date)).total_seconds())

    def _get_next_poke_interval(
        self, started_at: Any, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        """Keep the triggerer's pace. Airflow offers no public way to do so."""
        return self._pause(run_duration())

    def _pause(self, waited: float) -> float:
        pause = max(next_pause(waited, self.poke_interval, self._longest_pause), self._asked_to_pause)
        # The last poll is at the deadline, whatever the service asks for.
        return min(pause, max(0.0, self.timeout - waited))


def _parse_pause(value: object, field: str) -> float:
    """Read a length of time as Airflow's sensors take it, and return its seconds."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
        raise InvalidInputError(
            field, "is no length of time above zero", value=value, remedy="Give seconds or a timedelta"
        )
    return seconds
