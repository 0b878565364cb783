"""What no run thinks of by itself: who is to be reminded, which payments nobody follows, what needs a person."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseNotifier, BaseOperator

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook
from airflow_provider_carbonmark.hooks.checkout import checkout_of
from airflow_provider_carbonmark.hooks.ledger import keeping_books
from airflow_provider_carbonmark.hooks.runs import is_over
from airflow_provider_carbonmark.ledger.names import LedgerError, NoNextLinkError, Run, State

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_carbonmark.ledger.book import Ledger
    from airflow_provider_carbonmark.ledger.purchase import Purchase

REMIND_AFTER = (timedelta(days=7), timedelta(days=14), timedelta(days=28))
# A minute or two of requests, two or three of each, that no market minds; a ledger with 3,000 retirements is complete in a month.
RETIREMENTS_A_DAY = 100
# doc (Stripe): no method of payment takes longer to confirm.
CONFIRMED_WITHIN = timedelta(days=14)
# assumed: serial numbers that are not told a month after the retirement never are; credits of some registries have none.
SERIALS_WITHIN = timedelta(days=30)


class CarbonmarkHousekeepingOperator(BaseOperator):
    """
    Go through what is not at its end in the ledger, of all DAGs of this Airflow, and see to what no run sees to any more.

    It reminds of what waits to be paid, asks again about payments that were brought and nobody could confirm, wakes tasks that missed a
    payment or an end without one, and names in the log what needs a person: what may be paid, was paid twice, or is paid and not retired. It
    reads what the market didn't tell before: of projects that could not be asked about when they were planned, and of retirements, whose
    serial numbers may come late; of 100 a day. It makes no link. It declines nothing, unless ``give_up_after`` says so.

    Returns (XCom): the paid purchases whose runs are over before their retirement was recorded and announced, to be followed until it is:
    mappings with ``payment_id``, ``checkout`` (as ``CarbonmarkCreateCheckoutOperator`` returns it) and ``carbonmark_conn_id``.

    :param notifiers: Airflow notifiers, called for each purchase that is to be reminded of; their templates see ``waiting_days``, and what
        those of ``CarbonmarkAwaitPaymentOperator`` see.
    :param remind_after: after how long that is, each once.
    :param give_up_after: after how long what nobody paid is declined, once its payment page can't be used any more, and while no payment was
        brought for it that nobody can confirm. Never when not given.
    :param carbonmark_conn_id: the Airflow connection whose market is asked about projects and retirements. (templated)
    """

    template_fields: Sequence[str] = ("carbonmark_conn_id",)

    ui_color = "#d9f2e3"

    def __init__(
        self,
        *,
        notifiers: Sequence[BaseNotifier] | BaseNotifier = (),
        remind_after: Sequence[timedelta] = REMIND_AFTER,
        give_up_after: timedelta | None = None,
        carbonmark_conn_id: str = CarbonmarkHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        given_up = () if give_up_after is None else (give_up_after,)
        for name, times in (("remind_after", remind_after), ("give_up_after", given_up)):
            if not all(isinstance(time, timedelta) and time > timedelta(0) for time in times):
                raise InvalidInputError(
                    name, "is no length of time", value=times, remedy="Give timedeltas above zero"
                )
        self.notifiers = [notifiers] if isinstance(notifiers, BaseNotifier) else list(notifiers)
        self.remind_after = sorted(remind_after)
        self.give_up_after = give_up_after
        self.carbonmark_conn_id = carbonmark_conn_id

    def execute(self, context: Context) -> list[dict[str, Any]]:
        # Imported late: a DAG file needs none of it.
        from airflow_provider_carbonmark.hooks.facts.projects import learn_of_projects
        from airflow_provider_carbonmark.hooks.facts.retirements import learn_of_retirements

        now = datetime.now(UTC)
        with keeping_books() as ledger:
            waiting = [each for each in ledger.open_purchases() if each.state is State.LINK_MADE]
            since = ledger.waiting_since([each.id for each in waiting])
            for purchase in waiting:
                try:
                    self._see_to(context, ledger, purchase, since[purchase.id], now)
                except Exception:
                    # Or one mail that can't be sent would keep payments from being followed. It is tried again the next day.
                    self.log.exception("%s can't be seen to now", purchase)
            over = is_over(context)
            self._wake(ledger, over, now)
            open_purchases = ledger.open_purchases()
            followed = list(self._to_follow(ledger, open_purchases, over))
            self._name_what_needs_a_person(ledger, open_purchases, now)
            hook = CarbonmarkHook(self.carbonmark_conn_id)
            missing = ledger.missing_retirements(since=now - SERIALS_WITHIN)
            # Any: those of which the market never tells must not keep others from being asked about.
            some = random.sample(missing, min(len(missing), RETIREMENTS_A_DAY))
            learn_of_retirements(ledger, hook, some)
            # The last: retirements tell which projects they are of where no plan did.
            learn_of_projects(ledger, hook, ledger.missing_projects())
        self.log.info("%d purchases wait to be paid, %d payments are followed.", len(waiting), len(followed))
        return followed

    def _see_to(
        self, context: Context, ledger: Ledger, purchase: Purchase, since: datetime, now: datetime
    ) -> None:
        """Ask again about what was brought for a purchase that waits; then give it up, or remind of it."""
        from airflow_provider_carbonmark.hooks.next_link import rule_out

        try:
            rule_out(ledger, purchase, lambda conn_id: CarbonmarkHook(conn_id).connection.settings)
            is_paid = ledger.purchase(purchase.id).payment_id is not None
            is_over = is_paid or self._gives_up(ledger, purchase, now - since, now)
        except NoNextLinkError as doubt:
            self.log.error("%s waits, and may be paid: it is not given up. %s", purchase, doubt)
            is_over = False
        if not is_over:
            self._remind(context, ledger, purchase, since, now)

    def _gives_up(self, ledger: Ledger, purchase: Purchase, waited: timedelta, now: datetime) -> bool:
        """Decline what waited for too long, and return whether it was."""
        can_be_paid = purchase.link is not None and purchase.link.can_be_paid(now)
        if self.give_up_after is None or waited < self.give_up_after or can_be_paid:
            return False
        reason = f"Nobody paid within {waited.days} days, so it was given up (give_up_after)"
        try:
            given_up = ledger.declined(purchase.id, purchase.handler, reason, now=now)
        except LedgerError as paid:
            self.log.info("%s is not given up: %s", purchase, paid)
            return False
        self.log.warning("%s is declined: %s", given_up, reason)
        return True

    def _remind(
        self, context: Context, ledger: Ledger, purchase: Purchase, since: datetime, now: datetime
    ) -> None:
        """Remind of what waits, once for each length of time; a worker that dies in between reminds again."""
        reminded = purchase.reminded_at or since
        if not any(reminded - since < time <= now - since for time in self.remind_after):
            return
        days = (now - since).days
        checkout = checkout_of(ledger, purchase)
        self.log.warning(
            "%s waits to be paid for %d days: %s",
            *(purchase, days, checkout["pay_url"] or checkout["checkout_url"]),
        )
        about: Any = {
            **context,
            "checkout": checkout,
            "purchase": purchase.to_json(),
            "waiting_days": days,
        }
        for notifier in self.notifiers:
            # Its templates are gone once it is called: the next purchase would be told of as this one.
            copy(notifier)(about)
        ledger.reminded(purchase.id, now=now)

    def _wake(self, ledger: Ledger, over: Callable[[Run, datetime], bool], now: datetime) -> None:
        """Wake what may be parked for nothing: whoever was to wake it may have died before."""
        from airflow_provider_carbonmark.hooks.api_server import tell_server
        from airflow_provider_carbonmark.hooks.return_url import lifetime

        # As long as the API server lets anybody in.
        for purchase in ledger.settled_since(now - lifetime()):
            if not all(over(task.run, now) for task in ledger.waiting(purchase.id)):
                tell_server(ledger, purchase)

    def _to_follow(
        self, ledger: Ledger, purchases: Iterable[Purchase], over: Callable[[Run, datetime], bool]
    ) -> Iterable[dict[str, Any]]:
        """Give what is paid and followed by no run."""
        for purchase in purchases:
            if purchase.link is None or not (purchase.state is State.PAID or purchase.to_announce):
                continue
            if not over(purchase.handler, purchase.handled_since):
                continue
            self.log.info("%s is %s, and its run is over: it is followed here", purchase, purchase.state)
            yield {
                "payment_id": purchase.payment_id,
                "checkout": checkout_of(ledger, purchase),
                "carbonmark_conn_id": purchase.link.conn_id,
            }

    def _name_what_needs_a_person(self, ledger: Ledger, purchases: Iterable[Purchase], now: datetime) -> None:
        for payment in ledger.second_payments():
            self.log.error("Purchase %d. %s %s", payment.purchase, payment.what, payment.todo)
        for purchase in purchases:
            if purchase.todo:
                self.log.error("%s is %s: %s", purchase, purchase.state, purchase.todo)
            elif purchase.state is State.PAID and not purchase.test_mode and _is_late(purchase, now):
                self.log.error(
                    "%s is paid since %s, and its retirement is not proven: look at the log of the task that follows payment %s, and ask "
                    "Carbonmark",
                    *(purchase, purchase.paid_at, purchase.payment_id),
                )


def _is_late(purchase: Purchase, now: datetime) -> bool:
    return purchase.paid_at is not None and now - purchase.paid_at > CONFIRMED_WITHIN
