"""Ready-made columns on small inputs in shapes that were seen or are documented: tonnes, or an error with the way out."""

from __future__ import annotations

import datetime
import json
import logging
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from airflow_provider_carbonmark.emissions import (
    AWS,
    CLOUD_CARBON_FOOTPRINT as CCF,
    CODECARBON,
    GOOGLE_CLOUD,
    OVHCLOUD as OVH,
    Constant,
    EmissionsColumns,
    EmissionsError,
    Scope,
)
from airflow_provider_carbonmark.emissions.columns import AWS_LOCATION_BASED, GOOGLE_CLOUD_LOCATION_BASED
from tests.unit.emissions.conftest import read, tonnes

CASES = Path(__file__).parent / "cases"
# Each with its ready-made columns: tests/unit/test_dags.py.
SAMPLES = Path(__file__).parents[3] / "dags" / "data"
GCP_SAMPLE, AWS_SAMPLE = SAMPLES / "gcp-carbon-footprint.csv", SAMPLES / "aws-carbon-emissions.csv"
ACCOUNT, NO_PROJECT = "222222222222", "(no Google Cloud project)"
BY_DAY = replace(CCF, leave_out=(), entity=Constant("Example Corp"))
OWN = EmissionsColumns(period="month", entity="who", amount="mass", unit="kg")
SCOPES = replace(
    OWN,
    amount=None,
    amounts={"scope1": Scope("1"), "scope2_market": Scope("2", "market-based"), "scope3": Scope("3")},
)
BLANKS = 'blank="zero".*blank="skip_row"'


@pytest.mark.parametrize(
    ("file", "columns", "changes", "month", "expected"),
    [
        ("codecarbon-flush.csv", CODECARBON, {}, "2026-10", {"train": "0.35"}),
        ("codecarbon-blank-emissions.csv", CODECARBON, {"blank": "zero"}, "2026-10", {"train": "0.3"}),
        ("codecarbon-blank-emissions.csv", CODECARBON, {"blank": "skip_row"}, "2026-10", {"train": "0.3"}),
        ("codecarbon-padded.csv", CODECARBON, {}, "2026-10", {"train": "0.3"}),
        ("aws-two-model-versions.csv", AWS, {}, "2025-09", {ACCOUNT: "1.25"}),
        ("aws-two-model-versions.csv", AWS, {"version": "v2.1.0"}, "2025-09", {ACCOUNT: "1"}),
        ("aws-null-value.csv", AWS, {"blank": "zero"}, "2025-09", {ACCOUNT: "1.25"}),
        ("aws-null-value.csv", AWS, {"blank": "skip_row"}, "2025-09", {ACCOUNT: "1.25"}),
        (AWS_SAMPLE, AWS_LOCATION_BASED, {}, "2026-10", {"444455556666": "1.686", "777788889999": "0.928"}),
        (
            AWS_SAMPLE,
            *(AWS, {"entity": "product_code"}, "2026-10"),
            {"AmazonCloudFront": "0.0009", "AmazonEC2": "0.1445", "AmazonS3": "0.0288"},
        ),
        ("gcp-bigquery.jsonl", GOOGLE_CLOUD, {}, "2026-09", {"shop": "0.01", NO_PROJECT: "0.003"}),
        (
            GCP_SAMPLE,
            *(GOOGLE_CLOUD_LOCATION_BASED, {}, "2026-09"),
            {NO_PROJECT: "0.00031", "checkout-prod": "1.84115", "search-prod": "0.33795"},
        ),
        ("ccf-by-day.csv", CCF, {}, "2026-09", {"(no entity)": "0.001"}),
        ("ccf-by-day.csv", BY_DAY, {"leave_out": ("Total",)}, "2026-09", {"Example Corp": "0.001"}),
        ("ovh-blank-total.csv", OVH, {"blank": "skip_row"}, "2026-08", {"ns1.example.net": "0.02714"}),
        (
            "ovh-blank-total.csv",
            *(OVH, {"blank": "zero"}, "2026-08"),
            {"ns1.example.net": "0.02714", "(no OVHcloud server)": "0"},
        ),
    ],
)
def test_a_case_gives_its_tonnes(file, columns, changes, month, expected):
    assert tonnes(CASES / file, columns, month, **changes) == expected


