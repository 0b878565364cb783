"""What can be bought: listings as offers, as the problem takes them; and why nothing fits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import bare_source_id
from airflow_provider_carbonmark.ledger.values import EXACT, plain
from airflow_provider_carbonmark.planning.filters import NOTHING_KNOWN, ListingFilter, ProjectFacts
from airflow_provider_carbonmark.planning.listings import (
    CHOICES,
    failures_of,
    order_quantity,
    why_none_fits,
)
from airflow_provider_carbonmark.planning.problem import TONNE, Offer, rounded_up

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.models import Listing

_UP = Context(prec=60, rounding=ROUND_CEILING)
_DOWN = Context(prec=60, rounding=ROUND_FLOOR)
_ZERO: Final = Decimal(0)
_KILOGRAMS: Final = 3  # decimals of a tonne
_PRICE_DECIMALS: Final = 6  # of USD; what USDC has
_COST_DECIMALS: Final = _PRICE_DECIMALS + _KILOGRAMS
_TOO_LITTLE_LEFT: Final = "with less left than the minimum fill"


class Market:
    """
    What can be bought.

    Of listings with the same id, only the one that is worth least counts: they would be one supply offered twice.

    :param listings: as from ``CarbonmarkHook.list_prices``.
    :param now: aware time that a listing's expiry is held against.
    :param link_lifetime: how long a link can be paid: what expires sooner can't be bought.
    :param promised: tonnes by listing that others will take and are still in its supply.
    :param minimum_payment_usd: the least that can be paid: it may be more than a listing's minimum fill costs.
    :raises InvalidInputError: when ``now`` is naive.
    """

    def __init__(
        self,
        listings: Iterable[Listing],
        filters: ListingFilter,
        facts: ProjectFacts = NOTHING_KNOWN,
        *,
        now: datetime,
        link_lifetime: timedelta = timedelta(0),
        promised: Mapping[str, Decimal] = MappingProxyType({}),
        minimum_payment_usd: Decimal = Decimal(0),
    ) -> None:
        if now.tzinfo is None:
            raise InvalidInputError("now", "has no time zone", value=now, remedy='Use pendulum.now("UTC")')
        least_last = sorted(listings, key=lambda listing: (-listing.liquid_supply, listing.purchase_price))
        self._listings = {bare_source_id(listing.source_id): listing for listing in least_last}
        self._filters = filters
        self._facts = facts
        self._now = now
        self._link_ends_at = now + link_lifetime
        self._promised: dict[str, Decimal] = {}
        for source_id, amount in promised.items():
            key = bare_source_id(source_id)
            self._promised[key] = EXACT.add(self._promised.get(key, _ZERO), amount)
        self._minimum = minimum_payment_usd

    @cached_property
    def offers(self) -> Sequence[Offer]:
        """Return what can be bought at once and be paid, the cheapest first."""
        return self._offers(self._minimum)

    @cached_property
    def offers_of_any_payment(self) -> Sequence[Offer]:
        """Return the same without a least payment."""
        return self._offers(Decimal(0))

    @cached_property
    def offers_to_go_by(self) -> Sequence[Offer]:
        """Return of these what has enough left to be paid: by the rest nobody can tell what is too little."""
        least = as_cost(self._minimum)
        return [one for one in self.offers_of_any_payment if one.price * one.high >= least]

    @cached_property
    def offers_of_any_credit(self) -> Sequence[Offer]:
        """Return what could be bought at once and be paid if the filter chose by nothing but price, supply and ex-ante."""
        return self._offers(self._minimum, CHOICES)

    def excluded(self) -> Counter[str]:
        """Count what of that the filter excludes, by the first condition that does."""
        failures = (self._failures(self.listing(offer), {}) for offer in self.offers_of_any_credit)
        return Counter(failed[0] for failed in failures if failed)

    def listing(self, offer: Offer) -> Listing:
        return self._listings[bare_source_id(offer.preference[1])]

    def why_nothing_fits(self, wanted: str, kilograms: int, left: Mapping[Offer, int]) -> str:
        """
        Say what excluded the listings, what came closest, what the margin keeps back, and what is promised to others.

        :param wanted: what there is no listing for, in words.
        :param left: kilograms of each offer that others have not taken.
        """
        quantity = tonnes(kilograms)
        of_listing = {offer.preference[1]: tonnes(amount) for offer, amount in left.items()}
        failures = []
        together = kept_back = _ZERO
        for listing in self._listings.values():
            unsold = of_listing.get(listing.source_id, self._usable(listing))
            sizes = {
                _TOO_LITTLE_LEFT: unsold > 0 and unsold >= listing.min_fill_amount,
                "with a higher minimum fill": listing.min_fill_amount <= order_quantity(listing, quantity),
            }
            failed = self._failures(listing, sizes)
            failures.append((listing, failed))
            together += 0 if failed else unsold
            if set(failed) <= {_TOO_LITTLE_LEFT}:
                kept_back += max(self._unpromised(listing), _ZERO) - max(self._usable(listing), _ZERO)
        why = why_none_fits(wanted, quantity, failures, self._facts, together)
        if kept_back:
            why += (
                f". supply_margin, {self._filters.supply_margin:f}, keeps {tonnes(kilograms_up(kept_back)):f} t back of listings that fit "
                "otherwise: lower it to use them"
            )
        of_market = (self._promised.get(key, _ZERO) for key in self._listings)
        if promised := sum(of_market, _ZERO):
            why += (
                f". {plain(promised)} t of the market are promised to purchases that nobody has paid: "
                "pay or decline them"
            )
        return why

    def _failures(self, listing: Listing, sizes: Mapping[str, bool]) -> list[str]:
        return failures_of(
            listing, self._filters, self._facts, self._now, link_ends_at=self._link_ends_at, sizes=sizes
        )

    def _unpromised(self, listing: Listing) -> Decimal:
        return EXACT.subtract(listing.liquid_supply, self._promised_of(listing))

    def _usable(self, listing: Listing) -> Decimal:
        """Give what the margin leaves of a listing: what is promised is bought of it, too."""
        most = _DOWN.divide(listing.liquid_supply, self._filters.supply_margin)
        return EXACT.subtract(most, self._promised_of(listing))

    def _promised_of(self, listing: Listing) -> Decimal:
        return self._promised.get(bare_source_id(listing.source_id), _ZERO)

    def _offers(self, minimum_usd: Decimal, but_for: frozenset[str] = frozenset()) -> Sequence[Offer]:
        passing = (one for one in self._listings.values() if but_for.issuperset(self._failures(one, {})))
        offers = (_offer(listing, self._usable(listing), minimum_usd) for listing in passing)
        return sorted(
            (one for one in offers if one.low <= one.high), key=lambda one: (one.price, one.preference)
        )


def projects_to_know(
    listings: Iterable[Listing], filters: ListingFilter, *, now: datetime, link_lifetime: timedelta
) -> set[str]:
    """Return the projects that a plan has to know of where the filter asks for something of them, by their ids: of listings that pass all else."""
    market = Market(listings, filters.of_any_project(), now=now, link_lifetime=link_lifetime)
    return {market.listing(offer).project_id for offer in market.offers}


def unit_price_usd(listing: Listing) -> Decimal:
    """
    Give the price that costs are worked out with: USD per tonne with fees, rounded up to USDC's six decimals.

    A cost has nine decimals at most, then, and a service's floats, such as 3.7800000000000002, do no harm.
    """
    return _rounded_price(listing.purchase_price)


def base_unit_price_usd(listing: Listing) -> Decimal | None:
    """Give the price without fees, rounded likewise; None where the market tells none, or one that can't be: above the price with fees."""
    base = listing.base_unit_price
    return None if base is None or base > listing.purchase_price else _rounded_price(base)


