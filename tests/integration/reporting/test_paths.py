"""Reports written through Airflow's paths of object storage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.io import attach

from airflow_provider_carbonmark.reporting import make_report
from tests.unit.reporting.sample import a_year

if TYPE_CHECKING:
    from airflow_provider_carbonmark.reporting.report import Report

NAMES = ["index.html", "report.csv", "report.json"]


@pytest.fixture
def report() -> Report:
    return make_report(a_year(), "2026-10")


@pytest.fixture
def bucket() -> Iterator[ObjectStoragePath]:
    files = fsspec.filesystem("memory", skip_instance_cache=True)
    attach("memory", fs=files)
    yield ObjectStoragePath("memory://reports/offsets")
    files.store.clear()


def test_a_local_folder_gets_whole_files_only(report: Report, tmp_path: Path) -> None:
    written = report.write(ObjectStoragePath(f"file://{tmp_path}/reports/2026-10"))
    folder = tmp_path / "reports" / "2026-10"
    assert [str(path) for path in written] == [
        f"file://{folder}/{name}" for name in ("report.csv", "report.json", "index.html")
    ]
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    with (folder / "index.html").open() as old:
        report.write(ObjectStoragePath(f"file://{tmp_path}/reports/2026-10"))
        assert (folder / "index.html").stat().st_ino != Path(f"/proc/self/fd/{old.fileno()}").stat().st_ino
        assert old.read() == report.to_html()


def test_a_bucket_gets_the_files_and_no_others(report: Report, bucket: ObjectStoragePath) -> None:
    written = report.write(bucket / "2026-10")
    assert [path.name for path in written] == ["report.csv", "report.json", "index.html"]
    assert sorted(path.name for path in (bucket / "2026-10").iterdir()) == NAMES
    assert (bucket / "2026-10" / "index.html").read_bytes() == report.to_html().encode()
    assert (bucket / "2026-10" / "report.csv").read_bytes() == report.to_csv().encode()
