"""The report against SQL that was written by hand, over ledgers that went through everything, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_carbonmark.ledger.figures import Figures
from airflow_provider_carbonmark.ledger.purchase import Purchase, Run, State, Task
from airflow_provider_carbonmark.ledger.values import Coverage, Plan, PlannedPurchase, Restated, share_of_cost
from airflow_provider_carbonmark.reporting import make_report
from tests.integration.ledger.parts import NOW, line, payment_id, plan, retirement

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from airflow_provider_carbonmark.ledger import Ledger

MONTHS = [f"2026-{month:02}" for month in range(1, 13)]
# Another year in each database.
SEEDS = {"sqlite": 1, "postgresql": 2, "mysql": 3}
ENTITIES = ["api", "Übersee", "web <b>", "(no entity)", "Ω"]


class Dialect(NamedTuple):
    """What a database calls it: the larger of 0 and something, false, the unit in tonnes."""

    larger_than_zero: str
    false: str
    unit: Decimal


# Amounts are billionths on SQLite, and decimals elsewhere.
BILLIONTHS = Dialect("max(0, {})", "0", Decimal("1E-9"))
DECIMALS = Dialect("greatest(0, {})", "false", Decimal(1))

FIGURES = """
WITH real_rows AS (
    SELECT a.entity, a.month, a.line, a.emitted_tonnes, a.quantity_tonnes, a.rounding_tonnes, p.state, a.cost_usd
    FROM carbonmark_allocations AS a LEFT JOIN carbonmark_purchases AS p ON p.id = a.purchase_id
    WHERE a.test_mode = {false} AND a.month LIKE '{months}' AND a.entity LIKE '{entities}'
), emitted AS (
    SELECT entity, month, emitted_tonnes AS emitted FROM real_rows AS one
    WHERE NOT EXISTS (SELECT 1 FROM real_rows AS later
                      WHERE later.entity = one.entity AND later.month = one.month AND later.line > one.line)
), retired AS (
    SELECT entity, month, sum(quantity_tonnes) AS retired FROM real_rows WHERE state = 'retired' GROUP BY entity, month
)
SELECT (SELECT coalesce(sum(emitted), 0) FROM emitted),
       (SELECT coalesce(sum(quantity_tonnes), 0) FROM real_rows WHERE state = 'retired'),
       (SELECT coalesce(sum({open}), 0) FROM emitted AS e
        LEFT JOIN retired AS r ON r.entity = e.entity AND r.month = e.month),
       (SELECT coalesce(sum(quantity_tonnes), 0) FROM real_rows WHERE state = 'planned'),
       (SELECT coalesce(sum(quantity_tonnes), 0) FROM real_rows WHERE state = 'link_made'),
       (SELECT coalesce(sum(quantity_tonnes), 0) FROM real_rows WHERE state = 'paid'),
       (SELECT coalesce(sum(cost_usd), 0) FROM real_rows WHERE state = 'retired'),
       (SELECT coalesce(sum(rounding_tonnes), 0) FROM real_rows WHERE state = 'retired')
