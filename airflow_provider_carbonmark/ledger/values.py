"""What a planner gets from the ledger and gives back to it: plain values, nothing of SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from decimal import Context, Decimal
from functools import reduce

_EXACT = Context(prec=60)


@dataclass(frozen=True)
class Need:
    """
    What still has to be bought for an entity and a month.

    :param entity: as in the emissions.
    :param month: ``YYYY-MM``.
    :param emitted_tonnes: what it emitted in the month.
    :param offset_tonnes: what is not covered yet, in steps of 0.001 t, above zero.
    """

    entity: str
    month: str
    emitted_tonnes: Decimal
    offset_tonnes: Decimal


@dataclass(frozen=True)
class Covered:
    """
    What is known of an entity and a month.

    :param covered_tonnes: the sum of its covering lines; 0 when there are none.
    :param emitted_tonnes: the emitted figure known last; None when none is known.
    :param whole_tonnes: whether credits that retire in whole tonnes only are among the covering lines: then up to a
        tonne too much is their rounding.
    """

    covered_tonnes: Decimal
    emitted_tonnes: Decimal | None
    whole_tonnes: bool = False


@dataclass(frozen=True)
class Coverage:
    """
    What has been planned and bought before.

    :param covered: by entity and month; a pair that nothing is known of is absent.
    :param abandoned: what is to be planned again for other months than those asked for, because its run ended
        before it delivered a link; each entity and month once.
    :param run_cost_usd: what the covering lines cost that this very run planned before; it counts against the limits.
    :param run_cost_by_entity: the same by entity.
    :param promised: tonnes by listing that are to be bought and not paid yet, for whatever month: the market still shows them.
    :param own: the entities and months asked for that the same DAG planned before.
    """

    covered: Mapping[tuple[str, str], Covered] = field(default_factory=dict)
    abandoned: Sequence[Need] = ()
    run_cost_usd: Decimal = Decimal(0)
    run_cost_by_entity: Mapping[str, Decimal] = field(default_factory=dict)
    promised: Mapping[str, Decimal] = field(default_factory=dict)
    own: Set[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class PlannedLine:
    """
    One purchase: a quantity of one listing for an entity and a month.

    :param emitted_tonnes: what the entity emitted in the month, at most nine decimals.
    :param quantity_tonnes: what to buy, in steps of 0.001 t.
    :param vintage: year; None when the market doesn't tell.
    :param unit_price_usd: USD per tonne, fees included, at most six decimals.
    :param cost_usd: exactly the price times the quantity, so at most nine decimals.
    """

    entity: str
    month: str
    emitted_tonnes: Decimal
    quantity_tonnes: Decimal
    asset_price_source_id: str
    project_id: str
    registry: str
    vintage: int | None
    unit_price_usd: Decimal
    cost_usd: Decimal
    beneficiary_name: str
    retirement_message: str


@dataclass(frozen=True)
class Restated:
    """A figure of an entity and month that is new and needs no purchase."""

    entity: str
    month: str
    emitted_tonnes: Decimal


@dataclass(frozen=True)
class OverCovered:
    """An entity and month with more tonnes covered than its emissions, restated since, ask for."""

    entity: str
    month: str
    emitted_tonnes: Decimal
    covered_tonnes: Decimal


@dataclass(frozen=True)
class Unstated:
    """
    An entity and month that the DAG planned before and whose emissions are not stated any more; nothing is done about it.

    It may have been restated away, renamed, or left out by mistake: only its source can tell, by stating it with 0 tonnes.

    :param emitted_tonnes: the figure known last, above zero.
    """

    entity: str
    month: str
    emitted_tonnes: Decimal
    covered_tonnes: Decimal


@dataclass(frozen=True)
class Plan:
    """
    What to buy, and what to note.

    :param lines: the purchases, by entity and month.
    :param restated: figures that are new and need no purchase, by entity and month.
    :param over_covered: entities and months that have more than they need, by entity and month.
    :param unstated: entities and months that are missing from the emissions, by entity and month.
    """

    lines: tuple[PlannedLine, ...] = ()
    restated: tuple[Restated, ...] = ()
    over_covered: tuple[OverCovered, ...] = ()
    unstated: tuple[Unstated, ...] = ()

    @property
    def cost_usd(self) -> Decimal:
        """What all lines cost together, in USD."""
        return total(line.cost_usd for line in self.lines)


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Add amounts up, to the last digit."""
    return reduce(_EXACT.add, amounts, Decimal(0))
