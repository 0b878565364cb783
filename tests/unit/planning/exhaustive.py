"""The exhaustive search of all ways to fill demands together: the judge of searches, and of plans."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from airflow_provider_carbonmark.planning.least_cost_together import Demand


class Sold(Protocol):
    """A price for any amount between two that is a multiple of a step."""

    @property
    def price(self) -> int: ...
    @property
    def low(self) -> int: ...
    @property
    def high(self) -> int: ...
    @property
    def step(self) -> int: ...


def amounts(one: Sold, most: int) -> range:
    """Give all that can be taken, nothing left aside."""
    return range(-(-one.low // one.step) * one.step, min(most, one.high) + 1, one.step)


def ways(demand: Demand, offers: Sequence[Sold], left: tuple[int, ...]) -> Iterator[tuple]:
    """Give every way to fill a demand: its cost, and what is left."""
    if not left:
        if not demand.amount:
            yield 0, ()
        return
    one, *others = offers
    taken = () if demand.in_steps and one.step == 1 else amounts(one, min(demand.amount, left[0]))
    for amount in (0, *taken):
        for cost, rest in ways(demand._replace(amount=demand.amount - amount), others, left[1:]):
            yield cost + one.price * amount, (left[0] - amount, *rest)


def least_of_all(demands: Sequence[Demand], offers: Sequence[Sold]) -> float:
    """Find the least cost at which all demands can be filled together, however; infinite when they can't."""

    @cache
    def least(at: int, left: tuple[int, ...]) -> float:
        if at == len(demands):
            return 0
        found = (cost + least(at + 1, rest) for cost, rest in ways(demands[at], offers, left))
        return min(found, default=math.inf)

    return least(0, tuple(one.high for one in offers))
