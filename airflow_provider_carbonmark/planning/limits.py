"""What a plan may cost."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from airflow_provider_carbonmark.ledger.limits import Limits as Limits, limits_passed
from airflow_provider_carbonmark.ledger.values import EXACT, total

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.values import Coverage, PlannedPurchase


class PlanLimitError(ValueError):
    """A plan costs more than it may; the message has every figure. Nothing is bought."""


NO_LIMITS: Final = Limits()


def check_limits(purchases: Sequence[PlannedPurchase], coverage: Coverage, limits: Limits) -> None:
    """Refuse purchases that, with what the run planned before, cost more than they may; entities by their shares."""
    by_entity: dict[str, Decimal] = {}
    for share in (share for purchase in purchases for share in purchase.shares):
        before = by_entity.get(share.entity, coverage.run_cost_by_entity.get(share.entity, Decimal(0)))
        by_entity[share.entity] = EXACT.add(before, share.cost_usd)
    cost = total((coverage.run_cost_usd, *(purchase.cost_usd for purchase in purchases)))
    if purchases and (passed := limits_passed(limits, cost, by_entity)):
        raise PlanLimitError(
            f"The plan would cost too much: {passed}. Nothing was planned: raise the limit, or look at the emissions and the market"
        )
