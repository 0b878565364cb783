"""Tonnes and listings become a plan: which quantity of which listing for whom."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import QUANTITY_STEP, parse_quantity
from airflow_provider_carbonmark.emissions.names import entity_name
from airflow_provider_carbonmark.ledger.values import (
    EXACT,
    UNSTATED,
    Balance,
    CarriedOver,
    Coverage,
    Covered,
    Need,
    Origin,
    Part,
    Plan,
    PlannedPurchase,
    Restated,
    SourceFile,
    too_little,
    total,
)
from airflow_provider_carbonmark.planning.cheapest import UnsolvedError, saved_with, solve
from airflow_provider_carbonmark.planning.filters import (
    ANY_CREDIT,
    NOTHING_KNOWN,
    ListingFilter,
    ProjectFacts,
)
from airflow_provider_carbonmark.planning.limits import NO_LIMITS, Limits, check_limits
from airflow_provider_carbonmark.planning.listings import NoListingError
from airflow_provider_carbonmark.planning.market import (
    Market,
    as_cost,
    base_unit_price_usd,
    tonnes,
    unit_price_usd,
    usd,
)
from airflow_provider_carbonmark.planning.pools import Pool, pooled
from airflow_provider_carbonmark.planning.problem import Budget, Offer, Problem

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.models import Listing
    from airflow_provider_carbonmark.emissions import EntityEmissions
    from airflow_provider_carbonmark.planning.dedication import Dedication

log = logging.getLogger(__name__)

# An emitted figure is the exact sum of what a provider states, which may have any number of digits.
_EMITTED = Context(prec=4000, rounding=ROUND_CEILING)
_EMITTED_STEP = Decimal("1E-9")
_NOTHING = Covered(Decimal(0), None)
_KILOGRAMS_PER_TONNE = 1000
# A millionth of a USD, in what costs are counted in.
_WORTH_TELLING = 1000


def plan_purchases(
    emissions: Iterable[EntityEmissions],
    coverage: Coverage,
    listings: Iterable[Listing],
    *,
    dedication: Dedication,
    filters: ListingFilter = ANY_CREDIT,
    facts: ProjectFacts = NOTHING_KNOWN,
    limits: Limits = NO_LIMITS,
    minimum_payment_usd: Decimal = Decimal(0),
    link_lifetime: timedelta = timedelta(0),
    now: datetime,
) -> Plan:
    """
    Work out what is still to buy, of which listings.

    An entity and month need what they emitted beyond what is covered: a restated month is topped up by the difference. Emitted figures
    are rounded up to 10^-9 t, which is what the ledger keeps. Needs whose certificates will say the same are bought together, and
    rounded up once to what is sold: 0.001 t, or a tonne where the credits retire in whole tonnes only. What is promised to purchases
    that nobody has paid yet is not left of the market.

    What all needs cost together is the least that they can within the limits, or the log says by how much it may be too much.

    :param emissions: as from ``emissions_of_month``, of one or several months; each entity and month once.
    :param coverage: what was planned and bought before, for those entities and months at least.
    :param listings: the market, as from ``CarbonmarkHook.list_prices``.
    :param dedication: what the certificates will say.
    :param filters: which credits are wanted. What that excludes, and what it costs, is in the log.
    :param facts: what is known of the listings' projects (``market.projects_to_know``), where the filter asks for something of them.
    :param minimum_payment_usd: the least that can be paid, USD; what costs less is carried over.
    :param link_lifetime: how long a link can be paid: listings that expire sooner are left out.
    :param now: aware time that a listing's expiry is held against.
    :raises NoListingError: when no way was found to fill all needs; names the first that can't be when they are served in turn.
    :raises PlanLimitError: when all that was found would cost more than the limits allow.
    :raises InvalidInputError: when an entity and month come twice, a quantity is not one that can be bought, a text for
        a certificate gets too long, or ``now`` is naive.
    """
    stated = _by_entity_and_month(emissions)
    market = Market(
        listings,
        filters,
        facts,
        now=now,
        link_lifetime=link_lifetime,
        promised=coverage.promised,
        minimum_payment_usd=minimum_payment_usd,
    )
    buying = _Buying(market, coverage, limits, dedication, minimum_payment_usd)
    purchases = buying.purchases(pooled(_needs(stated, coverage), dedication))
    carried = sorted(buying.carried_over, key=lambda one: (one.need.entity, one.need.month))
    unstated = tuple(_unstated(stated, coverage))
    return Plan(
        purchases=tuple(purchases),
        restated=tuple(_restated(stated, coverage, _left(carried, unstated, coverage))),
        over_covered=tuple(_over_covered(stated, coverage)),
        unstated=unstated,
        carried_over=tuple(carried),
        origins=dict(_origins(stated, coverage)),
        files=_files(stated),
    )


@dataclass
class _Buying:
    """Pools become purchases, as far as they can be paid."""

    market: Market
    coverage: Coverage
    limits: Limits
    dedication: Dedication
    minimum_payment_usd: Decimal
    carried_over: list[CarriedOver] = field(default_factory=list)

    def purchases(self, pools: Sequence[Pool]) -> list[PlannedPurchase]:
        """Buy pools together at the least cost. What can't be bought only because too little would be paid is carried over."""
        payable = [pool for pool in pools if not self._is_too_little(pool)]
        are_for_sale = False
        while payable:
            try:
                return self._cheapest(payable)
            except UnsolvedError as unsolved:
                # Whatever is taken out of what is for sale, the rest is for sale.
                are_for_sale = are_for_sale or self._are_for_sale(payable)
                if not are_for_sale:
                    raise NoListingError(self._why(payable, unsolved)) from None
                self._carry_over(payable.pop(unsolved.attempt.failed or 0), None)
        return []

    def _is_too_little(self, pool: Pool) -> bool:
        problem = Problem([pool.kilograms], self.market.offers_to_go_by)
        least = problem.least_cost()
        # Most cost more whatever minimums stand in the way.
        if least is None or usd(least) >= self.minimum_payment_usd:
            return False
        try:
            cost = usd(problem.cost(solve(problem).filling))
        except UnsolvedError:
            return False
        if cost >= self.minimum_payment_usd:
            return False
        self._carry_over(pool, cost)
        return True

    def _carry_over(self, pool: Pool, cost: Decimal | None) -> None:
        reason = too_little(cost, self.minimum_payment_usd)
        self.carried_over += [CarriedOver(need, reason) for need in pool.needs]

    def _are_for_sale(self, pools: Sequence[Pool]) -> bool:
        """Tell whether it is only the least payment that keeps pools from being bought."""
        if self.market.offers == self.market.offers_of_any_payment:
            return False
        try:
            solve(Problem([pool.kilograms for pool in pools], self.market.offers_of_any_payment))
        except UnsolvedError:
            return False
        return True

    def _cheapest(self, pools: Sequence[Pool]) -> list[PlannedPurchase]:
        problem = Problem([pool.kilograms for pool in pools], self.market.offers, self._budgets(pools))
        try:
            solution = solve(problem)
        except UnsolvedError:
            if not problem.budgets:
                raise
            # What there is passes the limits, which is to be said with every figure.
            problem = replace(problem, budgets=())
            solution = solve(problem)
        self._tell_excluded(problem, problem.cost(solution.filling))
        purchases: list[PlannedPurchase] = []
        for pool, parts in zip(pools, solution.filling, strict=True):
            purchases += self._of_pool(
                pool, [(problem.offers[number], part) for number, part in sorted(parts)]
            )
        check_limits(purchases, self.coverage, self.limits)
        if solution.excess >= _WORTH_TELLING:
            log.warning(
                "The plan may cost up to %s USD more than the cheapest: the search for it was ended",
                f"{usd(solution.excess):.6f}",
            )
        return sorted(purchases, key=lambda one: (one.shares[0].entity, one.shares[0].month))

    def _tell_excluded(self, problem: Problem, cost: int) -> None:
        """Say what the filter excludes of what could be bought, and what that costs."""
        if not (excluded := self.market.excluded()):
            return
        least, most = saved_with(problem, self.market.offers_of_any_credit, cost)
        if most - least < _WORTH_TELLING:
            less = f"{usd(least):f} USD less, {usd(cost - least):f} USD" if least else "as much"
        elif least:
            less = f"at least {usd(least):f} and at most {usd(most):f} USD less"
        else:
            less = f"at most {usd(most):f} USD less; how much exactly is not worked out"
        log.info(
            "Of %d listings that could be bought, the filter excludes %d: %s. With them, the same tonnes would cost %s",
            *(len(self.market.offers_of_any_credit), excluded.total()),
            ", ".join(f"{count} {condition}" for condition, count in excluded.most_common()),
            less,
        )

    def _budgets(self, pools: Sequence[Pool]) -> list[Budget]:
        """State the limits: of the run; and of each entity, as far as its tonnes go in what is bought together."""
        budgets = []
        if self.limits.max_cost_per_run_usd is not None:
            left = EXACT.subtract(self.limits.max_cost_per_run_usd, self.coverage.run_cost_usd)
            budgets.append(Budget(dict.fromkeys(range(len(pools)), Fraction(1)), Fraction(as_cost(left))))
        if self.limits.max_cost_per_entity_usd is not None:
            shares: dict[str, dict[int, Fraction]] = {}
            for at, pool in enumerate(pools):
                bought = Fraction(pool.kilograms, _KILOGRAMS_PER_TONNE)
                for need in pool.needs:
                    of_entity = shares.setdefault(need.entity, {})
                    of_entity[at] = of_entity.get(at, Fraction(0)) + Fraction(need.offset_tonnes) / bought
            for entity, of_entity in shares.items():
                spent = self.coverage.run_cost_by_entity.get(entity, Decimal(0))
                left = EXACT.subtract(self.limits.max_cost_per_entity_usd, spent)
                budgets.append(Budget(of_entity, Fraction(as_cost(left))))
        return budgets

    def _of_pool(self, pool: Pool, parts: Sequence[tuple[Offer, int]]) -> Iterable[PlannedPurchase]:
        listings = [self.market.listing(offer) for offer, _ in parts]
        bought = [
            (quantity := tonnes(part), EXACT.multiply(unit_price_usd(listing), quantity))
            for listing, (_, part) in zip(listings, parts, strict=True)
        ]
        has_limit = self.limits.max_cost_per_entity_usd is not None
        shared = pool.shares(bought, in_proportion=has_limit)
        for listing, (quantity, cost), shares in zip(listings, bought, shared, strict=True):
            beneficiary_name, retirement_message = self.dedication.of(
                shares[0].entity,
                shares[0].month,
                {share.month for share in shares},
                total(share.emitted_tonnes for share in shares),
                quantity,
            )
            yield PlannedPurchase(
                quantity_tonnes=quantity,
                asset_price_source_id=listing.source_id,
                project_id=listing.project_id,
                registry=listing.registry,
                vintage=listing.vintage,
                unit_price_usd=unit_price_usd(listing),
                cost_usd=cost,
                beneficiary_name=beneficiary_name,
                retirement_message=retirement_message,
                shares=tuple(shares),
                base_unit_price_usd=base_unit_price_usd(listing),
            )

    def _why(self, pools: Sequence[Pool], unsolved: UnsolvedError) -> str:
        attempt = unsolved.attempt
        failed = pools[attempt.failed or 0]
        wanted = f"{tonnes(failed.kilograms):f} t of {failed}, nor several together"
        left = dict(zip(self.market.offers, attempt.left, strict=True))
        why = self.market.why_nothing_fits(wanted, failed.kilograms, left)
        return why if unsolved.is_proven else f"{why}. There may be a way to fill all needs: none was found"


