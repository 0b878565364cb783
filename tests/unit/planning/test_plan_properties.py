"""What holds for every plan; that it is the cheapest is shown in `test_cheapest`."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal

from hypothesis import assume, given, settings, strategies as st

from airflow_provider_carbonmark.emissions.sums import entity_emissions
from airflow_provider_carbonmark.ledger.values import Coverage, Covered, Need, Plan
from airflow_provider_carbonmark.planning import NoListingError, plan_purchases
from airflow_provider_carbonmark.planning.dedication import Dedication
from airflow_provider_carbonmark.planning.limits import NO_LIMITS, Limits
from airflow_provider_carbonmark.planning.pools import pooled
from tests.unit.planning.market import NOW, WITH_PURO, offer

DEDICATIONS = [
    Dedication("Example Corp", "Emissions of {months}: {quantity_tonnes} of {emitted_tonnes} t"),
    Dedication("Example Corp, {entity}", "Emissions of {months}"),
    Dedication("Example Corp", "{month}"),
    Dedication("{entity}", "{month}"),
]
pairs = st.tuples(st.sampled_from("abc"), st.sampled_from(["2026-09", "2026-10"]))
figures = st.one_of(
    st.integers(-500, 9_000_000_000).map(lambda nano: Decimal(nano).scaleb(-9)), st.just(Decimal(0))
)


@st.composite
def coverages(draw: st.DrawFn, emissions) -> Coverage:
    known = {one: Covered(Decimal(draw(st.integers(0, 9))), draw(figures)) for one in draw(st.sets(pairs))}
    for one in emissions:
        if draw(st.booleans()):
            known[one.entity, one.month] = Covered(max(Decimal(0), one.emitted_tonnes), one.emitted_tonnes)
    months = st.sets(st.sampled_from(["2026-07", "2026-08"]))
    abandoned = [Need("a", month, Decimal(1), Decimal("0.1234")) for month in sorted(draw(months))]
    return Coverage(known, abandoned)


@st.composite
def situations(draw: st.DrawFn):
    chosen = draw(st.lists(pairs, unique=True, max_size=5))
    emissions = [entity_emissions(entity, month, draw(figures)) for entity, month in chosen]
    listings = [
        offer(
            name,
            str(draw(st.integers(1, 6))),
            str(draw(st.integers(0, 25))),
            str(draw(st.sampled_from(["0.001", "0.5", "3"]))),
            project_id=draw(st.sampled_from(["VCS-1", "VCS-1", "PUR-1"])),
        )
        for name in "abc"
    ]
    minimum = Decimal(draw(st.sampled_from(["0", "0.5", "4"])))
    # One that binds nobody, but for how purchases are shared out.
    limits = draw(st.sampled_from([NO_LIMITS, Limits(max_cost_per_entity_usd=Decimal(1000))]))
    dedication = draw(st.sampled_from(DEDICATIONS))
    return emissions, draw(coverages(emissions)), listings, dedication, minimum, limits


def plan_of(situation) -> Plan:
    emissions, coverage, listings, dedication, minimum, limits = situation
    return plan_purchases(
        emissions,
        coverage,
        listings,
        dedication=dedication,
        filters=WITH_PURO,
        limits=limits,
        minimum_payment_usd=minimum,
        now=NOW,
    )


def planned(situation) -> Plan:
    try:
        return plan_of(situation)
    except NoListingError:
        assume(False)
        raise


def missing(emissions, coverage) -> dict[tuple[str, str], Decimal]:
    """What is to be bought, in plain words: what was emitted less what is covered, and what was abandoned."""
    needs = {(need.entity, need.month): need.offset_tonnes for need in coverage.abandoned}
    for one in emissions:
        pair = one.entity, one.month
        covered = coverage.covered[pair].covered_tonnes if pair in coverage.covered else Decimal(0)
        needs[pair] = max(Decimal(0), one.emitted_tonnes - covered)
    return {pair: quantity for pair, quantity in needs.items() if quantity}


@settings(max_examples=300)
@given(situations(), st.randoms(use_true_random=False))
def test_every_need_is_bought_or_carried_over_to_the_last_digit_and_nothing_else(situation, chance):
    emissions, coverage, listings, *_ = situation
    plan = planned(situation)
    needs = Counter()
    for share in (share for purchase in plan.purchases for share in purchase.shares):
        needs[share.entity, share.month] += share.quantity_tonnes
        assert share.quantity_tonnes > 0
    for left in plan.carried_over:
        assert needs[left.need.entity, left.need.month] == 0
        needs[left.need.entity, left.need.month] = left.need.offset_tonnes
    assert needs == missing(emissions, coverage)
    chance.shuffle(emissions)
    chance.shuffle(listings)
    assert planned(situation) == plan


@given(situations())
def test_what_is_carried_over_could_be_bought_but_for_the_least_payment(situation):
    _, _, listings, dedication, minimum, limits = situation
    reasons = {left.need: left.reason for left in planned(situation).carried_over}
    for pool in pooled(reasons, dedication):
        alone = plan_of(([], Coverage(abandoned=pool.needs), listings, dedication, Decimal(0), limits))
        is_too_little = alone.cost_usd < minimum
        assert is_too_little or "can't be bought without a payment below" in reasons[pool.needs[0]]


@settings(max_examples=200)
@given(situations())
def test_a_purchase_is_what_can_be_bought_and_paid_shared_out_but_for_its_rounding(situation):
    _, _, listings, _, minimum, _ = situation
    by_source = {one.source_id: one for one in listings}
    sold, of_texts = Counter(), defaultdict(list)
    for one in planned(situation).purchases:
        listing = by_source[one.asset_price_source_id]
        step = Decimal(1) if listing.whole_tonnes_only else Decimal("0.001")
        assert one.quantity_tonnes % step == 0
        assert one.quantity_tonnes >= listing.min_fill_amount
        assert one.cost_usd == one.unit_price_usd * one.quantity_tonnes >= minimum
        assert 0 <= one.rounding_tonnes < step
        shared = sum(share.cost_usd for share in one.shares)
        assert (
            0
            <= one.cost_usd - shared
            <= one.rounding_tonnes * one.unit_price_usd + len(one.shares) * Decimal("1E-9")
        )
        sold[listing.source_id] += one.quantity_tonnes
        of_texts[one.beneficiary_name, one.retirement_message].append(one)
    assert all(tonnes <= by_source[name].liquid_supply for name, tonnes in sold.items())
    for together in of_texts.values():
        # One purchase of a listing, and rounding but once.
        assert len({one.asset_price_source_id for one in together}) == len(together)
        assert sum(one.rounding_tonnes > 0 for one in together) <= 1


@given(situations())
def test_figures_are_noted_only_when_they_are_new_and_nothing_is_bought(situation):
    emissions, coverage, *_ = situation
    plan = planned(situation)
    needs = missing(emissions, coverage)
    nothing = Covered(Decimal(0), None)
    noted = {
        (one.entity, one.month): one.emitted_tonnes
        for one in emissions
        if coverage.covered.get((one.entity, one.month), nothing).emitted_tonnes != one.emitted_tonnes
        and (one.entity, one.month) not in needs
    }
    assert {
        (one.entity, one.month): one.emitted_tonnes for one in plan.restated if one.reason is None
    } == noted
    assert {(one.entity, one.month) for one in plan.restated if one.reason} == {
        (one.need.entity, one.need.month) for one in plan.carried_over
    }
