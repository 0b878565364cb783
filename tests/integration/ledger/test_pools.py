"""A purchase for several entities and months: what is theirs is kept exactly, and what rounding added is nobody's."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from airflow_provider_carbonmark.ledger.questions import queries
from airflow_provider_carbonmark.ledger.questions.queries import Rows
from airflow_provider_carbonmark.ledger.values import Coverage, Plan, PlannedPurchase, Restated, Share
from tests.integration.ledger.parts import (
    FIRST,
    MONTH,
    NOW,
    ON_SQLITE,
    SECOND,
    THIRD,
    Buyer,
    become,
    buying,
    everybody,
    line,
    link,
    plan,
)
from tests.integration.ledger.test_with_market import Stated
from tests.unit.planning.market import offer
from tests.unit.reporting.sample import report_on

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from airflow_provider_carbonmark.ledger import Ledger
    from airflow_provider_carbonmark.ledger.purchase import Purchase

SHARES = (("api", "2026-09", "0.0011"), ("api", MONTH, "0.0004"), ("web", MONTH, "0.0004"))
BOTH = ["2026-09", MONTH]


def pooled() -> PlannedPurchase:
    """Return a purchase of 0.003 t for 0.0019 t."""
    shares = tuple(
        Share(entity, month, Decimal(tonnes), Decimal(tonnes), Decimal(tonnes) * Decimal("2.5"))
        for entity, month, tonnes in SHARES
    )
    return replace(line(tonnes="0.003"), shares=shares)


def bought(ledger: Ledger) -> Purchase:
    *_, made = plan(ledger, buying(pooled()), months=BOTH)
    return made


def retired(ledger: Ledger) -> Purchase:
    return become(ledger, bought(ledger), "retired")


def told(ledger: Ledger) -> Coverage:
    """Return what the planner of another month's run is told of both months."""
    buyer = Buyer({})
    plan(ledger, buyer, SECOND, months=BOTH)
    return buyer.told[0]


def covered(ledger: Ledger) -> dict[tuple[str, str], Decimal]:
    return {key: known.covered_tonnes for key, known in told(ledger).covered.items()}


EXACTLY = {(entity, month): Decimal(tonnes) for entity, month, tonnes in SHARES}


def test_it_is_written_share_by_share_and_comes_back_as_it_was(ledger: Ledger) -> None:
    made = bought(ledger)
    assert made == ledger.purchase(made.id)
    assert made.quantity_tonnes == Decimal("0.003")
    assert {(one.entity, one.month): one.quantity_tonnes for one in made.allocations} == EXACTLY
    assert made.for_whom == "2 entities, 2026-09 to 2026-10"
    assert [(one.purchase, one.line, one.rounding_tonnes) for one in ledger.lines()] == [
        (made.id, 1, 0),
        (made.id, 1, 0),
        (made.id, 1, Decimal("0.0011")),
    ]


def test_its_lines_follow_those_before_it_and_its_costs_add_up_but_for_what_rounding_costs(
    ledger: Ledger,
) -> None:
    plan(ledger, buying(line("web", "1")), months=BOTH)
    made = bought(ledger)
    assert {(one.entity, one.month): one.line for one in made.allocations} == {
        ("api", "2026-09"): 1,
        ("api", MONTH): 1,
        ("web", MONTH): 2,
    }
    assert made.cost_usd == sum(one.cost_usd or 0 for one in made.allocations) + Decimal("0.00275")


def test_a_quote_is_shared_out_but_for_what_rounding_costs(ledger: Ledger) -> None:
    made = bought(ledger)
    ledger.quoted(made.id, FIRST, Decimal("0.010"))
    costs = [one.cost_usd for one in ledger.purchase(made.id).allocations]
    assert costs == [Decimal("0.003666666"), Decimal("0.001333333"), Decimal("0.001333333")]
    assert told(ledger).run_cost_usd == 0
    buyer = Buyer({})
    plan(ledger, buyer, months=BOTH)
    assert buyer.told[0].run_cost_usd == Decimal("0.01")
    assert buyer.told[0].run_cost_by_entity == {
        "api": Decimal("0.004999999"),
        "web": Decimal("0.001333333"),
    }


