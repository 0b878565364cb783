"""What is refused: it is named with its place and the way out, and nothing is shown that may be a secret."""

from __future__ import annotations

import csv
import gzip
import io
import traceback
import tracemalloc
from itertools import chain, islice

import pyarrow as pa
import pytest

from airflow_provider_carbonmark.emissions import EmissionsError, emissions_of_month
from tests.unit.emissions.conftest import OWN, parquet_of, problem, read, row, tonnes

HEADER = b"when,who,mass,note\n"
GOOD = b"2026-10,a,1,fine\n"
# More than a block, also when it is packed.
LONG = HEADER + b"".join(b"2026-10,a,%d,\n" % number for number in range(50_000))
PACKED = gzip.compress(LONG, 1)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        *((empty, "is empty; expected CSV with a header") for empty in (b"", b"\n", b"\xef\xbb\xbf")),
        (gzip.compress(b""), "is empty; expected CSV with a header"),
        *((bare, "without a single row") for bare in (HEADER, HEADER.strip(), HEADER + b"\n\n")),
        ([], "has no rows"),
        (
            HEADER + b"2026-09,a,1,\n2026-08,a,1,\n2026-09,a,1,\n",
            "emissions file, line 4: the table ends here, without a row for 2026-10; it has rows for 2026-08, 2026-09. ",
        ),
        (
            HEADER + b"".join(b"%d-%02d,a,1,\n" % (2000 + n // 12, n % 12 + 1) for n in range(312)),
            f"it has rows for {', '.join(f'2025-{n:02}' for n in range(1, 13))} and 300 earlier months. ",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_data_is_not_a_month_without_emissions(source, says):
    assert says in problem(source)


def test_a_missing_file_is_named_and_a_directory_is_none(tmp_path):
    missing = tmp_path / "2026-10.csv"
    assert problem(missing) == f"{missing}: there is no such file; check the path and the month in it"
    assert "there is no such file" in problem(tmp_path)


def test_other_trouble_of_a_file_system_passes_so_that_a_retry_can_help():
    class Share:
        def open(self, mode):
            raise TimeoutError("storage does not answer")

    with pytest.raises(TimeoutError):
        read(Share())


@pytest.mark.parametrize("source", ["s3://bucket/emissions.csv", b"when,who,mass", {"when": 1}, None, 7])
def test_what_is_no_source_is_refused_with_what_would_be(source):
    with pytest.raises(EmissionsError, match="pass a path object such as pathlib.Path or ObjectStoragePath"):
        emissions_of_month(source, OWN, "2026-10")


def test_a_text_file_is_asked_for_in_binary_mode():
    assert "open it in binary mode" in problem(io.StringIO("when,who,mass\n"))


@pytest.mark.parametrize("column", ["when", "who", "mass"])
def test_a_missing_column_is_named_and_whether_it_is_there_in_other_letters(column):
    message = problem((HEADER + GOOD).replace(column.encode(), column.upper().encode()))
    assert (
        f"has no column {column!r} (names are case-sensitive); it has {column!r} in other letters" in message
    )


SECRET = "hunter2"


@pytest.mark.parametrize(
    "content",
    [
        *(f"root:{SECRET}:0:0\n" * 3, f"when,{SECRET}\n2026-10,{SECRET}\n", f"{SECRET};when\n"),
        *(f'"{SECRET}\n', f"{SECRET * 30_000}\n", f"{SECRET}\xff\n", f"PAR1{SECRET}PAR1"),
        *(f'{{"key": "{SECRET}"}}\n', f'{{"when": "{SECRET}", "password": "{SECRET}"}}\n', f'["{SECRET}"]'),
        *(f'{{"when": "{SECRET}"\n', f"PK\x03\x04{SECRET}"),
    ],
    ids=lambda content: content[:20],
)
def test_nothing_is_shown_of_a_file_that_is_not_the_expected_table(content):
    plain = content.encode("latin-1")
    for packed in (plain, gzip.compress(plain), gzip.compress(plain)[:-9] + SECRET.encode()):
        with pytest.raises(EmissionsError) as caught:
            read(packed)
        # Airflow logs what stands above an error, too.
        assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_mapping_that_lacks_a_column_is_shown_with_the_columns_that_are_there():
    other = {f"column{number}{'x' * 900}": 1 for number in range(500)}
    with pytest.raises(EmissionsError, match="and 460 more; name the table's own columns") as caught:
        read([other])
    assert len(str(caught.value)) < 6000


def test_a_column_that_is_there_twice_is_ambiguous_only_if_it_is_read():
    twice = pa.Table.from_arrays([[one] for one in ("2026-10", "a", 1, 2)], ["when", "who", "mass", "mass"])
    for file in (b"when,who,mass,mass\n2026-10,a,1,2\n", parquet_of(twice)):
        assert "has 2 columns 'mass'; rename all but one" in problem(file)
    assert tonnes(b"when,who,mass,note,note,,\n2026-10,a,1,,,,\n") == {"a": "0.001"}


@pytest.mark.parametrize(
    "amount",
    [
        *"nan sNaN -Infinity None 1_000 1.2.3 0x1F 1kg 12e 1e5000 1e-5000 1e99999999999999999999".split(),
        *("", " ", "1 000", '"1,234.5"', '"1.234,5"', '"1,5"', "9" * 2000, "x" * 100_000),
    ],
    ids=lambda amount: amount[:20],
)
def test_an_amount_that_is_no_plain_number_is_refused_with_its_row(amount):
    message = problem(HEADER + GOOD + f"2026-10,a,{amount},\n".encode())
    shown = amount.strip('"')[:70]
    assert message.startswith(f"emissions file, line 3: column 'mass' is {shown!r}"[:100])
    assert "write 1234.5, without thousands separators" in message


@pytest.mark.parametrize("amount", [None, float("nan"), float("inf"), True, [1], {"kg": 1}, b"1"], ids=str)
def test_an_amount_of_a_mapping_that_is_no_number_is_refused_with_its_row(amount):
    assert problem([row(), row(mass=amount)]).startswith("row 2: column 'mass' is ")


@pytest.mark.parametrize("bad", [("2026-10", "a", 1), "2026-10", None, {}, {"when": "2026-10", "who": "a"}])
def test_a_row_that_is_no_mapping_or_lacks_a_column_is_refused_wherever_it_is(bad):
    assert problem([bad]).startswith("row 1")
    assert problem([row(), bad]).startswith("row 2: ")


@pytest.mark.parametrize(
    ("content", "line", "byte"),
    [
        (HEADER + GOOD * 3 + b"2026-10,M\xfcnchen,1,\n", 5, "fc"),
        (HEADER + GOOD * 10_000 + b"2026-10,Z\xe9ro,1,\n" + GOOD, 10_002, "e9"),
        (HEADER + "2026-10,Zürich,1,\n".encode() * 3 + "2026-10,Zürich,1,\n".encode("latin-1"), 5, "fc"),
        (b"\xef\xbb\xbf" + HEADER + GOOD + b"2026-10,a,1\xc3,", 3, "c3"),
        (HEADER + b'2026-10,a,1,"two\nlines"\n2026-10\xff,a,1,\n', 4, "ff"),
    ],
    ids=["name", "later block", "after UTF-8", "end", "after a line break"],
)
def test_bytes_that_are_not_utf8_are_refused_with_their_line(content, line, byte):
    message = problem(content)
    assert f"line {line}: byte 0x{byte} is not UTF-8; save the file as UTF-8" in message
    assert message == problem(gzip.compress(content, 1))


def test_bytes_that_are_not_utf8_do_not_matter_where_nothing_is_read():
    assert tonnes(b"when,who,mass,no\xffte\n2026-10,a,1,Z\xe9ro\n") == {"a": "0.001"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        *(
            (HEADER + GOOD + row, "cells under a header of 4; quote the cells that hold commas")
            for row in (b"2026-10,a,1\n", b"2026-10,a,1,234,fine\n", b" \n")
        ),
        # An unclosed quote would swallow the rows after it.
        *(
            (HEADER + GOOD + row + GOOD * 5, "close the quote")
            for row in (b'2026-10,a,1,"open\n', b'2026-10,"a"b,1,\n')
        ),
        (
            HEADER + GOOD + b"2026-10,a,1," + b"x" * 1_000_000 + b"\n",
            "line 3: field larger than field limit (131072); close the quote, or take the long cell out",
        ),
        *(((HEADER + GOOD).decode().encode(each), "NUL byte at offset") for each in ("utf-16-le", "utf-32")),
        (
            LONG + b"2026-10,a,1\0,\n",
            f"NUL byte at offset {len(LONG) + 11}: UTF-16, or no text at all; save the file as CSV",
        ),
        (bytes(range(256)) * 9, "NUL byte at offset 0"),
        *((PACKED[:end], "damaged or cut-off gzip") for end in (3, 12, len(PACKED) // 2, len(PACKED) - 4)),
        (PACKED[:1000] + b"\xff" * 40 + PACKED[1040:], "emissions file"),
        (PACKED[:-6] + bytes([PACKED[-6] ^ 1]) + PACKED[-5:], "damaged or cut-off gzip"),  # the checksum
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_damaged_table_is_refused_with_the_place_of_the_damage(content, says):
    limit = csv.field_size_limit()
    assert says in problem(content)
    assert csv.field_size_limit() == limit


def test_an_endless_line_is_refused_before_it_fills_the_memory():
    class Endless:
        served = 0

        def read(self, size):
            self.served += size
            return b"x" * size

    source = Endless()
    assert "a line of more than 16 MiB at offset 0" in problem(source)
    assert source.served < 20 * 2**20


def test_memory_is_flat_in_the_number_of_rows():
    def peak(rows: int) -> int:
        lines = (b"2026-10-01T00:00:00.%06d,a,%d.5,\n" % (number, number) for number in range(rows))
        blocks = chain([HEADER], iter(lambda: b"".join(islice(lines, 500)), b""))

        class Download:
            def read(self, size):
                return next(blocks, b"")

        tracemalloc.start()
        assert tonnes(Download()) == {"a": f"{rows * rows / 2000:g}"}
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak(18_000) < 1.5 * peak(6_000)
