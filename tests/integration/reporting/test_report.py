"""The report against SQL that was written by hand, over a ledger of a thousand purchases, in each database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from airflow_provider_carbonmark.ledger.facts import parse_facts
from airflow_provider_carbonmark.ledger.figures import Figures
from airflow_provider_carbonmark.ledger.names import State
from airflow_provider_carbonmark.ledger.projects import Methodology, Project
from airflow_provider_carbonmark.ledger.retirements import RetirementFacts
from airflow_provider_carbonmark.reporting import make_report, read_records
from airflow_provider_carbonmark.reporting.credits import Cancelled
from tests.integration.conftest import LEDGER_KINDS
from tests.unit.ledger.rows import write
from tests.unit.reporting.sample import a_line

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from airflow_provider_carbonmark.ledger import Ledger
    from airflow_provider_carbonmark.ledger.purchase import PurchaseLine
    from airflow_provider_carbonmark.reporting.report import Report

pytestmark = pytest.mark.parametrize("url", LEDGER_KINDS, indirect=True)

# Another ledger in each database.
SEEDS = {"sqlite": 1, "postgresql": 2, "mysql": 3}
ENTITIES = ["api", "Übersee", "web <b>", "(no entity)", "Ω"]
MONTHS = [f"{year}-{month:02}" for year in (2024, 2025, 2026, 2027) for month in (1, 6, 11, 12)]
# The last and the first moments of years, where a figure goes to one or the other.
STARTS = [datetime(year, 1, 1, tzinfo=UTC) for year in (2026, 2027)]
EDGES = [*STARTS, *(start - timedelta(microseconds=1) for start in STARTS)]
# Country and methodologies.
PROJECTS = {
    "VCS-1": ("Sweden", "A"),
    "VCS-2": ("Türkiye", "AB"),
    "ICR-3": ("Several countries", "B"),
    "PUR-4": ("Germany", "C"),
    "ECO-5": (None, ""),
}
FACTS = """
methodologies:
  A: {mechanism: reduction}
  B: {mechanism: removal, sink: biogenic}
  C: {mechanism: removal, sink: technological}
standards: {VCS: {recognised: true}, ICR: {recognised: false}}
projects: {VCS-1: {corresponding_adjustment: true}, ICR-3: {corresponding_adjustment: false}}
"""


class Dialect(NamedTuple):
    """What a database calls the month of a time and the fees of a purchase; and its unit of amounts, in tonnes or USD."""

    month: str
    fees: str
    unit: Decimal


FEES = "(unit_price_usd - base_unit_price_usd) * quantity_tonnes"
DIALECTS = {
    # Amounts are billionths, the product of two of which is too large.
    "sqlite": Dialect("substr({}, 1, 7)", FEES.replace(" * ", " / 1000 * ") + " / 1000000", Decimal("1E-9")),
    "postgresql": Dialect("to_char({} AT TIME ZONE 'UTC', 'YYYY-MM')", FEES, Decimal(1)),
    "mysql": Dialect("date_format({}, '%Y-%m')", FEES, Decimal(1)),
}

FIGURES = """
WITH real_rows AS (
    SELECT a.entity, a.month, a.line, a.emitted_tonnes, a.quantity_tonnes, a.rounding_tonnes, p.state, a.cost_usd
    FROM carbonmark_allocations AS a LEFT JOIN carbonmark_purchases AS p ON p.id = a.purchase_id
    WHERE a.test_mode = false AND a.month LIKE '{months}' AND a.entity LIKE '{entities}'
), emitted AS (
    SELECT entity, month, emitted_tonnes AS emitted,
           coalesce((SELECT sum(quantity_tonnes) FROM real_rows AS r
                     WHERE r.state = 'retired' AND r.entity = one.entity AND r.month = one.month), 0) AS retired
    FROM real_rows AS one
    WHERE NOT EXISTS (SELECT 1 FROM real_rows AS later
                      WHERE later.entity = one.entity AND later.month = one.month AND later.line > one.line)
)
SELECT (SELECT sum(emitted) FROM emitted), (SELECT sum(retired) FROM emitted),
       (SELECT sum(CASE WHEN emitted < 0 THEN 0 WHEN emitted < retired THEN emitted ELSE retired END) FROM emitted),
       (SELECT sum(CASE WHEN emitted > retired THEN emitted - retired ELSE 0 END) FROM emitted),
       (SELECT sum(quantity_tonnes) FROM real_rows WHERE state = 'planned'),
       (SELECT sum(quantity_tonnes) FROM real_rows WHERE state = 'link_made'),
       (SELECT sum(quantity_tonnes) FROM real_rows WHERE state = 'paid'),
       (SELECT sum(cost_usd) FROM real_rows WHERE state = 'retired'),
       (SELECT sum(rounding_tonnes) FROM real_rows WHERE state = 'retired')
