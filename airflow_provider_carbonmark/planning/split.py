"""A quantity split over several listings, of a market that has less after each purchase."""

from __future__ import annotations

import logging
import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from airflow_provider_carbonmark.api.inputs import parse_quantity
from airflow_provider_carbonmark.planning.least_cost import Filling, Offer, Steps, UndecidedError, fill
from airflow_provider_carbonmark.planning.least_cost_together import Demand, fill_together, least_cost
from airflow_provider_carbonmark.planning.listings import (
    ANY_CREDIT,
    ListingFilter,
    NoListingError,
    check_aware,
    failures_of,
    order_quantity,
    why_none_fits,
)

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.models import Listing

log = logging.getLogger(__name__)

#: Listings and tonnes of each, the cheapest per tonne first.
Split = list[tuple["Listing", Decimal]]

#: How long a search may get. An ordinary split takes one or two steps; on 700 listings a step takes 0.2 ms at most.
STEPS_PER_SPLIT: Final = 2_000
#: How long all searches in one market may get before each has to do with the fewest: so 10,000 splits that are all as
#: hard as can be take 40 s, where ordinary ones take half a second.
STEPS_PER_MARKET: Final = 50_000
FEWEST_STEPS: Final = 20

_EXACT = Context(prec=60)
_UP = Context(prec=60, rounding=ROUND_CEILING)
_DOWN = Context(prec=60, rounding=ROUND_FLOOR)
_KILOGRAMS = 3  # decimals of a tonne
_PRICE_DECIMALS = 6  # of USD; what USDC has
_COST_DECIMALS = _PRICE_DECIMALS + _KILOGRAMS
_TONNE = 1000


def split(
    listings: Iterable[Listing],
    quantity_tonnes: Decimal,
    filters: ListingFilter = ANY_CREDIT,
    *,
    now: datetime,
) -> Split:
    """
    Find the listings, and what to take of each, that fill a quantity at the lowest cost.

    See :meth:`Market.take` for what is found and raised.

    :return: listings and tonnes, the cheapest per tonne first.
    """
    return Market(listings, filters, now=now).take(quantity_tonnes)


def unit_price_usd(listing: Listing) -> Decimal:
    """
    Give the price that costs are worked out with: USD per tonne with fees, rounded up to USDC's six decimals.

    A cost has nine decimals at most, then, and a service's floats, such as 3.7800000000000002, do no harm.
    """
    price = Decimal(_price(listing)).scaleb(-_PRICE_DECIMALS, _EXACT)
    return listing.purchase_price if price == listing.purchase_price else price


