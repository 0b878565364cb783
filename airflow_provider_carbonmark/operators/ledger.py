"""
From a month's emissions to a proven retirement, with the ledger kept at every step.

::

    plan ─► checkout ─► CarbonmarkAwaitPaymentOperator ─► CarbonmarkRetirementSensor ─► record

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

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import parse_flag, parse_names
from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook
from airflow_provider_carbonmark.hooks.checkout import find_purchase
from airflow_provider_carbonmark.hooks.ledger import keeping_books, open_ledger
from airflow_provider_carbonmark.hooks.runs import is_over, run_of
from airflow_provider_carbonmark.ledger.names import OPEN
from airflow_provider_carbonmark.operators.carbonmark import CarbonmarkCreateCheckoutOperator

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from airflow_provider_carbonmark.emissions import EntityEmissions
    from airflow_provider_carbonmark.ledger import Ledger
    from airflow_provider_carbonmark.ledger.purchase import Purchase, PurchaseLine
    from airflow_provider_carbonmark.ledger.questions.coverage import Scope
    from airflow_provider_carbonmark.ledger.values import Coverage, Plan
    from airflow_provider_carbonmark.planning import Limits, ListingFilter

#: Updated with each retirement that is recorded in the ledger.
CARBONMARK_RETIREMENTS = Asset(name="carbonmark_retirements", uri="x-carbonmark://retirements")

PREVIEW_KEY = "preview"
#: Under which XCom a plan tells what its run is to buy: months, mode, and the purchases that it carries on or that cover its tonnes.
PLANNED_KEY = "planned"
#: How many of a purchase's entities and months are told one by one: in a log, and in the asset's event.
SHARES_SHOWN = 100


class CarbonmarkPlanOperator(BaseOperator):
    """
    Work out what is still to buy for some emissions, and write it into the ledger: nothing that it covers is planned again.

    A month that was restated upwards is topped up by the difference; one that has more than it needs is reported in the log, and so
    is an entity that is not stated any more for a month that is: what it lacks is not caught up with. What the certificates don't tell apart is bought together,
    and split over several listings where none holds it all. What costs less than can be paid is left to a later plan. A limit that
    would be passed fails the task, and nothing is planned; so do more purchases than ``[core] max_map_length``. Purchases that an
    earlier run of the DAG left open are taken up, as many as fit; what earlier months lack is planned too.

    Returns (XCom): the purchases to carry on, one mapping each, as ``Purchase.to_json`` makes them. When the task is cleared, those
    that it planned keep their places.

    :param emissions: mappings with ``entity``, ``month`` and ``emitted_tonnes`` (decimal strings), from upstream for example. Or a
        function that is called with the task's context and returns ``EntityEmissions``: so large inputs stay out of XCom. (templated)
    :param beneficiary_name: on whose behalf the credits are retired; ``{entity}`` and ``{month}`` stand for the line's. (templated)
    :param retirement_message: why, likewise; also ``{emitted_tonnes}`` and ``{quantity_tonnes}``. (templated)
    :param filters: which credits are wanted, or a function that is called with the task's context and returns it. Where it asks for
        what the market says of projects, the plan fails, and may be tried again, while the market can't be read.
    :param limits: what it may cost, likewise.
    :param catch_up: also plan what earlier months of this DAG lack, whatever the cause: declined, failed, or too little to be paid. (templated)
    :param take_over_from: DAGs that were renamed or removed, whose purchases this one carries on. (templated)
    :param preview: say in the log and in the XCom ``preview`` what would be planned and carried over; write nothing, return nothing. (templated)
    :param carbonmark_conn_id: the Airflow connection. (templated)
    """

    template_fields: Sequence[str] = (
        "emissions",
        "beneficiary_name",
        "retirement_message",
        "catch_up",
        "take_over_from",
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
        catch_up: bool | str = True,
        take_over_from: Sequence[str] | str = (),
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
        self.catch_up = catch_up
        self.take_over_from = take_over_from
        self.preview = preview
        self.carbonmark_conn_id = carbonmark_conn_id
        # What it was planned for, once it was.
        self._planned_for: list[EntityEmissions] | None = None

    def execute(self, context: Context) -> list[dict[str, Any]]:
        # Imported late, here and below: a DAG file needs none of it.
        from airflow_provider_carbonmark.emissions import EmissionsError
        from airflow_provider_carbonmark.planning import NoListingError, PlanLimitError

        try:
            with keeping_books() as ledger:
                return self._plan(context, ledger)
        except (EmissionsError, NoListingError, PlanLimitError) as error:
            raise AirflowFailException(str(error)) from error

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage | None:
        """Name, where OpenLineage asks, the files and tables that the emissions are from, and the ledger's."""
        from airflow_provider_carbonmark.operators.lineage import lineage_of_plan

        if self._planned_for is None:
            return None
        return lineage_of_plan(self, self._planned_for, is_preview=parse_flag(self.preview, "preview"))

    def _plan(self, context: Context, ledger: Ledger) -> list[dict[str, Any]]:
        from airflow_provider_carbonmark.hooks.facts.projects import learn_of_projects
        from airflow_provider_carbonmark.ledger.questions.coverage import Scope

        emissions = list(self._read_emissions(context))
        hook = CarbonmarkHook(self.carbonmark_conn_id)
        scope = Scope(
            run=run_of(context),
            months={each.month for each in emissions},
            test_mode=hook.test_mode,
            is_over=is_over(context),
            # Airflow would refuse more at the end of the task, after they are written down.
            at_most=conf.getint("core", "max_map_length", fallback=1024),
            catch_up=parse_flag(self.catch_up, "catch_up"),
            take_over=parse_names(self.take_over_from, "take_over_from"),
            now=pendulum.now("UTC"),
        )
        is_preview = parse_flag(self.preview, "preview")
        make = self._planner(context, ledger, emissions, hook, is_preview)
        told = {"months": sorted(scope.months), "test_mode": hook.test_mode, "preview": False}
        if is_preview:
            plan = ledger.preview(make, scope)
            self._planned_for = emissions
            self._tell(plan)
            self.log.info("This is a preview: nothing of it is planned.")
            context["ti"].xcom_push(PREVIEW_KEY, _shown(plan))
            context["ti"].xcom_push(PLANNED_KEY, told | {"preview": True, "purchases": []})
            return []
        purchases = ledger.plan(make, scope)
        self._planned_for = emissions
        learn_of_projects(ledger, hook, {each.project_id for each in purchases if each.project_id})
        for purchase in purchases:
            self.log.info("%s: %s t, %s", purchase, purchase.quantity_tonnes, purchase.state)
        others = self._covered_by_others(ledger, emissions, scope)
        told["purchases"] = [*(purchase.id for purchase in purchases), *others]
        context["ti"].xcom_push(PLANNED_KEY, told)
        return [purchase.to_json() for purchase in purchases]

    def _covered_by_others(self, ledger: Ledger, emissions: list[EntityEmissions], scope: Scope) -> list[int]:
        """Return the open purchases of other runs that cover what is stated, and name those that nobody carries on."""
        run, keys = scope.run, {(each.entity, each.month) for each in emissions}
        found: dict[int, PurchaseLine] = {}
        for month in sorted(scope.months):
            for line in ledger.lines(month=month, test_mode=scope.test_mode, states=OPEN):
                if line.purchase and line.handler != run and (line.entity, line.month) in keys:
                    found[line.purchase] = line
        for id, line in found.items():
            if line.handler.dag_id != run.dag_id and scope.is_over(line.handler, line.planned_at):
                self.log.warning(
                    "Purchase %d covers %s, %s, and is %s in run %r of the DAG %r, which is over: nobody carries it on. If that DAG was "
                    "renamed or removed, name it in take_over_from",
                    *(id, line.entity, line.month, line.state, line.handler.run_id, line.handler.dag_id),
                )
        return list(found)

    def _planner(
        self,
        context: Context,
        ledger: Ledger,
        emissions: list[EntityEmissions],
        hook: CarbonmarkHook,
        is_preview: bool,
    ) -> Callable[[Coverage], Plan]:
        from airflow_provider_carbonmark.operators.planner import planner
        from airflow_provider_carbonmark.planning import Limits, ListingFilter
        from airflow_provider_carbonmark.planning.dedication import Dedication

        dedication = Dedication(self.beneficiary_name, self.retirement_message)
        filters = self.filters(context) if callable(self.filters) else self.filters or ListingFilter()
        limits = self.limits(context) if callable(self.limits) else self.limits or Limits()
        return planner(ledger, hook, emissions, dedication, filters, limits, is_preview=is_preview)

    def _read_emissions(self, context: Context) -> Iterable[EntityEmissions]:
        from airflow_provider_carbonmark.emissions.sums import stated_emissions

        return self._emissions_of(context) if self._emissions_of else stated_emissions(self.emissions)

    def _tell(self, plan: Plan) -> None:
        for planned in plan.purchases:
            first = planned.shares[:SHARES_SHOWN]
            told = (f"{share.entity}, {share.month}: {share.quantity_tonnes:f} t" for share in first)
            self.log.info(
                "%s t of %s (%s, %s) for %s USD, of which for %s",
                *(
                    planned.quantity_tonnes,
                    planned.asset_price_source_id,
                    planned.project_id,
                    planned.vintage,
                ),
                *(planned.cost_usd, "; ".join(told)),
            )
        self.log.info("%d purchases for %s USD in all.", len(plan.purchases), plan.cost_usd)


