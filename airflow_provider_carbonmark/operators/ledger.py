"""
From a month's emissions to a proven retirement, with the ledger kept at every step.

::

    plan ─► quote ─► checkout ─► CarbonmarkAwaitPaymentOperator ─► CarbonmarkRetirementSensor ─► record

Every task that gets a purchase or its checkout writes into the ledger what it finds out. A task that dies in between is tried again,
and whatever its run left open the next run takes up where it is: each of these tasks passes on at once what the ledger already knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    Asset,
    BaseOperator,
    conf,
)

from airflow_provider_carbonmark.api.errors import InvalidInputError, NotFoundError, RequestRefusedError
from airflow_provider_carbonmark.api.inputs import parse_flag
from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook
from airflow_provider_carbonmark.hooks.checkout import find_purchase, link_lifetime
from airflow_provider_carbonmark.hooks.ledger import keeping_books, minimum_payment_usd, open_ledger
from airflow_provider_carbonmark.hooks.runs import is_over, run_of
from airflow_provider_carbonmark.ledger.values import too_little
from airflow_provider_carbonmark.operators.carbonmark import (
    CarbonmarkCreateCheckoutOperator,
    CarbonmarkCreateQuoteOperator,
)
from airflow_provider_carbonmark.operators.linking import LinkTerms, make_link, parse_metadata

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_carbonmark.emissions import EntityEmissions
    from airflow_provider_carbonmark.ledger import Ledger
    from airflow_provider_carbonmark.ledger.purchase import Purchase
    from airflow_provider_carbonmark.ledger.values import Coverage, Plan, PlannedPurchase, Share
    from airflow_provider_carbonmark.planning import Limits, ListingFilter

#: Updated with each retirement that is recorded in the ledger.
CARBONMARK_RETIREMENTS = Asset(name="carbonmark_retirements", uri="x-carbonmark://retirements")

PREVIEW_KEY = "preview"
#: How many of a purchase's entities and months are told one by one: in a log, and in the asset's event.
SHARES_SHOWN = 100


class CarbonmarkPlanOperator(BaseOperator):
    """
    Work out what is still to buy for some emissions, and write it into the ledger: nothing that it covers is planned again.

    A month that was restated upwards is topped up by the difference; one that has more than it needs is reported in the log, and so
    is an entity that is not stated any more for a month that is. What the certificates don't tell apart is bought together,
    and split over several listings where none holds it all. What costs less than can be paid is left to a later plan. A limit that
    would be passed fails the task, and nothing is planned; so do more purchases than ``[core] max_map_length``. Purchases that an
    earlier run of the DAG left open are taken up, as many as fit.

    Returns (XCom): the purchases to carry on, one mapping each, as ``Purchase.to_json`` makes them. When the task is cleared, those
    that it planned keep their places.

    :param emissions: mappings with ``entity``, ``month`` and ``emitted_tonnes`` (decimal strings), from upstream for example. Or a
        function that is called with the task's context and returns ``EntityEmissions``: so large inputs stay out of XCom. (templated)
    :param beneficiary_name: on whose behalf the credits are retired; ``{entity}`` and ``{month}`` stand for the line's. (templated)
    :param retirement_message: why, likewise; also ``{emitted_tonnes}`` and ``{quantity_tonnes}``. (templated)
    :param filters: which credits are wanted, or a function that is called with the task's context and returns it.
    :param limits: what it may cost, likewise.
    :param preview: say in the log and in the XCom ``preview`` what would be planned; write nothing, return nothing. (templated)
    :param carbonmark_conn_id: the Airflow connection. (templated)
    """

    template_fields: Sequence[str] = (
        "emissions",
        "beneficiary_name",
        "retirement_message",
        "preview",
        "carbonmark_conn_id",
    )
    ui_color = "#d9f2e3"

    def __init__(
        self,
        *,
        emissions: Sequence[Mapping[str, Any]] | Callable[[Context], Iterable[EntityEmissions]],
        beneficiary_name: str,
        retirement_message: str,
        filters: ListingFilter | Callable[[Context], ListingFilter] | None = None,
        limits: Limits | Callable[[Context], Limits] | None = None,
        preview: bool | str = False,
        carbonmark_conn_id: str = CarbonmarkHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Airflow would call a function in a templated field, and keep what it returns in its database.
        self.emissions = None if callable(emissions) else emissions
        self._emissions_of = emissions if callable(emissions) else None
        self.beneficiary_name = beneficiary_name
        self.retirement_message = retirement_message
        self.filters = filters
        self.limits = limits
        self.preview = preview
        self.carbonmark_conn_id = carbonmark_conn_id

    def execute(self, context: Context) -> list[dict[str, Any]]:
        from airflow_provider_carbonmark.emissions import EmissionsError
        from airflow_provider_carbonmark.planning import NoListingError, PlanLimitError

        try:
            with keeping_books() as ledger:
                return self._plan(context, ledger)
        except (EmissionsError, NoListingError, PlanLimitError) as error:
            raise AirflowFailException(str(error)) from error

    def _plan(self, context: Context, ledger: Ledger) -> list[dict[str, Any]]:
        emissions = list(self._read_emissions(context))
        hook = CarbonmarkHook(self.carbonmark_conn_id)
        about: dict[str, Any] = {
            "run": run_of(context),
            "months": {each.month for each in emissions},
            "test_mode": hook.test_mode,
            "is_over": is_over(context),
            # Airflow would refuse more at the end of the task, after they are written down.
            "at_most": conf.getint("core", "max_map_length", fallback=1024),
        }
        make = self._planner(context, emissions, hook)
        if parse_flag(self.preview, "preview"):
            plan = ledger.preview(make, **about)
            self._tell(plan)
            self.log.info("This is a preview: nothing of it is planned.")
            context["ti"].xcom_push(PREVIEW_KEY, [_shown(purchase) for purchase in plan.purchases])
            return []
        purchases = ledger.plan(make, **about, now=pendulum.now("UTC"))
        for purchase in purchases:
            self.log.info("%s: %s t, %s", purchase, purchase.quantity_tonnes, purchase.state)
        return [purchase.to_json() for purchase in purchases]

    def _planner(
        self, context: Context, emissions: list[EntityEmissions], hook: CarbonmarkHook
    ) -> Callable[[Coverage], Plan]:
        from airflow_provider_carbonmark.planning import Limits, ListingFilter, plan_purchases
        from airflow_provider_carbonmark.planning.dedication import Dedication

        listings = hook.list_prices()
        dedication = Dedication(self.beneficiary_name, self.retirement_message)
        filters = self.filters(context) if callable(self.filters) else self.filters or ListingFilter()
        limits = self.limits(context) if callable(self.limits) else self.limits or Limits()
        minimum, lifetime = minimum_payment_usd(), link_lifetime()

        def make(coverage: Coverage) -> Plan:
            plan = plan_purchases(
                emissions,
                coverage,
                listings,
                dedication=dedication,
                filters=filters,
                limits=limits,
                minimum_payment_usd=minimum,
                link_lifetime=lifetime,
                now=pendulum.now("UTC"),
            )
            for over in plan.over_covered:
                self.log.warning(
                    "%s has more than it needs for %s: %s t emitted, %s t covered",
                    *(over.entity, over.month, over.emitted_tonnes, over.covered_tonnes),
                )
            for left in plan.carried_over:
                self.log.warning(
                    "%s t of %s, %s are not bought now, %s",
                    *(left.need.offset_tonnes, left.need.entity, left.need.month, left.reason),
                )
            for gone in plan.unstated:
                self.log.warning(
                    "%s was planned for %s before and is not among its emissions now: what is known of it stays, %s t emitted and "
                    "%s t covered. State it with 0 tonnes if it is gone; if it was renamed, its tonnes are bought twice unless "
                    "it keeps its name. Sources that share a ledger must not share names of entities",
                    *(gone.entity, gone.month, gone.emitted_tonnes, gone.covered_tonnes),
                )
            return plan

        return make

    def _read_emissions(self, context: Context) -> Iterable[EntityEmissions]:
        from airflow_provider_carbonmark.emissions.sums import stated_emissions

        return self._emissions_of(context) if self._emissions_of else stated_emissions(self.emissions)

    def _tell(self, plan: Plan) -> None:
        for planned in plan.purchases:
            self.log.info(
                "%s t of %s (%s, %s) for %s USD, of which for %s",
                *(
                    planned.quantity_tonnes,
                    planned.asset_price_source_id,
                    planned.project_id,
                    planned.vintage,
                ),
                *(planned.cost_usd, "; ".join(map(_told, planned.shares[:SHARES_SHOWN]))),
            )
        self.log.info("%d purchases for %s USD in all.", len(plan.purchases), plan.cost_usd)


class CarbonmarkQuotePurchaseOperator(CarbonmarkCreateQuoteOperator):
    """
    Ask what a planned purchase costs now, and write that into the ledger. One that has its link already needs no quote.

    A listing that is gone or can't fill the purchase any more fails it, so that the next plan buys its tonnes elsewhere; so does a
    cost below the least that can be paid, which skips the task. Over
    ``max_cost`` the task fails and the purchase stays planned: raise the limit and clear the task, or start a new run, which plans
    anew.

    Returns (XCom): what ``CarbonmarkCreateQuoteOperator`` returns; with ``uuid`` null where nothing was asked.

    :param purchase: one of the plan's purchases. (templated)
    :param max_cost: the most it may cost, USD. (templated)
    :param carbonmark_conn_id: the Airflow connection. (templated)
    """

    template_fields: Sequence[str] = ("purchase", "max_cost", "carbonmark_conn_id")

    def __init__(self, *, purchase: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(asset_price_source_id="", quantity_tonnes="", **kwargs)
        self.purchase = purchase

    def execute(self, context: Context) -> dict[str, Any]:
        with keeping_books() as ledger:
            purchase = find_purchase(ledger, self.purchase, "purchase")
            _skip_if_over(purchase)
            if purchase.has_link:
                self.log.info("%s has its link already.", purchase)
                return {
                    "uuid": None,
                    "asset_price_source_id": purchase.asset_price_source_id,
                    "quantity_tonnes": f"{purchase.quantity_tonnes:f}",
                    "cost_usd": f"{purchase.cost_usd:f}",
                    "test_mode": purchase.test_mode,
                }
            _check_mode(purchase, self.hook)
            self.asset_price_source_id = purchase.asset_price_source_id
            self.quantity_tonnes = purchase.quantity_tonnes
            try:
                quote = super().execute(context)
            except AirflowFailException as failure:
                if _is_refusal_of_the_listing(failure.__cause__):
                    ledger.failed(purchase.id, str(failure), now=pendulum.now("UTC"), run=run_of(context))
                raise
            cost = Decimal(quote["cost_usd"])
            if cost < (least := minimum_payment_usd()):
                reason = too_little(cost, least)
                ledger.failed(purchase.id, reason, now=pendulum.now("UTC"), run=run_of(context))
                raise AirflowSkipException(f"{purchase} gets no link, {reason}")
            ledger.quoted(purchase.id, run_of(context), cost)
            return quote


class CarbonmarkCheckoutPurchaseOperator(CarbonmarkCreateCheckoutOperator):
    """
    Make the payment page of a planned purchase, and write it into the ledger before anybody sees it; one that has its page gets that.

    Returns (XCom): what ``CarbonmarkCreateCheckoutOperator`` returns.

    :param purchase: one of the plan's purchases. (templated)
    :param success_url: where the buyer lands after paying, if not in this Airflow; Carbonmark appends ``/<payment id>``. (templated)
    :param cancel_url: where the buyer lands after leaving the page unpaid, if not in this Airflow. (templated)
    :param metadata: more to send as the checkout's metadata. (templated)
    :param carbonmark_conn_id: the Airflow connection. (templated)
    """

    template_fields: Sequence[str] = (
        "purchase",
        "success_url",
        "cancel_url",
        "metadata",
        "carbonmark_conn_id",
    )

    def __init__(self, *, purchase: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(
            asset_price_source_id="",
            quantity_tonnes="",
            beneficiary_name="",
            retirement_message="",
            **kwargs,
        )
        self.purchase = purchase

    def execute(self, context: Context) -> dict[str, Any]:
        with keeping_books() as ledger:
            purchase = find_purchase(ledger, self.purchase, "purchase")
            _skip_if_over(purchase)
            # Shown in Airflow as the name of the mapped task.
            self.quantity_tonnes = purchase.quantity_tonnes
            if not purchase.has_link:
                _check_mode(purchase, self.hook)
                terms = LinkTerms(self.hook, parse_metadata(self.metadata), self.success_url, self.cancel_url)
                purchase = make_link(context, ledger, purchase, terms)
            return self._deliver(purchase)


class CarbonmarkRecordRetirementOperator(BaseOperator):
    """
    Write a proven retirement into the ledger, and update the asset ``carbonmark_retirements``.

    A worker that dies in between is followed by the next try, or the next run: each retirement updates the asset, some now and then twice.

    Returns (XCom): the purchase as the ledger has it now, as ``Purchase.to_json`` makes it.

    :param checkout: what ``CarbonmarkCheckoutPurchaseOperator`` returned. (templated)
    :param retirement: what ``CarbonmarkRetirementSensor`` returned. (templated)
    """

    template_fields: Sequence[str] = ("checkout", "retirement")
    ui_color = "#d9f2e3"

    def __init__(self, *, checkout: Mapping[str, Any], retirement: Mapping[str, Any], **kwargs: Any) -> None:
        own = kwargs.pop("outlets", None) or []
        own = own if isinstance(own, list | tuple) else [own]
        super().__init__(outlets=[CARBONMARK_RETIREMENTS, *own], **kwargs)
        # Airflow calls it once it has taken the task's success, and the asset's event with that.
        self.on_success_callback = [*self.on_success_callback, _announced]
        self.checkout = checkout
        self.retirement = retirement

    def execute(self, context: Context) -> dict[str, Any]:
        with keeping_books() as ledger:
            if not isinstance(self.retirement, Mapping):
                raise InvalidInputError(
                    "retirement",
                    "is not a mapping",
                    value=self.retirement,
                    remedy="Pass the output of CarbonmarkRetirementSensor",
                )
            known = find_purchase(ledger, self.checkout)
            purchase = ledger.retired(
                known.id, dict(self.retirement), now=pendulum.now("UTC"), announcing=True
            )
        self.log.info("%s is retired: %s", purchase, purchase.certificate_url or purchase.transaction_hash)
        recorded = purchase.to_json()
        names = ("for_whom", "entities", "months", "quantity_tonnes", "payment_id", "test_mode")
        shares = [
            {"entity": share.entity, "month": share.month, "quantity_tonnes": f"{share.quantity_tonnes:f}"}
            for share in purchase.allocations[:SHARES_SHOWN]
        ]
        about = {name: recorded[name] for name in names} | {"allocations": shares}
        context["outlet_events"][CARBONMARK_RETIREMENTS].extra = about
        return recorded


def _announced(context: Context) -> None:
    task: Any = context["task"]
    with open_ledger() as ledger:
        ledger.announced(find_purchase(ledger, task.checkout).id)


def _skip_if_over(purchase: Purchase) -> None:
    """
    Leave alone what ended without a link: the next plan buys its tonnes anew.

    One that has a link goes on to the task that awaits the payment: it may have been paid after all.
    """
    if purchase.state in ("failed", "declined") and not purchase.has_link:
        raise AirflowSkipException(f"{purchase} is {purchase.state}: {purchase.reason}")


def _check_mode(purchase: Purchase, hook: CarbonmarkHook) -> None:
    """Refuse to buy in earnest what was planned as a rehearsal, and the other way round."""
    if purchase.test_mode != hook.test_mode:
        modes = ("in production", "in test mode")
        raise InvalidInputError(
            f"connection {hook.carbonmark_conn_id!r}",
            f"works {modes[hook.test_mode]}, and {purchase} was planned {modes[purchase.test_mode]}",
            remedy="Use a connection of the same mode, or start a new run of the DAG",
        )


def _is_refusal_of_the_listing(cause: BaseException | None) -> bool:
    # Carbonmark's errors name themselves (seen); a bare 404 is some server's on the way.
    return isinstance(cause, (NotFoundError, RequestRefusedError)) and cause.code is not None


def _told(share: Share) -> str:
    return f"{share.entity}, {share.month}: {share.quantity_tonnes:f} t"


def _shown(planned: PlannedPurchase) -> dict[str, Any]:
    """Return a purchase that isn't written anywhere as plain JSON."""

    def plain(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: f"{value:f}" if isinstance(value, Decimal) else value for name, value in values.items()}

    return plain(vars(planned)) | {"shares": [plain(vars(share)) for share in planned.shares[:SHARES_SHOWN]]}