def test_a_quote_is_of_one_purchase_whoever_shares_another(ledger: Ledger) -> None:
    first, second = plan(ledger, buying(pooled(), pooled()), months=BOTH)
    ledger.quoted(first.id, FIRST, Decimal("0.010"))
    assert ledger.purchase(second.id) == second


def test_what_is_exact_is_covered_and_what_is_bought_is_promised(ledger: Ledger) -> None:
    bought(ledger)
    assert covered(ledger) == EXACTLY
    assert told(ledger).promised == {"0xabc-2020": Decimal("0.003")}


def test_all_of_it_is_retired_or_nothing(ledger: Ledger) -> None:
    failed = bought(ledger)
    ledger.failed(failed.id, "gone", now=NOW, run=FIRST)
    assert covered(ledger) == dict.fromkeys(EXACTLY, Decimal(0))
    retired(ledger)
    assert covered(ledger) == EXACTLY


def test_what_a_dead_run_left_is_abandoned_share_by_share(ledger: Ledger) -> None:
    bought(ledger)
    buyer = Buyer({})
    plan(ledger, buyer, SECOND, months=["2026-11"], is_over=everybody)
    assert {(need.entity, need.month): need.offset_tonnes for need in buyer.told[0].abandoned} == EXACTLY


def test_its_link_is_taken_up_once(ledger: Ledger) -> None:
    made = bought(ledger)
    link(ledger, made)
    (taken,) = plan(ledger, Buyer({}), SECOND, is_over=everybody)
    assert (taken.id, taken.handler, taken.allocations) == (made.id, SECOND, made.allocations)


def test_rounding_is_shown_apart_from_everybody_s_figures(ledger: Ledger, engine: Engine) -> None:
    retired(ledger)
    report = report_on(ledger.lines(year=2026), "2026")
    assert report.totals.retired_tonnes == report.totals.emitted_tonnes == Decimal("0.0019")
    assert (report.totals.open_tonnes, report.totals.rounding_tonnes) == (Decimal(0), Decimal("0.0011"))
    assert report.totals.cost_usd == Decimal("0.00475")
    with engine.connect() as connection:
        assert queries.figures_by_month(connection, Rows("2026-01", "2026-12")) == report.months


def test_why_nothing_is_bought_for_a_figure_is_kept_and_told_to_planners(ledger: Ledger) -> None:
    left = Restated("api", MONTH, Decimal("0.0004"), "carried over: too little")
    assert plan(ledger, lambda coverage: Plan(restated=(left,))) == []
    (kept,) = ledger.lines()
    assert (kept.reason, kept.emitted_tonnes, kept.purchase) == (left.reason, left.emitted_tonnes, None)
    known = told(ledger).covered["api", MONTH]
    assert (known.reason, known.covered_tonnes) == (left.reason, Decimal(0))
    report = report_on([kept], MONTH)
    assert report.totals.open_tonnes == left.emitted_tonnes
    assert "carried over: too little" in report.to_html()


def stating_at(price: str, month: str, *emitted: tuple[str, str]) -> Stated:
    """Return a plan's maker for a market of one price, on which 0.50 USD is the least that can be paid, that buys for all together."""
    market = [offer("0xonly", price, "1000")]
    return Stated(dict(emitted), month, market, "Emissions of {months}", Decimal("0.5"))


def test_what_is_carried_over_is_written_once_whatever_it_would_cost_and_bought_when_it_is_enough(
    ledger: Ledger,
) -> None:
    for run, price in ((FIRST, "2.5"), (FIRST, "2.5"), (SECOND, "2.6")):
        assert plan(ledger, stating_at(price, MONTH, ("api", "0.1")), run) == []
    (kept,) = ledger.lines()
    assert kept.reason == "carried over: 0.25 USD is below the least that can be paid, 0.5 USD"
    (together,) = plan(ledger, stating_at("2.5", MONTH, ("api", "0.1"), ("web", "0.1")), SECOND)
    assert [(one.entity, one.line) for one in together.allocations] == [("api", 2), ("web", 1)]
    assert told(ledger).covered["api", MONTH].reason is None


