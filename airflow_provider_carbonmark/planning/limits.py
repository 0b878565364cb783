"""What a plan may cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.ledger.values import total

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.values import Coverage, PlannedPurchase

_EXACT = Context(prec=60)
_ENTITIES_SHOWN = 100


class PlanLimitError(ValueError):
    """A plan costs more than it may; the message has every figure. Nothing is bought."""


@dataclass(frozen=True)
class Limits:
    """
    What a plan may cost in USD, fees included; None is no limit. For the price of a tonne see :class:`ListingFilter`.

    :param max_cost_per_entity_usd: for an entity's shares of all purchases that one run plans.
    :param max_cost_per_run_usd: for all purchases that one run plans.
    :raises InvalidInputError: when a limit is not a Decimal above zero.
    """

    max_cost_per_entity_usd: Decimal | None = None
    max_cost_per_run_usd: Decimal | None = None

    def __post_init__(self) -> None:
        for name, limit in vars(self).items():
            if limit is not None and not (isinstance(limit, Decimal) and limit.is_finite() and limit > 0):
                raise InvalidInputError(
                    name,
                    "is not a Decimal above zero",
                    value=limit,
                    remedy='Give USD, such as Decimal("250")',
                )


NO_LIMITS: Final = Limits()


def check_limits(purchases: Sequence[PlannedPurchase], coverage: Coverage, limits: Limits) -> None:
    """Refuse purchases that, with what the run planned before, cost more than they may; entities by their shares."""
    by_entity: dict[str, Decimal] = {}
    for share in (share for purchase in purchases for share in purchase.shares):
        before = by_entity.get(share.entity, coverage.run_cost_by_entity.get(share.entity, Decimal(0)))
        by_entity[share.entity] = _EXACT.add(before, share.cost_usd)
    cost = total((coverage.run_cost_usd, *(purchase.cost_usd for purchase in purchases)))
    if purchases and (passed := limits_passed(limits, cost, by_entity)):
        raise PlanLimitError(
            f"The plan would cost too much: {passed}. Nothing was planned: raise the limit, or look at the emissions and the market"
        )


def limits_passed(limits: Limits, cost: Decimal, by_entity: Mapping[str, Decimal]) -> str:
    """Say which limits a run passes; empty when none. What it costs in all and for each entity is in USD."""
    passed = []
    limit = limits.max_cost_per_entity_usd
    above = [(cost, entity) for entity, cost in by_entity.items() if limit is not None and cost > limit]
    if limit is not None and above:
        dearest = sorted(above, key=lambda pair: (-pair[0], pair[1]))[:_ENTITIES_SHOWN]
        costs = ", ".join(f"{entity} {_plain(cost)} USD" for cost, entity in dearest)
        more = f" and {len(above) - len(dearest)} more, of less" if len(above) > len(dearest) else ""
        passed.append(f"{costs}{more}, where max_cost_per_entity_usd is {_plain(limit)} USD")
    limit = limits.max_cost_per_run_usd
    if limit is not None and cost > limit:
        passed.append(f"all together {_plain(cost)} USD, where max_cost_per_run_usd is {_plain(limit)} USD")
    return "; ".join(passed)


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize(_EXACT):f}"
