from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, localcontext

import pytest

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.emissions import EntityEmissions
from airflow_provider_carbonmark.ledger.values import (
    UNSTATED,
    Balance,
    Coverage,
    Covered,
    Need,
    Plan,
    PlannedPurchase,
    Restated,
    Share,
)
from airflow_provider_carbonmark.planning import (
    Limits,
    ListingFilter,
    NoListingError,
    PlanLimitError,
    plan_purchases,
)
from airflow_provider_carbonmark.planning.dedication import Dedication
from tests.unit.planning.market import NOW, offer

APART = Dedication("Example Corp, {entity}", "{entity}, {month}: {emitted_tonnes} t CO2e")
TOGETHER = Dedication(
    "Example Corp", "Emissions of {months}: {quantity_tonnes} t for {emitted_tonnes} t CO2e"
)
NOTHING_KNOWN = Coverage()
MARKET = [offer("cheap", "2.50", "10"), offer("dear", "4", "1000", vintage=None)]


def emitted(entity: str, offset: str, exact: str | None = None, month: str = "2026-10") -> EntityEmissions:
    return EntityEmissions(entity, month, Decimal(exact or offset), Decimal(offset))


def known(covered: str, emitted_tonnes: str) -> Coverage:
    return Coverage({("a", "2026-10"): Covered(Decimal(covered), Decimal(emitted_tonnes))})


def planned(*emissions: EntityEmissions, coverage=NOTHING_KNOWN, market=MARKET, **options) -> Plan:
    options = {"dedication": APART, "now": NOW, **options}
    return plan_purchases(emissions, coverage, market, **options)


def bought(plan: Plan) -> list[tuple[str, str, str]]:
    """Give for each purchase of one entity whose it is, of which listing, and how much."""
    return [
        (one.shares[0].entity, one.asset_price_source_id, str(one.quantity_tonnes)) for one in plan.purchases
    ]


def test_a_purchase_says_what_is_bought_for_whom_at_what_cost():
    (one,) = planned(emitted("search", "0.261", "0.26075")).purchases
    assert one == PlannedPurchase(
        quantity_tonnes=Decimal("0.261"),
        asset_price_source_id="cheap",
        project_id="VCS-191",
        registry="VCS",
        vintage=2019,
        unit_price_usd=Decimal("2.50"),
        cost_usd=Decimal("0.6525"),
        beneficiary_name="Example Corp, search",
        retirement_message="search, 2026-10: 0.26075 t CO2e",
        shares=(Share("search", "2026-10", Decimal("0.26075"), Decimal("0.26075"), Decimal("0.651875")),),
    )
    assert one.rounding_tonnes == Decimal("0.00025")


def test_what_the_texts_do_not_tell_apart_is_bought_together_and_rounded_once():
    october = [emitted(name, "0.001", "0.0004") for name in "abc"]
    plan = planned(*october, emitted("a", "0.002", "0.0011", month="2026-09"), dedication=TOGETHER)
    (one,) = plan.purchases
    assert (one.quantity_tonnes, one.rounding_tonnes) == (Decimal("0.003"), Decimal("0.0007"))
    assert one.retirement_message == "Emissions of 2026-09 to 2026-10: 0.003 t for 0.0023 t CO2e"
    assert [(share.month, share.entity, str(share.quantity_tonnes)) for share in one.shares] == [
        ("2026-09", "a", "0.0011"),
        ("2026-10", "a", "0.0004"),
        ("2026-10", "b", "0.0004"),
        ("2026-10", "c", "0.0004"),
    ]


@pytest.mark.parametrize(
    ("beneficiary", "message", "purchases"),
    [
        ("Corp", "x", [["a", "a", "b"]]),
        ("Corp", "{months}", [["a", "a", "b"]]),
        ("Corp, {entity}", "{quantity_tonnes}", [["a", "a"], ["b"]]),
        ("Corp", "{month}", [["a"], ["a", "b"]]),
        ("Corp, {entity}", "{month}", [["a"], ["a"], ["b"]]),
    ],
)
def test_entity_and_month_tell_apart_wherever_they_stand(beneficiary, message, purchases):
    needs = emitted("a", "1"), emitted("b", "1"), emitted("a", "1", month="2026-09")
    plan = planned(*needs, dedication=Dedication(beneficiary, message))
    assert [[share.entity for share in one.shares] for one in plan.purchases] == purchases


