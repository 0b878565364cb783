"""Ask for a quote; make a checkout link."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_carbonmark.api.inputs import (
    MAX_BENEFICIARY_NAME,
    MAX_RETIREMENT_MESSAGE,
    parse_quantity,
    parse_text,
)
from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook, failing_without_retry
from airflow_provider_carbonmark.hooks.checkout import checkout_of
from airflow_provider_carbonmark.hooks.ledger import keeping_books
from airflow_provider_carbonmark.links import CheckoutLink

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_carbonmark.ledger.book import Ledger
    from airflow_provider_carbonmark.ledger.purchase import Order, Purchase
    from airflow_provider_carbonmark.operators.terms import LinkTerms
    from airflow_provider_carbonmark.planning import Limits


class _CarbonmarkOperator(BaseOperator):
    """What both operators share: a connection and what is to be bought."""

    ui_color = "#d9f2e3"

    def __init__(
        self,
        *,
        asset_price_source_id: str,
        quantity_tonnes: Decimal | str | int,
        carbonmark_conn_id: str = CarbonmarkHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.asset_price_source_id = asset_price_source_id
        self.quantity_tonnes = quantity_tonnes
        self.carbonmark_conn_id = carbonmark_conn_id

    @cached_property
    def hook(self) -> CarbonmarkHook:
        return CarbonmarkHook(self.carbonmark_conn_id)


class CarbonmarkCreateQuoteOperator(_CarbonmarkOperator):
    """
    Ask what a quantity of a listing costs. Buys and reserves nothing.

    Returns (XCom, plain JSON): ``uuid``, ``asset_price_source_id``, ``quantity_tonnes`` and ``cost_usd`` (decimal strings),
    ``test_mode``. Bad input, a refused key, a listing that can't fill the quantity, and a cost over ``max_cost`` fail the task
    without a retry.

    :param asset_price_source_id: the listing, as in the market API's ``sourceId``. (templated)
    :param quantity_tonnes: tonnes in steps of 0.001, as a Decimal, an int or a decimal string. (templated)
    :param max_cost: the most it may cost, USD. (templated)
    :param carbonmark_conn_id: the Airflow connection. (templated)
    """

    template_fields: Sequence[str] = (
        "asset_price_source_id",
        "quantity_tonnes",
        "max_cost",
        "carbonmark_conn_id",
    )

    def __init__(self, *, max_cost: Decimal | str | int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_cost = max_cost

    def execute(self, context: Context) -> dict[str, Any]:
        # Imported late: a DAG file needs none of it.
        from airflow_provider_carbonmark.operators.terms import parse_max_cost, refuse_above

        with failing_without_retry():
            limit = parse_max_cost(self.max_cost)
            quantity = parse_quantity(self.quantity_tonnes)
            quote = self.hook.create_quote(
                asset_price_source_id=self.asset_price_source_id, quantity_tonnes=quantity
            )
        self.log.info("%s t of %s cost %s USD.", quantity, self.asset_price_source_id, quote.cost_usd)
        refuse_above(limit, quote.cost_usd, f"{quantity} t of {self.asset_price_source_id} cost")
        return {
            "uuid": quote.uuid,
            "asset_price_source_id": quote.asset_price_source_id,
            "quantity_tonnes": f"{quote.quantity_tonnes:f}",
            "cost_usd": f"{quote.cost_usd:f}",
            "test_mode": self.hook.test_mode,
        }


class CarbonmarkCreateCheckoutOperator(_CarbonmarkOperator):
    """
    Make a hosted payment page. Nothing is bought until somebody pays there.

    The purchase and its link are in the ledger before anybody sees the link: a retry, a clear, or another Airflow version hands out the
    same one. If what is to be bought has changed since, a new link is made only while Carbonmark says that the old one is unpaid;
    otherwise the task fails without a retry. What it costs is asked right before the link is made; over ``max_cost``, or below the
    least that can be paid, there is none. After paying, the buyer's browser comes back to this Airflow, which writes the payment
    into the ledger and wakes the task that waits for it.

    Returns (XCom, plain JSON): ``purchase``, its number in the ledger, and ``ledger``, which ledger that is; ``checkout_url``;
    ``pay_url``, the address in this Airflow that can be paid as long as the purchase is open (null where this Airflow's address isn't
    known); ``expires_at``, until when the payment page can be paid (ISO 8601, UTC; null for ever); ``payment_id`` (null unless
    the service tells); ``asset_price_source_id``, ``quantity_tonnes`` (decimal string), ``beneficiary_name``,
    ``retirement_message``, ``test_mode``.

    :param asset_price_source_id: the listing, as in the market API's ``sourceId``. (templated)
    :param quantity_tonnes: tonnes in steps of 0.001, as a Decimal, an int or a decimal string. (templated)
    :param beneficiary_name: on whose behalf the credits are retired; public, at most 255 characters. (templated)
    :param retirement_message: why; public, at most 500 characters; ``{reference}`` stands for what tells the purchase from others that
        ask for just the same. (templated)
    :param success_url: where the buyer lands after paying, if not in this Airflow; Carbonmark appends ``/<payment id>``. (templated)
    :param cancel_url: where the buyer lands after leaving the page unpaid, if not in this Airflow. (templated)
    :param metadata: more to send as the checkout's metadata. (templated)
    :param max_cost: the most it may cost, USD. (templated)
    :param carbonmark_conn_id: the Airflow connection. (templated)
    """

    template_fields: Sequence[str] = (
        "asset_price_source_id",
        "quantity_tonnes",
        "beneficiary_name",
        "retirement_message",
        "success_url",
        "cancel_url",
        "metadata",
        "max_cost",
        "carbonmark_conn_id",
    )
    operator_extra_links = (CheckoutLink(),)

    def __init__(
        self,
        *,
        beneficiary_name: str,
        retirement_message: str,
        success_url: str | None = None,
        cancel_url: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        max_cost: Decimal | str | int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.beneficiary_name = beneficiary_name
        self.retirement_message = retirement_message
        self.success_url = success_url
        self.cancel_url = cancel_url
        self.metadata = metadata
        self.max_cost = max_cost
        self.pay_url: str | None = None
        self.cost_usd: Decimal | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        # Imported late: a DAG file needs none of it.
        from airflow_provider_carbonmark.operators.linking import make_link, ordered

        with keeping_books() as ledger:
            terms = self._terms()
            purchase = ordered(context, ledger, self._order(), terms)
            return self._deliver(ledger, make_link(context, ledger, purchase, terms))

    def _terms(self, limits: Limits | Callable[[Context], Limits] | None = None) -> LinkTerms:
        from airflow_provider_carbonmark.operators.terms import LinkTerms, parse_metadata

        metadata = parse_metadata(self.metadata)
        return LinkTerms(self.hook, metadata, self.success_url, self.cancel_url, self.max_cost, limits)

    def _order(self) -> Order:
        from airflow_provider_carbonmark.ledger.purchase import Order

        return Order(
            asset_price_source_id=self.asset_price_source_id,
            quantity_tonnes=parse_quantity(self.quantity_tonnes),
            beneficiary_name=parse_text(self.beneficiary_name, "beneficiary_name", MAX_BENEFICIARY_NAME),
            retirement_message=parse_text(
                self.retirement_message, "retirement_message", MAX_RETIREMENT_MESSAGE
            ),
        )

    def _deliver(self, ledger: Ledger, purchase: Purchase) -> dict[str, Any]:
        checkout = checkout_of(ledger, purchase)
        self.pay_url = checkout["pay_url"] or checkout["checkout_url"]
        # Shown in Airflow as the name of a mapped task.
        self.quantity_tonnes, self.cost_usd = purchase.quantity_tonnes, purchase.cost_usd
        self.log.info("%s: pay at %s", purchase, self.pay_url)
        if purchase.payment_id:
            self.log.info("It is paid: %s", purchase.payment_id)
        return checkout
