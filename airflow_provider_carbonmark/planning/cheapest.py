"""
The cheapest way to fill amounts from offers.

Filling each from the cheapest offer up is the cheapest there is as long as no minimum stands in the way. Where one does, the solver
decides: all of it; then, of what is too much for it, what stands where one offer ends and the next begins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final

from airflow_provider_carbonmark.planning.problem import TONNE, Budget, Filling, Offer, Problem, rounded_up

#: More pairs of an amount and an offer are not handed to the solver: it wouldn't come to an end with them.
MOST_PAIRS: Final = 4_000
#: How many offers that have something left are looked at, and how many of the buyers of each.
MOST_BORDERS: Final = 100
BUYERS_ASKED: Final = 3
#: What is that close to the least there can be is not improved: two cents in 20,000 USD.
CLOSE_ENOUGH: Final = Fraction(1, 1_000_000)


@dataclass
class Attempt:
    """
    Amounts filled one after the other, each from what is left.

    :param parts: what was found for each, by its place.
    :param left: what is left of each offer.
    :param failed: the first amount that nothing was found for.
    """

    left: list[int]
    parts: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    failed: int | None = None

    @property
    def filling(self) -> Filling:
        return [self.parts[at] for at in range(len(self.parts))]


@dataclass(frozen=True)
class Solution:
    """A filling, and how much more than the cheapest it may cost; 0 when it is proven to be that."""

    filling: Filling
    excess: int = 0


class UnsolvedError(Exception):
    """
    Nothing fills the amounts within the budgets; or nothing was found.

    :param attempt: how far filling them in their order gets.
    :param is_proven: whether there is none.
    """

    def __init__(self, attempt: Attempt, *, is_proven: bool) -> None:
        super().__init__(attempt.failed)
        self.attempt = attempt
        self.is_proven = is_proven


def solve(problem: Problem) -> Solution:
    """
    Find the cheapest filling within the budgets.

    :raises UnsolvedError: when there is none.
    """
    attempts = [fill_in_order(problem, order) for order in _orders(problem)]
    least = problem.least_cost()
    if least is None:
        raise UnsolvedError(attempts[0], is_proven=True)
    best = _best(problem, attempts)
    if best is not None and problem.cost(best) - least <= least * CLOSE_ENOUGH:
        return Solution(best, problem.cost(best) - least)
    choices = [sum(1 for _ in problem.usable(amount)) for amount in problem.amounts]
    if not all(choices):
        raise UnsolvedError(attempts[0], is_proven=True)
    bound: int | None = 0
    if sum(choices) <= MOST_PAIRS:
        better, bound = _improved(problem, best, range(len(choices)), range(len(problem.offers)))
        best = better or best
    if best is not None and problem.cost(best) - max(least, bound or 0) > least * CLOSE_ENOUGH:
        best = _with_borders_moved(problem, best)
    if best is None:
        raise UnsolvedError(attempts[0], is_proven=bound is None)
    return Solution(best, max(0, problem.cost(best) - max(least, bound or 0)))


def saved_with(problem: Problem, offers: Sequence[Offer], cost: int) -> tuple[int, int]:
    """
    Return how much less the cheapest filling would cost if there were more offers: at least, and at most. It is not searched for.

    :param offers: those of the problem and others.
    :param cost: of a filling of the problem, which is one with more offers, too.
    """
    of_all = replace(problem, offers=offers)
    of_all = replace(of_all, offers=[offers[number] for number in of_all.usable(max(problem.amounts))])
    best = _best(of_all, [fill_in_order(of_all, order) for order in _orders(of_all)])
    found = cost if best is None else min(cost, of_all.cost(best))
    return cost - found, cost - (of_all.least_cost() or 0)


def _best(problem: Problem, attempts: Iterable[Attempt]) -> Filling | None:
    found = [attempt.filling for attempt in attempts if attempt.failed is None]
    within = [filling for filling in found if problem.is_within_budgets(filling)]
    return min(within, key=problem.cost, default=None)


def _with_borders_moved(problem: Problem, filling: Filling) -> Filling:
    """
    Use up what a minimum left of cheap offers, where the next amount didn't fit.

    The largest buyers of such an offer and of the dearest one decide anew, between the offers that they buy of now.
    """
    buyers: dict[int, list[tuple[int, int]]] = {}
    for at, parts in enumerate(filling):
        for number, part in parts:
            buyers.setdefault(number, []).append((part, at))
    dearest = max(buyers)
    left = [
        number
        for number, offer in enumerate(problem.offers[:dearest])
        if sum(part for part, _ in buyers.get(number, ())) < offer.high
    ]
    for number in left[:MOST_BORDERS]:
        of_both = (sorted(buyers.get(one, ()), reverse=True)[:BUYERS_ASKED] for one in (number, dearest))
        places = sorted({at for buyers_of_one in of_both for _, at in buyers_of_one})
        between = {number, dearest, *(one for at in places for one, _ in filling[at])}
        better, _ = _improved(problem, filling, places, between)
        filling = better or filling
    return filling


def _improved(
    problem: Problem, known: Filling | None, places: Sequence[int], between: Collection[int]
) -> tuple[Filling | None, int | None]:
    """Have the solver decide some amounts anew, between some offers, and leave the others as they are; see there for what it gives."""
    # Imported late: most plans need no solver.
    from airflow_provider_carbonmark.planning.solver import improve

    if known is None:
        return improve(problem, None)
    better, bound = improve(_part(problem, known, places, between), [known[at] for at in places])
    if better is None:
        return None, bound
    of_place = dict(zip(places, better, strict=True))
    return [of_place.get(at, parts) for at, parts in enumerate(known)], bound


def _part(problem: Problem, filling: Filling, places: Sequence[int], between: Collection[int]) -> Problem:
    """Give the problem of some amounts and offers, with what the other amounts leave of the offers and budgets."""
    chosen = set(places)
    costs = [0 if at in chosen else problem.cost_of(parts) for at, parts in enumerate(filling)]
    sold: dict[int, int] = {}
    for at, parts in enumerate(filling):
        for number, part in () if at in chosen else parts:
            sold[number] = sold.get(number, 0) + part
    # The others stay, with nothing to sell: so the numbers of the offers are the same.
    offers = [
        replace(offer, high=offer.high - sold.get(number, 0) if number in between else 0)
        for number, offer in enumerate(problem.offers)
    ]
    budgets = [
        Budget(
            {place: budget.shares[at] for place, at in enumerate(places) if at in budget.shares},
            budget.most - sum(share * costs[at] for at, share in budget.shares.items()),
        )
        for budget in problem.budgets
        if not chosen.isdisjoint(budget.shares)
    ]
    return Problem([problem.amounts[at] for at in places], offers, budgets)


def _orders(problem: Problem) -> Iterator[Sequence[int]]:
    """Give the orders to try: as given; and those who can pay least for a kilogram first, since they need the cheapest."""
    given = range(len(problem.amounts))
    yield given
    if problem.budgets:
        prices = [Fraction(10**18)] * len(given)
        for budget in problem.budgets:
            kilograms = sum(share * problem.amounts[at] for at, share in budget.shares.items())
            for at in budget.shares:
                prices[at] = min(prices[at], budget.most / kilograms)
        yield sorted(given, key=prices.__getitem__)


def fill_in_order(problem: Problem, order: Iterable[int]) -> Attempt:
    """Fill amounts one after the other from what is left, until nothing is found for one."""
    attempt = Attempt([offer.high for offer in problem.offers])
    live = list(range(len(problem.offers)))
    for at in order:
        parts = _fill(problem, problem.amounts[at], attempt.left, live)
        if parts is None:
            attempt.failed = at
            break
        attempt.parts[at] = parts
        for number, part in parts:
            attempt.left[number] -= part
            if attempt.left[number] < problem.offers[number].low:
                live.remove(number)
    return attempt


def _fill(
    problem: Problem, amount: int, left: Sequence[int], live: Sequence[int]
) -> list[tuple[int, int]] | None:
    """Fill one amount from what is left, as cheaply as a look from the cheapest offer up finds; None when it finds nothing."""
    found = [*_fillings(problem.offers, amount, left, live)]
    if amount % TONNE:
        in_tonnes = [number for number in live if problem.offers[number].step > 1]
        found += _fillings(problem.offers, rounded_up(amount), left, in_tonnes) if in_tonnes else ()
    return min(found, key=problem.cost_of, default=None)


def _fillings(
    offers: Sequence[Offer], amount: int, left: Sequence[int], live: Iterable[int]
) -> Iterator[list[tuple[int, int]]]:
    """Give up to two: from the cheapest up, and all from one offer."""
    usable = [number for number in live if offers[number].low <= amount]
    parts: dict[int, int] = {}
    rest = amount
    for number in usable:
        offer = offers[number]
        if offer.low <= rest:
            parts[number] = min(rest, left[number]) // offer.step * offer.step
            rest -= parts[number]
            if not rest:
                break
    if not rest or _make_room(offers, parts, rest, left, usable):
        yield [*parts.items()]
        if len(parts) == 1:
            return
    for number in usable:
        if amount <= left[number] and not amount % offers[number].step:
            yield [(number, amount)]
            return


def _make_room(
    offers: Sequence[Offer], parts: dict[int, int], rest: int, left: Sequence[int], usable: Iterable[int]
) -> bool:
    """Let the dearest parts shrink until what is left over is enough for one more offer."""
    room = sum(part - offers[number].low for number, part in parts.items())
    for number in usable if room else ():
        offer = offers[number]
        part = rounded_up(max(rest, offer.low), offer.step)
        over = part - rest
        if number in parts or part > left[number] or over > room:
            continue
        shrunk = dict(parts)
        for other in reversed(parts):
            one = offers[other]
            less = min(over, parts[other] - one.low) // one.step * one.step
            shrunk[other], over = parts[other] - less, over - less
        if not over:
            parts.update(shrunk)
            parts[number] = part
            return True
    return False
