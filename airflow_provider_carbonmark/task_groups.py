"""The chain from a planned purchase to its recorded retirement, as one task group to put into a DAG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import task_group

from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook
from airflow_provider_carbonmark.operators.bought import CarbonmarkCheckBoughtOperator
from airflow_provider_carbonmark.operators.ledger import (
    PLANNED_KEY,
    CarbonmarkCheckoutPurchaseOperator,
    CarbonmarkRecordRetirementOperator,
)
from airflow_provider_carbonmark.operators.payment import CarbonmarkAwaitPaymentOperator
from airflow_provider_carbonmark.sensors.carbonmark import CarbonmarkRetirementSensor

if TYPE_CHECKING:
    from decimal import Decimal

    from airflow.providers.common.compat.sdk import BaseNotifier

    from airflow_provider_carbonmark.operators.ledger import CarbonmarkPlanOperator


def purchase(
    plan: CarbonmarkPlanOperator,
    *,
    max_cost: Decimal | str | None = None,
    metadata: Mapping[str, Any] | None = None,
    allow_test_mode: bool | str = False,
    notifiers: Sequence[BaseNotifier] = (),
    carbonmark_conn_id: str = CarbonmarkHook.default_conn_name,
    **awaiting: Any,
) -> CarbonmarkCheckBoughtOperator:
    """
    Carry on each purchase of a plan on its own: checkout, payment, retirement, record; as the mapped task group ``purchase``.

    It ends with the task ``bought``, which fails unless all that the run was to buy is bought, declined, waits for a person, or is carried over.

    :param plan: a ``CarbonmarkPlanOperator``.
    :param max_cost: the most a purchase may cost when its link is made, USD; a template too. The plan's limits hold then, too.
    :param metadata: more to send as each checkout's metadata; templates too, which give text, and in which ``task.purchase`` is the
        purchase. Puro's credits (registry ``PUR``) need ``consumption_metadata`` with ``country_of_consumption_code``,
        ``consumption_period_start`` and ``consumption_period_end``, Unix seconds and not 0 (doc); where a checkout takes it is not
        documented, so only what is given here is sent.
    :param allow_test_mode: whether a rehearsal, which retires nothing, may succeed; a template too.
    :param notifiers: whom to tell of each link; ``operators.notices`` has texts for mail and Slack.
    :param carbonmark_conn_id: the Airflow connection.
    :param awaiting: more for ``CarbonmarkAwaitPaymentOperator``, such as ``assigned_users``.
    """
    of_plan = f"ti.xcom_pull('{plan.task_id}')[ti.map_index]"
    label = f"{{{{ {of_plan}.for_whom }}}}"
    of_each: dict[str, Any] = {"map_index_template": label, "carbonmark_conn_id": carbonmark_conn_id}

    checkout = {"metadata": metadata, "max_cost": max_cost, "limits": plan.limits}
    payment = {
        "subject": f"Pay for {{{{ {of_plan}.quantity_tonnes }}}} t CO2e, {label}",
        "notifiers": notifiers,
    }

    @task_group(group_id="purchase")
    def chain(planned: Any) -> None:
        _chain(planned, of_each, checkout, dict(**payment, **awaiting), {"allow_test_mode": allow_test_mode})

    bought = CarbonmarkCheckBoughtOperator(
        task_id="bought",
        # A reference to what a failed plan never pushed would fail this before it could say so.
        plan=f"{{{{ ti.xcom_pull('{plan.task_id}', key='{PLANNED_KEY}') | tojson }}}}",
        trigger_rule="all_done",
    )
    [plan, chain.expand(planned=plan.output)] >> bought
    return bought


def _chain(
    planned: Any,
    of_each: Mapping[str, Any],
    of_checkout: Mapping[str, Any],
    of_payment: Mapping[str, Any],
    of_retirement: Mapping[str, Any],
) -> None:
    """Put the tasks of one purchase together, with what each is given."""
    label = of_each["map_index_template"]
    with_cost = f"{label}: {{{{ task.quantity_tonnes }}}} t for {{{{ task.cost_usd }}}} USD"
    checkout = CarbonmarkCheckoutPurchaseOperator(
        task_id="checkout", purchase=planned, **{**of_each, "map_index_template": with_cost}, **of_checkout
    )
    # Airflow puts the value in place of the reference when the task runs, which the parameters' types don't say.
    made: Any = checkout.output
    payment = CarbonmarkAwaitPaymentOperator(task_id="payment", checkout=made, **{**of_each, **of_payment})
    paid: Any = payment.output
    retirement = CarbonmarkRetirementSensor(
        task_id="retirement",
        payment_id=paid,
        checkout=made,
        deferrable=True,
        **of_each,
        **of_retirement,
    )
    retired: Any = retirement.output
    record = CarbonmarkRecordRetirementOperator(
        task_id="record", map_index_template=label, checkout=made, retirement=retired
    )
    checkout >> payment >> retirement >> record
