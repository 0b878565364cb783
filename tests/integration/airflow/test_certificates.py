"""Certificates beside a report: stored once, whole, the first that came, whatever is cut off or comes twice."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import fsspec
import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.io import attach

from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook
from airflow_provider_carbonmark.hooks.facts import retirements
from airflow_provider_carbonmark.hooks.facts.retirements import fetch_certificates
from airflow_provider_carbonmark.ledger import Ledger
from airflow_provider_carbonmark.sandbox import api

OTHER = b"%PDF-1.4 another %%EOF\n"


@pytest.fixture
def number(retire):
    """The purchase whose certificate is wanted."""
    (number,) = retire("web")
    return number


@pytest.fixture(params=["path", "file", "memory"])
def folder(request, tmp_path):
    """A folder for reports, of each kind."""
    if request.param == "path":
        return tmp_path / "reports"
    if request.param == "file":
        return ObjectStoragePath(f"file://{tmp_path}/reports")
    attach("memory", fs=fsspec.filesystem("memory"))
    return ObjectStoragePath(f"memory://reports{tmp_path}")


@pytest.fixture
def fetch(ledger):
    """Return a function that fetches a purchase's certificate, and returns where it is, if it is anywhere."""

    def fetch(number, folder):
        found = fetch_certificates(ledger, CarbonmarkHook(), [number, 7], folder)
        assert found.keys() <= {number}
        return folder / found[number] if found else None

    return fetch


@pytest.fixture
def answers(monkeypatch):
    """Return a function that lets the market answer otherwise: with these bytes."""
    return lambda content: monkeypatch.setattr(api, "certificate_document", lambda retirement: content)


def sha256_kept(ledger, number):
    (facts,) = ledger.retirements([number])
    return facts.certificate_sha256


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def asked(sandbox):
    return [each["path"] for each in sandbox.state.requests if each["path"].endswith("/certificate")]


def test_a_certificate_is_stored_once_with_its_sha256_when_there_is_one(
    number, folder, fetch, ledger, sandbox
):
    sandbox.state.change_switches(certificate_seconds=60)
    assert fetch(number, folder) is None
    sandbox.state.advance_clock(60)
    path = fetch(number, folder)
    assert path == folder / "certificates" / f"{number}.pdf"
    content = path.read_bytes()
    assert content.startswith(b"%PDF-")
    assert sha256_kept(ledger, number) == sha256(content)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    sandbox.state.requests.clear()
    assert fetch(number, folder) == path
    assert asked(sandbox) == []


def test_one_whose_sha256_was_not_kept_any_more_is_taken_up(
    number, folder, fetch, ledger, monkeypatch, answers
):
    def dies(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "keep_retirements", dies)
        with pytest.raises(KeyboardInterrupt):
            fetch(number, folder)
    assert sha256_kept(ledger, number) is None
    answers(OTHER)
    content = fetch(number, folder).read_bytes()
    assert content != OTHER
    assert sha256_kept(ledger, number) == sha256(content)


@pytest.mark.parametrize("is_known", [True, False])
def test_the_remains_of_one_are_replaced(number, folder, fetch, is_known):
    path = folder / "certificates" / f"{number}.pdf"
    if is_known:
        fetch(number, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.write(b"%PDF-1.4")
    assert fetch(number, folder).read_bytes().endswith(b"%%EOF\n")


def test_the_first_counts_in_whatever_folder(number, fetch, ledger, tmp_path, answers, logged):
    first = fetch(number, tmp_path / "2026-10").read_bytes()
    assert fetch(number, tmp_path / "2026").read_bytes() == first
    answers(OTHER)
    assert fetch(number, tmp_path / "later") is None
    assert f"is another one now, SHA-256 {sha256(OTHER)}" in logged()
    assert sha256_kept(ledger, number) == sha256(first)
    assert not (tmp_path / "later" / "certificates" / f"{number}.pdf").exists()


def test_one_that_was_changed_where_it_is_stored_is_an_error_and_left(
    number, fetch, tmp_path, sandbox, logged
):
    path = fetch(number, tmp_path)
    path.write_bytes(OTHER)
    sandbox.state.requests.clear()
    assert fetch(number, tmp_path) is None
    assert "is not the certificate" in logged()
    assert (path.read_bytes(), asked(sandbox)) == (OTHER, [])


def test_what_another_stored_meanwhile_is_not_overwritten(number, fetch, ledger, tmp_path, monkeypatch):
    link = Path.hardlink_to

    def overtaken(self, target):
        self.write_bytes(OTHER)
        link(self, target)

    monkeypatch.setattr(Path, "hardlink_to", overtaken)
    assert fetch(number, tmp_path).read_bytes() == OTHER
    assert sha256_kept(ledger, number) == sha256(OTHER)


def test_a_file_system_without_links_will_do(number, fetch, tmp_path, monkeypatch):
    def refuses(self, target):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuses)
    path = fetch(number, tmp_path)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_of_two_that_were_stored_in_two_folders_at_once_the_second_is_removed(
    number, folder, fetch, ledger, tmp_path, monkeypatch, logged
):
    keep = Ledger.keep_retirements

    def overtaken(self, told):
        monkeypatch.setattr(Ledger, "keep_retirements", keep)
        keep(self, [type(each)(**vars(each) | {"certificate_sha256": sha256(OTHER)}) for each in told])
        return keep(self, told)

    monkeypatch.setattr(Ledger, "keep_retirements", overtaken)
    assert fetch(number, folder) is None
    assert list((folder / "certificates").iterdir()) == []
    assert "is another one now" in logged()
    assert sha256_kept(ledger, number) == sha256(OTHER)


@pytest.mark.parametrize("trouble", ["drop", "html", "no time", "no connection"])
def test_the_markets_trouble_leaves_certificates_to_the_next_report(
    number, fetch, tmp_path, sandbox, monkeypatch, trouble
):
    with monkeypatch.context() as patch:
        if trouble == "no time":
            patch.setattr(retirements, "_LONGEST_CALL", 0)
        elif trouble == "no connection":
            patch.delenv("AIRFLOW_CONN_CARBONMARK_DEFAULT")
        else:
            sandbox.state.change_switches(faults=[{"kind": trouble}])
        assert fetch(number, tmp_path) is None
        assert list(tmp_path.glob("certificates/*")) == []
    sandbox.state.change_switches(faults=[])
    assert fetch(number, tmp_path) is not None
