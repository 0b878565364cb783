"""What was cancelled in a period and for its emissions, by credit, and filled into what has to be disclosed."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies

from airflow_provider_carbonmark.ledger.facts import DisclosureFacts
from airflow_provider_carbonmark.ledger.retirements import RetirementFacts
from airflow_provider_carbonmark.reporting import make_report
from airflow_provider_carbonmark.reporting.countries import is_in_eu
from airflow_provider_carbonmark.reporting.credits import Credit, shares
from tests.unit.reporting.sample import PLANNED_AT, PROJECTS, a_cancellation, a_known_year, a_line, report_on

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.questions.cancellations import Cancellation
    from airflow_provider_carbonmark.reporting.report import Report


def bought(cancelled_at: str = "2026-11-21", **months: int) -> Cancellation:
    """Return ten tonnes that were cancelled on a day, so many of them for each month (``m2025_12=4``)."""
    for_months = {name[1:].replace("_", "-"): Decimal(tonnes) for name, tonnes in months.items()}
    at = datetime.fromisoformat(cancelled_at).replace(tzinfo=UTC)
    return a_cancellation(cancelled_at=at, for_months=for_months, tonnes=Decimal(10))


def on(*cancelled: Cancellation, period: str = "2026", **known: Any) -> Report:
    return report_on([], period, cancelled=cancelled, **known)


def the_credit(**known: Any) -> Credit:
    (credit,) = on(a_cancellation(), **known).credits
    return credit


@pytest.mark.parametrize(("day", "late"), [("2026-12-31", 0), ("2027-01-01", 4)])
def test_what_is_cancelled_more_than_12_months_after_the_emissions_year_is_marked(
    day: str, late: int
) -> None:
    report = on(bought(day, m2025_01=4, m2026_12=6), period=day[:4])
    assert report.cancelled.in_period_late_tonnes == late
    assert on(bought(day, m2025_01=4, m2026_12=6), period="2025").cancelled.for_period_late_tonnes == late
    assert report.credits[0].late_tonnes == late
    assert ("4.000 t more than 12 months after" in report.to_public_html()) is bool(late)


def test_a_credit_says_what_market_registry_and_deployment_tell() -> None:
    known = next(each for each in a_known_year().cancelled if each.project_id == "ICR-112")
    told = RetirementFacts(
        purchase=known.purchase,
        retirement_id="137-0x1-0",
        serial_numbers=("1-2", "5-9"),
        read_at=PLANNED_AT,
        certificate_sha256="ab" * 32,
    )
    (credit,) = on(
        known,
        projects=PROJECTS,
        retirements=[told],
        certificates={known.purchase: "../certificates/1.pdf"},
        facts=a_known_year().facts,
    ).credits
    assert (credit.project_name, credit.project_type) == ("Spruce Harbour Afforestation", "Forestry")
    assert (credit.mechanism, credit.sink, credit.methodologies) == ("removal", "biogenic", "AR-ACM0003")
    assert (credit.country, credit.in_eu, credit.corresponding_adjustment) == ("Sweden", True, False)
    assert (credit.standard, credit.standard_recognised) == ("International Carbon Registry", True)
    assert (credit.seller, credit.cancelled_at_is) == ("Example Climate Trading Ltd", "seen")
    assert (credit.serial_numbers, credit.certificate_sha256) == ("1-2; 5-9", "ab" * 32)
    assert credit.certificate_file == "../certificates/1.pdf"


def test_what_nobody_states_of_a_credit_is_nothing_and_never_a_guess() -> None:
    credit = the_credit()
    names = ("project_name", "mechanism", "sink", "country", "in_eu", "corresponding_adjustment", "seller")
    names += ("standard_recognised", "serial_numbers", "certificate_file", "cancelled_at_is", "fees_usd")
    assert {getattr(credit, name) for name in names} == {None}
    assert credit.standard == "VCS"
    facts = DisclosureFacts.model_validate({"projects": {"VCS-191": {"country": "Several countries"}}})
    assert the_credit(facts=facts).in_eu is None


@pytest.mark.parametrize(
    ("country", "expected"),
    [
        ("Sweden", True),
        ("the netherlands", True),
        ("CZ", True),
        ("Türkiye", False),
        ("Côte d’Ivoire", False),
        ("", None),
    ],
)
def test_countries_are_known_by_name_or_two_letters(country: str, expected: bool | None) -> None:
    assert is_in_eu(country) is expected


def test_the_sample_year_is_disclosed_as_esrs_e1_7_asks() -> None:
    block = make_report(a_known_year()).esrs_e1_7
    assert "paragraphs 59 to 61" in block.regulation
    assert (block.cancelled_tonnes, block.cancelled_before_tonnes) == (
        Decimal("1615.9527"),
        Decimal("181.881"),
    )
    told = {part.name: f"{part.tonnes:f} t, {part.percent:f} %" for part in block.by_mechanism}
    assert told == {
        "reduction": "438.9207 t, 27.16 %",
        "removal": "511.269 t, 31.64 %",
        "reduction and removal": "0 t, 0.00 %",
        "not stated": "665.763 t, 41.20 %",
    }
    assert [part.name for part in block.by_standard] == [
        "International Carbon Registry (ICR)",
        "Verified Carbon Standard (VCS)",
        "standards that are not recognised",
        "not stated",
    ]
    assert (block.planned_tonnes, block.planned_first_paid_at) == (
        Decimal("3.626"),
        block.planned_last_paid_at,
    )


def test_the_sample_year_is_listed_as_ab_1305_asks() -> None:
    listed = {each.project_id: each for each in make_report(a_known_year()).ab_1305.projects}
    assert list(listed) == [None, "ICR-112", "TVER-0044", "VCS-191"]
    hydropower = vars(listed["VCS-191"])
    assert {name: value for name, value in hydropower.items() if isinstance(value, str)} == {
        "seller": "Carbonmark",
        "registry": "Verified Carbon Standard",
        "project_id": "VCS-191",
        "project_name": "Upper Gorge Run-of-River Hydropower",
        "type": "avoided emission",
        "site": "China",
        "protocol": "ACM0002",
        "verification": "Not verified by an independent third party",
    }
    assert hydropower["for_period_tonnes"] == Decimal("433.92")
    assert (listed["TVER-0044"].type, listed["TVER-0044"].site, listed["TVER-0044"].protocol) == (
        None,
        None,
        None,
    )


def test_of_verra_s_credits_one_sentence_says_what_was_retired_where() -> None:
    bridged = RetirementFacts(
        purchase=1, retirement_id="137-0x1-0", bridge="Toucan", retired_at=PLANNED_AT, read_at=PLANNED_AT
    )
    known, unknown = (a_cancellation(purchase=purchase, tonnes=Decimal(purchase)) for purchase in (1, 2))
    said = on(known, unknown, retirements=[bridged]).retired_where or ""
    assert "over a bridge (Toucan: 1 t, no bridge told: 2 t) were retired on Verra's registry when" in said
    assert said.count(".") == 1
    assert on(a_cancellation(a_line(registry="ICR"))).retired_where is None


@given(
    strategies.lists(strategies.decimals(0, 10**6, places=9), max_size=40), strategies.sampled_from([2, 4])
)
def test_shares_add_up_to_100_and_are_off_by_less_than_a_step(amounts: list[Decimal], places: int) -> None:
    found, whole, step = shares(amounts, places), sum(amounts), Decimal(1).scaleb(-places)
    assert sum(found) == (100 if whole else 0)
    for amount, share in zip(amounts, found, strict=True):
        assert abs(share - amount * 100 / (whole or 1)) < step
    # What nothing was cancelled of has no share, however much is left to share out.
    assert all(share == 0 for amount, share in zip(amounts, found, strict=True) if not amount)


def test_of_equal_parts_the_first_gets_what_is_left() -> None:
    assert shares([Decimal(1)] * 3, 2) == [Decimal("33.34"), Decimal("33.33"), Decimal("33.33")]
