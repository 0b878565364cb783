"""What holds for every plan. What it costs at least is judged in `test_plan_as_a_whole`."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import ROUND_CEILING, Decimal
from math import ceil

import pytest
from hypothesis import assume, given, settings, strategies as st

from airflow_provider_carbonmark.emissions import EntityEmissions
from airflow_provider_carbonmark.ledger.values import Coverage, Covered, Need, Plan
from airflow_provider_carbonmark.planning import Limits, NoListingError, PlanLimitError, plan_purchases
from airflow_provider_carbonmark.planning.dedication import Dedication
from airflow_provider_carbonmark.planning.listings import ANY_CREDIT
from airflow_provider_carbonmark.planning.split import Market
from tests.unit.planning.market import NOW, WITH_PURO, offer

DEDICATION = Dedication("{entity}", "{month} {quantity_tonnes} {emitted_tonnes}")
pairs = st.tuples(st.sampled_from("abc"), st.sampled_from(["2026-09", "2026-10"]))
kilograms = st.integers(0, 9)


def tonnes(kilos: int) -> Decimal:
    return Decimal(kilos).scaleb(-3)


@st.composite
def emissions_lists(draw: st.DrawFn) -> list[EntityEmissions]:
    found = []
    for entity, month in draw(st.lists(pairs, unique=True, max_size=5)):
        grams = draw(st.integers(-500, 9000))
        emitted = Decimal(grams).scaleb(-6)
        found.append(EntityEmissions(entity, month, emitted, tonnes(max(0, ceil(grams / 1000)))))
    return found


@st.composite
def coverages(draw: st.DrawFn, emissions: list[EntityEmissions]) -> Coverage:
    stated = {(one.entity, one.month): one for one in emissions}
    covered = {}
    for pair in draw(st.lists(pairs, unique=True, max_size=6)):
        figures = [st.none(), st.integers(0, 9000).map(lambda grams: Decimal(grams).scaleb(-6))]
        if pair in stated:
            figures.append(st.just(stated[pair].emitted_tonnes))
        covered[pair] = Covered(tonnes(draw(kilograms)), draw(st.one_of(figures)))
    abandoned = [
        Need(entity, month, Decimal(1), tonnes(draw(st.integers(1, 5))))
        for entity, month in draw(
            st.lists(st.tuples(st.just("a"), st.sampled_from(["2026-07", "2026-08"])), unique=True)
        )
    ]
    return Coverage(covered, abandoned)


@st.composite
def situations(draw: st.DrawFn):
    emissions = draw(emissions_lists())
    listings = [
        offer(
            name,
            str(draw(st.integers(1, 6))),
            str(tonnes(draw(st.integers(0, 25)))),
            str(tonnes(draw(st.integers(0, 3)))),
            vintage=draw(st.sampled_from([2019, 2020])),
        )
        for name in "abc"[: draw(st.integers(0, 3))]
    ]
    return emissions, draw(coverages(emissions)), listings


def planned(emissions, coverage, listings, **options) -> Plan:
    return plan_purchases(emissions, coverage, listings, dedication=DEDICATION, now=NOW, **options)


def missing(emissions, coverage) -> dict[tuple[str, str], Decimal]:
    """What is to be bought, in plain words: what is to be offset less what is covered, and what was abandoned."""
    needs = {(need.entity, need.month): need.offset_tonnes for need in coverage.abandoned}
    for one in emissions:
        pair = one.entity, one.month
        covered = coverage.covered[pair].covered_tonnes if pair in coverage.covered else Decimal(0)
        needs[pair] = max(Decimal(0), one.offset_tonnes - covered)
    return {pair: quantity for pair, quantity in sorted(needs.items()) if quantity}


def in_order(needs, listings) -> list[tuple[tuple[str, str], str, Decimal]] | None:
    """Take the needs out of the market one after the other; None when one can't be filled any more."""
    market = Market(listings, ANY_CREDIT, now=NOW)
    try:
        return [
            (pair, one.source_id, part) for pair, quantity in needs for one, part in market.take(quantity)
        ]
    except NoListingError:
        return None


@settings(max_examples=200, deadline=None)
@given(situations(), st.randoms(use_true_random=False))
def test_a_plan_buys_what_is_missing_in_parts_that_are_sold_one_need_after_the_other_unless_that_is_dearer(
    situation, chance
):
    emissions, coverage, listings = situation
    needs = list(missing(emissions, coverage).items())
    by_source = {one.source_id: one for one in listings}
    in_turn = in_order(needs, listings)
    refusal = None
    try:
        plan = planned(emissions, coverage, listings)
    except NoListingError as error:
        refusal = error
    if refusal:
        refused_at = next(at for at in range(len(needs)) if in_order(needs[: at + 1], listings) is None)
        (entity, month), quantity = needs[refused_at]
        assert str(refusal).startswith(
            f"No listing for {quantity.normalize():f} t of {entity} in {month}, nor"
        )
        return
    bought = Counter()
    for line in plan.lines:
        one = by_source[line.asset_price_source_id]
        bought[line.entity, line.month] += line.quantity_tonnes
        assert one.min_fill_amount <= line.quantity_tonnes
        assert line.cost_usd == line.unit_price_usd * line.quantity_tonnes
    assert bought == dict(needs)
    if in_turn is not None:
        cost = sum(by_source[name].purchase_price * part for _, name, part in in_turn)
        assert plan.cost_usd < cost or in_turn == [
            ((line.entity, line.month), line.asset_price_source_id, line.quantity_tonnes)
            for line in plan.lines
        ]
    chance.shuffle(emissions)
    chance.shuffle(listings)
    assert planned(emissions, coverage, listings) == plan


