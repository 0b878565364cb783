"""
What is to be bought of which offers, as a problem of whole numbers.

Amounts are kilograms and prices millionths of a USD per tonne, so costs are billionths of a USD: everything that is decided is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

TONNE: Final = 1000


@dataclass(frozen=True, slots=True)
class Offer:
    """
    A price for any amount between two.

    :param price: of one kilogram.
    :param low: the smallest amount that can be bought at once, above zero.
    :param high: the largest one, and all that there is.
    :param step: what amounts are multiples of, the two limits too: 1, or a tonne.
    :param preference: unlike any other offer's; of equal prices the lower one comes first.
    """

    price: int
    low: int
    high: int
    step: int
    preference: Any


@dataclass(frozen=True)
class Budget:
    """The most that some amounts may cost together, and how much of the cost of each counts."""

    shares: Mapping[int, Fraction]
    most: Fraction


#: For each amount the offers it is bought of, by their number, and what of each.
Filling = Sequence[Sequence[tuple[int, int]]]


@dataclass(frozen=True)
class Problem:
    """
    Amounts to be bought at the least cost.

    Each is bought exactly, or, rounded up to tonnes, of offers that sell by the tonne alone.

    :param amounts: above zero.
    :param offers: by price, then preference.
    """

    amounts: Sequence[int]
    offers: Sequence[Offer]
    budgets: Sequence[Budget] = ()

    def usable(self, amount: int) -> Iterator[int]:
        """Give the offers that can be a part of an amount."""
        tonnes = rounded_up(amount)
        for number, offer in enumerate(self.offers):
            if offer.low <= min(offer.high, tonnes if offer.step > 1 else amount):
                yield number

    def cost(self, filling: Filling) -> int:
        return sum(self.cost_of(parts) for parts in filling)

    def cost_of(self, parts: Iterable[tuple[int, int]]) -> int:
        return sum(self.offers[number].price * amount for number, amount in parts)

    def is_within_budgets(self, filling: Filling) -> bool:
        costs = [self.cost_of(parts) for parts in filling]
        return all(
            sum(share * costs[at] for at, share in budget.shares.items()) <= budget.most
            for budget in self.budgets
        )

    def is_filling(self, filling: Filling) -> bool:
        """Tell whether amounts are bought as they can be."""
        sold: dict[int, int] = {}
        for amount, parts in zip(self.amounts, filling, strict=True):
            offers = [self.offers[number] for number, _ in parts]
            in_tonnes = all(offer.step > 1 for offer in offers)
            if sum(part for _, part in parts) not in (amount, rounded_up(amount) if in_tonnes else amount):
                return False
            for (number, part), offer in zip(parts, offers, strict=True):
                if part < offer.low or part % offer.step:
                    return False
                sold[number] = sold.get(number, 0) + part
        return all(part <= self.offers[number].high for number, part in sold.items())

    def least_cost(self) -> int | None:
        """Return what no filling can be below: all amounts from the cheapest offer up, without a minimum. None if there is too little."""
        rest, cost = sum(self.amounts), 0
        for offer in self.offers:
            if not rest:
                break
            taken = min(rest, offer.high)
            cost, rest = cost + offer.price * taken, rest - taken
        return None if rest else cost


def rounded_up(kilograms: int, step: int = TONNE) -> int:
    return -(-kilograms // step) * step
