"""
Damaged and made-up files of every kind: the reader ends, and raises nothing but EmissionsError.

`FUZZ_SECONDS=600 python -m pytest -n 0 -s tests/unit/emissions/test_fuzzing.py` goes on for ten minutes and prints how many files that were.
"""

from __future__ import annotations

import gzip
import io
import os
import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from hypothesis import HealthCheck, given, settings, strategies as st

from airflow_provider_carbonmark import emissions
from airflow_provider_carbonmark.emissions import CODECARBON, EmissionsError
from tests.unit.emissions.conftest import OWN, parquet_of

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
SAMPLES, CASES = Path(__file__).parents[3] / "dags" / "data", Path(__file__).parent / "cases"
EUROPEAN = replace(OWN, period="month", delimiter=";", decimal=",", encoding="cp1252", blank="zero")
COLUMNS = [
    *(emissions.AWS, emissions.GOOGLE_CLOUD, emissions.CLOUD_CARBON_FOOTPRINT, emissions.OVHCLOUD),
    *(emissions.SCALEWAY, CODECARBON, EUROPEAN),
    replace(CODECARBON, blank="skip_row"),
    replace(EUROPEAN, delimiter=",", encoding="utf-16"),
    replace(EUROPEAN, period_format="%Y%m", running_total_of="run", version_column="version"),
]


NESTED = [
    {"usage_month": "2026-10-01", "project": of, "carbon_footprint_total_kgCO2e": {"market_based": mass}}
    for of, mass in (({"id": "a"}, 1.5), (None, None))
]
FILES = [
    *(path.read_bytes() for folder in (SAMPLES, CASES) for path in sorted(folder.iterdir())),
    parquet_of(NESTED),
    b"month;who;mass\n2026-10;a;5,5\n",
    "month,who,mass\n2026-10,a,5\n".encode("utf-16"),
    b"month,who,mass,run,version\n202610,a,5,r,v1\n202610,a,6,r,v2\n",
]
#: What is put into a file: what readers stumble over.
PIECES = st.binary(max_size=8) | st.sampled_from(
    [
        *(b"", b"\0", b'"', b"\n", b"\r", b",", b";", b"{", b"[", b"}", b"_", b" "),
        *(b"null", b"run-1", b"v99"),
        *(b"NaN", b"Infinity", b"-0", b"1.5", b"1e999999999", b"9" * 2000, b"[" * 5000, b'{"a":' * 5000),
        *(b"\xff\xfe", b"\xef\xbb\xbf", b"PAR1", b"\x1f\x8b\x08", b"\\ud800", b"\xed\xa0\x80"),
        *(b"2026-10-01", b"0000-01-01", b"9999-12-31T23:59:59+23:59"),
    ]
)
CUTS = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 40), PIECES), max_size=6)
PACKED = st.sampled_from([bytes, bytes, gzip.compress, lambda plain: gzip.compress(plain)[:-5]])

count = 0


@settings(
    max_examples=150 if not SECONDS else 5000,
    deadline=timedelta(seconds=20),
    suppress_health_check=list(HealthCheck),
    database=None,
)
@given(
    st.lists(st.tuples(st.sampled_from(FILES), CUTS, PACKED), min_size=1, max_size=2),
    st.sampled_from(COLUMNS),
    st.sampled_from(["2026-10", "2026-09", "2025-09", "0001-01", "9999-12"]),
)
def read_damaged(files, columns, month):
    global count
    count += 1
    sources = []
    for content, cuts, pack in files:
        damaged = bytearray(content)
        for at, length, piece in cuts:
            damaged[at : at + length] = piece
        sources.append(io.BytesIO(pack(bytes(damaged))))
    try:
        found = emissions.emissions_of_month(sources, columns, month)
    except EmissionsError as error:
        assert len(str(error)) < 6000  # noqa: PT017
    else:
        assert all(isinstance(one.emitted_tonnes, Decimal) and one.entity.strip() for one in found)


def test_nothing_but_an_emissions_error_comes_of_damaged_files():
    read_damaged()
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        read_damaged()
    print(f"{count:,} damaged files, {SECONDS:.0f} s")
