"""Which listings fit, and why none does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Final

from airflow_provider_carbonmark.ledger.values import EXACT
from airflow_provider_carbonmark.planning.filters import FAILURES_OF_PROJECTS, UNKNOWN_MECHANISM

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.models import Listing
    from airflow_provider_carbonmark.planning.filters import ListingFilter, ProjectFacts

#: USD per tonne. For less, no quote of a kilogram would be believed; the cheapest that was seen asks 0.10.
_LEAST_PRICE: Final = Decimal("0.001")
_OF_ANOTHER_PROJECT: Final = "of another project"
_OF_ANOTHER_REGISTRY: Final = "of another registry"
_OF_ANOTHER_VINTAGE: Final = "of a vintage outside the range or unknown"
#: By what a filter chooses among credits that could be bought.
CHOICES: Final = frozenset(
    {_OF_ANOTHER_PROJECT, _OF_ANOTHER_REGISTRY, _OF_ANOTHER_VINTAGE, *FAILURES_OF_PROJECTS}
)


class NoListingError(ValueError):
    """Nothing on the market can fill the quantity; the message counts what excluded the listings and names what came closest."""


def order_quantity(listing: Listing, quantity_tonnes: Decimal) -> Decimal:
    """Give the tonnes to order: the same, or rounded up to whole tonnes where the credits retire in whole tonnes only (doc: Puro)."""
    if not listing.whole_tonnes_only:
        return quantity_tonnes
    return quantity_tonnes.to_integral_value(ROUND_CEILING)


def _rank(listing: Listing, quantity: Decimal) -> tuple[Decimal, int, str]:
    cost = EXACT.multiply(listing.purchase_price, order_quantity(listing, quantity))
    return cost, -(listing.vintage or 0), listing.source_id


def failures_of(
    listing: Listing,
    filters: ListingFilter,
    facts: ProjectFacts,
    now: datetime,
    *,
    link_ends_at: datetime,
    sizes: Mapping[str, bool],
) -> list[str]:
    """
    Name what excludes a listing; it counts for the first.

    :param link_ends_at: until when a link that is made now can be paid.
    :param sizes: the conditions on quantities: what a listing is that fails one, and whether this one passes it.
    """
    project, registry = listing.project_id.upper(), listing.registry.upper()
    projects = {wanted.upper() for wanted in filters.project_ids or ()}
    registries = {wanted.upper() for wanted in filters.registries or ()}
    vintage, max_price = listing.vintage, filters.max_price_usd
    passes = {
        "not of type listing": listing.type == "listing",
        _OF_ANOTHER_PROJECT: not projects or project in projects,
        _OF_ANOTHER_REGISTRY: not registries or registry in registries,
        "of Puro, which was not asked for": (
            not listing.whole_tonnes_only or project in projects or registry in registries
        ),
        _OF_ANOTHER_VINTAGE: (
            (filters.vintage_from is None or (vintage is not None and vintage >= filters.vintage_from))
            and (filters.vintage_to is None or (vintage is not None and vintage <= filters.vintage_to))
        ),
        "ex-ante": filters.allow_ex_ante or not listing.is_ex_ante,
        "expired": listing.expires_at is None or listing.expires_at > now,
        "expiring before a link made now would": (
            listing.expires_at is None or listing.expires_at >= link_ends_at
        ),
        "sold out": listing.liquid_supply > 0,
        "without a plausible price": listing.purchase_price >= _LEAST_PRICE,
        **sizes,
        "above the highest price": max_price is None or listing.purchase_price <= max_price,
    }
    # Last: projects are looked up only for listings that pass the rest.
    of_project = facts.failures(filters, listing.project_id)
    return [*(failure for failure, passed in passes.items() if not passed), *of_project]


def why_none_fits(
    wanted: str,
    quantity: Decimal,
    failures: Sequence[tuple[Listing, list[str]]],
    facts: ProjectFacts,
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
    for failure in FAILURES_OF_PROJECTS:
        if others := near(failure):
            best = min(others, key=lambda listing: _rank(listing, quantity))
            shown = facts.shown(failure, best.project_id)
            message += f". Cheapest that fits otherwise, {failure}: {_described(best, shown)}"
    if UNKNOWN_MECHANISM in counts:
        message += ". Say in the file of [carbonmark] disclosure_facts which mechanism a methodology has"
    return f"{message}. Ask for another quantity, or loosen the filters"


def _described(listing: Listing, of_project: str = "") -> str:
    about = ", ".join(filter(None, (listing.project_id, str(listing.vintage), of_project)))
    return f"{listing.source_id} ({about}) at {listing.purchase_price} USD per tonne"