_Stated = Mapping[tuple[str, str], "EntityEmissions"]


def _missing(key: tuple[str, str], one: EntityEmissions, coverage: Coverage) -> Decimal:
    emitted = max(one.emitted_tonnes, Decimal(0))
    return EXACT.subtract(emitted, coverage.covered.get(key, _NOTHING).covered_tonnes)


def _needs(stated: _Stated, coverage: Coverage) -> list[Need]:
    # Where the emissions are stated, what they ask for includes what was abandoned.
    needs = [need for need in coverage.abandoned if (need.entity, need.month) not in stated]
    for key, one in stated.items():
        if (missing := _missing(key, one, coverage)) > 0:
            needs.append(Need(*key, one.emitted_tonnes, missing))
    return needs


def _left(
    carried: Iterable[CarriedOver], unstated: Iterable[Balance], coverage: Coverage
) -> dict[tuple[str, str], tuple[Decimal, str]]:
    """Give the figures of which something is missing and not bought, or may come to be missing and is not to be bought; and why."""
    left = {(one.need.entity, one.need.month): (one.need.emitted_tonnes, one.reason) for one in carried}
    gone = {(one.entity, one.month): (one.emitted_tonnes, UNSTATED) for one in unstated}
    return left | {key: gone[key] for key in gone.keys() & coverage.unsettled}


