"""Nothing is left between months, nor with a DAG that is gone."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from airflow_provider_carbonmark.ledger.purchase import Run, State
from tests.integration.ledger.parts import (
    FIRST,
    MONTH,
    NOW,
    SECOND,
    THIRD,
    Buyer,
    everybody,
    link,
    nobody,
    payment_id,
    plan,
    stating,
)

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger import Ledger
    from airflow_provider_carbonmark.ledger.purchase import Purchase

SEPTEMBER = "2026-09"
OLD = Run("offset-old", "run-1")


def september(ledger: Ledger, run: Run = FIRST) -> Purchase:
    (made,) = plan(ledger, Buyer({"api": "2"}, SEPTEMBER), run, months=[SEPTEMBER])
    return made


def bought(purchases: list[Purchase]) -> dict[tuple[str, str], Decimal]:
    return {(one.entity, one.month): one.quantity_tonnes for each in purchases for one in each.allocations}


def end(ledger: Ledger, purchase: Purchase, how: str) -> None:
    if how == "given up":
        ledger.failed(purchase.id, "gone", now=NOW, run=purchase.run)
        return
    link(ledger, purchase, purchase.run)
    if how == "declined":
        ledger.declined(purchase.id, purchase.run, "no", now=NOW)
    if how == "failed at Carbonmark":
        ledger.paid(purchase.id, payment_id(purchase), now=NOW)
        ledger.failed(purchase.id, "refunded", now=NOW)


@pytest.mark.parametrize("how", ["given up", "declined", "failed at Carbonmark"])
def test_what_an_earlier_month_lacks_is_bought_with_a_later_one_whatever_the_cause(
    ledger: Ledger, how: str
) -> None:
    end(ledger, september(ledger), how)
    made = plan(ledger, Buyer({"web": "1"}), SECOND)
    assert bought(made) == {("api", SEPTEMBER): Decimal(2), ("web", MONTH): Decimal(1)}
    assert plan(ledger, Buyer({"web": "1"}), THIRD) == []


def test_no_more_is_bought_than_the_month_asks_for_since(ledger: Ledger) -> None:
    end(ledger, september(ledger), "declined")
    plan(ledger, stating("api", "0.5", SEPTEMBER), months=[SEPTEMBER])
    assert bought(plan(ledger, Buyer({}), SECOND)) == {("api", SEPTEMBER): Decimal("0.5")}


def test_a_link_that_waits_is_not_planned_again(ledger: Ledger) -> None:
    end(ledger, september(ledger), "waits")
    assert plan(ledger, Buyer({}), SECOND) == []


@pytest.mark.parametrize("why_not", ["switched off", "another DAG's", "another mode's", "later"])
def test_what_is_not_caught_up(ledger: Ledger, why_not: str) -> None:
    end(ledger, september(ledger), "declined")
    run = Run("other", "1") if why_not == "another DAG's" else SECOND
    month = "2026-08" if why_not == "later" else MONTH
    made = plan(
        ledger,
        Buyer({"web": "1"}, month),
        run,
        months=[month],
        test_mode=why_not == "another mode's",
        catch_up=why_not != "switched off",
    )
    assert bought(made) == {("web", month): Decimal(1)}


def test_a_renamed_dag_takes_over_what_ended_runs_of_the_old_one_left(ledger: Ledger) -> None:
    waits = september(ledger, OLD)
    _, left = plan(ledger, Buyer({"web": "3"}), OLD)
    link(ledger, waits, OLD)
    emitted = Buyer({"web": "3"})
    assert plan(ledger, emitted, SECOND, is_over=nobody, take_over=[OLD.dag_id]) == []
    anew, taken = plan(ledger, emitted, SECOND, is_over=everybody, take_over=[OLD.dag_id])
    assert bought([anew]) == {("web", MONTH): Decimal(3)}
    assert (ledger.purchase(left.id).state, taken.id, taken.handler) == (State.FAILED, waits.id, SECOND)


def test_without_a_word_another_dag_s_purchases_are_left_alone(ledger: Ledger) -> None:
    (left,) = plan(ledger, Buyer({"web": "3"}), OLD)
    assert plan(ledger, Buyer({"web": "3"}), SECOND, is_over=everybody) == []
    assert ledger.purchase(left.id).handler == OLD


def test_what_the_old_dag_lacks_is_bought_by_the_one_that_takes_over(ledger: Ledger) -> None:
    end(ledger, september(ledger, OLD), "declined")
    assert plan(ledger, Buyer({}), SECOND) == []
    assert bought(plan(ledger, Buyer({}), SECOND, take_over=[OLD.dag_id])) == {("api", SEPTEMBER): Decimal(2)}