@pytest.mark.parametrize(
    ("file", "columns", "changes", "month", "says"),
    [
        ("codecarbon-blank-emissions.csv", CODECARBON, {}, "2026-10", f"'emissions' is ''.*{BLANKS}"),
        ("aws-two-model-versions.csv", AWS, {"version": None}, "2025-09", "v2.1.0', 'v3.0.0'.*newest"),
        ("aws-null-value.csv", AWS, {}, "2025-09", f"line 3: .*{BLANKS}"),
        ("ccf-by-day.csv", BY_DAY, {}, "2026-09", r"line 4: column 'Date \(UTC\)' is 'Total'.*leave_out"),
        ("ovh-blank-total.csv", OVH, {}, "2026-08", f"line 3: .*{BLANKS}"),
    ],
)
def test_a_case_is_refused_with_the_way_out(file, columns, changes, month, says):
    with pytest.raises(EmissionsError, match=says):
        read(CASES / file, columns, month, **changes)


def test_the_log_says_what_was_read_and_what_does_not_count(caplog):
    caplog.set_level(logging.INFO)
    (only,) = read(CASES / "ccf-by-day.csv", CCF, "2026-09")
    assert [message.partition(str(CASES))[2] for message in caplog.messages[:2]] == [
        f"/ccf-by-day.csv: 3 rows, SHA-256 {only.files[0].sha256}",
        "/ccf-by-day.csv, line 4: 1 rows named 'Total' were left out",
    ]
    assert "metric tons CO2e Emissions: scope 2+3, location-based" in caplog.text
    for blank, done in {"zero": "count as zero", "skip_row": "were skipped with their rows"}.items():
        read(CASES / "aws-null-value.csv", AWS, "2025-09", blank=blank)
        assert f"1 blank amounts {done}" in caplog.text


def test_google_clouds_columns_are_found_flattened_and_nested():
    flattened = GCP_SAMPLE.read_text().replace("project.", "project_").replace("CO2e.", "CO2e_")
    assert tonnes(flattened, GOOGLE_CLOUD, "2026-09") == tonnes(GCP_SAMPLE, GOOGLE_CLOUD, "2026-09")
    lines = (CASES / "gcp-bigquery.jsonl").read_text()
    assert tonnes(lines, GOOGLE_CLOUD, "2026-09") == tonnes(
        list(map(json.loads, lines.splitlines())), GOOGLE_CLOUD, "2026-09"
    )
    rows = [
        {
            "usage_month": datetime.date(2026, 9, 1),
            "project": project,
            "carbon_footprint_total_kgCO2e": {"market_based": amount},
        }
        for project, amount in (({"id": "a"}, 1.5), (None, 2), ({"id": None}, Decimal("0.5")))
    ]
    assert tonnes(rows, GOOGLE_CLOUD, "2026-09") == {"a": "0.0015", NO_PROJECT: "0.0025"}


def test_each_scope_is_kept_with_its_method():
    (only,) = read(CASES / "scopes-wide.csv", SCOPES)
    assert only.emitted_tonnes == Decimal("0.006")
    assert [(part.scopes, part.method, part.tonnes) for part in only.parts] == [
        ("1", "", Decimal("0.001")),
        ("2", "market-based", Decimal("0.002")),
        ("3", "", Decimal("0.003")),
    ]


def test_the_files_of_a_run_and_of_its_tasks_are_one_run():
    both = [CASES / "codecarbon-main.csv", CASES / "codecarbon-tasks.csv"]
    for files in (both, both[::-1], both[1:]):
        assert tonnes(files, CODECARBON) == {"train": "0.3"}
