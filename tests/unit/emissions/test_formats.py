"""Kinds of files, and how tables are written."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import io
import json
import sqlite3
import sys
from dataclasses import replace
from decimal import Decimal

import pyarrow as pa
import pytest
from airflow.sdk import ObjectStoragePath

from airflow_provider_carbonmark.emissions import GOOGLE_CLOUD, Constant, EmissionsError, Scope
from tests.unit.emissions.conftest import OWN, parquet_of, problem, read, row, tonnes

ROWS = [row(mass="1.1"), row(mass="2.2"), row(when="2026-09", who="b", mass="5")]
ALL = {"a": "0.0033"}
NOT_KNOWN = "not CSV, JSON lines or Parquet"


def csv_of(rows: list[dict[str, str]], delimiter: str = ",") -> bytes:
    lines = [rows[0].keys(), *(row.values() for row in rows)]
    return "".join(f"{delimiter.join(map(str, line))}\n" for line in lines).encode()


def json_of(rows: list[dict[str, object]]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("write", [csv_of, json_of, parquet_of])
def test_each_kind_of_file_is_read_whatever_its_name_and_its_bytes_are_kept(tmp_path, write, pack):
    path = tmp_path / "emissions.csv"
    path.write_bytes(pack(write(ROWS)))
    (only,) = read(path)
    assert tonnes(path) == ALL
    assert [(file.path, file.rows, file.sha256) for file in only.files] == [
        (str(path), 3, hashlib.sha256(path.read_bytes()).hexdigest())
    ]


def test_several_files_of_any_kind_are_one_table_but_not_one_twice():
    def files():
        return [io.BytesIO(write([one])) for write, one in zip(writes, ROWS, strict=True)]

    writes = (csv_of, json_of, parquet_of)
    assert tonnes(files()) == ALL
    assert [file.rows for file in read(files())[0].files] == [1, 1, 1]
    assert "byte for byte, and its rows would count twice" in problem([*files(), files()[0]])


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"Obj\x01\x04\x14avro.codec", f"is Avro, {NOT_KNOWN}; read it with its own library"),
        (b"PK\x03\x04\x14xl/workbook.xml", f"is XLSX or another ZIP, {NOT_KNOWN}; save the sheet as CSV"),
        *(
            (start + json_of(ROWS[:1]).strip() + b"]", f"is JSON in one piece, {NOT_KNOWN}; write JSON")
            for start in (b"[", b"\xef\xbb\xbf\n [")
        ),
        (b'{\n"when": "2026-10"\n}\n', "line 1: is no JSON object on a line"),
        (parquet_of(ROWS)[:-9], "damaged Parquet"),
        (b"PAR1PAR1", "damaged Parquet"),
        (csv_of(ROWS, ";"), "separated by ';': write EmissionsColumns(delimiter=';')"),
        (csv_of(ROWS, "\t"), "separated by tabs"),
        (csv_of(ROWS).decode().encode("utf-16"), "UTF-16"),
        (gzip.compress(gzip.compress(csv_of(ROWS))), "gzip within gzip"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_of_another_kind_is_named_for_what_it_is(content, says, pack):
    assert says in problem(pack(content))


def test_without_pyarrow_parquet_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert "pip install 'airflow-provider-carbonmark[parquet]'" in problem(parquet_of(ROWS))


def test_parquet_gives_types_nested_columns_and_nulls_as_the_text_they_are():
    projects = [{"id": "shop"}, {"id": "shop"}, None, {"id": None}]
    amounts = [{"market_based": amount} for amount in (0.1, 0.2, 3.0, 1e-7)]
    table = pa.table(
        {
            "usage_month": pa.array([datetime.date(2026, 9, 1)] * 4, pa.date32()),
            "project": pa.array(projects, pa.struct({"id": pa.string()})),
            "carbon_model_version": pa.array([14, 14, 14, None]),
            "carbon_footprint_total_kgCO2e": pa.array(amounts, pa.struct({"market_based": pa.float64()})),
        }
    )
    found = tonnes(parquet_of(table.slice(0, 3)), GOOGLE_CLOUD, "2026-09")
    assert found == {"shop": "0.0003", "(no Google Cloud project)": "0.003"}
    assert "none is plainly the newest" in problem(parquet_of(table), GOOGLE_CLOUD, "2026-09")


@pytest.mark.parametrize("unit", ["s", "ns"])
def test_parquet_timestamps_are_read_in_any_unit(unit):
    when = pa.array([datetime.datetime(2026, 10, 31, 23, 59, 59)], pa.timestamp(unit, tz="UTC"))
    who, mass = pa.array(["a"]).dictionary_encode(), pa.array([Decimal("1.50")])
    assert tonnes(parquet_of(pa.table({"when": when, "who": who, "mass": mass}))) == {"a": "0.0015"}


def test_parquet_floats_are_the_numbers_that_somebody_wrote():
    masses = {"mass": pa.array([0.1], pa.float32()), "more": pa.array([1e-7], pa.float64())}
    found = tonnes(
        parquet_of(pa.table({"when": ["2026-10"], "who": ["a"], **masses})),
        **{"unit": "t", "amount": None, "amounts": dict.fromkeys(masses, Scope())},
    )
    assert found == {"a": "0.1000001"}


@pytest.mark.parametrize(
    "when",
    [
        *(pa.array([10**6 * 3], pa.int32()).cast(pa.date32()), pa.array([2**60], pa.timestamp("us"))),
        *(pa.array([2**60], pa.timestamp("ms")), pa.array([0], pa.timestamp("us", "Mars/Olympus"))),
    ],
    ids=["date", "timestamp", "coarser timestamp", "zone"],
)
def test_a_time_that_nobody_can_tell_is_refused(when):
    assert "emissions file: " in problem(parquet_of(pa.table({"when": when, "who": ["a"], "mass": [1]})))


def test_parquet_without_a_column_names_it():
    assert "emissions file: has no column 'mass'" in problem(parquet_of([{"when": "2026-10", "who": "a"}]))
    nested = parquet_of([row(who={"id": "a"})])
    assert "emissions file: has no column 'who.name'" in problem(nested, entity="who.name")


@pytest.mark.parametrize("write", [json_of, parquet_of])
def test_a_column_that_holds_others_is_no_entity(write):
    content = write([row(who={"id": "a"})])
    assert "column 'who'" in problem(content)
    assert tonnes(content, entity="who.id") == {"a": "0.001"}


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.binary(8), pa.time64("ns"), pa.duration("ns")], ids=str
)
def test_a_column_of_neither_text_nor_numbers_nor_dates_is_no_entity(kind):
    who = (
        pa.array([2**60 + 1]).view(pa.binary(8)).cast(kind) if "binary" in str(kind) else pa.array([1], kind)
    )
    message = problem(parquet_of(pa.table({"when": ["2026-10"], "who": who, "mass": [1]})))
    assert "column 'who' holds no text, numbers or dates" in message


def test_json_numbers_are_exact_and_nulls_may_be_left_out():
    lines = b'{"when":"2026-10","who":"a","mass":0.1}\n\n{"when":"2026-10","mass":2e-1}\n{"when":"2026-10","who":null,"mass":"3"}\n'
    assert tonnes(lines) == {"a": "0.0001", "(no entity)": "0.0032"}
    assert 'blank="zero"' in problem(lines + b'{"when":"2026-10","who":"a"}\n')
    # A name that no line has is misspelt.
    assert "row 1 to 3: has no column 'whom'" in problem(json_of(ROWS), entity="whom", blank="zero")


@pytest.mark.parametrize("line", [b"[1]", b"x", b'{"when":', b"[" * 100_000, b'{"a":' * 100_000])
def test_a_line_that_is_no_json_object_is_refused_with_its_number(line):
    assert "line 4: is no JSON object" in problem(json_of(ROWS) + line + b"\n")


def test_gzip_in_several_members_is_read_to_the_end():
    members = map(gzip.compress, (b"when,who,mass\n2026-10,a,1\n", b"2026-10,a,1\n"))
    assert tonnes(b"".join(members)) == {"a": "0.002"}


def test_object_storage_is_read(tmp_path):
    (tmp_path / "emissions").write_bytes(gzip.compress(csv_of(ROWS)))
    assert tonnes(ObjectStoragePath(f"{tmp_path.as_uri()}/emissions")) == ALL
    missing = problem(ObjectStoragePath(f"{tmp_path.as_uri()}/missing.csv"))
    assert "missing.csv: there is no such file" in missing


def test_a_file_that_cannot_seek_is_read_and_left_open():
    class Download(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *args):
            raise io.UnsupportedOperation("seek")

    download = Download(gzip.compress(csv_of(ROWS)))
    assert tonnes(download) == ALL
    assert not download.closed


def test_a_path_is_closed_again_even_after_an_error():
    opened = io.BytesIO(b"when,who\n")

    class Place:
        def open(self, mode):
            assert mode == "rb"
            return opened

    assert "mass" in problem(Place())
    assert opened.closed


def test_rows_of_a_database_cursor_are_read():
    selects = "select '2026-10' as 'when', 'a' as who, 0.1 as mass union all select '2026-10', 7, 2"
    database = sqlite3.connect(":memory:")
    database.row_factory = sqlite3.Row
    assert tonnes(database.execute(selects)) == {"a": "0.0001", "7": "0.002"}
    database.close()


def test_rows_may_hold_any_type_a_database_gives():
    west = datetime.timezone(datetime.timedelta(hours=-5))
    rows = [
        row(when=datetime.date(2026, 10, 1), mass=Decimal("1.10")),
        row(when=datetime.datetime(2026, 10, 31, 23, 30, tzinfo=west), mass=2),
        *(row(mass=0.1), row(mass="1e-3")),
    ]
    assert tonnes(iter(rows), unit="t") == {"a": "3.201"}


def test_byte_order_mark_windows_line_ends_blank_lines_and_quoted_line_breaks_are_read():
    text = '\ufeffwhen,who,mass\r\n2026-10,"a\r\nb",1\r\n\r\n2026-10,"c,d",1\r\n'
    assert tonnes(text) == {"a b": "0.001", "c,d": "0.001"}


def test_what_excel_saves_in_europe_is_read_as_its_author_says():
    columns = replace(OWN, delimiter=";", decimal=",", encoding="cp1252")
    saved = "when ;who; mass \n2026-10;Zürich; 5,5 \n2026-10;Zürich;1\n".encode("cp1252")
    assert tonnes(saved, columns) == {"Zürich": "0.0065"}
    assert 'EmissionsColumns(decimal=",")' in problem(saved, columns, decimal=".")
    for amount in ("1.234", "1.234,5", "1,2,3"):
        assert f"column 'mass' is {amount!r}" in problem(f"when;who;mass\n2026-10;a;{amount}\n", columns)
    assert tonnes(csv_of(ROWS).decode().encode("utf-16"), encoding="utf-16") == ALL


@pytest.mark.parametrize(
    ("period_format", "period"),
    [
        *(("%Y/%m", "2026/10"), ("%Y%m", "202610"), ("%Y%m%d", "20261031"), ("%b %Y", "Oct 2026")),
        *(("%m/%Y", "10/2026"), ("%d.%m.%Y", "1.10.2026"), ("%B %Y", "october 2026"), ("%y-%m", "26-10")),
    ],
)
def test_months_are_read_as_their_author_says(period_format, period):
    assert tonnes([row(when=period)], period_format=period_format) == {"a": "0.001"}
    for other in ("2026-10", "", "20261", "2026111", "13/2026"):
        assert "column 'when' is" in problem([row(when=other)], period_format=period_format)


@pytest.mark.parametrize(
    "faulty",
    [
        *({"period_format": each} for each in ("%Y", "%m", "month", "%")),
        *({"delimiter": each} for each in ("", ";;", ".")),
        *({"encoding": each} for each in ("klingon", "hex")),
        *({"blank": "ignore"}, {"decimal": "'"}, {"leave_out": "Total"}),
        *({"version": "newest"}, {"part_of_total": "task"}),
        *({"amount": None}, {"amounts": {"mass": Scope("1")}}, {"amount": None, "amounts": {"mass": "1"}}),
        *({"unit": each} for each in (None, "furlong", "")),
        {"unit_column": "unit"},
    ],
    ids=str,
)
def test_columns_that_do_not_fit_together_are_refused(faulty):
    with pytest.raises(EmissionsError, match=next(reversed(faulty))):
        replace(OWN, **faulty)


def test_two_methods_of_one_scope_are_never_added():
    both = {"market": Scope("2", "market-based"), "location": Scope("1+2", "location-based")}
    with pytest.raises(EmissionsError, match="'market'.*'location'.*would count these twice"):
        replace(OWN, amount=None, amounts=both)
    for make, says in {
        lambda: Scope("2", "market"): "method is 'market'",
        lambda: Scope("4"): "scopes is '4'",
        lambda: Constant(""): "the constant entity is ''",
    }.items():
        with pytest.raises(EmissionsError, match=says):
            make()