@settings(deadline=None)
@given(situations())
def test_no_supply_is_oversold_and_the_plan_is_in_order(situation):
    emissions, coverage, listings = situation
    try:
        plan = planned(emissions, coverage, listings)
    except NoListingError:
        assume(False)
    taken = Counter()
    for line in plan.lines:
        taken[line.asset_price_source_id] += line.quantity_tonnes
    assert all(taken[one.source_id] <= one.liquid_supply for one in listings)
    for part in (plan.lines, plan.restated, plan.over_covered):
        order = [(one.entity, one.month) for one in part]
        assert order == sorted(order)


@settings(deadline=None)
@given(situations())
def test_figures_are_noted_only_when_they_are_new_and_nothing_is_bought(situation):
    emissions, coverage, _ = situation
    plenty = [offer("any", "1", "1000")]
    plan = planned(emissions, coverage, plenty)
    needs = missing(emissions, coverage)
    unknown = Covered(Decimal(0), None)
    known = {
        (one.entity, one.month): coverage.covered.get((one.entity, one.month), unknown) for one in emissions
    }
    by_pair = {(one.entity, one.month): one for one in emissions}
    assert {(one.entity, one.month) for one in plan.restated} == {
        pair
        for pair, one in by_pair.items()
        if pair not in needs and one.emitted_tonnes != known[pair].emitted_tonnes
    }
    assert {(one.entity, one.month): one.covered_tonnes for one in plan.over_covered} == {
        pair: known[pair].covered_tonnes
        for pair, one in by_pair.items()
        if known[pair].covered_tonnes > one.offset_tonnes
    }


def after(plan: Plan, coverage: Coverage) -> Coverage:
    """What a ledger would know once a plan is carried out."""
    covered = dict(coverage.covered)
    for line in plan.lines:
        before = covered.get((line.entity, line.month), Covered(Decimal(0), None))
        covered[line.entity, line.month] = Covered(
            before.covered_tonnes + line.quantity_tonnes,
            line.emitted_tonnes,
            before.whole_tonnes or line.registry == "PUR",
        )
    for one in plan.restated:
        before = covered.get((one.entity, one.month), Covered(Decimal(0), None))
        covered[one.entity, one.month] = Covered(
            before.covered_tonnes, one.emitted_tonnes, before.whole_tonnes
        )
    return Coverage(covered)


emitted_exactly = st.decimals("-2", "9", places=15)


@settings(deadline=None)
@given(
    st.dictionaries(pairs, emitted_exactly, max_size=4),
    st.dictionaries(pairs, emitted_exactly, max_size=4),
    st.booleans(),
)
def test_what_was_planned_is_covered_and_a_restatement_buys_its_difference_only(first, restated, is_puro):
    def stated(figures):
        return [
            EntityEmissions(
                entity, month, exact, max(Decimal(0), exact.quantize(Decimal("0.001"), ROUND_CEILING))
            )
            for (entity, month), exact in figures.items()
        ]

    plenty = [offer("any", "1", "1000", project_id="PUR-1" if is_puro else "VCS-1")]
    plan = planned(stated(first), Coverage(), plenty, filters=WITH_PURO)
    coverage = after(plan, Coverage())
    assert planned(stated(first), coverage, plenty, filters=WITH_PURO) == Plan()

    plan = planned(stated(restated), coverage, plenty, filters=WITH_PURO)
    covered = after(plan, coverage).covered
    for one in stated(restated):
        pair = one.entity, one.month
        offset_before = max(Decimal(0), first.get(pair, Decimal(0)))
        needed = max(one.offset_tonnes, offset_before.quantize(Decimal("0.001"), ROUND_CEILING))
        excess = covered[pair].covered_tonnes - needed
        assert 0 <= excess < 1 if is_puro else excess == 0
    again = planned(stated(restated), after(plan, coverage), plenty, filters=WITH_PURO)
    assert (again.lines, again.restated) == ((), ())


@settings(deadline=None)
@given(
    emissions_lists(),
    st.integers(1, 60),
    st.integers(1, 60),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 30)),
)
def test_a_plan_passes_its_limits_or_is_refused_with_every_figure(emissions, per_entity, per_run, before):
    plenty = [offer("any", "1000", "1000")]
    costs = {entity: Decimal(cost) for entity, cost in before.items()}
    coverage = Coverage(run_cost_usd=sum(costs.values(), Decimal(0)), run_cost_by_entity=costs)
    free = planned(emissions, coverage, plenty)
    total = defaultdict(Decimal, costs)
    for line in free.lines:
        total[line.entity] += line.cost_usd
    above = {line.entity for line in free.lines if total[line.entity] > per_entity}
    is_above = bool(free.lines) and sum(total.values()) > per_run
    limits = Limits(Decimal(per_entity), Decimal(per_run))
    if not above and not is_above:
        assert planned(emissions, coverage, plenty, limits=limits) == free
        return
    with pytest.raises(PlanLimitError) as caught:
        planned(emissions, coverage, plenty, limits=limits)
    message = str(caught.value)
    assert {entity for entity in "abc" if f" {entity} {total[entity].normalize():f} USD" in message} == above
    assert (f"all together {Decimal(sum(total.values())).normalize():f} USD" in message) == is_above
    assert (f"max_cost_per_entity_usd is {per_entity} USD" in message) == bool(above)
    assert (f"max_cost_per_run_usd is {per_run} USD" in message) == is_above