def test_what_is_bought_together_of_two_listings_is_shared_out_one_need_after_the_other():
    # Many entities and many listings make few shares.
    plan = planned(emitted("a", "6"), emitted("b", "7"), dedication=TOGETHER)
    assert [
        (one.asset_price_source_id, [(share.entity, int(share.quantity_tonnes)) for share in one.shares])
        for one in plan.purchases
    ] == [("cheap", [("a", 6), ("b", 4)]), ("dear", [("b", 3)])]
    assert [one.retirement_message for one in plan.purchases] == [
        "Emissions of 2026-10: 10 t for 13 t CO2e",
        "Emissions of 2026-10: 3 t for 7 t CO2e",
    ]


def test_all_needs_are_filled_alike_where_entities_have_a_limit():
    market, limits = [offer("cheap", "1", "10"), offer("dear", "10", "99")], Limits(Decimal(35))
    plan = planned(emitted("a", "8"), emitted("b", "8"), market=market, dedication=TOGETHER, limits=limits)
    # Within each limit only if the cheap tonnes are everybody's.
    shared = [[int(share.quantity_tonnes) for share in one.shares] for one in plan.purchases]
    assert shared == [[5, 5], [3, 3]]


class TestTheLeastThatCanBePaid:
    OPTIONS = {"minimum_payment_usd": Decimal("0.50"), "dedication": APART}

    def test_what_costs_less_is_carried_over_and_says_why(self):
        plan = planned(emitted("a", "0.002", "0.0011"), emitted("b", "0.2"), **self.OPTIONS)
        assert bought(plan) == [("b", "cheap", "0.2")]
        (left,) = plan.carried_over
        assert left.need == Need("a", "2026-10", Decimal("0.0011"), Decimal("0.0011"))
        assert left.reason == "carried over: 0.005 USD is below the least that can be paid, 0.50 USD"
        assert plan.restated == (Restated("a", "2026-10", Decimal("0.0011"), left.reason),)

    def test_no_part_of_a_split_is_less(self):
        market = [offer("cheap", "2.5", "10"), offer("dear", "4", "1000")]
        plan = planned(emitted("a", "10.01"), market=market, **self.OPTIONS)
        assert bought(plan) == [("a", "cheap", "9.885"), ("a", "dear", "0.125")]

    def test_what_could_only_be_bought_in_smaller_payments_is_carried_over(self):
        market = [offer("a", "1", "0.4"), offer("b", "1", "0.4")]
        plan = planned(emitted("a", "0.6"), market=market, **self.OPTIONS)
        assert (plan.purchases, len(plan.carried_over)) == ((), 1)
        reason = (
            "carried over: it can't be bought without a payment below the least that can be paid, 0.50 USD"
        )
        assert plan.carried_over[0].reason == reason

    @pytest.mark.parametrize(
        "cheap",
        [offer("rest", "0.1", "4.9"), offer("lot", "0.1", "5000", "1000"), offer("free", "0", "1000")],
        ids=["too little left to pay for", "too much at once", "without a plausible price"],
    )
    def test_what_cannot_be_had_for_it_makes_nothing_cheap(self, cheap):
        plan = planned(emitted("a", "1.5"), market=[cheap, *MARKET], **self.OPTIONS)
        assert bought(plan) == [("a", "cheap", "1.5")]

    @pytest.mark.parametrize(
        ("needs", "market", "why"),
        [
            (["0.001"], [offer("a", "1", "0")], "1 sold out"),
            # Of what one could have by itself the other took its part.
            (["10", "10"], [offer("a", "1", "15")], "1 fit and have 5 t together"),
        ],
    )
    def test_what_nobody_sells_is_an_error_all_the_same(self, needs, market, why):
        emissions = [emitted(name, tonnes) for name, tonnes in zip("ab", needs, strict=False)]
        with pytest.raises(NoListingError, match=why):
            planned(*emissions, market=market, **self.OPTIONS)


def test_filters_hold_for_all_purchases():
    plan = planned(emitted("a", "1"), filters=ListingFilter(max_price_usd=Decimal("2.50")))
    assert bought(plan) == [("a", "cheap", "1")]
    with pytest.raises(
        NoListingError, match=r"^No listing for 11 t of a in 2026-10, nor several together; of 2"
    ):
        planned(emitted("a", "11"), filters=ListingFilter(max_price_usd=Decimal("2.50")))