def _restated(
    stated: _Stated, coverage: Coverage, left: Mapping[tuple[str, str], tuple[Decimal, str]]
) -> Iterable[Restated]:
    """Give figures that are new, or of which something is left now for another reason than before, or nothing any more."""
    for key in sorted({*stated, *left}):
        known = coverage.covered.get(key, _NOTHING)
        if key in left:
            found = Restated(*key, *left[key])
        elif _missing(key, stated[key], coverage) <= 0:
            found = Restated(*key, stated[key].emitted_tonnes)
        else:
            continue
        # Not whenever a price changes, and the reason with it; nor for the same figure out of other files or another model.
        if (found.emitted_tonnes, _kind(found.reason)) != (known.emitted_tonnes, _kind(known.reason)):
            yield found


def _kind(reason: str | None) -> tuple[bool, bool]:
    return bool(reason), reason == UNSTATED


def _origins(stated: _Stated, coverage: Coverage) -> Iterable[tuple[tuple[str, str], Origin]]:
    """Say where figures are from; one that is not stated now is the one known last."""
    yield from ((key, origin) for key, origin in coverage.origins.items() if key not in stated)
    for key, one in stated.items():
        if one.source or one.version or one.parts:
            parts = (Part(part.column, part.scopes, part.method, part.tonnes) for part in one.parts)
            yield key, Origin(one.source, one.version, tuple(parts))


