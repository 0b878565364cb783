"""What a run may cost, and which of its limits it passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.ledger.values import plain

_ENTITIES_SHOWN = 100
_MAX_COST = "max_cost_usd"


@dataclass(frozen=True)
class Limits:
    """
    What a run may buy for, in USD, fees included; None is no limit. For the price of a tonne see :class:`ListingFilter`.

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


def limits_passed(limits: Limits, cost: Decimal, by_entity: Mapping[str, Decimal]) -> str:
    """Say which limits a run passes; empty when none. What it costs in all and for each entity is in USD."""
    passed = []
    limit = limits.max_cost_per_entity_usd
    above = [(cost, entity) for entity, cost in by_entity.items() if limit is not None and cost > limit]
    if limit is not None and above:
        dearest = sorted(above, key=lambda pair: (-pair[0], pair[1]))[:_ENTITIES_SHOWN]
        costs = ", ".join(f"{entity} {plain(cost)} USD" for cost, entity in dearest)
        more = f" and {len(above) - len(dearest)} more, of less" if len(above) > len(dearest) else ""
        passed.append(f"{costs}{more}, where max_cost_per_entity_usd is {plain(limit)} USD")
    limit = limits.max_cost_per_run_usd
    if limit is not None and cost > limit:
        passed.append(f"all together {plain(cost)} USD, where max_cost_per_run_usd is {plain(limit)} USD")
    return "; ".join(passed)


def limits_as_json(max_cost: Decimal | None, limits: Limits | None) -> dict[str, str]:
    """Return what each link of a purchase may cost, by itself and with what else its run buys, as the ledger keeps it with the link."""
    given = {_MAX_COST: max_cost, **(vars(limits) if limits else {})}
    return {name: f"{amount:f}" for name, amount in given.items() if amount is not None}


def limits_from_json(kept: Mapping[str, str]) -> tuple[Decimal | None, Limits | None]:
    """Return what :func:`limits_as_json` was given; None for limits of which there are none."""
    known = {name: Decimal(text) for name, text in kept.items()}
    max_cost = known.pop(_MAX_COST, None)
    return max_cost, Limits(**known) if known else None
