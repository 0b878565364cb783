from __future__ import annotations

import csv
import gzip
import io
import traceback
import tracemalloc
from itertools import chain, islice

import pytest

from airflow_provider_carbonmark.emissions import EmissionsColumns, EmissionsError, emissions_of_month

OWN = EmissionsColumns(period="when", entity="who", amount="mass", unit="kg")
HEADER = b"when,who,mass,note\n"
GOOD = b"2026-10,a,1,fine\n"


def problem(source, columns: EmissionsColumns = OWN, month: str = "2026-10") -> str:
    """What the error says about a source, which is a file when given as bytes."""
    with pytest.raises(EmissionsError) as caught:
        emissions_of_month(io.BytesIO(source) if isinstance(source, bytes) else source, columns, month)
    message = str(caught.value)
    assert len(message) < 800
    return message


def test_a_missing_file_is_named(tmp_path):
    message = problem(tmp_path / "2026-10.csv")
    assert message == f"{tmp_path / '2026-10.csv'}: there is no such file; check the path and the month in it"


def test_a_directory_is_no_file(tmp_path):
    assert "there is no such file" in problem(tmp_path)


def test_other_trouble_of_a_file_system_passes_so_that_a_retry_can_help():
    class Share:
        def open(self, mode):
            raise TimeoutError("storage does not answer")

    with pytest.raises(TimeoutError):
        emissions_of_month(Share(), OWN, "2026-10")


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_not_a_month_without_emissions(content):
    assert "is empty; expected CSV with a header" in problem(content)


@pytest.mark.parametrize("content", [HEADER, HEADER.strip(), HEADER + b"\n\n"])
def test_a_header_alone_is_not_a_month_without_emissions(content):
    assert "without a single row" in problem(content)


def test_no_mappings_are_not_a_month_without_emissions():
    assert "has no rows" in problem([])


def test_a_month_without_rows_is_an_error_that_lists_the_months_there_are():
    message = problem(HEADER + b"2026-09,a,1,\n2026-08,a,1,\n2026-09,a,1,\n")
    assert "emissions file, line 4: the table ends here, without a row for 2026-10" in message
    assert "it has rows for 2026-08, 2026-09." in message
    assert "wait for it" in message


def test_a_long_list_of_months_is_cut_to_the_latest():
    rows = b"".join(b"%d-%02d,a,1,\n" % (year, month) for year in range(2000, 2026) for month in range(1, 13))
    message = problem(HEADER + rows)
    assert "2025-01, 2025-02" in message
    assert "2025-12 and 300 earlier months" in message


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
        f"root:{SECRET}:0:0\n" * 3,
        f"when,{SECRET}\n2026-10,{SECRET}\n",
        f"{SECRET};when\n",
        f'"{SECRET}\n',
        f"{SECRET * 30_000}\n",
        f"{SECRET}\xff\n",
        f'{{"private_key": "{SECRET}"}}\n',
        f'{{"when": "{SECRET}", "password": "{SECRET}"}}\n',
        f'{{"when": "{SECRET}"\n',
        f'["{SECRET}"]\n',
        f"PAR1{SECRET}PAR1",
        f"PK\x03\x04{SECRET}",
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda plain: gzip.compress(plain)[:-9] + b"hunter2"])
def test_nothing_is_shown_of_a_file_that_is_not_the_expected_table(content, pack):
    source = io.BytesIO(pack(content.encode("latin-1")))
    with pytest.raises(EmissionsError) as caught:
        emissions_of_month(source, OWN, "2026-10")
    # Airflow logs what stands above an error, too.
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_mapping_that_lacks_a_column_is_shown_with_the_columns_that_are_there():
    row = {f"column{number}{'x' * 900}": 1 for number in range(500)}
    with pytest.raises(EmissionsError, match="and 460 more; name the table's own columns") as caught:
        emissions_of_month([row], OWN, "2026-10")
    assert len(str(caught.value)) < 6000


