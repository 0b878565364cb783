"""
The least cost at which offers fill several demands together, each to exactly its amount. Integers only.

It is the transportation problem of operations research, with smallest amounts and steps besides; what a unit costs
depends on its offer alone. Without smallest amounts and steps it costs least to sell as much as possible of the cheapest
offer, then of the next: what was sold before may move to another demand to make room, but is never taken back.

The search is branch and bound with that as bound. Where it takes an amount that isn't sold of an offer for a demand, the
search goes on in two halves: with no more than the next smaller amount that is, and with no less than the next larger.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, count, groupby, pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_carbonmark.planning.least_cost import largest_step

if TYPE_CHECKING:
    from airflow_provider_carbonmark.planning.least_cost import Offer, Steps

_Pair = tuple[int, int]  # the number of an offer, or the one below, and that of a demand
_ALL_IN_STEPS = -1
_Amounts = dict[_Pair, int]  # by number of the offer
_Limits = Mapping[_Pair, tuple[int, int]]  # the smallest and the largest amount
_Way = tuple[int, ...]  # numbers of nodes


class Demand(NamedTuple):
    """
    An amount to be filled.

    :param amount: above zero.
    :param in_steps: whether only offers in steps may fill it; the amount is a multiple of the step then.
    """

    amount: int
    in_steps: bool = False


class Fillings(NamedTuple):
    """
    How to fill all demands, as far as a search came.

    :param parts: for each demand, offers and what to take of each, by price, then preference; None when nothing below the
        ceiling was found.
    :param least: nothing below the ceiling costs less than this. It is what the parts cost if they are proven to be the
        cheapest, and the ceiling if it is proven that there is nothing below it.
    """

    parts: list[list[tuple[Offer, int]]] | None
    least: float


class _Choice(NamedTuple):
    """An amount that isn't sold, so a smaller or a larger one has to be chosen."""

    pair: _Pair
    smaller: int
    larger: int


def least_cost(offers: Sequence[Offer], demands: Sequence[Demand]) -> float:
    """
    Give a cost that nothing which fills all demands is below, without a search; infinite when they plainly can't be filled.

    It takes from the cheapest offer on: of each, no more than the demands that are large enough for it ask for, and of all
    in steps together, no more than the whole steps in the demands. Who gets what is left open.

    :param offers: ordered by price.
    """
    step = largest_step(offers)
    amounts = {kind: sorted(_most(demand, kind, step) for demand in demands) for kind in (False, True)}
    # What the amounts from each one on sum to.
    sums = {kind: [*accumulate(reversed(found), initial=0)][::-1] for kind, found in amounts.items()}
    left_of = {kind: sum(found) for kind, found in amounts.items()}
    left = sum(demand.amount for demand in demands)
    taken = []
    for offer in offers:
        kind = offer.step > 1
        asked = sums[kind][bisect_left(amounts[kind], offer.low)]
        amount = min(offer.high, asked, left_of[kind], left)
        left_of[kind] -= amount
        left -= amount
        taken.append(amount)
    return math.inf if left else _bound(offers, taken, step)


def fill_together(
    offers: Sequence[Offer], demands: Sequence[Demand], steps: Steps, ceiling: float = math.inf
) -> Fillings:
    """
    Find what fills all demands at the least cost, if that is below a ceiling; of equal costs any, but always the same.

    :param offers: ordered by price, then preference.
    :param steps: counted down, by one for each bound and for each way that is searched for what was sold before to make
        room. When none are left, the cheapest found so far is given.
    """
    search = _Search(offers, demands, steps)
    best: _Amounts | None = None
    # The lowest bound comes next; of equal ones the one with the most limits, which is nearest to a find.
    pending: list[tuple[float, int, int, _Limits, _Choice]] = []
    number = count()
    halves: Iterable[_Limits] = [{}]
    while True:
        for limits in halves:
            amounts = search.cheapest(limits)
            bound = math.inf if amounts is None else search.bound(amounts)
            if amounts is None or bound >= ceiling:
                continue
            if choice := search.choice(amounts):
                heapq.heappush(pending, (bound, -len(limits), next(number), limits, choice))
            else:
                best, ceiling = amounts, bound
        least = min(ceiling, pending[0][0]) if pending else ceiling
        if least == ceiling or steps.left <= 0:
            return Fillings(search.parts(best) if best else None, least)
        *_, limits, choice = heapq.heappop(pending)
        halves = search.halves(limits, choice)