@pytest.mark.parametrize("a_dead_run_left_it", [False, True])
def test_what_was_carried_over_is_bought_with_a_later_month(ledger: Ledger, a_dead_run_left_it: bool) -> None:
    # 0.1 t is enough to pay for at 5 USD, and not at 2.5.
    price = "5" if a_dead_run_left_it else "2.5"
    plan(ledger, stating_at(price, "2026-09", ("api", "0.1")), months=["2026-09"])
    assert plan(ledger, stating_at("2.5", MONTH), SECOND, is_over=everybody) == []
    (made,) = plan(ledger, stating_at("2.5", MONTH, ("api", "1")), THIRD)
    assert {(share.entity, share.month) for share in made.allocations} == {("api", "2026-09"), ("api", MONTH)}


@ON_SQLITE
@pytest.mark.parametrize(
    ("restated", "if_it_stands", "if_declined", "over", "gone"),
    [
        ({"web": "4.5001", "api": "2"}, {"web": "1.5001"}, {"web": "4.5001", "api": "2"}, None, ()),
        ({"web": "1", "api": "2"}, {}, {"web": "1", "api": "2"}, ("1", "3"), ()),
        ({"shop": "3", "api": "2"}, {"shop": "3"}, {"shop": "3", "api": "2"}, None, ("web",)),
        ({"web": "0", "api": "2"}, {}, {"api": "2"}, ("0", "3"), ()),
    ],
    ids=["up", "down", "renamed", "to zero"],
)
@pytest.mark.parametrize("became", ["paid", "linked", "declined"])
def test_a_share_that_is_restated_tops_up_what_stands_and_replaces_what_was_declined(
    ledger: Ledger,
    became: str,
    restated: dict[str, str],
    if_it_stands: dict[str, str],
    if_declined: dict[str, str],
    over: tuple[str, str] | None,
    gone: tuple[str, ...],
) -> None:
    (pooled,) = plan(ledger, stating_at("2.5", MONTH, ("web", "3"), ("api", "2")))
    become(ledger, pooled, became)
    make = stating_at("2.5", MONTH, *restated.items())
    bought = plan(ledger, make, SECOND)
    planned = make.plans[-1]

    wanted = if_declined if became == "declined" else if_it_stands
    shares = {share.entity: share.quantity_tonnes for each in bought for share in each.allocations}
    assert shares == {entity: Decimal(tonnes) for entity, tonnes in wanted.items()}
    assert len(bought) == bool(wanted)
    rounding = Decimal("0.0009") if "4.5001" in restated.values() else Decimal(0)
    assert sum(each.quantity_tonnes for each in bought) == sum(shares.values()) + rounding
    kept = [(f"{one.emitted_tonnes:f}", f"{one.covered_tonnes:f}") for one in planned.over_covered]
    assert kept == ([over] if over and became != "declined" else [])
    assert tuple(one.entity for one in planned.unstated) == gone
    assert plan(ledger, make, THIRD) == []
    # Nor does a later month catch up with what goes by another name now.
    assert plan(ledger, stating_at("2.5", "2026-11"), THIRD, months=["2026-11"]) == []


def test_a_link_for_several_is_to_be_paid_once_whole(ledger: Ledger) -> None:
    made = bought(ledger)
    link(ledger, made)
    with ledger.reading() as connection:
        assert connection is not None
        (of_all,) = queries.links_to_pay(connection, queries.ever(), most=9)
        (of_month,) = queries.links_to_pay(connection, Rows(MONTH, MONTH), most=9)
    assert (of_all.purchase, of_all.quantity_tonnes, of_all.entities) == (made.id, Decimal("0.003"), 2)
    assert of_all.months == ("2026-09", MONTH)
    assert of_month == of_all