"""
CREDITS = """
WITH credits AS (
    SELECT p.*, {fees} AS fees,
           {month_of_cancellation} AS cancelled_in
    FROM carbonmark_purchases AS p LEFT JOIN (SELECT purchase_id, retired_at AS told_at FROM carbonmark_retirements) AS r
    ON r.purchase_id = p.id WHERE p.state = 'retired' AND p.test_mode = false
), shares AS (
    SELECT cancelled_in, month, a.quantity_tonnes AS tonnes,
           CAST(substr(cancelled_in, 1, 4) AS INTEGER) >= CAST(substr(month, 1, 4) AS INTEGER) + 2 AS is_late
    FROM credits JOIN carbonmark_allocations AS a ON a.purchase_id = credits.id
)
"""
TOTALS = """
SELECT (SELECT sum(quantity_tonnes) FROM credits WHERE cancelled_in LIKE '{period}'),
       (SELECT sum(tonnes) FROM shares WHERE cancelled_in LIKE '{period}' AND month LIKE '{period}'),
       (SELECT sum(tonnes) FROM shares WHERE cancelled_in LIKE '{period}' AND month NOT LIKE '{period}'),
       (SELECT sum(quantity_tonnes) FROM credits WHERE cancelled_in LIKE '{period}')
           - (SELECT sum(tonnes) FROM shares WHERE cancelled_in LIKE '{period}'),
       (SELECT sum(tonnes) FROM shares WHERE cancelled_in LIKE '{period}' AND is_late),
       (SELECT sum(cost_usd) FROM credits WHERE cancelled_in LIKE '{period}'),
       (SELECT sum(fees) FROM credits WHERE cancelled_in LIKE '{period}'),
       (SELECT sum(quantity_tonnes) FROM credits WHERE cancelled_in LIKE '{period}' AND fees IS NOT NULL),
       (SELECT sum(tonnes) FROM shares WHERE month LIKE '{period}'),
       (SELECT sum(tonnes) FROM shares WHERE month LIKE '{period}' AND cancelled_in LIKE '{period}'),
       (SELECT sum(tonnes) FROM shares WHERE month LIKE '{period}' AND cancelled_in NOT LIKE '{period}'),
       (SELECT sum(tonnes) FROM shares WHERE month LIKE '{period}' AND is_late)