def _most(demand: Demand, in_steps: bool, step: int) -> int:
    """Give the most that all offers in steps, or all others, can fill of a demand."""
    if in_steps:
        return demand.amount // step * step
    return 0 if demand.in_steps else demand.amount


def _bound(offers: Sequence[Offer], taken: Sequence[int], step: int) -> float:
    """
    Give what is taken of each offer costs at least when what is taken in steps has to sum to a multiple of the step.

    :param taken: at the least cost without regard to that.
    """
    cost = in_steps = 0
    cheapest_left, dearest_taken = [math.inf, math.inf], [-math.inf, -math.inf]
    for offer, amount in zip(offers, taken, strict=True):
        kind = offer.step > 1
        cost += offer.price * amount
        in_steps += amount if kind else 0
        if amount < offer.high:
            cheapest_left[kind] = min(cheapest_left[kind], offer.price)
        if amount:
            dearest_taken[kind] = max(dearest_taken[kind], offer.price)
    rest = in_steps % step
    if not rest:
        return cost
    # To sum to another multiple, at least the rest goes from offers in steps to others, or what is missing to the next one
    # the other way. No exchange between offers saves anything, and none of that kind costs less than this one.
    fewer = rest * max(0, cheapest_left[False] - dearest_taken[True])
    more = (step - rest) * max(0, cheapest_left[True] - dearest_taken[False])
    return cost + min(fewer, more)


