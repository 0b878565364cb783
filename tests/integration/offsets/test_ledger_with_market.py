"""The ledger and the arithmetic of plans together, on a market: month after month, stated and restated."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest

from airflow_provider_carbonmark.offsets.emissions import entity_emissions
from airflow_provider_carbonmark.offsets.ledger import Ledger, PurchaseLine, State
from airflow_provider_carbonmark.offsets.purchase import (
    Coverage,
    Dedication,
    ListingFilter,
    NoListingError,
    Plan,
    plan_purchases,
)
from tests.integration.offsets.parts import FIRST, MONTH, NOW, SECOND, THIRD, Make, everybody, plan
from tests.unit.offsets.market import offer

MARKET = [offer("0xcheap", "2.5", "10"), offer("0xdear", "4", "1000")]
PURO = [offer("0xpuro", "150", "1000", project_id="PUR-1")]


class Stated:
    """A plan's maker for what was stated, which keeps the plans."""

    def __init__(self, emitted: Mapping[str, str], month: str = MONTH, market: list = MARKET) -> None:
        self._emissions = [entity_emissions(name, month, Decimal(tonnes)) for name, tonnes in emitted.items()]
        self._market = market
        self.plans: list[Plan] = []

    def __call__(self, coverage: Coverage) -> Plan:
        made = plan_purchases(
            self._emissions,
            coverage,
            self._market,
            dedication=Dedication("Example Corp", "Emissions of {entity} in {month}"),
            filters=ListingFilter(registries=["VCS", "PUR"]),
            now=NOW,
        )
        self.plans.append(made)
        return made


def bought(lines: list[PurchaseLine]) -> list[tuple[str, str, int, str | None, str]]:
    return [
        (each.entity, each.month, each.line, each.asset_price_source_id, f"{each.quantity_tonnes:f}")
        for each in lines
    ]


@pytest.mark.parametrize(
    "figure", ["0.00012345678901234567", "12.345", "0", "-0.00012345678901234567", "25.5"]
)
def test_a_figure_that_is_stated_again_changes_nothing(ledger: Ledger, figure: str) -> None:
    plan(ledger, Stated({"web": figure}))
    before = ledger.lines()
    assert before
    again = Stated({"web": figure})
    plan(ledger, again, SECOND)
    assert again.plans == [Plan()]
    assert ledger.lines() == before


def test_a_month_is_split_topped_up_and_found_to_have_more_than_it_needs(ledger: Ledger) -> None:
    assert bought(plan(ledger, Stated({"web": "12.3446"}))) == [
        ("web", MONTH, 1, "0xcheap", "10"),
        ("web", MONTH, 2, "0xdear", "2.345"),
    ]
    assert bought(plan(ledger, Stated({"web": "13"}), SECOND)) == [("web", MONTH, 3, "0xcheap", "0.655")]
    less = Stated({"web": "5"})
    assert plan(ledger, less, THIRD) == []
    assert [(over.emitted_tonnes, over.covered_tonnes) for over in less.plans[0].over_covered] == [(5, 13)]
    assert [each.state for each in ledger.lines()].count(State.RESTATED) == 1


def test_whole_tonnes_that_cover_a_fraction_are_not_too_many(ledger: Ledger) -> None:
    for run in (FIRST, SECOND):
        stated = Stated({"web": "12.345"}, market=PURO)
        plan(ledger, stated, run)
        assert stated.plans[0].over_covered == ()
    assert bought(ledger.lines()) == [("web", MONTH, 1, "0xpuro", "13")]


def test_what_a_dead_run_abandoned_is_bought_with_the_next_month(ledger: Ledger) -> None:
    plan(ledger, Stated({"web": "3", "api": "1"}, "2026-09"), months=["2026-09"])
    made = plan(ledger, Stated({"web": "2"}), SECOND, is_over=everybody)
    assert bought(made) == [
        ("api", "2026-09", 2, "0xcheap", "1"),
        ("web", "2026-09", 2, "0xcheap", "3"),
        ("web", MONTH, 1, "0xcheap", "2"),
    ]
    assert {each.emitted_tonnes for each in made if each.month == "2026-09"} == {1, 3}


def test_nothing_is_closed_when_the_market_cannot_fill_what_is_needed(ledger: Ledger) -> None:
    plan(ledger, Stated({"web": "3"}))
    before = ledger.lines()
    too_much: Make = Stated({"web": "2000"})
    with pytest.raises(NoListingError, match="web"):
        plan(ledger, too_much, SECOND, is_over=everybody)
    assert ledger.lines() == before
