"""Rows of a ledger to report on: single ones for tests, a year as it may be in a company, for people to look at, and reports of all kinds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_carbonmark.ledger.changes.files import FileOfRun
from airflow_provider_carbonmark.ledger.facts import DisclosureFacts, parse_facts
from airflow_provider_carbonmark.ledger.figures import Figures
from airflow_provider_carbonmark.ledger.names import Run, State
from airflow_provider_carbonmark.ledger.projects import Methodology, Project
from airflow_provider_carbonmark.ledger.purchase import PurchaseLine
from airflow_provider_carbonmark.ledger.questions.cancellations import Cancellation
from airflow_provider_carbonmark.ledger.retirements import RetirementFacts
from airflow_provider_carbonmark.ledger.values import Origin, Part
from airflow_provider_carbonmark.reporting import Records, make_report
from airflow_provider_carbonmark.reporting.credits import cancelled_of
from airflow_provider_carbonmark.reporting.periods import Period
from airflow_provider_carbonmark.reporting.records import YearBefore

if TYPE_CHECKING:
    from airflow_provider_carbonmark.reporting.report import Report

RUN = Run("carbonmark_monthly_offset", "scheduled__2026-11-21T06:00:00+00:00", "us")
PLANNED_AT = datetime(2026, 11, 21, 6, 2, tzinfo=UTC)
NASTY = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;{{ 7*7 }}\u202eevil"
CREDITS = (("VCS-191", 2019, "3.78"), ("ICR-112", 2021, "5.4"), ("TVER-0044", 2020, "2.155"))

FACTS = Path(__file__).parents[3] / "dags" / "disclosure_facts.yaml"
HYDROPOWER = Methodology("ACM0002", "Renewable Energy", "Grid-connected electricity generation")
TREES = Methodology("AR-ACM0003", "Forestry", "Afforestation and reforestation")
PROJECTS = [
    Project(project_id=id, name=name, country=country, methodologies=(of_it,), url=url, read_at=PLANNED_AT)
    for id, name, country, of_it, url in (
        (
            "VCS-191",
            "Upper Gorge Run-of-River Hydropower",
            "China",
            HYDROPOWER,
            "https://registry.example/191",
        ),
        ("ICR-112", "Spruce Harbour Afforestation", "Sweden", TREES, None),
    )
]

_ids = count(1)
_STATES_BEFORE = {
    State.PLANNED: (),
    State.LINK_MADE: ("link_made_at",),
    State.PAID: ("link_made_at", "paid_at"),
    State.RETIRED: ("link_made_at", "paid_at", "retired_at"),
    State.FAILED: ("link_made_at", "failed_at"),
    State.PAID_NOT_RETIRED: ("link_made_at", "paid_at", "failed_at"),
    State.DECLINED: ("link_made_at", "declined_at"),
    State.RESTATED: (),
}


def a_line(
    state: State = State.RETIRED, emitted: str = "10", quantity: str | None = None, **changes: Any
) -> PurchaseLine:
    """Return a row, by default one that is retired and offsets all that was emitted, at 3.78 USD per tonne."""
    bought = "0" if state is State.RESTATED else quantity or emitted
    id = next(_ids)
    line = PurchaseLine(
        id=id,
        purchase=None if state is State.RESTATED else _purchase(id),
        entity="ml-training",
        month="2026-10",
        test_mode=False,
        line=1,
        emitted_tonnes=Decimal(emitted),
        quantity_tonnes=Decimal(bought),
        asset_price_source_id=None if state is State.RESTATED else "listing-137-0x79a4",
        project_id=None if state is State.RESTATED else "VCS-191",
        registry=None if state is State.RESTATED else "VCS",
        vintage=None if state is State.RESTATED else 2019,
        unit_price_usd=None if state is State.RESTATED else Decimal("3.78"),
        cost_usd=Decimal(bought) * Decimal("3.78"),
        beneficiary_name="Example Ltd",
        retirement_message="Offset of October",
        state=state,
        planned_at=PLANNED_AT,
        run=RUN,
        handler=RUN,
        **{name: PLANNED_AT + timedelta(hours=hours) for hours, name in enumerate(_STATES_BEFORE[state], 1)},
        **_proof(id) if state is State.RETIRED else {},
    )
    return replace(line, **changes)


def _purchase(id: int) -> int:
    return 10**14 + id


def _proof(id: int) -> dict[str, str]:
    transaction = f"0x{id:064x}"
    return {
        "payment_id": f"pay_{id:08}",
        "certificate_url": f"https://app.carbonmark.com/retirements/id/137-{transaction}-0",
        "transaction_hash": transaction,
        "explorer_url": f"https://polygonscan.com/tx/{transaction}",
    }


def report_on(lines: Iterable[PurchaseLine], period: str = "2026-10", **known: Any) -> Report:
    """Make a report on rows, and on what was cancelled for them."""
    lines = list(lines)
    records = {"lines": lines, "cancelled": cancelled(lines), **known}
    return make_report(Records(Period(period), **records))


def cancelled(lines: Iterable[PurchaseLine]) -> list[Cancellation]:
    """Return what is retired of rows, each of which is a purchase."""
    retired = [line for line in lines if line.state is State.RETIRED and not line.test_mode]
    return [a_cancellation(line) for line in retired]


def a_cancellation(line: PurchaseLine | None = None, **changes: Any) -> Cancellation:
    """Return a row's purchase as it is cancelled."""
    line = line or a_line()
    same = {field.name for field in fields(Cancellation)} & vars(line).keys()
    values: dict[str, Any] = {name: getattr(line, name) for name in same} | {
        "tonnes": line.quantity_tonnes + line.rounding_tonnes,
        "for_months": {line.month: line.quantity_tonnes},
        "cancelled_at": line.retired_at,
        "is_told": line.retired_at_told,
    }
    return Cancellation(**values | changes)


