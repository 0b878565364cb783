"""The report as CSV, as JSON, and on disk."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import pytest

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.ledger.purchase import PurchaseLine, State
from airflow_provider_carbonmark.ledger.values import Origin, Part
from airflow_provider_carbonmark.reporting import make_report
from airflow_provider_carbonmark.reporting.report import COLUMNS
from tests.unit.reporting.sample import a_line, a_year


def rows(*lines: PurchaseLine) -> list[dict[str, str]]:
    text = make_report(lines, "2026-10").to_csv()
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_the_csv_has_a_line_for_each_row_of_the_ledger() -> None:
    lines = [line for line in a_year() if line.month == "2026-10"]
    found = rows(*lines)
    assert sorted(int(row["id"]) for row in found) == sorted(line.id for line in lines)
    assert tuple(found[0]) == COLUMNS


def test_the_csv_keeps_to_the_rules_for_csv() -> None:
    name = 'Say "hello", or\nnothing'
    text = make_report([a_line(beneficiary_name=name)], "2026-10").to_csv()
    assert text.endswith("\r\n")
    assert '"Say ""hello"", or\nnothing"' in text
    assert rows(a_line(beneficiary_name=name))[0]["beneficiary_name"] == name


def test_the_counted_columns_add_up_to_the_totals() -> None:
    report = make_report(a_year(), "2026")
    found = list(csv.DictReader(io.StringIO(report.to_csv(), newline=""), strict=True))
    for name in ("emitted_tonnes", "retired_tonnes", "cost_usd"):
        assert sum(Decimal(row[f"counted_{name}"]) for row in found) == getattr(report.totals, name)


def test_a_row_says_plainly_what_it_is() -> None:
    line = a_line(State.LINK_MADE, "12.5", test_mode=True, vintage=None)
    (row,) = rows(line)
    assert (row["state"], row["test_mode"], row["vintage"], row["retired_at"]) == (
        "link_made",
        "true",
        "",
        "",
    )
    assert (row["quantity_tonnes"], row["counted_retired_tonnes"]) == ("12.5", "0")
    assert row["planned_at"] == "2026-11-21T06:02:00+00:00"
    assert row["run_id"] == row["handler_run_id"] == "scheduled__2026-11-21T06:00:00+00:00"
    assert row["deployment"] == row["handler_deployment"] == "us"
    assert row["purchase"] == str(line.purchase)


def test_a_row_says_where_its_figure_is_from() -> None:
    parts = [Part(scope, scope, method, Decimal(1)) for scope, method in (("1", ""), ("2", "market-based"))]
    lines = a_line(origin=Origin("AWS", "v3", tuple(parts))), a_line(line=2, origin=Origin("", "", ()))
    names = ("source", "model_version", "scopes", "method")
    told = [[row[name] for name in names] for row in rows(*lines)]
    assert told == [["AWS", "v3", "1, 2", "market-based"], [""] * 4]
    (row,) = json.loads(make_report(lines[1:], "2026-10").to_json())["lines"]
    assert [row[name] for name in names] == [None] * 4


@pytest.mark.parametrize("start", [*"=+-@\t\r\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
@pytest.mark.parametrize("column", ["entity", "reason", "beneficiary_name", "certificate_url", "payment_id"])
def test_a_cell_that_a_spreadsheet_would_calculate_is_defused(column: str, start: str) -> None:
    text = f"{start}cmd|' /C calc'!A0"
    (row,) = rows(a_line(**{column: text}))
    assert row[column] == f"'{text}"


@pytest.mark.parametrize(
    ("text", "defused"),
    [
        ("x;=1+1", "x;'=1+1"),
        ("x;+1;-1;@A1", "x;'+1;'-1;'@A1"),
        ("x;\t=1", "x;'\t'=1"),
        ("x;\r", "x;'\r"),
        ("x\t=1+1", "x\t'=1+1"),
        ("x;\uff1d1", "x;'\uff1d1"),
        # By such a spreadsheet's reading, a quote within a cell is none that holds the text together: neither one right before a
        # formula, nor those around a text of several lines.
        ('x;"=1+1;', "x;'\"=1+1;"),
        ("x\n=1+1", "x\n'=1+1"),
        ("x\r\n@A1", "x\r\n'@A1"),
        ("=1;=2", "'=1;'=2"),
        (";=1", ";'=1"),
    ],
)
def test_nor_does_a_spreadsheet_calculate_that_separates_cells_by_semicolon_or_tab(
    text: str, defused: str
) -> None:
    (row,) = rows(a_line(reason=text))
    assert row["reason"] == defused
    starts = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
    for line in make_report([a_line(reason=text)], "2026-10").to_csv().splitlines()[1:]:
        for separator in ";\t":
            assert not any(cell.lstrip('"').startswith(starts) for cell in line.split(separator))


@pytest.mark.parametrize(
    "text", ["a; b - c = d", "a;b", "one\n\ntwo\r\nthree", "x@y.z; a+b", "https://a.b/?c=-d;e"]
)
def test_text_that_no_spreadsheet_would_calculate_stays_as_it_is(text: str) -> None:
    (row,) = rows(a_line(reason=text))
    assert row["reason"] == text


def test_numbers_stay_numbers_below_zero_too() -> None:
    (row,) = rows(a_line(State.RESTATED, "-0.0000005"))
    assert row["emitted_tonnes"] == row["counted_emitted_tonnes"] == "-0.0000005"


def test_no_format_gives_the_link_to_pay_away() -> None:
    report = make_report([a_line(State.LINK_MADE, checkout_url="https://pay.example/secret")], "2026-10")
    for text in (report.to_html(), report.to_csv(), report.to_json()):
        assert "secret" not in text


def test_the_json_has_what_the_report_has() -> None:
    line = a_line(emitted="10.0000001", quantity="10")
    content = json.loads(make_report([line, a_line(test_mode=True)], "2026-10").to_json())
    figures = {
        "emitted_tonnes": "10.0000001",
        "retired_tonnes": "10",
        "open_tonnes": "0.0000001",
        "planned_tonnes": "0",
        "link_made_tonnes": "0",
        "paid_tonnes": "0",
        "cost_usd": "37.80",
        "rounding_tonnes": "0",
        "coverage_percent": "99.9",
        "price_per_tonne_usd": "3.78",
    }
    assert content["period"] == "2026-10"
    assert content["totals"] == figures
    assert content["months"] == [{"month": "2026-10", **figures}]
    assert content["entities"] == [{"entity": "ml-training", **figures}]
    assert content["problems"] == []
    (row,) = content["lines"]
    assert tuple(row) == COLUMNS
    assert (row["id"], row["state"], row["test_mode"]) == (line.id, "retired", False)
    assert (row["quantity_tonnes"], row["vintage"], row["reason"]) == ("10", 2019, None)
    assert [row["test_mode"] for row in content["test_lines"]] == [True]


def test_the_json_has_no_float_and_no_exponent() -> None:
    def refuse(text: str) -> None:
        raise AssertionError(f"a float: {text}")

    small = a_line(emitted="0.0000001", quantity="0.001", cost_usd=Decimal("1E-9"))
    text = make_report([*a_year(), small], "2026").to_json()
    json.loads(text, parse_float=refuse, parse_constant=refuse)
    assert '"0.000000001"' in text


def test_the_json_names_problems() -> None:
    content = json.loads(
        make_report([a_line(State.PAID_NOT_RETIRED, reason="Reverted", payment_id="p1")], "2026-10").to_json()
    )
    assert content["problems"] == [
        {
            "kind": "paid_not_retired",
            "entity": "ml-training",
            "month": "2026-10",
            "line": 1,
            "tonnes": "10",
            "what": "Reverted",
            "todo": "Payment p1 counts as taken, and nothing is retired for it: ask Carbonmark for the money back, or, while nothing "
            "else is bought for the tonnes, for another listing. Run 2026-10 again: the tonnes are open, and what is missing is planned "
            "anew.",
            "is_settled": False,
        }
    ]


def test_the_same_rows_give_the_same_bytes() -> None:
    lines = a_year()
    one, other = make_report(lines, "2026"), make_report(reversed(lines), "2026")
    assert one.to_html() == other.to_html()
    assert (one.to_csv(), one.to_json()) == (other.to_csv(), other.to_json())


def test_a_disk_that_fails_keeps_the_old_report(tmp_path: Path) -> None:
    report = make_report([a_line()], "2026-10")
    report.write(tmp_path)
    (tmp_path / "report.json").unlink()
    (tmp_path / "report.json").mkdir()  # nothing can be moved there
    with pytest.raises(IsADirectoryError):
        make_report([], "2026-10").write(tmp_path)
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == report.to_html()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "report.csv", "report.json"]


def test_a_folder_that_is_text_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"folder is text .*pathlib\.Path or ObjectStoragePath"):
        make_report([], "2026").write("/tmp/reports")  # type: ignore[arg-type]
