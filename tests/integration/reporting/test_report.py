"""The report against SQL that was written by hand, over a ledger of a thousand purchases, in each database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from sqlalchemy import insert


from airflow_provider_carbonmark.ledger.facts import DisclosureFacts
from airflow_provider_carbonmark.ledger.figures import Figures
from airflow_provider_carbonmark.ledger.purchase import State
from airflow_provider_carbonmark.ledger.rows import run_values
from airflow_provider_carbonmark.ledger.schema import allocations, projects, purchases, retirements
from airflow_provider_carbonmark.ledger.versions import make_tables
from airflow_provider_carbonmark.reporting import make_report, read_records
from airflow_provider_carbonmark.reporting.credits import Cancelled
from tests.unit.reporting.sample import RUN

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from airflow_provider_carbonmark.ledger import Ledger
    from airflow_provider_carbonmark.reporting.report import Report

# Another ledger in each database.
SEEDS = {"sqlite": 1, "postgresql": 2, "mysql": 3}
ENTITIES = ["api", "Übersee", "web <b>", "(no entity)", "Ω"]
MONTHS = [f"{year}-{month:02}" for year in (2024, 2025, 2026, 2027) for month in (1, 6, 11, 12)]
# The last and the first moments of years, where a figure goes to one or the other.
EDGES = [datetime(year, 1, 1, tzinfo=UTC) - timedelta(microseconds=less) for year in (2026, 2027) for less in (0, 1)]
COUNTRIES = {"VCS-1": "Sweden", "VCS-2": "Türkiye", "ICR-3": "Several countries", "PUR-4": "Germany", "ECO-5": None}
METHODOLOGIES = {"VCS-1": ["A"], "VCS-2": ["A", "B"], "ICR-3": ["B"], "PUR-4": ["C"], "ECO-5": []}
FACTS = DisclosureFacts.model_validate(
    {
        "methodologies": {
            "A": {"mechanism": "reduction"},
            "B": {"mechanism": "removal", "sink": "biogenic"},
            "C": {"mechanism": "removal", "sink": "technological"},
        },
        "standards": {"VCS": {"name": "Verra", "recognised": True}, "ICR": {"recognised": False}},
        "projects": {"VCS-1": {"corresponding_adjustment": True}, "ICR-3": {"corresponding_adjustment": False}},
    }
)


class Dialect(NamedTuple):
    """What a database calls it: the larger and the smaller of two, false, a whole number, a time's month, a cost; the unit of amounts."""

    larger: str
    smaller: str
    false: str
    whole: str
    month: str
    fees: str
    unit: Decimal


DIALECTS = {
    # Amounts are billionths.
    "sqlite": Dialect(
        *("max", "min", "0", "INTEGER", "substr({}, 1, 7)"),
        *("(unit_price_usd - base_unit_price_usd) / 1000 * (quantity_tonnes / 1000000)", Decimal("1E-9")),
    ),
    "postgresql": Dialect(
        *("greatest", "least", "false", "INTEGER", "to_char({} AT TIME ZONE 'UTC', 'YYYY-MM')"),
        *("(unit_price_usd - base_unit_price_usd) * quantity_tonnes", Decimal(1)),
    ),
    "mysql": Dialect(
        *("greatest", "least", "false", "SIGNED", "date_format({}, '%Y-%m')"),
        *("(unit_price_usd - base_unit_price_usd) * quantity_tonnes", Decimal(1)),
    ),
}