@pytest.mark.parametrize(
    ("excluded", "told"),
    [
        (
            (offer("a", "1", "5"), offer("b", "2", "5")),
            "excludes 2: 2 of another project. With them, the same tonnes would cost 13 USD less, 11 USD",
        ),
        ((offer("a", "9", "5"), offer("b", "1", "9", "8.001")), "the same tonnes would cost as much"),
        (
            (offer("a", "1", "5", "5"), offer("b", "2", "8", "8")),
            "would cost at least 8 and at most 13 USD less",
        ),
        ((offer("a", "1", "5", "5"),), "would cost at most 10 USD less; how much exactly is not worked out"),
        ((), None),
    ],
)
def test_what_the_filter_excludes_is_told_and_what_that_costs(excluded, told, caplog):
    caplog.set_level("INFO")
    market = [offer("wanted", "3", "100", "4", project_id="VCS-2"), *excluded]
    plan = planned(emitted("a", "8"), market=market, filters=ListingFilter(project_ids=["VCS-2"]))
    assert bought(plan) == [("a", "wanted", "8")]
    assert told in caplog.text if told else not caplog.text


class TestNeeds:
    def test_a_month_restated_below_what_is_covered_is_reported_as_long_as_that_lasts_and_buys_nothing(self):
        over = (Balance("a", "2026-10", Decimal(9), Decimal("9.001")),)
        noted = (Restated("a", "2026-10", Decimal(9)),)
        plan = planned(emitted("a", "9"), coverage=known("9.001", "9.001"))
        assert plan == Plan(restated=noted, over_covered=over)
        assert planned(emitted("a", "9"), coverage=known("9.001", "9")) == Plan(over_covered=over)

    def test_less_than_can_be_bought_at_all_is_no_over_coverage(self):
        assert planned(emitted("a", "9", "8.9991"), coverage=known("9", "8.9991")) == Plan()

    def test_abandoned_lines_of_other_months_are_planned_again_with_the_rest(self):
        coverage = Coverage(abandoned=[Need("a", "2026-08", Decimal("7.5"), Decimal(2))])
        plan = planned(emitted("a", "1"), coverage=coverage)
        shares = [share for one in plan.purchases for share in one.shares]
        assert [(one.month, str(one.quantity_tonnes), str(one.emitted_tonnes)) for one in shares] == [
            ("2026-08", "2", "7.5"),
            ("2026-10", "1", "1"),
        ]

    def test_an_entity_that_is_not_stated_any_more_is_told_and_noted_once_while_it_may_lack_something(self):
        figures = {"z": "3", "gone": "2", "restated to nothing": "0", "never there": "-1", "stated": "1"}
        coverage = Coverage(
            {(name, "2026-10"): Covered(Decimal(1), Decimal(figure)) for name, figure in figures.items()}
            | {("z", "2026-10"): Covered(Decimal(1), Decimal(3), "carried over: too little")}
            | {("of another DAG", "2026-10"): Covered(Decimal(1), Decimal(1))},
            own={(name, "2026-10") for name in figures},
            unsettled={("z", "2026-10"), ("stated", "2026-10")},
        )
        assert planned(emitted("stated", "1"), coverage=coverage) == Plan(
            restated=(Restated("z", "2026-10", Decimal(3), UNSTATED),),
            unstated=(
                Balance("gone", "2026-10", Decimal(2), Decimal(1)),
                Balance("z", "2026-10", Decimal(3), Decimal(1)),
            ),
        )

    def test_a_market_that_is_promised_away_is_refused_with_what_to_do(self):
        coverage = Coverage(promised={"cheap": Decimal("9.5"), "gone": Decimal(7), "dear": Decimal(1001)})
        with pytest.raises(NoListingError) as caught:
            planned(emitted("a", "1"), coverage=coverage)
        assert str(caught.value) == (
            "No listing for 1 t of a in 2026-10, nor several together; of 2 on the market, 1 with less left than the minimum fill, "
            "1 fit and have 0.5 t together. Ask for another quantity, or loosen the filters. 1010.5 t of the market are "
            "promised to purchases that nobody has paid: pay or decline them"
        )

    def test_figures_are_rounded_up_to_what_the_ledger_keeps(self):
        figure = emitted("a", "0.001", "0.00022799894330652132")
        (one,) = planned(figure).purchases
        assert one.shares[0].emitted_tonnes == one.shares[0].quantity_tonnes == Decimal("0.000227999")
        assert one.retirement_message == "a, 2026-10: 0.000227999 t CO2e"
        assert planned(figure, coverage=known("0.000227999", "0.000227999")) == Plan()
        negative = planned(emitted("a", "0", "-0.00022799894330652132"))
        assert negative.restated[0].emitted_tonnes == Decimal("-0.000227998")

    def test_an_entity_and_month_that_come_twice_are_refused(self):
        with pytest.raises(
            InvalidInputError, match=r"have an entity and month twice \(got \('a', '2026-10'\)\)"
        ):
            planned(emitted("a", "1"), emitted("b", "1"), emitted("a", "2"))

    @pytest.mark.parametrize("tonnes", ["0.0001", "-1", "1E12", "NaN"])
    def test_emissions_that_cannot_be_offset_are_refused_by_name(self, tonnes):
        with pytest.raises(InvalidInputError, match="offset_tonnes of a in 2026-10"):
            planned(emitted("a", tonnes, "1"))

    def test_the_callers_decimal_context_is_not_used(self):
        with localcontext(prec=2):
            plan = planned(emitted("a", "12.345", "12.344999999"), coverage=known("1.111", "1.111"))
            cost = plan.cost_usd
        assert bought(plan) == [("a", "cheap", "10"), ("a", "dear", "1.234")]
        assert plan.purchases[0].shares[0].emitted_tonnes == Decimal("12.344999999")
        assert cost == Decimal("29.936")