def tonnes(kilograms: int) -> Decimal:
    whole, rest = divmod(kilograms, TONNE)
    return Decimal(kilograms).scaleb(-_KILOGRAMS, EXACT).normalize(EXACT) if rest else Decimal(whole)


def kilograms_up(quantity_tonnes: Decimal) -> int:
    """Round up to what can be bought."""
    return math.ceil(quantity_tonnes.scaleb(_KILOGRAMS, _UP))


def usd(cost: int) -> Decimal:
    """Give a cost of the problem in USD."""
    return Decimal(cost).scaleb(-_COST_DECIMALS, EXACT).normalize(EXACT)


def as_cost(amount_usd: Decimal) -> int:
    """Give USD as a cost of the problem, rounded down."""
    return math.floor(amount_usd.scaleb(_COST_DECIMALS, _DOWN))


def _millionths(price_usd: Decimal) -> int:
    return math.ceil(price_usd.scaleb(_PRICE_DECIMALS, _UP))


def _rounded_price(price_usd: Decimal) -> Decimal:
    price = Decimal(_millionths(price_usd)).scaleb(-_PRICE_DECIMALS, EXACT)
    return price_usd if price == price_usd else price


def _offer(listing: Listing, left: Decimal, minimum_usd: Decimal) -> Offer:
    step = TONNE if listing.whole_tonnes_only else 1
    price = _millionths(listing.purchase_price)
    least = -(-as_cost(minimum_usd) // price)
    low = max(1, math.ceil(listing.min_fill_amount.scaleb(_KILOGRAMS, _UP)), least)
    high = math.floor(left.scaleb(_KILOGRAMS, _DOWN))
    return Offer(
        price, rounded_up(low, step), high // step * step, step, (-(listing.vintage or 0), listing.source_id)
    )
