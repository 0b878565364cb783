"""Tonnes and listings become a plan: which quantity of which listing for whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_CEILING, Context, Decimal
from typing import TYPE_CHECKING

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import parse_quantity

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.models import Listing
    from airflow_provider_carbonmark.offsets.emissions import EntityEmissions

_EXACT = Context(prec=60)


class NoListingError(ValueError):
    """No listing can fill the quantity; the message counts what excluded them and names what came closest."""


@dataclass(frozen=True)
class ListingFilter:
    """
    Which credits are wanted; what is None or empty does not matter.

    Puro's credits (registry ``PUR``) are left out unless ``project_ids`` or ``registries`` asks for them: retiring
    them needs consumption metadata (country code, period start and end; doc) that the checkout must then be given.

    :param project_ids: keys of projects, such as ``VCS-191``.
    :param registries: prefixes of project keys, such as ``VCS``.
    :param vintage_from: first vintage, a year; a listing without a vintage is then excluded.
    :param vintage_to: last vintage, a year; likewise.
    :param max_price_usd: highest price in USD per tonne, fees included.
    :param allow_ex_ante: take promises of future removal too.
    :raises InvalidInputError: when a filter is of the wrong type, or lets nothing through.
    """

    project_ids: Collection[str] | None = None
    registries: Collection[str] | None = None
    vintage_from: int | None = None
    vintage_to: int | None = None
    max_price_usd: Decimal | None = None
    allow_ex_ante: bool = False

    def __post_init__(self) -> None:
        for field in ("project_ids", "registries"):
            if isinstance(getattr(self, field), str):
                raise InvalidInputError(
                    field, "is one text", value=getattr(self, field), remedy='Give a list, such as ["VCS"]'
                )
        if self.vintage_from and self.vintage_to and self.vintage_from > self.vintage_to:
            raise InvalidInputError(
                "vintage_from",
                f"is after vintage_to, {self.vintage_to}",
                value=self.vintage_from,
                remedy="Swap the two",
            )
        price = self.max_price_usd
        if price is not None and not (isinstance(price, Decimal) and price.is_finite() and price > 0):
            raise InvalidInputError(
                "max_price_usd",
                "is not a Decimal above zero",
                value=price,
                remedy='Give USD per tonne, such as Decimal("12.50")',
            )


def order_quantity(listing: Listing, quantity_tonnes: Decimal) -> Decimal:
    """
    Give the quantity to order so that at least ``quantity_tonnes`` are retired.

    :return: tonnes: the same, or rounded up to whole tonnes where the credits retire in whole tonnes only (doc: Puro).
    """
    if not listing.whole_tonnes_only:
        return quantity_tonnes
    return quantity_tonnes.to_integral_value(ROUND_CEILING)


def cheapest_listing(
    listings: Iterable[Listing],
    quantity_tonnes: Decimal,
    filters: ListingFilter = ListingFilter(),
    *,
    now: datetime,
) -> Listing:
    """
    Find the listing that fills a quantity at the lowest cost: its price with fees times :func:`order_quantity`.

    Of equal costs the newer vintage is taken, then the lower source id. A listing is excluded, and counted in the
    error, at the first of these that it fails: is of type listing (doc: nothing else is sold), project, registry, Puro
    only when asked for, vintage, not ex-ante, not expired, liquid supply, minimum fill, price.

    :param listings: the market, as from ``CarbonmarkHook.list_prices``.
    :param quantity_tonnes: tonnes, in steps of 0.001; one listing must have them all.
    :param now: aware time that a listing's expiry is held against.
    :raises NoListingError: when nothing fits.
    :raises InvalidInputError: when the quantity is not one that can be bought, or ``now`` is naive.
    """
    quantity = parse_quantity(quantity_tonnes)
    if now.tzinfo is None:
        raise InvalidInputError("now", "has no time zone", value=now, remedy='Use pendulum.now("UTC")')
    failures = [(listing, _failures(listing, quantity, filters, now)) for listing in listings]
    fitting = [listing for listing, failed in failures if not failed]
    if not fitting:
        raise NoListingError(_why_none_fits(failures, quantity))
    return min(fitting, key=lambda listing: _rank(listing, quantity))


def _rank(listing: Listing, quantity: Decimal) -> tuple[Decimal, int, str]:
    cost = _EXACT.multiply(listing.purchase_price, order_quantity(listing, quantity))
    return cost, -(listing.vintage or 0), listing.source_id


def _failures(listing: Listing, quantity: Decimal, filters: ListingFilter, now: datetime) -> list[str]:
    """Name what excludes a listing, in the order that :func:`cheapest_listing` documents."""
    order = order_quantity(listing, quantity)
    project, registry = listing.project_id.upper(), listing.registry.upper()
    projects = {wanted.upper() for wanted in filters.project_ids or ()}
    registries = {wanted.upper() for wanted in filters.registries or ()}
    vintage, max_price = listing.vintage, filters.max_price_usd
    passes = {
        "not of type listing": listing.type == "listing",
        "of another project": not projects or project in projects,
        "of another registry": not registries or registry in registries,
        "of Puro, which was not asked for": (
            not listing.whole_tonnes_only or project in projects or registry in registries
        ),
        "of a vintage outside the range or unknown": (
            (filters.vintage_from is None or (vintage is not None and vintage >= filters.vintage_from))
            and (filters.vintage_to is None or (vintage is not None and vintage <= filters.vintage_to))
        ),
        "ex-ante": filters.allow_ex_ante or not listing.is_ex_ante,
        "expired": listing.expires_at is None or listing.expires_at > now,
        "sold out": listing.liquid_supply > 0,
        "with too little liquid supply": listing.liquid_supply == 0 or listing.liquid_supply >= order,
        "with a higher minimum fill": listing.min_fill_amount <= order,
        "above the highest price": max_price is None or listing.purchase_price <= max_price,
    }
    return [failure for failure, passed in passes.items() if not passed]


def _why_none_fits(failures: Sequence[tuple[Listing, list[str]]], quantity: Decimal) -> str:
    if not failures:
        return f"No listing for {quantity} t: the market has no listings at all; ask again later"
    counts = Counter(failed[0] for _, failed in failures)
    excluded = ", ".join(f"{count} {failure}" for failure, count in counts.most_common())
    message = f"No listing for {quantity} t; of {len(failures)} on the market, {excluded}"

    def near(failure: str) -> list[Listing]:
        return [listing for listing, failed in failures if failed == [failure]]

    if short := near("with too little liquid supply"):
        best = max(short, key=lambda listing: (listing.liquid_supply, -listing.purchase_price))
        message += f". Largest supply that fits otherwise: {best.liquid_supply} t of {_described(best)}"
    if coarse := near("with a higher minimum fill"):
        best = min(coarse, key=lambda listing: (listing.min_fill_amount, listing.purchase_price))
        message += (
            f". Lowest minimum fill that fits otherwise: {best.min_fill_amount} t of {_described(best)}"
        )
    if dear := near("above the highest price"):
        best = min(dear, key=lambda listing: _rank(listing, quantity))
        message += f". Cheapest that fits otherwise: {_described(best)}"
    return f"{message}. Ask for another quantity, or loosen the filters"


def _described(listing: Listing) -> str:
    return f"{listing.source_id} ({listing.project_id}, {listing.vintage}) at {listing.purchase_price} USD per tonne"


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
        before it delivered a link.
    :param run_cost_usd: what the covering lines cost that this very run planned before; it counts against the limits.
    :param run_cost_by_entity: the same by entity.
    """

    covered: Mapping[tuple[str, str], Covered] = field(default_factory=dict)
    abandoned: Sequence[Need] = ()
    run_cost_usd: Decimal = Decimal(0)
    run_cost_by_entity: Mapping[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """
    What a plan may cost in USD, fees included; None is no limit. For the price of a tonne see :class:`ListingFilter`.

    :param max_cost_per_entity_usd: for all lines of an entity that one run plans.
    :param max_cost_per_run_usd: for all lines that one run plans.
    """

    max_cost_per_entity_usd: Decimal | None = None
    max_cost_per_run_usd: Decimal | None = None


@dataclass(frozen=True)
class Dedication:
    """
    What the retirements will say for ever: templates with ``{entity}``, ``{month}``, ``{emitted_tonnes}`` and ``{quantity_tonnes}``.

    :param beneficiary_name: template of the name on the certificate.
    :param retirement_message: template of the message.
    """

    beneficiary_name: str
    retirement_message: str


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
class OverCovered:
    """An entity and month with more tonnes covered than its emissions, restated since, ask for."""

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
    """

    lines: tuple[PlannedLine, ...] = ()
    restated: tuple[EntityEmissions, ...] = ()
    over_covered: tuple[OverCovered, ...] = ()

    @property
    def cost_usd(self) -> Decimal:
        """What all lines cost together, in USD."""
        return sum((line.cost_usd for line in self.lines), Decimal(0))
