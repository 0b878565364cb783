"""The ledger and the arithmetic of plans together, on a market: month after month, stated and restated."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from airflow_provider_carbonmark.emissions.sums import entity_emissions
from airflow_provider_carbonmark.ledger.names import Run, State
from airflow_provider_carbonmark.ledger.values import UNSTATED, Balance, Coverage, Plan
from airflow_provider_carbonmark.planning import ListingFilter, plan_purchases
from airflow_provider_carbonmark.planning.dedication import Dedication
from tests.integration.ledger.parts import (
    FIRST,
    MONTH,
    NOW,
    ON_SQLITE,
    SECOND,
    THIRD,
    become,
    entities,
    everybody,
    link,
    payment_id,
    plan,
    preview,
)
from tests.unit.planning.market import offer

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger import Ledger

pytestmark = ON_SQLITE

MARKET = [offer("0xcheap", "2.5", "10"), offer("0xdear", "4", "1000")]
PURO = [offer("0xpuro", "150", "1000", project_id="PUR-1")]


class Stated:
    """A plan's maker for what was stated, which keeps the plans."""

    def __init__(
        self,
        emitted: Mapping[str, str],
        month: str = MONTH,
        market: list = MARKET,
        message: str = "Emissions of {entity} in {month}",
        minimum_payment_usd: Decimal = Decimal(0),
    ) -> None:
        self._emissions = [entity_emissions(name, month, Decimal(tonnes)) for name, tonnes in emitted.items()]
        self._market = market
        self._dedication = Dedication("Example Corp", message)
        self._minimum_payment_usd = minimum_payment_usd
        self.plans: list[Plan] = []

    def __call__(self, coverage: Coverage) -> Plan:
        made = plan_purchases(
            self._emissions,
            coverage,
            self._market,
            dedication=self._dedication,
            filters=ListingFilter(registries=["VCS", "PUR"]),
            minimum_payment_usd=self._minimum_payment_usd,
            now=NOW,
        )
        self.plans.append(made)
        return made


def bought(ledger: Ledger, run: Run) -> list[tuple[str, str, int, str | None, str]]:
    """Return what a run bought, by entity, month and line."""
    return sorted(
        (each.entity, each.month, each.line, each.asset_price_source_id, f"{each.quantity_tonnes:f}")
        for each in ledger.lines()
        if each.run == run and each.state is not State.RESTATED
    )


@pytest.mark.parametrize("figure", ["0.00012345678901234567", "0", "-0.00012345678901234567"])
def test_a_figure_that_is_stated_again_changes_nothing(ledger: Ledger, figure: str) -> None:
    plan(ledger, Stated({"web": figure}))
    before = ledger.lines()
    assert before
    again = Stated({"web": figure})
    plan(ledger, again, SECOND)
    assert again.plans == [Plan()]
    assert ledger.lines() == before


def test_a_month_is_split_topped_up_and_found_to_have_more_than_it_needs(ledger: Ledger) -> None:
    plan(ledger, Stated({"web": "12.3446"}))
    assert bought(ledger, FIRST) == [
        ("web", MONTH, 1, "0xcheap", "10"),
        ("web", MONTH, 2, "0xdear", "2.3446"),
    ]
    plan(ledger, Stated({"web": "13"}), SECOND)
    assert bought(ledger, SECOND) == [("web", MONTH, 3, "0xdear", "0.6554")]
    less = Stated({"web": "5"})
    assert plan(ledger, less, THIRD) == []
    assert [(over.emitted_tonnes, over.covered_tonnes) for over in less.plans[0].over_covered] == [(5, 13)]
    assert [each.state for each in ledger.lines()].count(State.RESTATED) == 1


def test_two_months_are_never_promised_the_same_tonnes(ledger: Ledger) -> None:
    (september,) = plan(ledger, Stated({"web": "8"}, "2026-09"), months=["2026-09"])
    wanted = Stated({"api": "5"})
    shown = preview(ledger, wanted, SECOND)
    parts = [("0xcheap", Decimal(2)), ("0xdear", Decimal(3))]
    assert [(each.asset_price_source_id, each.quantity_tonnes) for each in shown.purchases] == parts
    # Behind a link that is not paid they still are, and when it is paid the market itself has less.
    link(ledger, september)
    assert preview(ledger, wanted, SECOND).purchases == shown.purchases
    ledger.paid(september.id, payment_id(september), now=NOW)
    wanted = Stated({"api": "5"}, market=[offer("0xcheap", "2.5", "2"), MARKET[1]])
    october = plan(ledger, wanted, SECOND)
    assert [(each.asset_price_source_id, each.quantity_tonnes) for each in october] == parts


@pytest.mark.parametrize("ending", ["declined", "closed", "of the other mode"])
def test_what_is_given_up_is_promised_to_nobody(ledger: Ledger, ending: str) -> None:
    test_mode = ending == "of the other mode"
    (line,) = plan(ledger, Stated({"web": "8"}, "2026-09"), months=["2026-09"], test_mode=test_mode)
    if ending == "declined":
        become(ledger, line, "declined")
    if ending == "closed":
        plan(ledger, Stated({"web": "0"}, "2026-09"), SECOND, months=["2026-09"], is_over=everybody)
    (october,) = plan(ledger, Stated({"api": "10"}), THIRD, catch_up=False)
    assert october.asset_price_source_id == "0xcheap"


