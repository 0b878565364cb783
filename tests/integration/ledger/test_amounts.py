"""Amounts come back as they went in, to the last of their nine decimals, and SQL adds them up exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import count

import pytest
from hypothesis import given, settings, strategies as st
from sqlalchemy import Engine, create_engine, func, select

from airflow_provider_carbonmark.ledger import Ledger
from airflow_provider_carbonmark.ledger.rows import LINES
from airflow_provider_carbonmark.ledger.schema import allocations
from tests.integration.conftest import LEDGER_KINDS
from tests.integration.ledger.parts import MONTH, Buyer, buying, line, plan

_numbers = count()

# Tens of them add up to less than the ledger's limit.
AMOUNTS = st.decimals("1E-9", "1E8", places=9)


@pytest.fixture(scope="module", params=LEDGER_KINDS)
def books(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> Iterator[Engine]:
    engine = create_engine(new_database(request.param))
    yield engine
    engine.dispose()


@settings(max_examples=25, deadline=None)
@given(
    amounts=st.lists(st.tuples(AMOUNTS, AMOUNTS, AMOUNTS), min_size=1, max_size=20),
    emitted=st.decimals("-1E8", "1E8", places=9),
)
def test_amounts_are_exact_and_so_are_their_sums(
    books: Engine, amounts: list[tuple[Decimal, Decimal, Decimal]], emitted: Decimal
) -> None:
    ledger, entity = Ledger(books), f"entity {next(_numbers)}"
    lines = [
        line(entity, tonnes, unit_price_usd=price, cost_usd=cost, emitted_tonnes=emitted)
        for tonnes, price, cost in amounts
    ]
    plan(ledger, buying(*lines))
    kept = [each for each in ledger.lines() if each.entity == entity]
    assert [(each.quantity_tonnes, each.unit_price_usd, each.cost_usd) for each in kept] == amounts
    assert {each.emitted_tonnes for each in kept} == {emitted}
    with books.connect() as connection:
        sums = select(func.sum(allocations.c.quantity_tonnes), func.sum(allocations.c.cost_usd))
        its_own = allocations.c.entity == entity
        found = connection.execute(sums.select_from(LINES).where(its_own)).one()
    assert tuple(found) == (sum(tonnes for tonnes, _, _ in amounts), sum(cost for _, _, cost in amounts))
    buyer = Buyer({})
    plan(ledger, buyer)
    assert buyer.told[0].covered[entity, MONTH].covered_tonnes == found[0]


@pytest.mark.parametrize(
    ("emitted", "kept"),
    [
        ("0.00012345678901234567", "0.000123457"),
        ("12.3450000000001", "12.345000001"),
        ("-12.3450000000001", "-12.345"),
        ("1E-30", "0.000000001"),
        ("1E+3", "1000"),
        ("8999999999.999999999", "8999999999.999999999"),
    ],
)
def test_emissions_finer_than_the_ledger_are_rounded_up(ledger: Ledger, emitted: str, kept: str) -> None:
    (made,) = plan(ledger, buying(line("web", emitted_tonnes=Decimal(emitted))))
    assert f"{made.allocations[0].emitted_tonnes:f}" == kept
