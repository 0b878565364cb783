"""Reports written to paths of either kind: Python's, and Airflow's of object storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.io import attach

from airflow_provider_carbonmark.reporting import make_report
from tests.unit.reporting.sample import REPORTS
from tests.unit.reporting.test_formats import WRITTEN

if TYPE_CHECKING:
    from airflow_provider_carbonmark.reporting.report import Report


@pytest.fixture
def report() -> Report:
    return make_report(REPORTS["a month"])


@pytest.fixture
def bucket() -> Iterator[ObjectStoragePath]:
    files = fsspec.filesystem("memory", skip_instance_cache=True)
    attach("memory", fs=files)
    yield ObjectStoragePath("memory://reports/offsets")
    files.store.clear()


def contents(report: Report) -> dict[str, str]:
    made = (report.to_credits_csv(), report.to_csv(), report.to_json(), report.to_public_html())
    return dict(zip(WRITTEN, made, strict=False)) | {"index.html": report.to_html()}


@pytest.mark.parametrize(
    "path_of", [Path, lambda folder: ObjectStoragePath(f"file://{folder}")], ids=["path", "object storage"]
)
def test_a_local_folder_gets_whole_files_only(
    report: Report, tmp_path: Path, path_of: Callable[[Path], Path | ObjectStoragePath]
) -> None:
    folder = tmp_path / "reports" / "2026-10"
    written = report.write(path_of(folder))
    assert [str(path) for path in written] == [str(path_of(folder / name)) for name in WRITTEN]
    assert sorted(path.name for path in folder.iterdir()) == sorted(WRITTEN)
    with (folder / "index.html").open() as old:
        report.write(path_of(folder))
        assert (folder / "index.html").stat().st_ino != Path(f"/proc/self/fd/{old.fileno()}").stat().st_ino
        assert old.read() == report.to_html()
    for name, content in contents(report).items():
        assert (folder / name).read_bytes() == content.encode()


def test_a_bucket_gets_each_file_under_its_own_name_only(
    report: Report, bucket: ObjectStoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = bucket.fs._open

    def note(path: str, *arguments: Any, **more: Any) -> Any:
        opened.append(path.rpartition("/")[2])
        return real(path, *arguments, **more)

    monkeypatch.setattr(bucket.fs, "_open", note)
    written = report.write(bucket / "2026-10")
    assert opened == [path.name for path in written] == WRITTEN
    assert sorted(path.name for path in (bucket / "2026-10").iterdir()) == sorted(WRITTEN)
    for name, content in contents(report).items():
        assert (bucket / "2026-10" / name).read_bytes() == content.encode()