def test_a_column_that_is_there_twice_is_ambiguous_only_if_it_is_read():
    assert "has 2 columns 'mass'; rename all but one" in problem(b"when,who,mass,mass\n2026-10,a,1,2\n")
    twice_unread = b"when,who,mass,note,note,,\n2026-10,a,1,,,,\n"
    assert emissions_of_month(io.BytesIO(twice_unread), OWN, "2026-10")[0].entity == "a"


@pytest.mark.parametrize(
    "amount",
    [
        "nan",
        "NaN",
        "sNaN",
        "inf",
        "-Infinity",
        "",
        " ",
        "1_000",
        "1 000",
        "1.2.3",
        "0x1F",
        "1kg",
        "None",
        "12e",
        "1e5000",
    ]
    + ["1e-5000", "1e99999999999999999999", "9" * 2000, "x" * 100_000],
)
def test_an_amount_that_is_no_plain_number_is_refused_with_its_row(amount):
    message = problem(HEADER + GOOD + f"2026-10,a,{amount},\n".encode())
    assert message.startswith(f"emissions file, line 3: column 'mass' is {amount[:70]!r}"[:100])
    assert "write 1234.5, without thousands separators" in message


@pytest.mark.parametrize("amount", ['"1,234.5"', '"1.234,5"', '"1,5"'])
def test_thousands_separators_and_decimal_commas_are_refused(amount):
    assert f"column 'mass' is {amount.strip(chr(34))!r}" in problem(
        HEADER + f"2026-10,a,{amount},\n".encode()
    )


@pytest.mark.parametrize("amount", [None, float("nan"), float("inf"), True, [1], {"kg": 1}, b"1"])
def test_an_amount_of_a_mapping_that_is_no_number_is_refused_with_its_row(amount):
    rows = [{"when": "2026-10", "who": "a", "mass": 1}, {"when": "2026-10", "who": "a", "mass": amount}]
    assert problem(rows).startswith("row 2: column 'mass' is ")


@pytest.mark.parametrize("row", [b"2026-10,a,1\n", b"2026-10,a,1,234,fine\n", b" \n"])
def test_a_row_with_too_few_or_too_many_cells_is_refused(row):
    message = problem(HEADER + GOOD + row)
    assert "line 3: " in message
    assert "cells under a header of 4; quote the cells that hold commas" in message


@pytest.mark.parametrize(
    ("content", "line", "byte"),
    [
        (HEADER + GOOD * 3 + b"2026-10,M\xfcnchen,1,\n", 5, "fc"),
        (HEADER + GOOD * 50_000 + b"2026-10,Z\xe9ro,1,\n" + GOOD, 50_002, "e9"),
        (HEADER + "2026-10,Zürich,1,\n".encode() * 3 + "2026-10,Zürich,1,\n".encode("latin-1"), 5, "fc"),
        (b"\xef\xbb\xbf" + HEADER + GOOD + b"2026-10,a,1\xc3,", 3, "c3"),
        (HEADER + b'2026-10,a,1,"two\nlines"\n2026-10\xff,a,1,\n', 4, "ff"),
    ],
)
def test_bytes_that_are_not_utf8_are_refused_with_their_line(content, line, byte):
    message = problem(content)
    assert f"line {line}: byte 0x{byte} is not UTF-8; save the file as UTF-8" in message
    assert message == problem(gzip.compress(content))


def test_bytes_that_are_not_utf8_do_not_matter_where_nothing_is_read():
    source = io.BytesIO(b"when,who,mass,no\xffte\n2026-10,a,1,Z\xe9ro\n")
    assert emissions_of_month(source, OWN, "2026-10")[0].entity == "a"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_utf16_is_told_from_text(encoding):
    message = problem((HEADER + GOOD).decode().encode(encoding))
    assert "NUL byte at offset" in message
    assert "save the file as CSV in UTF-8" in message


