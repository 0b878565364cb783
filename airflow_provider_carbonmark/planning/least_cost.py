"""
The least cost at which offers, each with a smallest and a largest amount, sum to exactly an amount. Integers only.

The search is branch and bound. Its bound fills from the cheapest offer on and forgets the smallest amounts: no true
filling can be cheaper. Where that respects every smallest amount all the same, it is the answer; so it is on any market
whose smallest amounts are small. Otherwise some offer got too little, and the search goes on in two halves: with that
offer, and without it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

_Key = tuple[float, float]  # cost, number of parts; integers but for "no ceiling"
_NO_CEILING: _Key = (math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Offer:
    """
    A price for any amount between two.

    :param price: of one unit.
    :param low: the smallest amount that can be taken, above zero.
    :param high: the largest one, not below ``low``.
    :param step: what amounts are multiples of, the two limits too: 1, or one other number for all offers where it isn't.
    :param preference: unlike any other offer's; of equal costs and equally many parts, the lower ones are taken.
    """

    price: int
    low: int
    high: int
    step: int
    preference: Any


class Filling(NamedTuple):
    """
    Amounts that sum to what was asked for.

    :param parts: offers and what to take of each, by price, then preference.
    :param excess: the cost may be this much above the least; 0 when it is proven to be the least.
    """

    parts: list[tuple[Offer, int]]
    excess: int = 0


class Steps:
    """How many more bounds may be worked out: what a search costs, counted so that the result depends on no clock."""

    def __init__(self, left: int) -> None:
        self.left = left


class UndecidedError(Exception):
    """The steps ran out before there was a filling, or a proof that there is none."""


def largest_step(offers: Iterable[Offer]) -> int:
    """Give the step of those offers that have one; 1 when none has."""
    return max((offer.step for offer in offers), default=1)


def fill(offers: Sequence[Offer], amount: int, steps: Steps) -> Filling | None:
    """
    Find the filling of least cost; of equal costs, fewest parts; of equally many, best preferences.

    Preferences are compared one by one: the best of either filling first, then the second best, and so on. Of equally
    good offers in a filling, the one of better preference fills up first.

    :param offers: ordered by price, then preference.
    :param amount: above zero.
    :param steps: counted down. When none are left, the best filling found so far is given, with its possible excess,
        and preferences may not have been compared. It is never worse than an offer that fills the amount alone.
    :return: None when no amounts sum to exactly this one.
    :raises UndecidedError: when no steps were left and nothing was found.
    """
    usable = [offer for offer in offers if offer.low <= amount]
    alone = next((one for one in usable if one.high >= amount and amount % one.step == 0), None)
    if alone and alone.price == usable[0].price:
        return Filling([(alone, amount)])
    search = _Search(usable, amount, steps)
    best, least = search.best({}, (alone.price * amount, 1) if alone else _NO_CEILING)
    if best:
        return search.filling(best, least) if least is not None else search.preferred(best)
    if alone:
        return Filling([(alone, amount)], 0 if least is None else alone.price * amount - least)
    if least is not None:
        raise UndecidedError
    return None


class _Node(NamedTuple):
    """
    A part of the search.

    :param decided: which offers must be part of the filling, and which must not.
    :param amounts: what the bound takes of each offer, or a filling.
    :param bound: no filling in here is better.
    :param key: how good the amounts are; None when they are no filling.
    :param undecided: an offer to decide next; None when nothing in here is better than the amounts.
    """

    decided: Mapping[int, bool]
    amounts: Mapping[int, int]
    bound: _Key
    key: _Key | None
    undecided: int | None


class _Search:
    """Offers go by their number in the order in which the bound fills them."""

    def __init__(self, offers: Iterable[Offer], amount: int, steps: Steps) -> None:
        # At one price the largest come first: so the bound takes the fewest parts, too.
        self._offers = sorted(offers, key=lambda offer: (offer.price, -offer.high, offer.preference))
        self._amount = amount
        self._steps = steps
        self._step = largest_step(self._offers)
        self._lows = [offer.low for offer in self._offers]
        self._highs = [offer.high for offer in self._offers]

    @cached_property
    def _by_low(self) -> Sequence[int]:
        return sorted(range(len(self._offers)), key=self._lows.__getitem__)

    @cached_property
    def _by_high(self) -> Sequence[int]:
        return sorted(range(len(self._offers)), key=self._highs.__getitem__, reverse=True)

    def best(
        self, decided: Mapping[int, bool], ceiling: _Key = _NO_CEILING
    ) -> tuple[_Node | None, int | None]:
        """
        Find the best filling below a ceiling.

        :return: it, or None; and the least cost that could still have been found, or None when there is no such doubt.
        """
        best = None
        pending = [root] if (root := self._node(decided)) else []
        while pending:
            node = pending.pop()
            if node.bound >= ceiling:
                continue
            found = node if node.key else self._rounded(node) if best is None else None
            if found and found.key and found.key < ceiling:
                best, ceiling = found, found.key
            if node.undecided is not None and node.bound < ceiling:
                if self._steps.left <= 0:
                    return best, int(min(one.bound[0] for one in (node, *pending)))
                halves = [self._node({**node.decided, node.undecided: is_part}) for is_part in (True, False)]
                # The more promising half comes next: what is found there may rule out the other.
                pending += sorted(filter(None, halves), key=lambda half: half.bound, reverse=True)
        return best, None

    def preferred(self, best: _Node) -> Filling:
        """Find the filling of best preferences among those that cost the same in as many parts."""
        candidates = {*best.amounts, *self._rivals(best)}
        narrow = _Search((self._offers[number] for number in candidates), self._amount, self._steps)
        number_of = {offer: number for number, offer in enumerate(narrow._offers)}
        amounts = {number_of[self._offers[number]]: amount for number, amount in best.amounts.items()}
        return narrow._preferred(best._replace(amounts=amounts))

    def _preferred(self, best: _Node) -> Filling:
        cost, parts = best.key or best.bound
        decided: dict[int, bool] = {}
        rest_at_most = sum(heapq.nlargest(int(parts) - 1, self._highs))
        numbers = sorted(range(len(self._offers)), key=lambda number: self._offers[number].preference)
        for number in numbers:
            if sum(decided.values()) == parts:
                break
            if number in best.amounts:
                decided[number] = True
            elif self._highs[number] + rest_at_most >= self._amount:
                found, _ = self.best({**decided, number: True}, (cost, parts + 1))
                decided[number] = found is not None
                best = found or best
        return self.filling(best)

    def filling(self, node: _Node, least: int | None = None) -> Filling:
        """Give the cheapest filling with the same offers; ``least`` is the cost that might have been found instead."""
        decided = {number: number in node.amounts for number in range(len(self._offers))}
        settled = self._node(decided) or node
        parts = [(self._offers[number], amount) for number, amount in settled.amounts.items()]
        parts.sort(key=lambda part: (part[0].price, part[0].preference))
        return Filling(parts, 0 if least is None else max(0, self._cost(settled.amounts) - least))

    def _rivals(self, best: _Node) -> Iterator[int]:
        """Give the offers that may be part of a filling that costs no more."""
        cost = self._cost(best.amounts)
        groups: list[tuple[bool | None, int]] = [(None, self._amount)]
        if self._step > 1:
            coarse = self._coarse_sum(best.amounts)
            beside = (self._cheapest_in_steps({}, coarse + step) for step in (-self._step, self._step))
            if all(amounts is None or self._cost(amounts) > cost for amounts in beside):
                # All fillings that cost no more have this sum of coarse offers, since the cost is convex in it.
                groups = [(True, coarse), (False, self._amount - coarse)]
        fills = {in_steps: self._cheapest({}, amount, in_steps=in_steps) or {} for in_steps, amount in groups}
        slack = cost - sum(self._cost(amounts) for amounts in fills.values())
        for in_steps, amounts in fills.items():
            # What an offer adds takes the place of something that costs this at most.
            dearest = max((self._offers[number].price for number in amounts), default=-math.inf)
            for number, offer in enumerate(self._offers):
                fits = in_steps is None or in_steps is (offer.step > 1)
                if fits and (offer.price - dearest) * offer.low <= slack:
                    yield number

    def _node(self, decided: Mapping[int, bool]) -> _Node | None:
        """Work out a bound; None when there can be no filling."""
        self._steps.left -= 1
        if decided and not self._can_sum_up(decided):
            return None
        amounts = self._cheapest(decided, self._amount)
        if amounts is None:
            return None
        rest = self._coarse_sum(amounts) % self._step
        if not rest:
            return self._bounded(decided, amounts)
        # The cost is convex in the sum of the coarse offers, so its best multiple of the step is one of the two beside
        # it. All coarse offers but the last to be filled give a multiple anyway, so that one then does too.
        coarse = self._coarse_sum(amounts) - rest
        both = (self._cheapest_in_steps(decided, total) for total in (coarse, coarse + self._step))
        nodes = [self._bounded(decided, amounts) for amounts in both if amounts is not None]
        return min(nodes, key=lambda node: node.bound, default=None)

    def _coarse_sum(self, amounts: Mapping[int, int]) -> int:
        if self._step == 1:
            return 0
        return sum(amount for number, amount in amounts.items() if self._offers[number].step > 1)

    def _can_sum_up(self, decided: Mapping[int, bool]) -> bool:
        """Tell whether some number of offers is neither too many for their smallest amounts nor too few for their largest."""
        spare = self._spare(decided)
        missing = self._amount - sum(self._highs[number] for number, is_part in decided.items() if is_part)
        lows, highs = self._lows, self._highs
        smallest = (lows[number] for number in self._by_low if number not in decided)
        fitting = spare
        largest = (
            highs[number] for number in self._by_high if lows[number] <= fitting and number not in decided
        )
        while spare >= 0 and missing > 0:
            low, high = next(smallest, None), next(largest, None)
            if low is None or high is None:
                return False
            spare -= low
            missing -= high
        return spare >= 0

    def _spare(self, decided: Mapping[int, bool]) -> int:
        return self._amount - sum(self._lows[number] for number, is_part in decided.items() if is_part)

    def _in_order(self, decided: Mapping[int, bool]) -> Iterator[int]:
        """Give the offers that may be filled; at one price first what is a part anyway, and so adds none."""
        offers, lows = self._offers, self._lows
        parts = sorted(
            (number for number, is_part in decided.items() if is_part),
            key=lambda number: (offers[number].price, offers[number].preference),
        )
        spare = self._spare(decided)
        for number, offer in enumerate(offers):
            while parts and offers[parts[0]].price <= offer.price:
                yield parts.pop(0)
            if lows[number] <= spare and number not in decided:
                yield number
        yield from parts

    def _cheapest_in_steps(self, decided: Mapping[int, bool], coarse: int) -> dict[int, int] | None:
        """Fill as :meth:`_cheapest` does, with a given sum of the coarse offers."""
        steps = self._cheapest(decided, coarse, in_steps=True)
        rest = self._cheapest(decided, self._amount - coarse, in_steps=False)
        return None if steps is None or rest is None else steps | rest

    def _cheapest(
        self, decided: Mapping[int, bool], amount: int, *, in_steps: bool | None = None
    ) -> dict[int, int] | None:
        """Fill from the cheapest offer on without regard to what the undecided ones sell at least; None if impossible."""
        offers, lows, highs = self._offers, self._lows, self._highs
        amounts = {
            number: lows[number]
            for number, is_part in decided.items()
            if is_part and (in_steps is None or in_steps is (offers[number].step > 1))
        }
        left = amount - sum(amounts.values())
        if left > 0:
            for number in self._in_order(decided):
                if in_steps is None or in_steps is (offers[number].step > 1):
                    taken = amounts.get(number, 0)
                    more = min(left, highs[number] - taken)
                    if more:
                        amounts[number] = taken + more
                        left -= more
                        if not left:
                            break
        return None if left else amounts

    def _rounded(self, node: _Node) -> _Node | None:
        """Fill from the cheapest offer on with regard to everything, passing over what doesn't fit; None if that fails."""
        amounts = {number: self._lows[number] for number, is_part in node.decided.items() if is_part}
        left = self._spare(node.decided)
        for number in self._in_order(node.decided):
            if not left:
                break
            step, taken = self._offers[number].step, amounts.get(number, 0)
            whole = min(left + taken, self._highs[number]) // step * step
            if whole > taken and whole >= self._lows[number]:
                amounts[number] = whole
                left -= whole - taken
        return None if left else node._replace(amounts=amounts, key=(self._cost(amounts), len(amounts)))

    def _bounded(self, decided: Mapping[int, bool], amounts: Mapping[int, int]) -> _Node:
        cost = self._cost(amounts)
        # At most two: the last one filled, of the coarse offers and of the others.
        partial = [
            number
            for number, amount in amounts.items()
            if number not in decided and amount < self._offers[number].high
        ]
        too_small = [number for number in partial if amounts[number] < self._offers[number].low]
        fewest = len(amounts)
        if len(partial) == 2:
            # Parts of two offers count as one part if they are no more than one offer together.
            (x, high_x), (y, high_y) = ((amounts[number], self._offers[number].high) for number in partial)
            fewest -= x * high_y + y * high_x <= high_x * high_y
        is_best = not too_small and fewest == len(amounts)
        return _Node(
            decided,
            amounts,
            (cost, fewest),
            None if too_small else (cost, len(amounts)),
            None if is_best else (too_small or partial)[0],
        )

    def _cost(self, amounts: Mapping[int, int]) -> int:
        return sum(self._offers[number].price * amount for number, amount in amounts.items())