"""
# The parts of each share in the report's order, told of the purchase and of what the market says of its project.
SHARES = {
    "by_mechanism": [
        *("project_id = 'VCS-1'", "project_id IN ('ICR-3', 'PUR-4')", "project_id = 'VCS-2'"),
        "project_id = 'ECO-5' OR project_id IS NULL",
    ],
    "removals_by_sink": ["project_id IN ('VCS-2', 'ICR-3')", "project_id = 'PUR-4'", "1 = 0"],
    "by_standard": ["registry = 'VCS'", "registry = 'ICR'", "registry IN ('PUR', 'ECO') OR registry IS NULL"],
    "by_eu": [
        "project_id IN (SELECT project_id FROM carbonmark_projects WHERE country IN ('Sweden', 'Germany'))",
        "project_id IN (SELECT project_id FROM carbonmark_projects WHERE country = 'Türkiye')",
        "project_id IN ('ICR-3', 'ECO-5') OR project_id IS NULL",
    ],
    "by_adjustment": [
        "project_id = 'VCS-1'",
        "project_id = 'ICR-3'",
        "coalesce(project_id, '') NOT IN ('VCS-1', 'ICR-3')",
    ],
}


class Seed:
    """Makes up purchases with their shares, and figures that were stated anew; the same for each seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.numbers: dict[object, count[int]] = defaultdict(lambda: count(1))

    def billionths(self, most: int, least: int = 0) -> Decimal:
        return Decimal(self.random.randrange(least, most)).scaleb(-9)

    def time(self) -> datetime:
        some = STARTS[0] + timedelta(seconds=self.random.randrange(-2 * 10**7, 7 * 10**7))
        return self.random.choice([*EDGES, some])

    def share(self, state: State = State.RESTATED, **known: Any) -> PurchaseLine:
        entity, month = self.random.choice(ENTITIES), self.random.choice(MONTHS)
        line = next(self.numbers[entity, month, known["test_mode"]])
        emitted = self.billionths(3 * 10**11, -(10**9))
        return replace(a_line(state), entity=entity, month=month, line=line, emitted_tonnes=emitted, **known)

    def purchase(self, id: int) -> Iterator[PurchaseLine]:
        choice, project, at = self.random.choice, self.random.choice([*PROJECTS, None]), self.time()
        state = choice([State.RETIRED] * 5 + [state for state in State if state is not State.RESTATED])
        known: dict[str, Any] = {
            "purchase": id,
            "test_mode": self.random.random() < 0.05,
            "project_id": project,
        }
        known |= {"registry": project and project[:3], "retired_at_told": choice([None, True, False])}
        known |= {
            "retired_at": at if state is State.RETIRED else None,
            "paid_at": at - timedelta(hours=id % 99),
        }
        known |= {"payment_id": None if state is State.FAILED else f"pay-{id}"}
        known |= {"unit_price_usd": self.billionths(10**8) * 1000}
        known |= {"base_unit_price_usd": choice([None, self.billionths(10**6) * 1000])}
        for _ in range(self.random.randrange(1, 4)):
            rounding, tonnes = self.billionths(10**6), self.billionths(20_000, 1) * 10**6
            yield replace(
                self.share(state, **known),
                quantity_tonnes=tonnes - rounding,
                rounding_tonnes=rounding,
                cost_usd=self.billionths(10**12),
            )

    def write(self, ledger: Ledger, engine: Engine) -> None:
        lines = [line for id in range(1, 1_001) for line in self.purchase(id)]
        write(engine, [*lines, *(self.share(test_mode=number % 20 == 0) for number in range(100))])
        with engine.begin() as connection:
            # A plan made none of these.
            connection.exec_driver_sql("DELETE FROM carbonmark_allocations WHERE purchase_id <= 50")
        about = {"retirement_id": "137-0x1-0", "read_at": STARTS[0]}
        told = [(id, self.random.choice([None, self.time()])) for id in range(1, 1_001, 2)]
        ledger.keep_retirements(RetirementFacts(purchase=id, retired_at=at, **about) for id, at in told)
        for id, (country, methodologies) in PROJECTS.items():
            of_it = tuple(map(Methodology, methodologies))
            ledger.keep_projects(
                [Project(project_id=id, country=country, methodologies=of_it, read_at=STARTS[0])]
            )


