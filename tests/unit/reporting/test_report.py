"""The report's figures: what counts, what is open, what needs a person, what was stated anew."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.ledger.figures import Figures
from airflow_provider_carbonmark.ledger.names import State
from airflow_provider_carbonmark.ledger.questions.open_ends import SecondPayment
from airflow_provider_carbonmark.ledger.values import Origin, Part
from airflow_provider_carbonmark.reporting.periods import Period
from tests.unit.reporting.sample import PLANNED_AT, RUN, a_line, report_on

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.purchase import PurchaseLine


def totals(*lines: PurchaseLine) -> Figures:
    return report_on(lines).totals


def test_what_is_retired_of_a_purchase_in_parts_is_covered_and_costs_what_it_cost() -> None:
    paid, unpaid = a_line(quantity="6", cost_usd=Decimal(10)), a_line(State.LINK_MADE, quantity="4", line=2)
    six, four, ten = Decimal(6), Decimal(4), Decimal(10)
    figures = totals(paid, unpaid)
    assert figures == Figures(ten, six, six, four, link_made_tonnes=four, cost_usd=ten)
    assert figures.price_per_tonne_usd == Decimal("1.67")


@pytest.mark.parametrize("restated", ["12", "7.25"])
def test_the_figure_that_was_stated_last_counts_and_the_old_one_is_told_whatever_the_order_of_the_rows(
    restated: str,
) -> None:
    origin = Origin("AWS", "v2", (Part("mbm", "2", "", Decimal(10)),))
    later = a_line(State.RESTATED, restated, line=2, planned_at=PLANNED_AT + timedelta(days=1))
    same = a_line(State.RESTATED, restated, line=3, origin=replace(origin, version="v3"))
    report = report_on([same, later, a_line(emitted="10", origin=origin)])
    assert report.totals.emitted_tonnes == Decimal(restated)
    assert report.totals.open_tonnes == max(Decimal(0), Decimal(restated) - 10)
    ((old, new),) = report.restatements
    assert (old.emitted_tonnes, new.emitted_tonnes) == (10, Decimal(restated))
    assert (old.origin, new.origin, new.planned_at, new.run) == (origin, None, later.planned_at, RUN)
    (emitted,) = report.emitted
    assert (emitted.emitted_tonnes, emitted.origin) == (Decimal(restated), same.origin)


@pytest.mark.parametrize("emitted", ["0", "-3.5"])
def test_where_nothing_was_emitted_nothing_is_open_and_there_is_no_coverage(emitted: str) -> None:
    figures = totals(a_line(State.RESTATED, emitted))
    assert figures == Figures(emitted_tonnes=Decimal(emitted))
    assert (figures.coverage_percent, figures.price_per_tonne_usd) == (None, None)
    # Nor does it count against what another emitted.
    assert (figures + totals(a_line())).coverage_percent == 100


@pytest.mark.parametrize(
    ("retired", "shown"),
    [("10", "100"), ("9.999", "99.9"), ("0.009", "0"), ("0.01", "0.1"), ("12.55", "100")],
)
def test_coverage_is_rounded_down_and_never_above_100(retired: str, shown: str) -> None:
    assert totals(a_line(quantity=retired)).coverage_percent == Decimal(shown)


def test_test_mode_is_apart_and_in_no_figure() -> None:
    real, rehearsal = a_line(emitted="3"), a_line(emitted="500", test_mode=True)
    failed = a_line(State.FAILED, test_mode=True, entity="web")
    report = report_on([rehearsal, real, failed])
    assert report.totals == totals(real)
    assert (report.lines, report.test_lines) == ([real], [rehearsal, failed])
    assert list(report.entities) == ["ml-training"]
    assert report.problems == []


@pytest.mark.parametrize(
    "period", ["2026-13", "2026-1", "26", "", "2026-10\n", "2026-10-01", "0001", "9999-12", 2026, None]
)
def test_a_period_that_is_neither_month_nor_year_is_refused(period: object) -> None:
    with pytest.raises(InvalidInputError, match='period .* Write "2026-10" or "2026"'):
        Period(period)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("period", "since", "until", "before"),
    [
        ("2026", "2026-01-01", "2027-01-01", "2025"),
        ("2026-02", "2026-02-01", "2026-03-01", "2025-02"),
        ("2026-12", "2026-12-01", "2027-01-01", "2025-12"),
    ],
)
def test_a_period_has_a_beginning_an_end_and_a_year_before(
    period: str, since: str, until: str, before: str
) -> None:
    asked = Period(period)
    assert [f"{time:%Y-%m-%d}" for time in (asked.since, asked.until)] == [since, until]
    assert asked.before == Period(before)


@given(strategies.lists(strategies.decimals(0, 8_999_999_999, places=9), min_size=1, max_size=30))
def test_sums_are_exact_whatever_the_precision_of_the_process(amounts: list[Decimal]) -> None:
    lines = [
        a_line(State.RETIRED, f"{amount:f}", entity=f"e{number}", cost_usd=amount)
        for number, amount in enumerate(amounts)
    ]
    with localcontext(prec=5):
        figures = totals(*lines)
    billionths = sum(int(amount.scaleb(9)) for amount in amounts)
    for name in ("emitted_tonnes", "retired_tonnes", "covered_tonnes", "cost_usd"):
        assert int(getattr(figures, name).scaleb(9)) == billionths


def test_a_failure_after_payment_is_the_most_urgent() -> None:
    lines = [
        a_line(State.DECLINED, entity="a", reason="Too dear"),
        a_line(State.FAILED, entity="b", reason="No link could be made"),
        a_line(emitted="1", quantity="2", entity="c"),
        a_line(State.PAID_NOT_RETIRED, entity="d", payment_id="pay_7", reason="The retirement failed"),
    ]
    paid, over, failed, declined = report_on(lines).problems
    assert (paid.kind, paid.entity, paid.what) == ("paid_not_retired", "d", "The retirement failed")
    assert paid.todo == (
        "Payment pay_7 counts as taken, and nothing is retired for it: ask Carbonmark for the money back, or, while nothing else is "
        "bought for the tonnes, for another listing. Run 2026-10 again: the tonnes are open, and what is missing is planned anew."
    )
    assert (over.kind, over.entity, over.tonnes, over.line) == ("over_covered", "c", 1, None)
    assert (failed.kind, failed.line, failed.tonnes) == ("failed", 1, 10)
    assert (declined.kind, declined.what) == ("declined", "Too dear")
    assert not any(problem.is_settled for problem in (paid, over, failed, declined))


@pytest.mark.parametrize("state", [State.FAILED, State.DECLINED])
@pytest.mark.parametrize("again", [State.PLANNED, State.RETIRED])
def test_what_was_bought_again_since_is_settled(state: State, again: State) -> None:
    (problem,) = report_on([a_line(state), a_line(again, line=2)]).problems
    assert (problem.is_settled, problem.todo) == (True, "Nothing: other lines cover the month.")


def test_money_that_was_paid_for_nothing_is_never_settled_and_a_surplus_can_still_be_declined() -> None:
    lines = [
        a_line(State.PAID_NOT_RETIRED, payment_id="pay_7"),
        a_line(line=2),
        a_line(State.LINK_MADE, line=3),
    ]
    paid, over = report_on(lines).problems
    assert not paid.is_settled
    assert paid.todo.startswith("Payment pay_7 counts as taken")
    assert paid.todo.endswith("Other lines cover the month.")
    assert (over.kind, over.tonnes) == ("over_covered", 10)
    assert over.todo.startswith("Decline what is not paid yet")


@pytest.mark.parametrize(("quantity", "is_problem"), [("10.3009", False), ("10.301", True)])
def test_less_than_can_be_bought_at_all_is_no_surplus(quantity: str, is_problem: bool) -> None:
    assert bool(report_on([a_line(emitted="10.3", quantity=quantity)]).problems) == is_problem


def test_what_was_paid_twice_is_told_once_with_both_payments_before_all_else() -> None:
    lines = [a_line(State.FAILED), a_line(entity="a", purchase=7), a_line(entity="b", purchase=7)]
    twice = SecondPayment(7, "pay_1", "https://pay.example/1", "pay_2", "https://pay.example/2", PLANNED_AT)
    elsewhere = replace(twice, purchase=8)
    first, *others = report_on(lines, "2026", second_payments=[twice, elsewhere]).problems
    assert (first.kind, first.entity) == ("paid_twice", "a")
    assert "pay_1 (https://pay.example/1) counts, and pay_2 (https://pay.example/2)" in first.what
    assert [each.kind for each in others] == ["failed"]
