"""What holds of every ledger: nothing breaks it in one that was written as it should be, and each row that does is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from airflow_provider_carbonmark.ledger.invariants import broken
from tests.integration.ledger.parts import become, buying, entity, line, plan, stating

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from airflow_provider_carbonmark.ledger import Ledger
    from airflow_provider_carbonmark.ledger.purchase import Purchase


@pytest.fixture
def retired(ledger: Ledger) -> Purchase:
    """A purchase that is retired, beside one in each other state."""
    names = ("planned", "linked", "declined", "failed", "paid", "retired")
    bought = {entity(each): each for each in plan(ledger, buying(*map(line, names)))}
    plan(ledger, stating("planned", "20"))
    became = {name: become(ledger, each, name) for name, each in bought.items()}
    return became["retired"]


#: What somebody does to the ledger's rows by hand, and what is said of it. {} is a billionth.
BY_HAND = {
    "purchases SET quantity_tonnes = quantity_tonnes + {}": "its allocations and what rounding added are its tonnes",
    "allocations SET rounding_tonnes = {}": "its allocations and what rounding added are its tonnes",
    "allocations SET cost_usd = cost_usd + {}": "the costs of its allocations are not more than it costs",
    "allocations SET line = 7": "lines are numbered 1, 2, 3… within entity, month and mode",
    "allocations SET test_mode = NOT test_mode": "its allocations are in its mode",
    "purchases SET payment_id = 'other'": "what is paid or retired has a payment, which Carbonmark confirmed",
    "payments SET verified_at = NULL": "what is paid or retired has a payment, which Carbonmark confirmed",
    "purchases SET retired_at = NULL": "what is retired has a time and a proof, a certificate or a transaction",
    "purchases SET certificate_url = NULL, transaction_hash = NULL": "what is retired has a time and a proof, a certificate or a transaction",
    "purchases SET state = 'failed'": "what is not retired has no time of it, and is not announced",
    "links SET current_of = 1": "a link is current for its own purchase only, and numbered 1, 2, 3…",
}


def test_each_row_that_breaks_one_is_named(ledger: Ledger, engine: Engine, retired: Purchase) -> None:
    assert ledger.broken() == []
    billionth = "1" if engine.dialect.name == "sqlite" else "0.000000001"
    for change, invariant in BY_HAND.items():
        column = "id" if change.startswith("purchases") else "purchase_id"
        with engine.connect() as connection:
            sql = f"UPDATE carbonmark_{change.format(billionth)} WHERE {column} = {retired.id}"
            connection.execute(text(sql))
            told = [(each.invariant, each.row) for each in broken(connection)]
            connection.rollback()
        rows = "entity retired, month 2026-10, test_mode False", f"purchase {retired.id}"
        assert told == [(invariant, rows["SET line" not in change])], change


def test_what_speaks_of_a_purchase_that_is_not_there_is_named(
    ledger: Ledger, engine: Engine, retired: Purchase
) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("other databases let nobody do that")
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text("PRAGMA foreign_keys = OFF"))
        connection.execute(text(f"DELETE FROM carbonmark_purchases WHERE id = {retired.id}"))
        named = {each.row for each in broken(connection)}
    assert named == {
        f"purchase (in carbonmark_{name}) {retired.id}" for name in ("allocations", "links", "payments")
    }


def test_what_nobody_can_pay_does_not_wait_to_be_paid(ledger: Ledger, engine: Engine) -> None:
    (planned,) = plan(ledger, buying(line()))
    with engine.begin() as connection:
        connection.execute(text("UPDATE carbonmark_purchases SET state = 'link_made'"))
    (told,) = ledger.broken()
    assert str(told) == f"purchase {planned.id}: what waits to be paid has a current link"