class Script:
    """Asks the database itself."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.says = engine, DIALECTS[engine.dialect.name]

    def ask(self, query: str, **values: str) -> list[Decimal]:
        told_or_seen = "CASE WHEN retired_at_told THEN retired_at ELSE coalesce(told_at, retired_at) END"
        of_cancellation = self.says.month.format(told_or_seen)
        text = query.format(**self.says._asdict(), month_of_cancellation=of_cancellation, **values)
        with self.engine.connect() as connection:
            is_sqlite = self.engine.dialect.name == "sqlite"
            amounts = connection.exec_driver_sql(text if is_sqlite else text.replace("%", "%%")).one()
        return [Decimal(amount or 0) * self.says.unit for amount in amounts]

    def figures(self, months: str, entities: str = "%") -> Figures:
        return Figures(*self.ask(FIGURES, months=months, entities=entities))

    def cancelled(self, period: str) -> Cancelled:
        amounts = self.ask(CREDITS + TOTALS, period=period)
        return Cancelled(**dict(zip(Cancelled.__dataclass_fields__, amounts, strict=True)))

    def shares(self, name: str, period: str) -> list[Decimal]:
        sums = ", ".join(
            f"(SELECT sum(quantity_tonnes) FROM credits WHERE cancelled_in LIKE '{{period}}' AND ({part}))"
            for part in SHARES[name]
        )
        return self.ask(f"{CREDITS} SELECT {sums}", period=period)

    def planned(self, after: str) -> Decimal:
        """Ask what was paid in the months up to one, and cancelled in none of them."""
        paid = self.says.month.format("paid_at")
        seen = "OR id IN (SELECT id FROM credits WHERE cancelled_in > '{after}')"
        query = f"SELECT sum(quantity_tonnes) FROM carbonmark_purchases WHERE test_mode = false AND (state = 'paid' {seen})"
        return self.ask(f"{CREDITS} {query} AND {paid} <= '{{after}}'", after=after)[0]


@pytest.fixture
def script(ledger: Ledger, engine: Engine) -> Script:
    Seed(SEEDS[engine.dialect.name]).write(ledger, engine)
    return Script(engine)


RESTATED = """
SELECT count(*) FROM carbonmark_allocations AS old JOIN carbonmark_allocations AS new
ON new.entity = old.entity AND new.month = old.month AND new.test_mode = old.test_mode
AND new.line = (SELECT min(line) FROM carbonmark_allocations AS x WHERE x.entity = old.entity AND x.month = old.month
                AND x.test_mode = old.test_mode AND x.line > old.line)
WHERE old.test_mode = false AND old.month LIKE '{months}' AND new.emitted_tonnes <> old.emitted_tonnes
"""


def check_shares(report: Report, script: Script, period: str) -> None:
    for name in SHARES:
        parts = getattr(report.esrs_e1_7, name)
        tonnes = script.shares(name, period)
        assert [part.tonnes for part in parts] == tonnes
        assert sum(part.percent for part in parts) == 100
        for part in parts:
            assert abs(part.percent - part.tonnes * 100 / sum(tonnes)) < Decimal("0.01")


@pytest.mark.parametrize("period", ["2026", "2026-12"])
def test_every_figure_of_both_periods_and_each_share_is_what_sql_says_to_the_last_billionth(
    ledger: Ledger, script: Script, period: str
) -> None:
    like, before = (f"{each}%" for each in (period, f"2025{period[4:]}"))
    report = make_report(read_records(ledger, period, facts=parse_facts(FACTS, "facts.yaml")))
    assert report.totals == script.figures(like)
    assert report.records.before.totals == script.figures(before)
    assert report.cancelled == script.cancelled(like)
    assert report.records.before.cancelled == script.cancelled(before)
    assert all(vars(report.totals).values())
    assert all(vars(report.cancelled).values()) or period != "2026"
    for month, figures in report.months.items():
        assert figures == script.figures(month)
    for entity, figures in report.entities.items():
        assert figures == script.figures(like, entity)
    assert len(report.restatements) * script.says.unit == script.ask(RESTATED, months=like)[0]
    assert report.esrs_e1_7.planned_tonnes == script.planned("2026-12")
    check_shares(report, script, like)
    by_project = {each.project_id: each.cancelled_in_period_tonnes for each in report.ab_1305.projects}
    assert sum(by_project.values()) == report.cancelled.in_period_tonnes
    assert sum(credit.share_percent for credit in report.credits) == 100


def test_what_the_year_before_was_stated_anew_is_in_the_as_of_time(ledger: Ledger, engine: Engine) -> None:
    write(engine, [a_line(State.RESTATED, month="2025-03", planned_at=STARTS[1])])
    assert read_records(ledger, "2026").as_of == STARTS[1]