class TestLimits:
    def test_a_plan_that_just_meets_its_limits_passes(self):
        limits = Limits(max_cost_per_entity_usd=Decimal("2.5"), max_cost_per_run_usd=Decimal(5))
        assert len(planned(emitted("a", "1"), emitted("b", "1"), limits=limits).purchases) == 2

    def test_a_plan_that_passes_its_limits_stops_with_every_figure(self):
        limits = Limits(max_cost_per_entity_usd=Decimal("2.4"), max_cost_per_run_usd=Decimal(7))
        with pytest.raises(PlanLimitError) as caught:
            planned(emitted("a", "1"), emitted("b", "0.5"), emitted("c", "1.5"), limits=limits)
        assert str(caught.value) == (
            "The plan would cost too much: c 3.75 USD, a 2.5 USD, where max_cost_per_entity_usd is 2.4 USD; all together "
            "7.5 USD, where max_cost_per_run_usd is 7 USD. Nothing was planned: raise the limit, or look at the emissions "
            "and the market"
        )

    def test_an_entity_is_counted_over_all_its_months(self):
        with pytest.raises(
            PlanLimitError, match=r"too much: a 5 USD, where max_cost_per_entity_usd is 4.9 USD\."
        ):
            planned(emitted("a", "1"), emitted("a", "1", month="2026-09"), limits=Limits(Decimal("4.9")))

    def test_what_the_run_planned_before_counts(self):
        coverage = Coverage(run_cost_usd=Decimal(90), run_cost_by_entity={"a": Decimal(40), "b": Decimal(50)})
        with pytest.raises(
            PlanLimitError, match=r"too much: a 42.5 USD, where .* is 42 USD; all together 92.5 USD"
        ):
            planned(emitted("a", "1"), coverage=coverage, limits=Limits(Decimal(42), Decimal(92)))

    def test_a_plan_that_buys_nothing_passes_any_limit(self):
        coverage = replace(known("1", "1"), run_cost_usd=Decimal(9), run_cost_by_entity={"a": Decimal(9)})
        limits = Limits(Decimal(1), Decimal(1))
        assert planned(emitted("a", "1"), coverage=coverage, limits=limits) == Plan()

    def test_very_many_entities_are_cut_to_the_dearest(self):
        emissions = [emitted(f"e{number:04}", f"{number + 1}") for number in range(250)]
        with pytest.raises(PlanLimitError) as caught:
            planned(*emissions, market=[offer("a", "1", "100000")], limits=Limits(Decimal(10)))
        message = str(caught.value)
        assert "too much: e0249 250 USD, e0248 249 USD, " in message
        assert "e0150 151 USD and 140 more, of less, where" in message

    @pytest.mark.parametrize("field", ["max_cost_per_entity_usd", "max_cost_per_run_usd"])
    @pytest.mark.parametrize("limit", [Decimal(0), Decimal(-1), Decimal("nan"), 100, 2.5, "100"])
    def test_a_limit_that_means_nothing_is_refused(self, field, limit):
        with pytest.raises(InvalidInputError, match=f"{field} is not a Decimal above zero"):
            Limits(**{field: limit})

    def test_an_entity_is_counted_by_its_share_of_what_is_bought_together(self):
        needs = emitted("a", "1"), emitted("b", "3")
        assert planned(*needs, dedication=TOGETHER, limits=Limits(Decimal("7.5"))).purchases
        with pytest.raises(PlanLimitError, match=r"too much: b 7.5 USD, where .* is 7.4 USD\."):
            planned(*needs, dedication=TOGETHER, limits=Limits(Decimal("7.4")))

    def test_the_cheapest_tonnes_go_to_the_entity_that_needs_them_to_stay_within_its_limit(self):
        market = [offer("cheap", "1", "10"), offer("dear", "10", "99")]
        plan = planned(emitted("a", "1"), emitted("b", "10"), market=market, limits=Limits(Decimal(15)))
        assert plan.cost_usd == 20