class Market:
    """
    What can be bought, while purchases are taken from it.

    Of listings with the same id, only the one that is worth least counts: they would be one supply offered twice.

    :param listings: as from ``CarbonmarkHook.list_prices``.
    :param now: aware time that a listing's expiry is held against.
    :param promised: tonnes by listing that others will take and are still in its supply.
    :raises InvalidInputError: when ``now`` is naive.
    """

    def __init__(
        self,
        listings: Iterable[Listing],
        filters: ListingFilter,
        *,
        now: datetime,
        promised: Mapping[str, Decimal] = MappingProxyType({}),
    ) -> None:
        check_aware(now)
        least_last = sorted(listings, key=lambda listing: (-listing.liquid_supply, listing.purchase_price))
        self._listings = {listing.source_id: listing for listing in least_last}
        self._filters = filters
        self._now = now
        self._promised = promised
        offers = (
            _offer(listing, promised.get(listing.source_id, Decimal(0)))
            for listing in self._listings.values()
            if not failures_of(listing, filters, now, sizes={})
        )
        self._offers = sorted((offer for offer in offers if offer.low <= offer.high), key=_rank)
        self._steps = STEPS_PER_MARKET

    @property
    def is_searched_out(self) -> bool:
        """Whether so many searches got long that each has to do with the fewest steps now."""
        return self._steps <= FEWEST_STEPS

    def take(self, quantity_tonnes: Decimal, whose: str = "") -> Split:
        """
        Take a quantity out of the market at the lowest cost, from as many listings as that needs.

        Every part is within its listing's minimum fill and what is left of its liquid supply, in steps of 0.001 t, or
        whole tonnes where the credits retire in whole tonnes only (doc: Puro). Of equal costs the one with fewer parts
        is taken, then the newer vintage, then the lower source id, comparing the best parts first. If nothing sums to
        the quantity, whole-tonne credits alone are tried with the quantity rounded up to whole tonnes.

        It is the lowest cost for this quantity, given what is left: to give up a cheap tonne here for the sake of a
        later purchase is not considered here, but in :mod:`~airflow_provider_carbonmark.planning.split_together`. Where odd
        minimum fills make the search too long, the best split found so far is taken and the log says by how much it may
        be too dear.

        :param quantity_tonnes: tonnes, in steps of 0.001.
        :param whose: what follows the quantity in messages, such as `` of search in 2026-10``.
        :return: listings and tonnes, the cheapest per tonne first.
        :raises NoListingError: when nothing fills the quantity, or the search got too long before it found anything.
        :raises InvalidInputError: when the quantity is not one that can be bought.
        """
        quantity = parse_quantity(quantity_tonnes)
        wanted = f"{quantity:f} t{whose}"
        allowed = max(FEWEST_STEPS, min(STEPS_PER_SPLIT, self._steps))
        steps = Steps(allowed)
        try:
            filling = self._filling(_kilograms(quantity), steps)
        except UndecidedError:
            raise NoListingError(
                f"No listing for {wanted}, and no split was found in {allowed} steps, though there may be one: minimum "
                "fills and supplies leave too many ways to try. Ask for another quantity, or tighten the filters"
            ) from None
        finally:
            self._steps -= allowed - steps.left
        if filling is None:
            raise NoListingError(self._why_nothing_sums(quantity, f"{wanted}, nor several together"))
        if filling.excess:
            excess = _usd(filling.excess)
            log.warning(
                "The split found for %s may cost up to %s USD more than the cheapest: the search ended after %s steps",
                wanted,
                f"{excess:.2f}",
                allowed,
            )
        return [(self._use(offer, amount), _tonnes(amount)) for offer, amount in filling.parts]

    def demands(self, quantities_tonnes: Iterable[Decimal]) -> list[Demand]:
        """
        Give what is to be filled for quantities: each exactly, or in whole tonnes where what is left can't do that for it alone.

        :param quantities_tonnes: tonnes, in steps of 0.001.
        :raises InvalidInputError: when a quantity is not one that can be bought.
        """
        in_tonnes = self._in_tonnes()
        return [
            self._demand(_kilograms(parse_quantity(quantity)), in_tonnes) for quantity in quantities_tonnes
        ]

    def least_usd(self, demands: Sequence[Demand]) -> Decimal:
        """Give a cost that demands filled together can't be below, in USD; infinite when they plainly can't be filled."""
        return _usd(least_cost(self._offers, demands))

    def pairs(self, demands: Sequence[Demand]) -> int:
        """Give how many pairs of a listing and a demand there are."""
        return len(self._offers) * len(demands)

    def split_together(
        self, demands: Sequence[Demand], steps: Steps, below_usd: Decimal
    ) -> tuple[list[Split] | None, Decimal]:
        """
        Find what fills demands together at the least cost; nothing is taken.

        :param below_usd: what it has to cost less than; may be infinite.
        :return: a split for each demand, or None when none were found; and what there may still be costs this at least.
        """
        ceiling = int(below_usd.scaleb(_COST_DECIMALS, _EXACT)) if below_usd.is_finite() else math.inf
        parts, least = fill_together(self._offers, demands, steps, ceiling)
        splits = None if parts is None else [self._split(of_one) for of_one in parts]
        return splits, _usd(least)

    def _split(self, parts: Iterable[tuple[Offer, int]]) -> Split:
        return [(self._listings[offer.preference[1]], _tonnes(amount)) for offer, amount in parts]

    def _demand(self, kilograms: int, in_tonnes: Sequence[Offer]) -> Demand:
        if kilograms % _TONNE and in_tonnes:
            with suppress(UndecidedError):
                if self._exact_filling(kilograms, in_tonnes, Steps(FEWEST_STEPS)) is None:
                    return Demand(_rounded_up(kilograms), in_steps=True)
        return Demand(kilograms)

    def _in_tonnes(self) -> list[Offer]:
        return [offer for offer in self._offers if offer.step == _TONNE]

    def _exact_filling(self, kilograms: int, in_tonnes: Sequence[Offer], steps: Steps) -> Filling | None:
        if kilograms % _TONNE and len(in_tonnes) == len(self._offers):
            return None
        return fill(self._offers, kilograms, steps)

    def _filling(self, kilograms: int, steps: Steps) -> Filling | None:
        in_tonnes = self._in_tonnes()
        filling = self._exact_filling(kilograms, in_tonnes, steps)
        if filling is None and kilograms % _TONNE:
            filling = fill(in_tonnes, _rounded_up(kilograms), steps)
        return filling

    def _use(self, offer: Offer, kilograms: int) -> Listing:
        """Take from what is left, and give the listing that it is left of."""
        at = bisect_left(self._offers, _rank(offer), key=_rank)
        left = Offer(offer.price, offer.low, offer.high - kilograms, offer.step, offer.preference)
        self._offers[at : at + 1] = [left] if left.low <= left.high else []
        return self._listings[offer.preference[1]]

    def _why_nothing_sums(self, quantity: Decimal, wanted: str) -> str:
        left = {offer.preference[1]: offer.high for offer in self._offers}
        failures = []
        together = 0
        for listing in self._listings.values():
            sizes = {
                "with less left than the minimum fill": listing.source_id in left,
                "with a higher minimum fill": listing.min_fill_amount <= order_quantity(listing, quantity),
            }
            failed = failures_of(listing, self._filters, self._now, sizes=sizes)
            failures.append((listing, failed))
            together += 0 if failed else left[listing.source_id]
        why = why_none_fits(wanted, quantity, failures, _tonnes(together))
        if tonnes := sum(
            (self._promised.get(source_id, Decimal(0)) for source_id in self._listings), Decimal(0)
        ):
            why += f". {tonnes.normalize(_EXACT):f} t of the market are promised to lines that nobody has paid: pay or decline them"
        return why


