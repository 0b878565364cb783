"""What a purchase costs now: asked right before its link is made, and held against all that it may cost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import pendulum
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_carbonmark.api.inputs import parse_money
from airflow_provider_carbonmark.api.retries import refuses_the_listing
from airflow_provider_carbonmark.hooks.carbonmark import failing_without_retry
from airflow_provider_carbonmark.hooks.ledger import minimum_payment_usd
from airflow_provider_carbonmark.hooks.runs import run_of
from airflow_provider_carbonmark.ledger.names import LimitsPassedError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook
    from airflow_provider_carbonmark.ledger.book import Ledger
    from airflow_provider_carbonmark.ledger.limits import Limits
    from airflow_provider_carbonmark.ledger.purchase import Purchase

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PriceTerms:
    """
    What a purchase may cost.

    :param max_cost: the most, USD; None or empty for no limit.
    :param limits: those of the plan, which hold for all links of its run together; or a function that is called with the task's
        context and returns them.
    """

    max_cost: Decimal | str | int | None = None
    limits: Limits | Callable[[Context], Limits] | None = None

    def check(
        self, context: Context, ledger: Ledger, purchase: Purchase, hook: CarbonmarkHook
    ) -> Mapping[str, str]:
        """
        Ask what the purchase costs now, refuse what is too dear, and write the rest into the ledger.

        :return: what this and each later link of it may cost, for the ledger.

        A listing that can't fill what was planned fails the purchase, and so does a cost below the least that can be paid: its tonnes
        are missing again, and planned anew. One that is too dear stays planned.

        :raises AirflowFailException: when it costs more than it may.
        :raises AirflowSkipException: when what was planned costs less than can be paid.
        """
        # Imported late: a DAG file needs none of it.
        from airflow_provider_carbonmark.ledger.values import too_little

        cost = self._ask(context, ledger, purchase, hook)
        if cost < (least := minimum_payment_usd()):
            reason = too_little(cost, least)
            if not purchase.allocations:
                raise AirflowFailException(f"{purchase} gets no link: {reason}. Buy more at once.")
            ledger.failed(purchase.id, reason, now=pendulum.now("UTC"), run=run_of(context))
            raise AirflowSkipException(f"{purchase} gets no link, {reason}")
        log.info("%s costs %s USD.", purchase, cost)
        return self._write_down(context, ledger, purchase, cost)

    def _ask(self, context: Context, ledger: Ledger, purchase: Purchase, hook: CarbonmarkHook) -> Decimal:
        try:
            with failing_without_retry():
                quote = hook.create_quote(
                    asset_price_source_id=purchase.asset_price_source_id,
                    quantity_tonnes=purchase.quantity_tonnes,
                )
        except AirflowFailException as failure:
            if purchase.allocations and refuses_the_listing(failure.__cause__):
                ledger.failed(purchase.id, str(failure), now=pendulum.now("UTC"), run=run_of(context))
            raise
        return quote.cost_usd

    def _write_down(
        self, context: Context, ledger: Ledger, purchase: Purchase, cost: Decimal
    ) -> Mapping[str, str]:
        from airflow_provider_carbonmark.ledger.limits import limits_as_json

        with failing_without_retry():
            limit = parse_max_cost(self.max_cost)
        refuse_above(limit, cost, f"{purchase} costs")
        limits = self.limits(context) if callable(self.limits) else self.limits
        try:
            ledger.quoted(purchase.id, run_of(context), cost, limits)
        except LimitsPassedError as passed:
            raise AirflowFailException(
                f"{purchase} gets no link, since what this run buys costs too much now: {passed}. Raise the limit and clear this "
                "task, or start a new run once this one is over, which plans anew."
            ) from None
        return limits_as_json(limit, limits)


def parse_max_cost(value: object) -> Decimal | None:
    """Read the most that something may cost, USD; None where that is not limited. :raises InvalidInputError: when it is no amount."""
    return None if value in (None, "") else parse_money(value, "max_cost")


def refuse_above(max_cost: Decimal | None, cost: Decimal, what: str) -> None:
    """
    Refuse what costs more than it may.

    :param what: how the message begins: what costs that.
    """
    if max_cost is not None and cost > max_cost:
        raise AirflowFailException(
            f"{what} {cost} USD, more than max_cost, {max_cost} USD. Raise max_cost, or choose a cheaper listing."
        )