class CarbonmarkCheckoutPurchaseOperator(CarbonmarkCreateCheckoutOperator):
    """
    Ask what a planned purchase costs now, and make its payment page: in the ledger before anybody sees it. One that has its page gets that.

    A listing that is gone or can't fill the purchase any more fails it, so that the next plan buys its tonnes elsewhere; so does a cost
    below the least that can be paid, which skips the task. Over a limit the task fails and the purchase stays planned: raise the limit
    and clear the task, or start a new run, which plans anew.

    Returns (XCom): what ``CarbonmarkCreateCheckoutOperator`` returns.

    :param purchase: one of the plan's purchases. (templated)
    :param success_url: where the buyer lands after paying, if not in this Airflow; Carbonmark appends ``/<payment id>``. (templated)
    :param cancel_url: where the buyer lands after leaving the page unpaid, if not in this Airflow. (templated)
    :param metadata: more to send as the checkout's metadata. (templated)
    :param max_cost: the most it may cost, USD. (templated)
    :param limits: those of the plan, for all links of the run together; or a function that is called with the task's context and
        returns them.
    :param carbonmark_conn_id: the Airflow connection. (templated)
    """

    template_fields: Sequence[str] = (
        "purchase",
        "success_url",
        "cancel_url",
        "metadata",
        "max_cost",
        "carbonmark_conn_id",
    )

    def __init__(
        self,
        *,
        purchase: Mapping[str, Any],
        limits: Limits | Callable[[Context], Limits] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            asset_price_source_id="",
            quantity_tonnes="",
            beneficiary_name="",
            retirement_message="",
            **kwargs,
        )
        self.purchase = purchase
        self.limits = limits

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow_provider_carbonmark.operators.linking import make_link

        with keeping_books() as ledger:
            purchase = find_purchase(ledger, self.purchase, "purchase")
            _skip_if_over(purchase)
            if not purchase.has_link:
                _check_mode(purchase, self.hook)
                purchase = make_link(context, ledger, purchase, self._terms(self.limits))
            return self._deliver(ledger, purchase)