def a_year() -> list[PurchaseLine]:
    """Return ten months of five entities: splits, a correction, failures, links that wait, and a rehearsal."""
    entities = {
        "ml-training": "41.872",
        "web-and-shops": "12.0834",
        "Research & Development, Group Functions and Everything Else That Has No Home Yet": "3.4567",
        "Übersee-Rechenzentrum (São Paulo)": "118.5",
        "(no entity)": "0.000412",
    }
    lines = []
    for month in range(1, 11):
        for place, (entity, base) in enumerate(entities.items()):
            emitted = Decimal(base) * (100 + month * 7 * (-1) ** (place + month)) / 100
            lines += _bought(entity, month, emitted, place)
    return _with_trouble(lines)


def _bought(entity: str, month: int, emitted: Decimal, place: int) -> list[PurchaseLine]:
    """Buy a month's emissions; the large ones in two parts."""
    needed = emitted.quantize(Decimal("0.001"), ROUND_CEILING)
    parts = [needed] if needed < 100 else [Decimal(80), needed - 80]
    bought = []
    for number, part in enumerate(parts, 1):
        project, vintage, price = CREDITS[(place + number + month // 4) % 3]
        line = a_line(
            emitted=str(emitted),
            quantity=str(part),
            entity=entity,
            month=f"2026-{month:02}",
            line=number,
            project_id=project,
            registry=project.partition("-")[0],
            vintage=vintage,
            unit_price_usd=Decimal(price),
            base_unit_price_usd=Decimal(price) - Decimal("0.4") if project != "TVER-0044" else None,
            origin=_origin(entity, emitted),
            retired_at_told={"VCS-191": True, "ICR-112": False}.get(project),
            cost_usd=(part * Decimal(price)).quantize(Decimal("0.0001")),
        )
        at = datetime(2026, month, 21, 9, 30, tzinfo=UTC) + timedelta(days=31)
        bought.append(
            replace(line, planned_at=at, link_made_at=at, paid_at=at, retired_at=at + timedelta(minutes=3))
        )
    return bought


def _origin(entity: str, emitted: Decimal) -> Origin | None:
    if entity == "(no entity)":
        return None
    return Origin(
        "AWS", "v3.0.2", (Part("mbm", "2", "market-based", emitted / 4), Part("s3", "3", "", emitted / 4 * 3))
    )


def a_known_year(period: str = "2026") -> Records:
    """Return the year with all that is known of it, and some of the year before: what was cancelled late, too, and without a plan."""
    lines = a_year()
    retired = cancelled(lines)
    late = a_cancellation(for_months={"2024-11": Decimal(3), "2025-12": Decimal(2)}, tonnes=Decimal("5.0007"))
    without_plan = a_cancellation(tonnes=Decimal("7.5"), for_months={}, project_id=None, registry=None)
    a_year_ago = datetime(2025, 4, 21, tzinfo=UTC)
    last_year = [
        replace(each, for_months={"2025-03": each.tonnes}, cancelled_at=a_year_ago) for each in retired[:5]
    ]
    all_cancelled = [*retired, late, without_plan]
    wanted = Period(period)
    return Records(
        period=wanted,
        lines=[line for line in lines if wanted.has_month(line.month)],
        before=YearBefore(Figures(Decimal("190.5")), cancelled_of(wanted.before, last_year)),
        cancelled=[
            each
            for each in all_cancelled
            if wanted.has_time(each.cancelled_at) or any(map(wanted.has_month, each.for_months))
        ],
        contracts=[a_cancellation(line) for line in lines if line.state is State.PAID],
        projects=PROJECTS,
        retirements=[_told(each) for each in retired if each.project_id != "TVER-0044"],
        certificates={retired[0].purchase: "../certificates/1.pdf"},
        files=[
            FileOfRun(path, 1234, "0f" * 32, month, False, RUN, PLANNED_AT)
            for path, month in (
                ("s3://exports/2026-09.csv", "2026-09"),
                ("file:///srv/2026-10 (1).parquet", "2026-10"),
            )
        ],
        facts=parse_facts(FACTS.read_text(), FACTS.name),
        ledger_version=3,
    )


def _told(bought: Cancellation) -> RetirementFacts:
    """Return what the market tells of a retirement; of Verra's, that its credits came over a bridge."""
    first = bought.purchase % 10**9
    return RetirementFacts(
        purchase=bought.purchase,
        retirement_id=f"137-{bought.transaction_hash}-0",
        retiring_name="Carbonmark",
        serial_numbers=(f"{first}-{first + 99}-{bought.registry}-VCU-034-VER-CN-1-191-01012019-31122019-0",),
        bridge="Toucan" if bought.registry == "VCS" else None,
        read_at=PLANNED_AT,
        certificate_sha256=f"{bought.purchase:064x}",
    )


def _with_trouble(lines: list[PurchaseLine]) -> list[PurchaseLine]:
    """Change some of the last months' rows to what else may become of them."""
    unproven = dict.fromkeys(("certificate_url", "transaction_hash", "explorer_url", "retired_at"))
    unpaid = unproven | {"payment_id": None, "paid_at": None}
    trouble: dict[tuple[str, int], dict[str, Any]] = {
        ("ml-training", 10): {"state": State.LINK_MADE, **unpaid},
        ("web-and-shops", 10): {"state": State.PAID, **unproven},
        ("Übersee-Rechenzentrum (São Paulo)", 10): {"state": State.PLANNED, **unpaid, "link_made_at": None},
        ("(no entity)", 10): {
            "state": State.DECLINED,
            "reason": "Declined by alice: not before the budget is settled",
            "declined_at": PLANNED_AT,
            **unpaid,
        },
        ("ml-training", 9): {
            "state": State.PAID_NOT_RETIRED,
            "reason": "The status of the retirement is 'FAILED', with the message 'Listing ICR-112-2021 sold out before the retirement'.",
            "failed_at": PLANNED_AT,
            **unproven,
        },
        ("web-and-shops", 9): {
            "state": State.FAILED,
            "reason": "The run that planned it ended before it made a link",
            "failed_at": PLANNED_AT,
            **unpaid,
        },
    }
    changed = []
    for line in lines:
        change = trouble.get((line.entity, int(line.month[5:])), {})
        # Of a purchase in parts only the last one is in trouble.
        changed.append(replace(line, **change) if line.quantity_tonnes != 80 else line)
    again = next(line for line in lines if (line.entity, line.month) == ("web-and-shops", "2026-09"))
    august = next(line for line in lines if (line.entity, line.month) == ("ml-training", "2026-08"))
    number = next(_ids)
    return [
        *changed,
        replace(again, id=number, purchase=_purchase(number), line=2),
        a_line(
            State.RESTATED,
            emitted="39.1",
            entity="ml-training",
            month="2026-08",
            line=2,
            planned_at=august.planned_at,
        ),
        a_line(entity="ml-training", emitted="5", test_mode=True, beneficiary_name="Developer Tester"),
        a_line(State.LINK_MADE, entity="web-and-shops", emitted="1.5", test_mode=True),
    ]


def the_nasty(nasty: str = NASTY, address: str | None = None) -> Records:
    """Return records in which others wrote the worst that they could, wherever they can write."""
    texts = dict.fromkeys(
        ("entity", "reason", "project_id", "registry", "beneficiary_name", "payment_id"), nasty
    )
    texts |= {"run": Run(nasty, nasty), "handler": Run(nasty, nasty), "certificate_url": address}
    origin = Origin(nasty, nasty, (Part(nasty, nasty, nasty, Decimal(1)),) * 2)
    lines = [
        a_line(state, line=line, origin=origin, test_mode=test_mode, emitted=f"1.{line}", **texts)
        for test_mode in (False, True)
        for line, state in enumerate(State, 1)
    ]
    methodologies = (Methodology(nasty, nasty, nasty),)
    project = replace(
        PROJECTS[0],
        project_id=nasty,
        name=nasty,
        country=nasty,
        url=address or nasty,
        methodologies=methodologies,
    )
    told = [replace(_told(each), serial_numbers=(nasty,), bridge=nasty) for each in cancelled(lines)]
    company = dict.fromkeys(("name", "boundary", "verification", "preparer", "seller"), nasty)
    return Records(
        period=Period("2026-10"),
        lines=lines,
        cancelled=[replace(each, registry="VCS") for each in cancelled(lines)],
        projects=[project],
        retirements=told,
        files=[FileOfRun(nasty, 1, "0f" * 32, "2026-10", False, RUN, PLANNED_AT)],
        facts=DisclosureFacts.model_validate(
            {"company": company, "standards": {"VCS": {"name": nasty, "recognised": True}}}
        ),
    )


def _records(lines: list[PurchaseLine], period: str = "2026-10") -> Records:
    return report_on(lines, period).records


REPORTS: dict[str, Records] = {
    "a year": a_known_year(),
    "a month": a_known_year("2026-10"),
    "nothing": _records([], "2026"),
    "a rehearsal": _records([a_line(test_mode=True)]),
    "a restatement": _records([a_line(State.RESTATED, "-3")]),
    "many entities": _records([a_line(entity=f"entity {number}") for number in range(40)]),
    "the nasty": the_nasty(),
}