def _files(stated: _Stated) -> dict[str, list[SourceFile]]:
    """Give the files that were read for each month: many entities are of the same ones."""
    read = {(month, id(one.files)): one.files for (_, month), one in stated.items() if one.files}
    files: dict[str, list[SourceFile]] = {}
    for (month, _), some in read.items():
        files.setdefault(month, []).extend(SourceFile(file.path, file.rows, file.sha256) for file in some)
    return files


def _over_covered(stated: _Stated, coverage: Coverage) -> Iterable[Balance]:
    for key, one in stated.items():
        # Less than what can be bought at all may be the rounding of an older ledger.
        if _missing(key, one, coverage) <= -QUANTITY_STEP:
            yield Balance(*key, one.emitted_tonnes, coverage.covered[key].covered_tonnes)


def _unstated(stated: Collection[tuple[str, str]], coverage: Coverage) -> Iterable[Balance]:
    for entity, month in sorted(coverage.own):
        known = coverage.covered[entity, month]
        if (entity, month) not in stated and known.emitted_tonnes is not None and known.emitted_tonnes > 0:
            yield Balance(entity, month, known.emitted_tonnes, known.covered_tonnes)


def _by_entity_and_month(emissions: Iterable[EntityEmissions]) -> dict[tuple[str, str], EntityEmissions]:
    """Sort the emissions, with their figures as the ledger keeps them."""
    stated: dict[tuple[str, str], EntityEmissions] = {}
    named = (replace(one, entity=entity_name(one.entity)) for one in emissions)
    for one in sorted(named, key=lambda one: (one.entity, one.month)):
        key = one.entity, one.month
        if key in stated:
            raise InvalidInputError(
                "emissions",
                "have an entity and month twice",
                value=key,
                remedy="Add them up, or name the two entities differently",
            )
        if one.offset_tonnes:
            parse_quantity(one.offset_tonnes, f"offset_tonnes of {one.entity} in {one.month}")
        stated[key] = replace(one, emitted_tonnes=_as_kept(one.emitted_tonnes))
    return stated


def _as_kept(emitted: Decimal) -> Decimal:
    rounded = emitted.quantize(_EMITTED_STEP, context=_EMITTED)
    return emitted if rounded == emitted else rounded
