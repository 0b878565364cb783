"""The report as CSV, as JSON, and on disk."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from airflow_provider_carbonmark import reporting
from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.ledger.names import State
from airflow_provider_carbonmark.ledger.values import Origin, Part
from airflow_provider_carbonmark.reporting import Records, make_report
from airflow_provider_carbonmark.reporting.tables import COLUMNS, CREDIT_COLUMNS
from tests.unit.reporting.sample import REPORTS, a_known_year, a_line, report_on

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.purchase import PurchaseLine

SCHEMA = json.loads(Path(reporting.__file__).with_name("report.schema.json").read_text())
WRITTEN = ["credits.csv", "report.csv", "report.json", "public.html", "index.json", "index.html"]


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def rows(*lines: PurchaseLine) -> list[dict[str, str]]:
    return read(report_on(lines).to_csv())


def test_the_csvs_have_a_line_for_each_row_and_keep_to_the_rules_for_csv() -> None:
    report = make_report(a_known_year("2026-10"))
    found = read(report.to_csv())
    assert sorted(int(row["id"]) for row in found) == sorted(
        line.id for line in (*report.lines, *report.test_lines)
    )
    assert tuple(found[0]) == COLUMNS
    found = read(report.to_credits_csv())
    assert [int(row["purchase"]) for row in found] == [credit.purchase for credit in report.credits]
    assert tuple(found[0]) == CREDIT_COLUMNS
    name = 'Say "hello", or\nnothing'
    text = report_on([a_line(beneficiary_name=name)]).to_csv()
    assert text.endswith("\r\n")
    assert '"Say ""hello"", or\nnothing"' in text
    assert rows(a_line(beneficiary_name=name))[0]["beneficiary_name"] == name


def test_the_counted_columns_add_up_to_the_totals() -> None:
    report = make_report(a_known_year())
    found = read(report.to_csv())
    for name in ("emitted_tonnes", "retired_tonnes", "cost_usd"):
        assert sum(Decimal(row[f"counted_{name}"]) for row in found) == getattr(report.totals, name)
    found = read(report.to_credits_csv())
    sums = {
        name: sum(Decimal(row[name]) for row in found)
        for name in ("share_percent", "cancelled_in_period_tonnes", "for_period_tonnes")
    }
    assert sums["share_percent"] == 100
    assert sums["cancelled_in_period_tonnes"] == report.cancelled.in_period_tonnes
    assert sums["for_period_tonnes"] == report.cancelled.for_period_tonnes == report.totals.retired_tonnes


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
    assert [row["state"] for row in rows(a_line(), a_line(test_mode=True))] == ["retired", "rehearsed"]


def test_a_row_says_where_its_figure_is_from() -> None:
    parts = [Part(scope, scope, method, Decimal(1)) for scope, method in (("1", ""), ("2", "market-based"))]
    lines = a_line(origin=Origin("AWS", "v3", tuple(parts))), a_line(line=2, origin=Origin("", "", ()))
    names = ("source", "model_version", "scopes", "method")
    told = [[row[name] for name in names] for row in rows(*lines)]
    assert told == [["AWS", "v3", "1, 2", "market-based"], [""] * 4]
    content = json.loads(report_on(lines[1:]).to_json())
    assert [content["lines"][0][name] for name in names] == [None] * 4
    (emitted,) = json.loads(report_on(lines[:1]).to_json())["emissions"]
    assert emitted["parts"][0] == {"column": "1", "scopes": "1", "method": None, "tonnes": "1"}


@pytest.mark.parametrize("start", [*"=+-@\t\r\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
@pytest.mark.parametrize("column", ["entity", "reason", "beneficiary_name", "certificate_url", "payment_id"])
def test_a_cell_that_a_spreadsheet_would_calculate_is_defused(column: str, start: str) -> None:
    text = f"{start}cmd|' /C calc'!A0"
    line = a_line(**{column: text})
    assert rows(line)[0][column] == f"'{text}"
    if column in CREDIT_COLUMNS:
        assert read(report_on([line]).to_credits_csv())[0][column] == f"'{text}"


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
    for line in report_on([a_line(reason=text)]).to_csv().splitlines()[1:]:
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


def test_only_the_operator_s_page_leads_to_what_is_to_be_paid_and_only_where_it_is_told_how() -> None:
    line = a_line(State.LINK_MADE, purchase=7, checkout_url="https://pay.example/secret")
    report = report_on([line], "2026", pay_urls={7: "https://airflow.example/carbonmark/pay/x"})
    assert '<a href="https://airflow.example/carbonmark/pay/x"' in report.to_html()
    others = (report.to_public_html(), report.to_csv(), report.to_credits_csv(), report.to_json())
    for text in (*others, report_on([line], "2026").to_html()):
        assert "secret" not in text
        assert "airflow.example" not in text


@pytest.mark.parametrize("records", REPORTS.values(), ids=REPORTS)
def test_the_json_is_as_its_schema_says_without_a_float_or_an_exponent(records: Records) -> None:
    def refuse(text: str) -> None:
        raise AssertionError(f"a float: {text}")

    content = json.loads(make_report(records).to_json(), parse_float=refuse, parse_constant=refuse)
    jsonschema.Draft202012Validator(SCHEMA).validate(content)


def test_the_schema_is_one_and_refuses_what_the_report_has_not() -> None:
    validator = jsonschema.Draft202012Validator
    validator.check_schema(SCHEMA)
    content = json.loads(make_report(a_known_year()).to_json())
    places: list[Any] = [
        content,
        *(content[name] for name in ("totals", "esrs_e1_7", "cancelled", "company")),
    ]
    places += [
        content[name][0] for name in ("months", "credits", "lines", "files", "restatements", "problems")
    ]
    for place in places:
        place["more"] = 1
        assert not validator(SCHEMA).is_valid(content)
        del place["more"]
        key, value = place.popitem()
        assert not validator(SCHEMA).is_valid(content)
        place[key] = value
    assert validator(SCHEMA).is_valid(content)


def test_the_json_has_what_the_report_has() -> None:
    line = a_line(emitted="10.0000001", quantity="10", cost_usd=Decimal("37.80"))
    problem = a_line(
        State.PAID_NOT_RETIRED, "0.0000001", "0.001", entity="b", reason="Reverted", payment_id="p1"
    )
    content = json.loads(report_on([line, a_line(test_mode=True), problem]).to_json())
    assert (content["period"], content["period_before"]) == ("2026-10", "2025-10")
    assert content["as_of"] == "2026-11-21T09:02:00+00:00"
    figures = content["entities"][1]
    assert (figures["entity"], figures["open_tonnes"], figures["cost_usd"]) == (
        "ml-training",
        "0.0000001",
        "37.80",
    )
    assert (figures["coverage_percent"], figures["price_per_tonne_usd"]) == ("99.9", "3.78")
    assert [row["id"] for row in content["lines"]] == [problem.id, line.id]
    assert [row["test_mode"] for row in content["test_lines"]] == [True]
    (told,) = content["problems"]
    assert (told["kind"], told["what"], told["is_settled"]) == ("paid_not_retired", "Reverted", False)


def test_the_same_records_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    records = a_known_year()
    backwards = Records(
        **{
            name: list(value)[::-1] if isinstance(value, list) else value
            for name, value in vars(records).items()
        }
    )
    for name, each in (("one", records), ("other", backwards)):
        make_report(each).write(tmp_path / name)
    for name in WRITTEN:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_the_index_has_the_checksum_of_each_file_those_of_certificates_too(tmp_path: Path) -> None:
    report = make_report(a_known_year())
    report.write(tmp_path)
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["as_of"] == "2026-11-21T09:33:00+00:00"
    assert index["ledger_schema_version"] == 3
    told = {file["name"]: file["sha256"] for file in index["files"]}
    (certificate,) = [credit for credit in report.credits if credit.certificate_file]
    assert told.pop(certificate.certificate_file) == certificate.certificate_sha256
    assert told == {
        name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        for name in WRITTEN
        if name != "index.json"
    }


def test_a_disk_that_fails_keeps_the_old_page(tmp_path: Path) -> None:
    report = report_on([a_line()])
    report.write(tmp_path)
    (tmp_path / "report.json").unlink()
    (tmp_path / "report.json").mkdir()  # nothing can be moved there
    with pytest.raises(IsADirectoryError):
        report_on([]).write(tmp_path)
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == report.to_html()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(WRITTEN)


def test_a_folder_that_is_text_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"folder is text .*pathlib\.Path or ObjectStoragePath"):
        report_on([]).write("/tmp/reports")  # type: ignore[arg-type]