def test_a_nul_byte_is_found_wherever_it_is():
    content = HEADER + GOOD * 20_000
    assert f"NUL byte at offset {len(content) + 11}" in problem(content + b"2026-10,a,1\0,\n")


@pytest.mark.parametrize("content", [b"PAR1\0\0\x15", b"PK\x03\x04\x14\0\x08", bytes(range(256)) * 9])
def test_what_is_no_csv_is_refused_also_inside_gzip(content):
    assert "emissions file" in problem(content)
    assert "emissions file" in problem(gzip.compress(content))


def test_gzip_inside_gzip_is_refused():
    assert "emissions file" in problem(gzip.compress(gzip.compress(HEADER + GOOD)))


def test_an_endless_line_is_refused_before_it_fills_the_memory():
    class Endless:
        served = 0

        def read(self, size):
            self.served += size
            return b"x" * size

    source = Endless()
    assert "a line of more than 16 MiB at offset 0" in problem(source)
    assert source.served < 20 * 2**20


def test_gzip_that_was_cut_off_is_refused():
    packed = gzip.compress(HEADER + b"".join(b"2026-10,a,%d,\n" % number for number in range(50_000)))
    for end in (3, 12, len(packed) // 2, len(packed) - 4):
        assert "damaged or cut-off gzip" in problem(packed[:end])


@pytest.mark.parametrize("damage", [b"\xff" * 40, b""])
def test_gzip_that_was_damaged_is_refused(damage):
    packed = bytearray(
        gzip.compress(HEADER + b"".join(b"2026-10,a,%d,\n" % number for number in range(50_000)))
    )
    if damage:
        packed[1000:1040] = damage
    else:
        packed[-6] ^= 1  # the checksum
    assert "emissions file" in problem(bytes(packed))


def test_a_million_characters_in_one_cell_are_refused_with_their_line():
    limit = csv.field_size_limit()
    message = problem(HEADER + GOOD + b"2026-10,a,1," + b"x" * 1_000_000 + b"\n")
    assert (
        "line 3: field larger than field limit (131072); close the quote, or take the long cell out"
        in message
    )
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("row", [b'2026-10,a,1,"open\n', b'2026-10,"a"b,1,\n'])
def test_an_unclosed_quote_does_not_swallow_the_rows_after_it(row):
    assert "close the quote" in problem(HEADER + GOOD + row + GOOD * 5)


def test_a_text_file_is_asked_for_in_binary_mode():
    assert "open it in binary mode" in problem(io.StringIO("when,who,mass\n"))


@pytest.mark.parametrize(
    "source", ["s3://bucket/emissions.csv", b"when,who,mass", {"when": "2026-10"}, None, 7]
)
def test_what_is_no_source_is_refused_with_what_would_be(source):
    with pytest.raises(EmissionsError, match="pass a path object such as pathlib.Path or ObjectStoragePath"):
        emissions_of_month(source, OWN, "2026-10")


@pytest.mark.parametrize("row", [("2026-10", "a", 1), "2026-10", None])
def test_rows_that_are_no_mappings_are_refused(row):
    assert "row 1 is " in problem([row])


@pytest.mark.parametrize("row", [{"when": "2026-10", "who": "a"}, {}, None, 5])
def test_a_later_row_that_lacks_a_column_is_refused(row):
    assert problem([{"when": "2026-10", "who": "a", "mass": 1}, row]).startswith("row 2: ")


def test_memory_is_flat_in_the_number_of_rows():
    def peak(rows: int) -> int:
        lines = (b"2026-10-01T00:00:00.%06d,a,%d.5,\n" % (number, number) for number in range(rows))
        blocks = chain([HEADER], iter(lambda: b"".join(islice(lines, 500)), b""))

        class Download:
            def read(self, size):
                return next(blocks, b"")

        tracemalloc.start()
        emissions_of_month(Download(), OWN, "2026-10")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak(60_000) < 1.2 * peak(6_000)