FIGURES = """
WITH real_rows AS (
    SELECT a.entity, a.month, a.line, a.emitted_tonnes, a.quantity_tonnes, a.rounding_tonnes, p.state, a.cost_usd
    FROM carbonmark_allocations AS a LEFT JOIN carbonmark_purchases AS p ON p.id = a.purchase_id
    WHERE a.test_mode = {false} AND a.month LIKE '{months}' AND a.entity LIKE '{entities}'
), emitted AS (
    SELECT entity, month, emitted_tonnes AS emitted,
           coalesce((SELECT sum(quantity_tonnes) FROM real_rows AS r
                     WHERE r.state = 'retired' AND r.entity = one.entity AND r.month = one.month), 0) AS retired
    FROM real_rows AS one
    WHERE NOT EXISTS (SELECT 1 FROM real_rows AS later
                      WHERE later.entity = one.entity AND later.month = one.month AND later.line > one.line)
)
SELECT (SELECT sum(emitted) FROM emitted), (SELECT sum(retired) FROM emitted),
       (SELECT sum({smaller}(retired, {larger}(emitted, 0))) FROM emitted),
       (SELECT sum({larger}(0, emitted - retired)) FROM emitted),
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
    ON r.purchase_id = p.id WHERE p.state = 'retired' AND p.test_mode = {false}
), shares AS (
    SELECT cancelled_in, month, a.quantity_tonnes AS tonnes,
           CAST(substr(cancelled_in, 1, 4) AS {whole}) >= CAST(substr(month, 1, 4) AS {whole}) + 2 AS is_late
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
    "by_mechanism": ("project_id = 'VCS-1'", "project_id IN ('ICR-3', 'PUR-4')", "project_id = 'VCS-2'", "project_id = 'ECO-5' OR project_id IS NULL"),
    "removals_by_sink": ("project_id IN ('VCS-2', 'ICR-3')", "project_id = 'PUR-4'", "1 = 0"),
    "by_standard": ("registry = 'VCS'", "registry = 'ICR'", "registry IN ('PUR', 'ECO') OR registry IS NULL"),
    "by_eu": (
        "project_id IN (SELECT project_id FROM carbonmark_projects WHERE country IN ('Sweden', 'Germany'))",
        "project_id IN (SELECT project_id FROM carbonmark_projects WHERE country = 'Türkiye')",
        "project_id IN ('ICR-3', 'ECO-5') OR project_id IS NULL",
    ),
    "by_adjustment": ("project_id = 'VCS-1'", "project_id = 'ICR-3'", "project_id IS NULL OR project_id NOT IN ('VCS-1', 'ICR-3')"),
}


def seed(engine: Engine) -> None:
    """Write a thousand purchases with their shares, and figures that were stated anew."""
    random = Random(SEEDS[engine.dialect.name])
    lines: dict[tuple[str, str, bool], int] = {}
    bought, shares, told = [], [], []

    def a_share(test_mode: bool, purchase: int | None = None, tonnes: int = 0, rounding: int = 0) -> None:
        entity, month = random.choice(ENTITIES), random.choice(MONTHS)
        line = lines[entity, month, test_mode] = lines.get((entity, month, test_mode), 0) + 1
        shares.append(
            {
                "purchase_id": purchase, "entity": entity, "month": month, "test_mode": test_mode, "line": line,
                "emitted_tonnes": Decimal(random.randrange(-(10**9), 10**11)).scaleb(-9),
                "quantity_tonnes": Decimal(tonnes).scaleb(-9), "rounding_tonnes": Decimal(rounding).scaleb(-9),
                "cost_usd": Decimal(random.randrange(10**12)).scaleb(-9), "reason": None, "stated_at": EDGES[0], **run_values(RUN),
            }
        )  # fmt: skip

    def a_time() -> datetime:
        return random.choice([*EDGES, datetime(2025, 6, 1, tzinfo=UTC) + timedelta(seconds=random.randrange(9 * 10**7))])

    for id in range(1, 1_001):
        test_mode, state = random.random() < 0.05, random.choice([State.RETIRED] * 5 + [State.PAID, *State][:-2])
        tonnes, retired_at = random.randrange(3, 40_000), a_time() if state is State.RETIRED else None
        project = random.choice([*COUNTRIES, None])
        bought.append(a_purchase(random, id, state, test_mode, tonnes, project, retired_at))
        if retired_at and random.random() < 0.5:
            told.append(
                {
                    "purchase_id": id, "retirement_id": f"137-{id}-0", "retired_at": random.choice([None, a_time()]), "read_at": EDGES[0],
                    "serial_numbers": {"serial_numbers": []}, "retiring_name": None, "bridge": None, "certificate_sha256": None,
                }
            )  # fmt: skip
        for part in range(parts := random.randrange(4)):
            rounding = random.randrange(10**6) if part == parts - 1 else 0
            # A part each, and the last one all that is left.
            of_it = tonnes // parts * 10**6 if part < parts - 1 else (tonnes - tonnes // parts * part) * 10**6
            a_share(test_mode, id, of_it - rounding, rounding)
    for number in range(100):
        a_share(number % 20 == 0)
    known = [
        {
            "project_id": id, "name": id, "country": country, "region": None, "registry": None, "url": None, "read_at": EDGES[0],
            "methodologies": {"methodologies": [{"id": each, "category": "", "name": ""} for each in METHODOLOGIES[id]]},
        }
        for id, country in COUNTRIES.items()
    ]  # fmt: skip
    with engine.connect() as connection:
        make_tables(connection, "")
        for table, rows in ((purchases, bought), (allocations, shares), (retirements, told), (projects, known)):
            connection.execute(insert(table), rows)
        connection.commit()


def a_purchase(
    random: Random, id: int, state: State, test_mode: bool, tonnes: int, project: str | None, retired_at: datetime | None
) -> dict[str, Any]:
    return {
        "id": id, "test_mode": test_mode, "asset_price_source_id": "listing-137-0x1", "quantity_tonnes": Decimal(tonnes).scaleb(-3),
        "project_id": project, "registry": project.partition("-")[0] if project else None, "vintage": 2020,
        "unit_price_usd": Decimal(random.randrange(10**6, 10**8)).scaleb(-6),
        "base_unit_price_usd": random.choice([None, Decimal(random.randrange(10**6)).scaleb(-6)]),
        "cost_usd": random.choice([None, Decimal(random.randrange(10**12)).scaleb(-9)]), "beneficiary_name": "Example Corp",
        "retirement_message": "Emissions", "state": state, "planned_at": EDGES[0], "retired_at": retired_at,
        "retired_at_told": random.choice([None, True, False]), "payment_id": f"pay-{id}", "handled_since": EDGES[0],
        "paid_at": (retired_at or EDGES[2]) - timedelta(hours=random.randrange(1, 99)), **run_values(RUN), **run_values(RUN, "handler_"),
    }  # fmt: skip


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
        query = f"SELECT sum(quantity_tonnes) FROM carbonmark_purchases WHERE test_mode = {{false}} AND (state = 'paid' {seen})"
        return self.ask(f"{CREDITS} {query} AND {paid} <= '{{after}}'", after=after)[0]


@pytest.fixture
def script(engine: Engine) -> Script:
    seed(engine)
    return Script(engine)


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
    report = make_report(read_records(ledger, period, facts=FACTS))
    assert report.totals == script.figures(like)
    assert report.totals_before == script.figures(before)
    assert report.cancelled == script.cancelled(like)
    assert report.cancelled_before == script.cancelled(before)
    assert all(vars(report.totals).values())
    assert all(vars(report.cancelled).values()) or period != "2026"
    for month, figures in report.months.items():
        assert figures == script.figures(month)
    for entity, figures in report.entities.items():
        assert figures == script.figures(like, entity)
    assert report.esrs_e1_7.planned_tonnes == script.planned("2026-12")
    check_shares(report, script, like)
    by_project = {each.project_id: each.cancelled_in_period_tonnes for each in report.ab_1305.projects}
    assert sum(by_project.values()) == report.cancelled.in_period_tonnes
    assert sum(credit.share_percent for credit in report.credits) == 100
