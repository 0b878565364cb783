"""All ways to fill amounts from offers, tried one by one: the judge of the search."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache

from airflow_provider_carbonmark.planning.problem import TONNE, Offer, Problem, rounded_up

Parts = tuple[tuple[int, int], ...]


def ways(amount: int, offers: Sequence[Offer], left: tuple[int, ...], unit: int) -> Iterator[Parts]:
    """Give every way to fill an amount exactly, in multiples of a unit."""
    if not left:
        if not amount:
            yield ()
        return
    number = len(offers) - len(left)
    offer = offers[number]
    step = max(offer.step, unit)
    for part in (0, *range(rounded_up(offer.low, step), min(amount, left[0]) + 1, step)):
        for others in ways(amount - part, offers, left[1:], unit):
            yield ((number, part), *others) if part else others


def least_of_all(problem: Problem, unit: int = 1) -> float:
    """Find the least cost within the budgets; infinite when there is no way."""
    prices = [offer.price for offer in problem.offers]
    in_tonnes = [replace(offer, high=offer.high if offer.step > 1 else 0) for offer in problem.offers]

    @cache
    def least(at: int, left: tuple[int, ...], spent: tuple[int, ...]) -> float:
        if at == len(problem.amounts):
            filled: Mapping[int, int] = dict(enumerate(spent))
            within = all(
                sum(share * filled[one] for one, share in budget.shares.items()) <= budget.most
                for budget in problem.budgets
            )
            return 0 if within else math.inf
        amount = problem.amounts[at]
        found = [*ways(amount, problem.offers, left, unit)]
        if amount % TONNE:
            sold_by_tonne = tuple(min(one, offer.high) for one, offer in zip(left, in_tonnes, strict=True))
            found += ways(rounded_up(amount), in_tonnes, sold_by_tonne, TONNE)
        best = math.inf
        for parts in found:
            rest = list(left)
            for number, part in parts:
                rest[number] -= part
            cost = sum(prices[number] * part for number, part in parts)
            # What was spent on each matters only where there are budgets.
            told = (*spent, cost) if problem.budgets else ()
            best = min(best, cost + least(at + 1, tuple(rest), told))
        return best

    return least(0, tuple(offer.high for offer in problem.offers), ())
