"""Kinds of files, and how tables are written."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import io
import json
import sys
import zipfile
from dataclasses import replace
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_carbonmark.emissions import (
    AWS,
    GOOGLE_CLOUD,
    Constant,
    EmissionsColumns,
    EmissionsError,
    Scope,
    emissions_of_month,
)

OWN = EmissionsColumns(period="when", entity="who", amount="mass", unit="kg")
ROWS = [
    {"when": "2026-10", "who": "a", "mass": "1.1"},
    {"when": "2026-10", "who": "a", "mass": "2.2"},
    {"when": "2026-09", "who": "b", "mass": "5"},
]
ALL = {"a": Decimal("0.0033")}
PACKED = pytest.mark.parametrize("pack", [bytes, gzip.compress])


def csv_of(rows: list[dict[str, str]], delimiter: str = ",") -> bytes:
    lines = [rows[0].keys(), *(row.values() for row in rows)]
    return "".join(f"{delimiter.join(map(str, line))}\n" for line in lines).encode()


def json_of(rows: list[dict[str, object]]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def parquet_of(table: pa.Table | list[dict[str, object]], **options: object) -> bytes:
    file = io.BytesIO()
    pq.write_table(table if isinstance(table, pa.Table) else pa.Table.from_pylist(table), file, **options)
    return file.getvalue()


def tonnes(source, columns: EmissionsColumns = OWN, month: str = "2026-10") -> dict[str, Decimal]:
    source = io.BytesIO(source) if isinstance(source, bytes) else source
    return {one.entity: one.emitted_tonnes for one in emissions_of_month(source, columns, month)}


def problem(source, columns: EmissionsColumns = OWN, month: str = "2026-10") -> str:
    with pytest.raises(EmissionsError) as caught:
        tonnes(source, columns, month)
    return str(caught.value)


@PACKED
@pytest.mark.parametrize("write", [csv_of, json_of, parquet_of])
def test_each_kind_of_file_is_read_whatever_its_name_and_its_bytes_are_kept(tmp_path, write, pack):
    path = tmp_path / "emissions.csv"
    path.write_bytes(pack(write(ROWS)))
    (only,) = emissions_of_month(path, OWN, "2026-10")
    assert {only.entity: only.emitted_tonnes} == ALL
    assert [(file.path, file.rows, file.sha256) for file in only.files] == [
        (str(path), 3, hashlib.sha256(path.read_bytes()).hexdigest())
    ]


def test_several_files_of_any_kind_are_one_table():
    sources = [
        io.BytesIO(write([row])) for write, row in zip((csv_of, json_of, parquet_of), ROWS, strict=True)
    ]
    emissions = emissions_of_month(sources, OWN, "2026-10")
    assert {one.entity: one.emitted_tonnes for one in emissions} == ALL
    assert [file.rows for file in emissions[0].files] == [1, 1, 1]
    assert "(no such" not in problem([io.BytesIO(csv_of(ROWS[2:])), io.BytesIO(json_of(ROWS[2:]))])


def test_the_same_file_twice_is_refused():
    twice = [io.BytesIO(csv_of(ROWS)), io.BytesIO(csv_of(ROWS))]
    assert "byte for byte, and its rows would count twice" in problem(twice)


def xlsx() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as book:
        book.writestr("xl/workbook.xml", "<workbook/>")
    return file.getvalue()


OTHER_KINDS = {
    "Avro": (b"Obj\x01\x04\x14avro.codec", "is Avro, .*fastavro"),
    "XLSX": (xlsx(), "is XLSX or another ZIP, .*save the sheet as CSV"),
    "JSON array": (b"[" + json_of(ROWS[:1]).strip() + b"]", "is JSON in one piece, .*write JSON lines"),
    "JSON over lines": (b'{\n"when": "2026-10"\n}\n', "line 1: is no JSON object on a line"),
    "cut Parquet": (parquet_of(ROWS)[:-9], "damaged Parquet"),
    "no Parquet": (b"PAR1PAR1", "damaged Parquet"),
    "semicolons": (csv_of(ROWS, ";"), "separated by ';'"),
    "tabs": (csv_of(ROWS, "\t"), "separated by tabs"),
    "UTF-16": (csv_of(ROWS).decode().encode("utf-16"), "UTF-16"),
    "gzip twice": (gzip.compress(gzip.compress(csv_of(ROWS))), "gzip within gzip"),
}


@PACKED
@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_a_file_of_another_kind_is_named_for_what_it_is(kind, pack):
    content, says = OTHER_KINDS[kind]
    with pytest.raises(EmissionsError, match=says):
        tonnes(pack(content))


def test_without_pyarrow_parquet_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert "pip install 'airflow-provider-carbonmark[parquet]'" in problem(parquet_of(ROWS))


def test_parquet_gives_types_nested_columns_and_nulls_as_the_text_they_are():
    usage = pa.array([datetime.date(2026, 9, 1)] * 4, pa.date32())
    table = pa.table(
        {
            "usage_month": usage,
            "project": pa.array(
                [{"id": "shop"}, {"id": "shop"}, None, {"id": None}], pa.struct({"id": pa.string()})
            ),
            "carbon_model_version": pa.array([14, 14, 14, None]),
            "carbon_footprint_total_kgCO2e": pa.array(
                [{"market_based": 0.1}, {"market_based": 0.2}, {"market_based": 3.0}, {"market_based": 1e-7}],
                pa.struct({"market_based": pa.float64()}),
            ),
        }
    )
    found = tonnes(parquet_of(table.slice(0, 3)), GOOGLE_CLOUD, "2026-09")
    assert found == {"shop": Decimal("0.0003"), "(no Google Cloud project)": Decimal("0.003")}
    assert "none is plainly the newest" in problem(parquet_of(table), GOOGLE_CLOUD, "2026-09")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parquet_timestamps_are_read_in_any_unit(unit):
    when = pa.array([datetime.datetime(2026, 10, 31, 23, 59, 59)], pa.timestamp(unit, tz="UTC"))
    table = pa.table(
        {"when": when, "who": pa.array(["a"]).dictionary_encode(), "mass": pa.array([Decimal("1.50")])}
    )
    assert tonnes(parquet_of(table)) == {"a": Decimal("0.0015")}


def test_parquet_without_a_column_names_it():
    assert "emissions file: has no column 'mass'" in problem(parquet_of([{"when": "2026-10", "who": "a"}]))
    nested = parquet_of([{"when": "2026-10", "who": {"id": "a"}, "mass": 1}])
    assert "emissions file: has no column 'who.name'" in problem(nested, replace(OWN, entity="who.name"))


@pytest.mark.parametrize("write", [json_of, parquet_of])
def test_a_column_that_holds_others_is_no_entity(write):
    rows = [{"when": "2026-10", "who": {"id": "a"}, "mass": 1}]
    assert "column 'who'" in problem(write(rows))
    assert tonnes(write(rows), replace(OWN, entity="who.id")) == {"a": Decimal("0.001")}


def test_json_numbers_are_exact_and_nulls_may_be_left_out():
    lines = b'{"when":"2026-10","who":"a","mass":0.1}\n\n{"when":"2026-10","mass":2e-1}\n{"when":"2026-10","who":null,"mass":"3"}\n'
    assert tonnes(lines) == {"a": Decimal("0.0001"), "(no entity)": Decimal("0.0032")}
    assert 'blank="zero"' in problem(lines + b'{"when":"2026-10","who":"a"}\n')


def test_a_name_that_no_json_line_has_is_misspelt():
    columns = replace(OWN, entity="whom", blank="zero")
    assert "row 1 to 3: has no column 'whom'" in problem(json_of(ROWS), columns)


@pytest.mark.parametrize("line", [b"[1]", b"1", b"x", b'{"when":', b"[" * 100_000, b'{"a":' * 100_000])
def test_a_line_that_is_no_json_object_is_refused_with_its_number(line):
    assert "line 4: is no JSON object" in problem(json_of(ROWS) + line + b"\n")


def test_what_excel_saves_in_europe_is_read_as_its_author_says():
    columns = replace(OWN, delimiter=";", decimal=",", encoding="cp1252")
    assert tonnes("when ;who; mass \n2026-10;Zürich; 5,5 \n2026-10;Zürich;1\n".encode("cp1252"), columns) == {
        "Zürich": Decimal("0.0065")
    }
    for amount in ("1.234", "1.234,5", "1,2,3"):
        assert f"column 'mass' is {amount!r}" in problem(
            f"when;who;mass\n2026-10;a;{amount}\n".encode(), columns
        )
    assert tonnes(csv_of(ROWS).decode().encode("utf-16"), replace(OWN, encoding="utf-16")) == ALL


@pytest.mark.parametrize(
    ("period_format", "period"),
    [
        ("%Y/%m", "2026/10"),
        ("%Y%m", "202610"),
        ("%Y%m%d", "20261031"),
        ("%b %Y", "Oct 2026"),
        ("%m/%Y", "10/2026"),
    ]
    + [("%d.%m.%Y", "1.10.2026"), ("%B %Y", "october 2026"), ("%y-%m", "26-10")],
)
def test_months_are_read_as_their_author_says(period_format, period):
    columns = replace(OWN, period_format=period_format)
    assert tonnes([{"when": period, "who": "a", "mass": 1}], columns) == {"a": Decimal("0.001")}
    for other in ("2026-10", "", "20261", "2026111", "13/2026"):
        assert "column 'when' is" in problem([{"when": other, "who": "a", "mass": 1}], columns)


@pytest.mark.parametrize(
    "faulty",
    [{"period_format": "%Y"}, {"period_format": "%m"}, {"period_format": "month"}, {"period_format": "%"}]
    + [{"blank": "ignore"}, {"decimal": "'"}, {"delimiter": ""}, {"delimiter": ";;"}, {"encoding": "klingon"}]
    + [
        {"encoding": "hex"},
        {"version": "newest"},
        {"part_of_total": "task"},
        {"leave_out": "Total"},
        {"amount": None},
    ]
    + [{"amounts": {"mass": Scope("1")}}, {"amount": None, "amounts": {"mass": "1"}}],
)
def test_columns_that_do_not_fit_together_are_refused(faulty):
    with pytest.raises(EmissionsError):
        replace(OWN, **faulty)


def test_two_methods_of_one_scope_are_never_added():
    both = {"market": Scope("2", "market-based"), "location": Scope("1+2", "location-based")}
    with pytest.raises(EmissionsError, match="'market'.*'location'.*would count these twice"):
        replace(OWN, amount=None, amounts=both)
    with pytest.raises(EmissionsError, match="method is 'market'"):
        Scope("2", "market")
    with pytest.raises(EmissionsError, match="scopes is '4'"):
        Scope("4")
    with pytest.raises(EmissionsError, match="the constant entity is ''"):
        Constant("")


def period_rows(start: str, end: str) -> list[dict[str, str]]:
    return [
        {"from": start, "to": end, "who": "a", "mass": "1"},
        {"from": "2026-10-01", "to": "2026-10-31", "who": "b", "mass": "1"},
    ]


SPANS = replace(OWN, period="from", period_end="to")


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-10-01 00:00:00Z", "2026-10-31 23:59:59Z"),
        ("2026-10-01", "2026-11-01"),
        ("2026-10-05", "2026-10-05"),
    ]
    + [("2026-10", "2026-10"), ("2026-10-31T22:00:00+01:00", "2026-11-01T00:00:00+01:00")],
)
def test_a_row_within_a_month_counts(start, end):
    assert set(tonnes(period_rows(start, end), SPANS)) == {"a", "b"}


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-10-01", "2026-12-31"),
        ("2026-08-01", "2026-10-31"),
        ("2026-01-01", "2026-12-31"),
        ("2026-10", "2026-12"),
    ]
    + [("2026-10-01", "2027-01-01"), ("2026-10-01", "2026-09-30"), ("2026-11-01", "2026-10-31")],
)
def test_a_row_of_several_months_is_refused_with_its_dates(start, end):
    message = problem(period_rows(start, end), SPANS)
    assert f"row 1: columns 'from' and 'to' are {start!r} and {end!r}: not within one month" in message


def test_a_row_of_other_months_does_not_matter_and_an_end_is_needed_but_where_it_is_optional():
    assert set(tonnes(period_rows("2026-01-01", "2026-03-31"), SPANS)) == {"b"}
    assert "row 1: column 'to' is ''" in problem(period_rows("2026-10-01", ""), SPANS)
    optional = replace(SPANS, optional=frozenset({"to"}))
    assert set(tonnes(period_rows("2026-10-01", ""), optional)) == {"a", "b"}


@pytest.mark.parametrize("name", ["nan", "NaN", "None", "NaT", "<NA>", " nan ", "", None, float("nan")])
def test_an_entity_that_pandas_made_of_null_is_none(name):
    assert tonnes([{"when": "2026-10", "who": name, "mass": 1}]) == {"(no entity)": Decimal("0.001")}


@pytest.mark.parametrize("name", ["222222222222.0", 222222222222.0, "2.22222E+11", "2E+11", "7.0"])
def test_an_entity_that_a_program_took_for_a_number_is_refused(name):
    assert "a name that a program took for a number" in problem([{"when": "2026-10", "who": name, "mass": 1}])


@pytest.mark.parametrize("name", ["222222222222", 7, "v1.0", "1.0.0", "2e10", "nano"])
def test_other_names_with_digits_are_names(name):
    assert tonnes([{"when": "2026-10", "who": name, "mass": 1}]) == {str(name): Decimal("0.001")}


def versions(*rows: tuple[str, str, float]) -> list[dict[str, object]]:
    return [
        {
            "model_version": version,
            "usage_account_id": account,
            "total_mbm_emissions_value": mass,
            "total_mbm_emissions_unit": "MTCO2e",
            "usage_period_start": "2026-10-01",
        }
        for account, version, mass in rows
    ]


def test_each_entity_counts_by_its_newest_version_and_one_that_has_only_another_by_that(caplog):
    rows = versions(("a", "v9.1", 1), ("a", "v10.0", 2), ("a", "v10.0", 3), ("b", "v9.1", 7))
    emissions = emissions_of_month(rows, AWS, "2026-10")
    assert [(one.entity, one.version, one.emitted_tonnes) for one in emissions] == [
        ("a", "v10.0", 5),
        ("b", "v9.1", 7),
    ]
    assert "not all entities have the same version: v10.0, v9.1" in caplog.text
    assert "'b' has rows of 'model_version' 'v9.1' for 2026-10, none of 'v10.0'" in problem(
        rows, replace(AWS, version="v10.0")
    )


@pytest.mark.parametrize("pair", [("v3.0", "v3.0.0"), ("14", "14.0"), ("v3", "beta"), ("v3", "")])
def test_of_versions_that_have_no_order_none_is_chosen(pair):
    rows = versions(*(("a", version, 1) for version in pair))
    assert "none is plainly the newest: name one" in problem(rows, AWS)
    assert tonnes(rows, replace(AWS, version=pair[0])) == {"a": Decimal(1)}
