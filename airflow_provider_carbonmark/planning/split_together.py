"""Several quantities split over the listings of one market, at the lowest cost for all of them together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from airflow_provider_carbonmark.ledger.values import total
from airflow_provider_carbonmark.planning.least_cost import Steps
from airflow_provider_carbonmark.planning.limits import PlanLimitError
from airflow_provider_carbonmark.planning.listings import NoListingError
from airflow_provider_carbonmark.planning.split import Market, Split, unit_price_usd

if TYPE_CHECKING:
    from airflow_provider_carbonmark.planning.least_cost_together import Demand

log = logging.getLogger(__name__)

#: More pairs of a quantity and a listing are not searched: they would leave too few of the steps below to find anything.
MOST_PAIRS: Final = 10_000
#: How long a search may get: so many steps times pairs, and so many steps for few pairs; the longest found takes 4 s.
PAIR_STEPS: Final = 3_000_000
MOST_STEPS: Final = 30_000

_EXACT = Context(prec=60)

Accepted = TypeVar("Accepted")


class _Found(NamedTuple, Generic[Accepted]):
    accepted: Accepted
    cost_usd: Decimal
    tonnes: Decimal


def split_together(
    wanted: Sequence[tuple[Decimal, str]],
    new_market: Callable[[], Market],
    accept: Callable[[Sequence[Split]], Accepted],
) -> Accepted:
    """
    Split quantities at the lowest cost for all of them together.

    They are taken out of the market one after the other as given, then the smallest first, then the largest first, until
    that costs no more than a bound that holds for every way to fill them. It does at once where all minimum fills are
    0.001 t and no credits retire in whole tonnes only. Otherwise the lowest cost is searched for, unless there are too many
    pairs of a quantity and a listing. Of equal costs what was found first is kept. Where it is not proven to be the lowest,
    the log says by how much it may be too dear.

    Each quantity is filled exactly, unless the whole market can't do that even for it alone: then it is rounded up to whole
    tonnes of credits that retire in whole tonnes only. An order may have to round up more of them, as :meth:`Market.take`
    does. The search doesn't; and nothing replaces what was found first but what costs less and is no more tonnes.

    :param wanted: tonnes, in steps of 0.001, and what follows them in messages, such as `` of search in 2026-10``.
    :param new_market: gives the whole market, again each time.
    :param accept: makes what is given back of the splits, one for each quantity, or refuses them. The search knows nothing
        of that: where the cheapest splits are refused, it doesn't look for dearer ones.
    :raises NoListingError, PlanLimitError: what refused the order as given, when nothing that was found is accepted.
    :raises InvalidInputError: when a quantity is not one that can be bought.
    """
    if len(wanted) == 1:
        return accept([new_market().take(*wanted[0])])
    whole = new_market()
    demands = whole.demands(quantity for quantity, _ in wanted)
    least = whole.least_usd(demands)
    found, refusals = _one_after_the_other(wanted, new_market, accept, least)
    ceiling = _cheapest(found).cost_usd if found else Decimal("Infinity")
    splits, least, doubt = _search(whole, demands, least, ceiling)
    if splits:
        try:
            found.append(_found(splits, accept))
        except PlanLimitError as refusal:
            refusals.append(refusal)
            doubt = "the cheapest that the search found cost more than the limits allow"
    if not found:
        if doubt and isinstance(refusals[0], NoListingError):
            log.warning(
                "No splits of %s quantities were found, though there may be some: %s", len(wanted), doubt
            )
        raise refusals[0]
    cheapest = _cheapest(found)
    if cheapest.cost_usd > least:
        log.warning(
            "The splits found for %s quantities may cost up to %s USD more than the cheapest: %s",
            len(wanted),
            f"{cheapest.cost_usd - least:.2f}",
            doubt,
        )
    return cheapest.accepted


def _one_after_the_other(
    wanted: Sequence[tuple[Decimal, str]],
    new_market: Callable[[], Market],
    accept: Callable[[Sequence[Split]], Accepted],
    least: Decimal,
) -> tuple[list[_Found[Accepted]], list[NoListingError | PlanLimitError]]:
    """Take quantities out of the market in one order after the other, until that costs the least there can be."""
    found: list[_Found[Accepted]] = []
    refusals: list[NoListingError | PlanLimitError] = []
    for order in _orders([quantity for quantity, _ in wanted]):
        market = new_market()
        try:
            taken = {number: market.take(*wanted[number]) for number in order}
            found.append(_found([taken[number] for number in range(len(wanted))], accept))
        except (NoListingError, PlanLimitError) as refusal:
            refusals.append(refusal)
        if found and (_cheapest(found).cost_usd <= least or market.is_searched_out):
            break
    return found, refusals


def _orders(quantities: Sequence[Decimal]) -> Iterator[Sequence[int]]:
    """
    Give the orders to try, each only once.

    The smaller a quantity is, the fewer listings sell so little. A large one may be the only one that empties a listing of
    which nobody can buy the rest, and costs least where it comes first.
    """
    given = list(range(len(quantities)))
    yield given
    smallest_first = sorted(given, key=quantities.__getitem__)
    largest_first = sorted(given, key=quantities.__getitem__, reverse=True)
    if smallest_first != given:
        yield smallest_first
    if largest_first not in (given, smallest_first):
        yield largest_first


def _search(
    market: Market, demands: Sequence[Demand], least: Decimal, below: Decimal
) -> tuple[list[Split] | None, Decimal, str]:
    """
    Search for the cheapest splits below a cost.

    :param least: no splits cost less than this.
    :return: the splits, or None when none were found; such a cost, higher by then; and why it may be too low.
    """
    if least >= below:
        return None, least, ""
    pairs = market.pairs(demands)
    if pairs > MOST_PAIRS:
        return None, least, f"{pairs} pairs of a quantity and a listing are too many to search"
    allowed = min(MOST_STEPS, PAIR_STEPS // pairs)
    steps = Steps(allowed)
    splits, least = market.split_together(demands, steps, below)
    return splits, least, f"the search ended after {allowed} steps" if steps.left <= 0 else ""


def _found(splits: Sequence[Split], accept: Callable[[Sequence[Split]], Accepted]) -> _Found[Accepted]:
    parts = [part for split in splits for part in split]
    cost = total(_EXACT.multiply(unit_price_usd(listing), quantity) for listing, quantity in parts)
    return _Found(accept(splits), cost, total(quantity for _, quantity in parts))


def _cheapest(found: Sequence[_Found[Accepted]]) -> _Found[Accepted]:
    return min((one for one in found if one.tonnes <= found[0].tonnes), key=lambda one: one.cost_usd)
