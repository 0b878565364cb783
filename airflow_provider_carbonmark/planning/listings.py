"""Which listings fit, and why none does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Context, Decimal
from typing import TYPE_CHECKING, Final

from airflow_provider_carbonmark.api.errors import InvalidInputError

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.models import Listing

_EXACT = Context(prec=60)


class NoListingError(ValueError):
    """Nothing on the market can fill the quantity; the message counts what excluded the listings and names what came closest."""


@dataclass(frozen=True)
class ListingFilter:
    """
    Which credits are wanted; what is None or empty does not matter.

    Puro's credits (registry ``PUR``) are left out unless ``project_ids`` or ``registries`` asks for them: retiring
    them needs metadata that the checkout must then be given; see :func:`~airflow_provider_carbonmark.task_groups.purchase`.

    :param project_ids: keys of projects, such as ``VCS-191``.
    :param registries: prefixes of project keys, such as ``VCS``.
    :param vintage_from: first vintage, a year; a listing without a vintage is then excluded.
    :param vintage_to: last vintage, a year; likewise.
    :param max_price_usd: highest price in USD per tonne, fees included.
    :param allow_ex_ante: take promises of future removal too.
    :param supply_margin: a listing's supply has to be this many times what is bought of it: stock goes within minutes (seen), and a
        link lives for hours. 1 asks for no more than is bought.
    :raises InvalidInputError: when a filter is of the wrong type, or lets nothing through.
    """

    project_ids: Collection[str] | None = None
    registries: Collection[str] | None = None
    vintage_from: int | None = None
    vintage_to: int | None = None
    max_price_usd: Decimal | None = None
    allow_ex_ante: bool = False
    supply_margin: Decimal = Decimal(1)

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
        margin = self.supply_margin
        if not (isinstance(margin, Decimal) and margin.is_finite() and margin >= 1):
            raise InvalidInputError(
                "supply_margin",
                "is not a Decimal of at least 1",
                value=margin,
                remedy='Give how many times what is bought a listing must have, such as Decimal("1.5")',
            )


#: Lets everything through that can be bought without further ado.
ANY_CREDIT: Final = ListingFilter()


def order_quantity(listing: Listing, quantity_tonnes: Decimal) -> Decimal:
    """
    Give the quantity to order so that at least ``quantity_tonnes`` are retired.

    :return: tonnes: the same, or rounded up to whole tonnes where the credits retire in whole tonnes only (doc: Puro).
    """
    if not listing.whole_tonnes_only:
        return quantity_tonnes
    return quantity_tonnes.to_integral_value(ROUND_CEILING)


def check_aware(now: datetime) -> None:
    """
    Refuse a time that listings' expiry can't be held against.

    :raises InvalidInputError: when it is naive.
    """
    if now.tzinfo is None:
        raise InvalidInputError("now", "has no time zone", value=now, remedy='Use pendulum.now("UTC")')


def _rank(listing: Listing, quantity: Decimal) -> tuple[Decimal, int, str]:
    cost = _EXACT.multiply(listing.purchase_price, order_quantity(listing, quantity))
    return cost, -(listing.vintage or 0), listing.source_id


def failures_of(
    listing: Listing,
    filters: ListingFilter,
    now: datetime,
    *,
    link_ends_at: datetime,
    sizes: Mapping[str, bool],
) -> list[str]:
    """
    Name what excludes a listing; it counts for the first.

    :param now: aware time.
    :param link_ends_at: until when a link that is made now can be paid; aware.
    :param sizes: the conditions on quantities: what a listing is that fails one, and whether this one passes it.
    """
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
        "expiring before a link made now would": (
            listing.expires_at is None or listing.expires_at >= link_ends_at
        ),
        "sold out": listing.liquid_supply > 0,
        **sizes,
        "above the highest price": max_price is None or listing.purchase_price <= max_price,
    }
    return [failure for failure, passed in passes.items() if not passed]


def why_none_fits(
    wanted: str,
    quantity: Decimal,
    failures: Sequence[tuple[Listing, list[str]]],
    together: Decimal = Decimal(0),
) -> str:
    """
    Say what excluded the listings, and what came closest.

    :param wanted: what there is no listing for, in words.
    :param quantity: tonnes of it.
    :param failures: all listings, with what :func:`failures_of` gave.
    :param together: tonnes that the listings have that no condition excludes.
    """
    if not failures:
        return f"No listing for {wanted}: the market has no listings at all; ask again later"
    counts = Counter(failed[0] for _, failed in failures if failed)
    found = [f"{count} {failure}" for failure, count in counts.most_common()]
    if fitting := sum(not failed for _, failed in failures):
        found.append(f"{fitting} fit and have {together:f} t together")
        if together >= quantity:
            found.append("of which no amounts that they sell sum to it")
    message = f"No listing for {wanted}; of {len(failures)} on the market, {', '.join(found)}"

    def near(failure: str) -> list[Listing]:
        return [listing for listing, failed in failures if failed == [failure]]

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
