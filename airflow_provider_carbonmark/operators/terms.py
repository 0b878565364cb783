"""How a purchase's link is asked for, and what it may cost: asked right before the link is made, and held against all limits."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import parse_money, parse_url
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

_TEXTS = ("beneficiary_name", "retirement_message")


@dataclass(frozen=True)
class LinkTerms:
    """
    How a purchase's link is asked for, besides what the purchase says.

    :param hook: of the connection that it is asked with.
    :param metadata: more to send, plain JSON.
    :param success_url: where the buyer lands after paying; None for this Airflow.
    :param cancel_url: where the buyer lands otherwise; None for this Airflow.
    :param max_cost: the most that it may cost, USD; None or empty for no limit.
    :param limits: those of the plan, which hold for all links of its run together; or a function that is called with the task's
        context and returns them.
    """

    hook: CarbonmarkHook
    metadata: Mapping[str, Any]
    success_url: str | None
    cancel_url: str | None
    max_cost: Decimal | str | int | None
    limits: Limits | Callable[[Context], Limits] | None

    def request(self, ledger: Ledger, purchase: Purchase, number: int) -> dict[str, Any]:
        """Return what Carbonmark is asked for: the same each time, so that a try that asks again gets the same link."""
        given = {
            name: parse_url(url, name, takes_suffix=name == "success_url")
            for name, url in (("success_url", self.success_url), ("cancel_url", self.cancel_url))
            if url
        }
        return {
            "asset_price_source_id": purchase.asset_price_source_id,
            "quantity_tonnes": f"{purchase.quantity_tonnes:f}",
            "metadata": self.metadata_of(purchase),
            **({} if len(given) == 2 else self._return_urls(ledger, purchase, number)),
            **given,
        }

    def metadata_of(self, purchase: Purchase) -> dict[str, Any]:
        return {**self.metadata, **{name: getattr(purchase, name) for name in _TEXTS}}

    def _return_urls(self, ledger: Ledger, purchase: Purchase, number: int) -> dict[str, str]:
        # Imported late, here and below: a DAG file doesn't need it.
        from airflow_provider_carbonmark.hooks.return_url import Token, return_urls

        return return_urls(ledger, Token(purchase.id, number, self.hook.carbonmark_conn_id))

    def check_price(self, context: Context, ledger: Ledger, purchase: Purchase) -> Mapping[str, str]:
        """
        Ask what the purchase costs now, refuse what is too dear, and write the rest into the ledger.

        :return: what this and each later link of it may cost, for the ledger.

        A listing that can't fill what was planned fails the purchase, and so does a cost below the least that can be paid: its tonnes
        are missing again, and planned anew. One that is too dear stays planned.

        :raises AirflowFailException: when it costs more than it may.
        :raises AirflowSkipException: when what was planned costs less than can be paid.
        """
        from airflow_provider_carbonmark.ledger.values import too_little

        cost = self._ask_cost(context, ledger, purchase)
        if cost < (least := minimum_payment_usd()):
            reason = too_little(cost, least)
            if not purchase.allocations:
                raise AirflowFailException(f"{purchase} gets no link: {reason}. Buy more at once.")
            ledger.failed(purchase.id, reason, now=pendulum.now("UTC"), run=run_of(context))
            raise AirflowSkipException(f"{purchase} gets no link, {reason}")
        log.info("%s costs %s USD.", purchase, cost)
        return self._write_down(context, ledger, purchase, cost)

    def _ask_cost(self, context: Context, ledger: Ledger, purchase: Purchase) -> Decimal:
        try:
            with failing_without_retry():
                quote = self.hook.create_quote(
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


def parse_metadata(value: object) -> dict[str, Any]:
    """
    Read what is to be sent besides, as the ledger will give it back, so that a retry finds it unchanged.

    :raises InvalidInputError: when it is no mapping, no JSON, or repeats what is a parameter.
    """
    remedy = "Pass a mapping of plain JSON values"
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInputError("metadata", "is not a mapping", value=value, remedy=remedy)
    try:
        metadata: dict[str, Any] = json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InvalidInputError("metadata", f"is not JSON: {error}", remedy=remedy) from None
    for name in _TEXTS:
        if name in metadata:
            raise InvalidInputError(
                "metadata",
                f"repeats {name}",
                value=metadata[name],
                remedy=f"Pass {name} to the operator only",
            )
    return metadata


def parse_max_cost(value: object) -> Decimal | None:
    """Read the most that something may cost, USD; None where that is not limited. :raises InvalidInputError: when it is no amount."""
    return None if value in (None, "") else parse_money(value, "max_cost")


def refuse_above(max_cost: Decimal | None, cost: Decimal, what: str) -> None:
    """Refuse what costs more than it may; what costs that is how the message begins."""
    if max_cost is not None and cost > max_cost:
        raise AirflowFailException(
            f"{what} {cost} USD, more than max_cost, {max_cost} USD. Raise max_cost, or choose a cheaper listing."
        )
