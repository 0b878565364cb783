"""Whether a run bought what it was to buy: the ledger is asked, not the tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

from airflow_provider_carbonmark.hooks.ledger import keeping_books
from airflow_provider_carbonmark.hooks.runs import is_over, run_of
from airflow_provider_carbonmark.ledger.names import State

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_carbonmark.ledger.book import Ledger
    from airflow_provider_carbonmark.ledger.names import Run
    from airflow_provider_carbonmark.ledger.purchase import PurchaseLine

_SHOWN = 20


class CarbonmarkCheckBoughtOperator(BaseOperator):
    """
    Fail unless every tonne that a run was to buy is retired, declined by a person, waiting for one, or carried over with its reason.

    The task group ``purchase`` ends with it. Whatever became of the tasks, it asks the ledger what became of the tonnes: also of those
    that wait to be paid in another run, of earlier months too, which are named with their links, and since when.

    Returns (XCom): the run's retired purchases, as ``Purchase.to_json`` makes them.

    :param plan: what ``CarbonmarkPlanOperator`` pushed as its XCom ``planned``, or that as JSON text. (templated)
    """

    template_fields: Sequence[str] = ("plan",)
    ui_color = "#d9f2e3"

    def __init__(self, *, plan: Mapping[str, Any] | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan

    def execute(self, context: Context) -> list[dict[str, Any]]:
        plan = json.loads(self.plan) if isinstance(self.plan, str) else self.plan
        if not isinstance(plan, Mapping):
            raise AirflowFailException("Nothing was planned, so nothing is bought: see the task of the plan")
        if plan["preview"]:
            self.log.info("It was a preview: nothing was to be bought.")
            return []
        # Imported late: a DAG file needs none of it.
        from airflow_provider_carbonmark.hooks.return_url import pay_url
        from airflow_provider_carbonmark.operators.outcome import outcome_of

        run = run_of(context)
        with keeping_books() as ledger:
            lines = _lines(ledger, plan)
            outcome = outcome_of(lines, run, plan["purchases"], is_over(context))
            known = {line.id for line in lines}
            outcome.waiting += [line for line in _earlier_links(ledger, plan, run) if line.id not in known]
            retired = {line.purchase for line in outcome.retired if run in (line.run, line.handler)}
            bought = ledger.purchases([id for id in retired if id is not None])
            addresses = {
                id: url for line in outcome.waiting if (id := line.purchase) and (url := pay_url(ledger, id))
            }
        for told in outcome.told(addresses):
            self.log.info("%s", told)
        if outcome.missing:
            shown, more = outcome.missing[:_SHOWN], len(outcome.missing) - _SHOWN
            others = f"; and {more} more" if more > 0 else ""
            raise AirflowFailException(f"Not bought: {'; '.join(shown)}{others}. Nothing of it is retired.")
        return [
            each.to_json()
            | {"certificate_url": each.certificate_url, "transaction_hash": each.transaction_hash}
            for each in bought
        ]


def _lines(ledger: Ledger, plan: Mapping[str, Any]) -> list[PurchaseLine]:
    """Return what the ledger says of the months that the run was about, or bought for."""
    bought = ledger.purchases(plan["purchases"])
    months = {share.month for each in bought for share in each.allocations} | {*plan["months"]}
    lines: list[PurchaseLine] = []
    for month in sorted(months):
        lines += ledger.lines(month=month, test_mode=bool(plan["test_mode"]))
    return lines


def _earlier_links(ledger: Ledger, plan: Mapping[str, Any], run: Run) -> list[PurchaseLine]:
    """Return what of the DAG's earlier months waits to be paid in other runs: no plan catches up with it."""
    about: dict[str, Any] = {"test_mode": bool(plan["test_mode"]), "dag_ids": [run.dag_id]}
    last = max(plan["months"], default="")
    return [
        line
        for line in ledger.lines(**about, states=[State.LINK_MADE])
        if line.month < last and line.handler != run and line.run.deployment == run.deployment
    ]
