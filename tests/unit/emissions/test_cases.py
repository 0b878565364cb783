"""Small inputs in shapes that were seen or are documented, and what they must give: tonnes, or an error with the way out."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from airflow_provider_carbonmark.emissions import (
    AWS,
    CLOUD_CARBON_FOOTPRINT,
    CODECARBON,
    GOOGLE_CLOUD,
    OVHCLOUD,
    Constant,
    EmissionsColumns,
    EmissionsError,
    Scope,
    emissions_of_month,
)

CASES = Path(__file__).parent / "cases"
ACCOUNT = "222222222222"
BY_DAY = EmissionsColumns(
    period="Date (UTC)", entity=Constant("Example Corp"), amount="metric tons CO2e Emissions", unit="t"
)
EUROPEAN = EmissionsColumns(period="month", entity="who", amount="mass", unit="kg")
SCOPES = EmissionsColumns(
    period="month",
    entity="who",
    unit="kg",
    amounts={"scope1": Scope("1"), "scope2_market": Scope("2", "market-based"), "scope3": Scope("3")},
)
BLANKS = 'blank="zero".*blank="skip_row"'


def tonnes(source, columns: EmissionsColumns, month: str) -> dict[str, Decimal]:
    return {one.entity: one.emitted_tonnes for one in emissions_of_month(source, columns, month)}


@pytest.mark.parametrize(
    ("file", "columns", "month", "expected"),
    [
        ("codecarbon-flush.csv", CODECARBON, "2026-10", {"train": "0.35"}),
        ("codecarbon-blank-emissions.csv", replace(CODECARBON, blank="zero"), "2026-10", {"train": "0.3"}),
        (
            "codecarbon-blank-emissions.csv",
            replace(CODECARBON, blank="skip_row"),
            "2026-10",
            {"train": "0.3"},
        ),
        ("codecarbon-padded.csv", CODECARBON, "2026-10", {"train": "0.3"}),
        ("aws-two-model-versions.csv", AWS, "2025-09", {ACCOUNT: "1.25"}),
        ("aws-two-model-versions.csv", replace(AWS, version="v2.1.0"), "2025-09", {ACCOUNT: "1"}),
        ("aws-null-value.csv", replace(AWS, blank="zero"), "2025-09", {ACCOUNT: "1.25"}),
        ("aws-null-value.csv", replace(AWS, blank="skip_row"), "2025-09", {ACCOUNT: "1.25"}),
        (
            "gcp-bigquery.jsonl",
            GOOGLE_CLOUD,
            "2026-09",
            {"shop": "0.01", "(no Google Cloud project)": "0.003"},
        ),
        ("ccf-by-day.csv", CLOUD_CARBON_FOOTPRINT, "2026-09", {"(no entity)": "0.001"}),
        ("ccf-by-day.csv", replace(BY_DAY, leave_out=("Total",)), "2026-09", {"Example Corp": "0.001"}),
        ("european.csv", replace(EUROPEAN, delimiter=";", decimal=","), "2026-10", {"a": "0.0055"}),
        ("scopes-wide.csv", SCOPES, "2026-10", {"a": "0.006"}),
        (
            "ovh-blank-total.csv",
            replace(OVHCLOUD, blank="skip_row"),
            "2026-08",
            {"ns1.example.net": "0.02714"},
        ),
        (
            "ovh-blank-total.csv",
            replace(OVHCLOUD, blank="zero"),
            "2026-08",
            {"ns1.example.net": "0.02714", "(no OVHcloud server)": "0"},
        ),
    ],
)
def test_a_case_gives_its_tonnes(file, columns, month, expected):
    assert tonnes(CASES / file, columns, month) == {who: Decimal(mass) for who, mass in expected.items()}


@pytest.mark.parametrize(
    ("file", "columns", "month", "says"),
    [
        (
            "codecarbon-blank-emissions.csv",
            CODECARBON,
            "2026-10",
            f"line 3: column 'emissions' is ''.*{BLANKS}",
        ),
        ("aws-two-model-versions.csv", replace(AWS, version=None), "2025-09", "v2.1.0', 'v3.0.0'.*newest"),
        ("aws-two-model-versions.csv", replace(AWS, version="v4"), "2025-09", "none of 'v4': choose another"),
        ("aws-null-value.csv", AWS, "2025-09", f"line 3: .*{BLANKS}"),
        ("ccf-by-day.csv", BY_DAY, "2026-09", r"line 4: column 'Date \(UTC\)' is 'Total'.*leave_out"),
        ("european.csv", EUROPEAN, "2026-10", "separated by ';': write EmissionsColumns"),
        (
            "european.csv",
            replace(EUROPEAN, delimiter=";"),
            "2026-10",
            "line 2: column 'mass' is '5,5'.*decimal",
        ),
        ("ovh-blank-total.csv", OVHCLOUD, "2026-08", f"line 3: .*{BLANKS}"),
    ],
)
def test_a_case_is_refused_with_the_way_out(file, columns, month, says):
    with pytest.raises(EmissionsError, match=says):
        emissions_of_month(CASES / file, columns, month)


def test_the_newest_version_is_chosen_aloud_and_goes_with_the_emissions(caplog):
    caplog.set_level(logging.INFO)
    (only,) = emissions_of_month(CASES / "aws-two-model-versions.csv", AWS, "2025-09")
    assert (only.source, only.version) == ("AWS", "v3.0.0")
    assert any("version v3.0.0 counts, and version v2.1.0 does not" in message for message in caplog.messages)


def test_bigquerys_rows_give_the_same_as_mappings():
    rows = [json.loads(line) for line in (CASES / "gcp-bigquery.jsonl").read_text().splitlines()]
    assert tonnes(rows, GOOGLE_CLOUD, "2026-09") == tonnes(
        CASES / "gcp-bigquery.jsonl", GOOGLE_CLOUD, "2026-09"
    )


def test_each_scope_is_kept_with_its_method():
    (only,) = emissions_of_month(CASES / "scopes-wide.csv", SCOPES, "2026-10")
    assert [(part.scopes, part.method, part.tonnes) for part in only.parts] == [
        ("1", "", Decimal("0.001")),
        ("2", "market-based", Decimal("0.002")),
        ("3", "", Decimal("0.003")),
    ]


def test_the_files_of_a_run_and_of_its_tasks_are_one_run():
    both = [CASES / "codecarbon-main.csv", CASES / "codecarbon-tasks.csv"]
    for files in (both, both[::-1], both[1:]):
        assert tonnes(files, CODECARBON, "2026-10") == {"train": Decimal("0.3")}
