"""Ask for a quote; make a checkout link."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import (
    MAX_BENEFICIARY_NAME,
    MAX_RETIREMENT_MESSAGE,
    parse_quantity,
    parse_text,
    parse_url,
)
from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook, failing_without_retry
from airflow_provider_carbonmark.links import CheckoutLink
from airflow_provider_carbonmark.operators.link_store import LinkStore, MadeLink, refuse_unless_unpaid
from airflow_provider_carbonmark.web.link import (
    CONNECTION_KEY,
    PAYMENT_KEY,
    RECORD_KEY,
    LinkKey,
    paid_key,
)

if TYPE_CHECKING:
    from airflow.sdk import Context


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
        with failing_without_retry():
            limit = None if self.max_cost in (None, "") else _parse_money(self.max_cost, "max_cost")
            quantity = parse_quantity(self.quantity_tonnes)
            quote = self.hook.create_quote(
                asset_price_source_id=self.asset_price_source_id, quantity_tonnes=quantity
            )
        self.log.info("%s t of %s cost %s USD.", quantity, self.asset_price_source_id, quote.cost_usd)
        if limit is not None and quote.cost_usd > limit:
            raise AirflowFailException(
                f"{quantity} t of {self.asset_price_source_id} cost {quote.cost_usd} USD, more than max_cost, {limit} USD. "
                "Raise max_cost, or choose a cheaper listing."
            )
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

    After paying, the buyer's browser comes back to this Airflow, which keeps the payment id as the XCom ``payment_id`` of this task.

    On Airflow 3.3 and later, a retry or a clear of the task gets the link that it made before. If what is to be bought has changed
    since, a new link is made only while Carbonmark says that the old one is unpaid; otherwise the task fails without a retry.

    Returns (XCom, plain JSON): ``checkout_url``, ``payment_id`` (null unless the service tells), ``asset_price_source_id``,
    ``quantity_tonnes`` (decimal string), ``beneficiary_name``, ``retirement_message``, ``test_mode``, and ``dag_id``, ``run_id``,
    ``task_id``, ``map_index`` of this task.

    :param asset_price_source_id: the listing, as in the market API's ``sourceId``. (templated)
    :param quantity_tonnes: tonnes in steps of 0.001, as a Decimal, an int or a decimal string. (templated)
    :param beneficiary_name: on whose behalf the credits are retired; public, at most 255 characters. (templated)
    :param retirement_message: why; public, at most 500 characters. (templated)
    :param success_url: where the buyer lands after paying, if not in this Airflow; Carbonmark appends ``/<payment id>``. (templated)
    :param cancel_url: where the buyer lands after leaving the page unpaid, if not in this Airflow. (templated)
    :param metadata: more to send as the checkout's metadata. (templated)
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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.beneficiary_name = beneficiary_name
        self.retirement_message = retirement_message
        self.success_url = success_url
        self.cancel_url = cancel_url
        self.metadata = metadata
        self.checkout_url: str | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        with failing_without_retry():
            purchase = self._purchase()
            links = self._link_store(context)
            if links.made:
                if (latest := links.made[-1]).purchase == purchase:
                    self.checkout_url = latest.checkout["checkout_url"]
                    self.log.info("This task made its link before: %s", self.checkout_url)
                    self._tell_payment(context, links)
                    return latest.checkout
                refuse_unless_unpaid(links, purchase, self.hook)
            urls = self._return_urls(context, links, purchase)
            key = links.intend(purchase | urls)
            checkout = self._make(context, purchase, urls, key)
        links.keep(MadeLink(purchase, checkout))
        self.checkout_url = checkout["checkout_url"]
        self.log.info(
            "%(beneficiary_name)s: pay for %(quantity_tonnes)s t of %(asset_price_source_id)s at %(checkout_url)s",
            checkout,
        )
        return checkout

    def _link_store(self, context: Context) -> LinkStore:
        return LinkStore.of(context)

    def _describe(self, checkout: dict[str, Any]) -> dict[str, Any]:
        """Return what is delivered; for subclasses that have more to say."""
        return checkout

    def _return_urls(self, context: Context, links: LinkStore, purchase: dict[str, Any]) -> dict[str, str]:
        """Return where the buyer goes: the author's addresses, else this Airflow's."""
        given = {
            name: parse_url(url, name, takes_suffix=name == "success_url")
            for name, url in (("success_url", self.success_url), ("cancel_url", self.cancel_url))
            if url
        }
        if len(given) == 2:
            return given
        # The return URL takes a token only for the connection that the link was made with.
        context["ti"].xcom_push(CONNECTION_KEY, self.carbonmark_conn_id)
        asked = {name: links.request.get(name, "") for name in ("success_url", "cancel_url")}
        if purchase | asked == links.request:
            # Signed anew, they would make another request of what an earlier try asked for.
            return asked | given
        # Imported late: a DAG file doesn't need it.
        from airflow_provider_carbonmark.web.urls import return_urls

        return return_urls(self.carbonmark_conn_id, self.hook.connection, LinkKey.of(context["ti"])) | given

    def _tell_payment(self, context: Context, links: LinkStore) -> None:
        """Say again which payment is recorded: a clear deleted the XComs that said so."""
        if record := links.payment:
            self.log.info("It is paid: %s", record.payment_id)
            context["ti"].xcom_push(PAYMENT_KEY, record.payment_id)
            context["ti"].xcom_push(RECORD_KEY, record.to_json())
            if record.verified:
                context["ti"].xcom_push(paid_key(record.payment_id), record.payment_id)

    def _purchase(self) -> dict[str, Any]:
        """Return what is to be bought, checked, as plain JSON: what makes two links the same."""
        metadata = _parse_metadata(self.metadata)
        for name in ("beneficiary_name", "retirement_message"):
            if name in metadata:
                raise InvalidInputError(
                    "metadata",
                    f"repeats {name}",
                    value=metadata[name],
                    remedy=f"Pass {name} to the operator only",
                )
        return {
            "asset_price_source_id": self.asset_price_source_id,
            "quantity_tonnes": f"{parse_quantity(self.quantity_tonnes):f}",
            "beneficiary_name": parse_text(self.beneficiary_name, "beneficiary_name", MAX_BENEFICIARY_NAME),
            "retirement_message": parse_text(
                self.retirement_message, "retirement_message", MAX_RETIREMENT_MESSAGE
            ),
            "metadata": metadata,
            "carbonmark_conn_id": self.carbonmark_conn_id,
            "test_mode": self.hook.test_mode,
        }

    def _make(
        self, context: Context, purchase: dict[str, Any], urls: dict[str, str], key: str
    ) -> dict[str, Any]:
        told = ("beneficiary_name", "retirement_message")
        page = self.hook.create_checkout(
            asset_price_source_id=purchase["asset_price_source_id"],
            quantity_tonnes=purchase["quantity_tonnes"],
            metadata=purchase["metadata"] | {name: purchase[name] for name in told},
            idempotency_key=key,
            **urls,
        )
        checkout = {
            "checkout_url": page.url,
            "payment_id": page.payment_id,
            **{
                name: purchase[name]
                for name in ("asset_price_source_id", "quantity_tonnes", *told, "test_mode")
            },
            **LinkKey.of(context["ti"]).to_json(),
        }
        return self._describe(checkout)


def _parse_metadata(value: object) -> dict[str, Any]:
    """Return the metadata as the task state store will give it back, so that a retry finds it unchanged."""
    remedy = "Pass a mapping of plain JSON values"
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInputError("metadata", "is not a mapping", value=value, remedy=remedy)
    try:
        metadata: dict[str, Any] = json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InvalidInputError("metadata", f"is not JSON: {error}", remedy=remedy) from None
    return metadata


def _parse_money(value: object, field: str) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise InvalidInputError(
            field, "is not an amount of money", value=value, remedy='Give USD, for example "250.00"'
        )
    return amount