def test_what_this_very_plan_abandons_is_free_for_it(ledger: Ledger) -> None:
    plan(ledger, Stated({"web": "10"}))
    wanted = Stated({"web": "10"})
    (shown,) = preview(ledger, wanted, SECOND, everybody).purchases
    (made,) = plan(ledger, wanted, SECOND, is_over=everybody)
    assert shown.asset_price_source_id == made.asset_price_source_id == "0xcheap"


def test_an_entity_that_vanishes_is_told_until_it_is_stated_as_nothing(ledger: Ledger) -> None:
    plan(ledger, Stated({"web": "3", "old": "2"}))
    plan(ledger, Stated({"theirs": "1"}), Run("another-dag", "run-1"))
    plan(ledger, Stated({"older": "1"}, "2026-09"), months=["2026-09"])
    before = ledger.lines()
    vanished = Balance("old", MONTH, Decimal(2), Decimal(2))
    later = Stated({"web": "3"})
    assert preview(ledger, later, SECOND).unstated == (vanished,)
    assert ledger.lines() == before
    for run in (SECOND, THIRD):
        assert plan(ledger, later, run) == []
        assert later.plans[-1].unstated == (vanished,)
    (noted,) = (each for each in ledger.lines() if each not in before)
    assert (noted.entity, noted.emitted_tonnes, noted.reason) == ("old", 2, UNSTATED)
    plan(ledger, Stated({"web": "3", "old": "0"}), SECOND)
    plan(ledger, later, THIRD)
    assert later.plans[-1].unstated == ()


@pytest.mark.parametrize("declined", ["before", "after"])
@pytest.mark.parametrize("dag", ["offset", "renamed"])
def test_what_goes_by_another_name_now_is_bought_once_and_by_the_old_one_only_if_it_is_stated_again(
    ledger: Ledger, declined: str, dag: str
) -> None:
    months, names = ["2026-09"], (Run(dag, f"run-{number}") for number in range(2, 9))
    about = {} if dag == FIRST.dag_id else {"take_over": [FIRST.dag_id]}
    (old,) = plan(ledger, Stated({"web": "3"}, "2026-09"), months=months)
    if declined == "before":
        become(ledger, old, "declined")
    (new,) = plan(ledger, Stated({"shop": "3"}, "2026-09"), next(names), months=months, **about)
    if declined == "after":
        become(ledger, old, "declined")
    assert plan(ledger, Stated({}), next(names), **about) == []
    both = Stated({"web": "3", "shop": "3"}, "2026-09")
    (anew,) = plan(ledger, both, next(names), months=months, **about)
    assert [(each.quantity_tonnes, *entities([each])) for each in (new, anew)] == [(3, "shop"), (3, "web")]
    become(ledger, anew, "declined")
    (caught_up,) = plan(ledger, Stated({}), next(names), **about)
    assert (caught_up.quantity_tonnes, *entities([caught_up])) == (3, "web")


def test_what_another_airflow_states_leaves_out_nothing_of_ours(ledger: Ledger) -> None:
    theirs = [Run(FIRST.dag_id, run_id, "eu") for run_id in ("run-1", "run-2")]
    (old,) = plan(ledger, Stated({"web": "3"}, "2026-09"), theirs[0], months=["2026-09"])
    become(ledger, old, "declined")
    ours = Stated({"shop": "3"}, "2026-09")
    plan(ledger, ours, months=["2026-09"])
    assert ours.plans[0].unstated == ()
    assert entities(plan(ledger, Stated({}), theirs[1])) == ["web"]


def test_a_vanished_entity_whose_run_died_is_told_and_what_is_closed_of_it_is_planned_anew(
    ledger: Ledger,
) -> None:
    plan(ledger, Stated({"web": "3", "old": "2"}))
    later = Stated({"web": "3"})
    assert entities(plan(ledger, later, SECOND, is_over=everybody)) == ["old", "web"]
    assert later.plans[0].unstated == (Balance("old", MONTH, Decimal(2), Decimal(0)),)


def test_whole_tonnes_that_cover_a_fraction_are_not_too_many_and_what_is_over_is_nobody_s(
    ledger: Ledger,
) -> None:
    for run in (FIRST, SECOND):
        stated = Stated({"web": "12.345"}, market=PURO)
        plan(ledger, stated, run)
        assert stated.plans[0].over_covered == ()
    assert bought(ledger, FIRST) == [("web", MONTH, 1, "0xpuro", "12.345")]
    assert [(each.quantity_tonnes, each.rounding_tonnes) for each in ledger.lines()] == [
        (Decimal("12.345"), Decimal("0.655"))
    ]
    assert bought(ledger, SECOND) == []