class _Search:
    """
    Offers and demands go by their numbers.

    Amounts go from an offer to a demand by way of one of two inlets of the demand: one for all offers in steps, whose
    part of a demand is limited too, and one for all others.
    """

    def __init__(self, offers: Sequence[Offer], demands: Sequence[Demand], steps: Steps) -> None:
        self._offers = offers
        self._demands = demands
        self._steps = steps
        self._step = largest_step(offers)
        self._no_limits = 0, sum(demand.amount for demand in demands)
        self._sink = len(offers) + 3 * len(demands)
        self._demand_nodes = range(len(offers), self._sink, 3)
        # The nodes of the network that an amount of a pair passes: offer, inlet, demand and sink.
        self._ways = {
            (o, d): (o, node + (2 if offer.step > 1 else 1), node, self._sink)
            for o, offer in enumerate(offers)
            for d, (node, demand) in enumerate(zip(self._demand_nodes, demands, strict=True))
            if offer.low <= _most(demand, offer.step > 1, self._step)
        }

    def cheapest(self, limits: _Limits) -> _Amounts | None:
        """Fill all demands without regard to smallest amounts and steps, but within limits; None if that is impossible."""
        self._steps.left -= 1
        left = [offer.high for offer in self._offers]
        for d, demand in enumerate(self._demands):
            least_in_steps, most_in_steps = limits.get((_ALL_IN_STEPS, d), self._no_limits)
            left += (
                demand.amount,
                _most(demand, False, self._step) - least_in_steps,
                min(_most(demand, True, self._step), most_in_steps),
            )
        for pair, (low, _) in limits.items():
            for node in self._ways.get(pair, ())[:-1]:
                left[node] -= low
        if min(left, default=0) < 0:
            return None
        network = _Network(self._steps)
        for node in self._demand_nodes:
            network.connect(node, self._sink, left[node])
            for inlet in (node + 1, node + 2):
                network.connect(inlet, node, left[inlet])
        for pair, (offer, inlet, node, _) in self._ways.items():
            low, high = limits.get(pair, self._no_limits)
            # Where less is left than the smallest amount, nothing can be sold any more.
            if low or min(left[offer], left[inlet], left[node]) >= self._offers[offer].low:
                network.connect(offer, inlet, high - low)
        missing = sum(left[node] for node in self._demand_nodes)
        for offer, ways in groupby(self._ways.values(), key=itemgetter(0)):
            if missing:
                missing -= network.send(offer, self._sink, left[offer], ways)
        if missing:
            return None
        amounts = {
            pair: limits.get(pair, self._no_limits)[0] + network.sent(offer, inlet)
            for pair, (offer, inlet, *_) in self._ways.items()
        }
        return {pair: amount for pair, amount in amounts.items() if amount}

    def bound(self, amounts: _Amounts) -> float:
        taken = [0] * len(self._offers)
        for (o, _), amount in amounts.items():
            taken[o] += amount
        return _bound(self._offers, taken, self._step)

    def choice(self, amounts: _Amounts) -> _Choice | None:
        """Find an amount that isn't sold; None when all are."""
        # The dearest first: what takes its place changes the bound most.
        for (o, d), amount in reversed(amounts.items()):
            offer = self._offers[o]
            if amount < offer.low:
                return _Choice((o, d), 0, offer.low)
            if rest := amount % offer.step:
                in_steps = self._in_steps(amounts, d)
                if of_all := in_steps % self._step:
                    return _Choice((_ALL_IN_STEPS, d), in_steps - of_all, in_steps - of_all + self._step)
                return _Choice((o, d), amount - rest, amount - rest + offer.step)
        return None

    def _in_steps(self, amounts: _Amounts, demand: int) -> int:
        return sum(amount for (o, d), amount in amounts.items() if d == demand and self._offers[o].step > 1)

    def halves(self, limits: _Limits, choice: _Choice) -> Iterator[_Limits]:
        """Split a part of the search at a choice."""
        low, high = limits.get(choice.pair, self._no_limits)
        yield {**limits, choice.pair: (choice.larger, high)}
        yield {**limits, choice.pair: (low, choice.smaller)}

    def parts(self, amounts: _Amounts) -> list[list[tuple[Offer, int]]]:
        found: list[list[tuple[Offer, int]]] = [[] for _ in self._demands]
        for (o, d), amount in amounts.items():
            found[d].append((self._offers[o], amount))
        return found


class _Network:
    """How much more can go from node to node."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._room: defaultdict[int, dict[int, int]] = defaultdict(dict)

    def connect(self, start: int, end: int, room: int) -> None:
        self._room[start][end] = room
        self._room[end][start] = 0

    def sent(self, start: int, end: int) -> int:
        return self._room[end].get(start, 0)

    def send(self, source: int, sink: int, most: int, ways: Iterable[_Way]) -> int:
        """
        Send as much as possible; what was sent before may go another way, but arrives.

        :param ways: to try before any is searched for.
        """
        sent = 0
        for way in chain(ways, iter(lambda: self._shortest(source, sink), ())):
            steps = [*pairwise(way)]
            amount = min(most - sent, *(self._room[start].get(end, 0) for start, end in steps))
            for start, end in steps if amount else ():
                self._room[start][end] -= amount
                self._room[end][start] += amount
            sent += amount
            if sent == most:
                break
        return sent

    def _shortest(self, source: int, sink: int) -> _Way:
        """Find the shortest way on which something can be sent; empty when there is none."""
        self._steps.left -= 1
        came_from = {source: source}
        queue = deque(came_from)
        while queue and sink not in came_from:
            node = queue.popleft()
            for end, room in self._room[node].items():
                if room and end not in came_from:
                    came_from[end] = node
                    queue.append(end)
        if sink not in came_from:
            return ()
        way = [sink]
        while way[-1] != source:
            way.append(came_from[way[-1]])
        return tuple(reversed(way))