class CarbonmarkRecordRetirementOperator(BaseOperator):
    """
    Write a proven retirement into the ledger, and update the asset ``carbonmark_retirements``.

    A worker that dies in between is followed by the next try, or the next run: each retirement updates the asset, some now and then twice.
    What the market tells of the retirement by then, such as serial numbers, is kept, too; housekeeping asks for the rest.

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
        # What is retired, once it is recorded.
        self._recorded: Purchase | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        # Imported late: a DAG file doesn't need it.
        from airflow_provider_carbonmark.hooks.facts.retirements import learn_of_retirements

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
            self._recorded = purchase
            proof = purchase.certificate_url or purchase.transaction_hash
            self.log.info("%s is retired: %s", purchase, proof)
            if purchase.link:
                learn_of_retirements(ledger, CarbonmarkHook(purchase.link.conn_id), [purchase.id])
        recorded = purchase.to_json()
        names = ("for_whom", "entities", "months", "quantity_tonnes", "payment_id", "test_mode")
        shares = [
            {"entity": share.entity, "month": share.month, "quantity_tonnes": f"{share.quantity_tonnes:f}"}
            for share in purchase.allocations[:SHARES_SHOWN]
        ]
        about = {name: recorded[name] for name in names} | {"allocations": shares}
        context["outlet_events"][CARBONMARK_RETIREMENTS].extra = about
        return recorded

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage | None:
        """Tell, where OpenLineage asks, what was retired, and name the ledger's table that says so."""
        from airflow_provider_carbonmark.operators.lineage import lineage_of_retirement

        return None if self._recorded is None else lineage_of_retirement(self, self._recorded)


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


def _shown(plan: Plan) -> dict[str, Any]:
    """Return a plan that isn't written anywhere as plain JSON."""

    def plain(one: object) -> dict[str, Any]:
        values = vars(one).items()
        return {name: f"{value:f}" if isinstance(value, Decimal) else value for name, value in values}

    return {
        "purchases": [
            plain(each) | {"shares": [*map(plain, each.shares[:SHARES_SHOWN])]} for each in plan.purchases
        ],
        "carried_over": [plain(left.need) | {"reason": left.reason} for left in plan.carried_over],
    }