"""


def by_sql(engine: Engine, months: str = "2026-%", entities: str = "%") -> Figures:
    """Ask the database itself for the figures."""
    is_sqlite = engine.dialect.name == "sqlite"
    says = BILLIONTHS if is_sqlite else DECIMALS
    open_tonnes = says.larger_than_zero.format("e.emitted - coalesce(r.retired, 0)")
    query = FIGURES.format(false=says.false, months=months, entities=entities, open=open_tonnes)
    with engine.connect() as connection:
        amounts = connection.exec_driver_sql(query if is_sqlite else query.replace("%", "%%")).one()
    return Figures(*(Decimal(amount) * says.unit for amount in amounts))


class Buyers:
    """People and machines that do at random what may happen to purchases, the same for each seed."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self.ledger, self.random = ledger, Random(seed)

    def buy_a_year(self) -> None:
        for number, month in enumerate(MONTHS * 2):
            run = Run("offset", f"run-{number}")
            make = partial(self._plan, month)
            for made in plan(self.ledger, make, run, months=[month], test_mode=number % 5 == 4):
                self._carry_on(made, run)

    def _plan(self, month: str, coverage: Coverage) -> Plan:
        lines, restated = [], []
        for entity in self.random.sample(ENTITIES, self.random.randint(0, len(ENTITIES))):
            emitted = Decimal(self.random.randrange(-(10**9), 10**12)).scaleb(-9)
            if emitted <= 0 or self.random.random() < 0.2:
                restated.append(Restated(entity, month, emitted))
                continue
            for _ in range(self.random.randint(1, 3)):
                bought = Decimal(self.random.randrange(1, 400_000)).scaleb(-3)
                price = Decimal(self.random.randrange(1, 10**8)).scaleb(-6)
                about = {"emitted_tonnes": emitted, "unit_price_usd": price, "cost_usd": bought * price}
                lines.append(self._rounded(line(entity, bought, month, **about)))
        return Plan(tuple(lines), tuple(restated))

    def _rounded(self, made: PlannedPurchase) -> PlannedPurchase:
        """Let up to a kilogram of a purchase be nobody's."""
        (share,) = made.shares
        tonnes = made.quantity_tonnes - Decimal(self.random.randrange(10**6)).scaleb(-9)
        cost = share_of_cost(made.cost_usd, tonnes, made.quantity_tonnes)
        return replace(made, shares=(replace(share, quantity_tonnes=tonnes, cost_usd=cost),))

    def _carry_on(self, made: Purchase, run: Run) -> None:
        ledger, later = self.ledger, NOW + timedelta(hours=1)
        end = self.random.choice([*State, State.RETIRED, State.RETIRED, State.RETIRED])
        if end in (State.PLANNED, State.RESTATED):
            return
        ledger.quoted(made.id, run, (made.cost_usd or 0) + Decimal("0.01"))
        if end is State.FAILED and self.random.random() < 0.5:
            ledger.failed(made.id, "Sold out", now=later, run=run)
            return
        make_link(ledger, made, run)
        if end is State.DECLINED:
            ledger.declined(made.id, run, "Too dear", now=later)
        elif end is not State.LINK_MADE:
            ledger.paid(made.id, payment_id(made), now=later)
            if end in (State.FAILED, State.PAID_NOT_RETIRED):
                ledger.failed(made.id, "Reverted", now=later)
            elif end is State.RETIRED:
                ledger.retired(made.id, retirement(made), now=later)


def make_link(ledger: Ledger, made: Purchase, run: Run) -> None:
    task = Task(run, "checkout", -1)
    asked = ledger.ask_link(made.id, task, lambda number: {}, conn_id="carbonmark_default", now=NOW)
    ledger.link_made(made.id, run, asked, url=f"https://pay.example/{made.id}", now=NOW)


def test_every_figure_is_what_sql_says_to_the_last_billionth(ledger: Ledger, engine: Engine) -> None:
    Buyers(ledger, SEEDS[engine.dialect.name]).buy_a_year()
    report = make_report(ledger.lines(year=2026), "2026")
    assert report.totals == by_sql(engine)
    assert all(vars(report.totals).values())
    retired = {each.purchase for each in report.lines if each.state is State.RETIRED and each.purchase}
    tonnes = sum(ledger.purchase(id).quantity_tonnes for id in retired)
    assert tonnes == report.totals.retired_tonnes + report.totals.rounding_tonnes
    for month in MONTHS:
        expected = by_sql(engine, months=month)
        assert report.months.get(month, Figures()) == expected
        assert make_report(ledger.lines(month=month), month).totals == expected
    for entity in ENTITIES:
        assert report.entities.get(entity, Figures()) == by_sql(engine, entities=entity)