def _price(listing: Listing) -> int:
    return math.ceil(listing.purchase_price.scaleb(_PRICE_DECIMALS, _UP))


def _offer(listing: Listing, promised: Decimal) -> Offer:
    step = _TONNE if listing.whole_tonnes_only else 1
    low = max(1, math.ceil(listing.min_fill_amount.scaleb(_KILOGRAMS, _UP)))
    left = _EXACT.subtract(listing.liquid_supply, promised)
    high = math.floor(left.scaleb(_KILOGRAMS, _DOWN))
    return Offer(
        _price(listing),
        _rounded_up(low, step),
        high // step * step,
        step,
        (-(listing.vintage or 0), listing.source_id),
    )


def _rank(offer: Offer) -> tuple[int, tuple[int, str]]:
    return offer.price, offer.preference


def _usd(cost: float) -> Decimal:
    return Decimal(cost).scaleb(-_COST_DECIMALS, _EXACT)


def _kilograms(quantity: Decimal) -> int:
    return int(quantity.scaleb(_KILOGRAMS, _EXACT))


def _rounded_up(kilograms: int, step: int = _TONNE) -> int:
    return -(-kilograms // step) * step


def _tonnes(kilograms: int) -> Decimal:
    tonnes, rest = divmod(kilograms, _TONNE)
    return Decimal(kilograms).scaleb(-_KILOGRAMS, _EXACT).normalize(_EXACT) if rest else Decimal(tonnes)
