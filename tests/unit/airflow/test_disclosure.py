"""What the deployment states, where its configuration says it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.hooks.facts.disclosure import disclosure_facts

OPTION = "AIRFLOW__CARBONMARK__DISCLOSURE_FACTS"


def test_without_a_file_nothing_is_stated() -> None:
    assert disclosure_facts().company.name is None


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_the_file_is_read_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    file = tmp_path / "facts.yaml"
    file.write_text("company: {name: Übersee GmbH}", encoding="utf-8")
    monkeypatch.setenv(OPTION, f"{scheme}{file}")
    assert disclosure_facts().company.name == "Übersee GmbH"
    file.write_text("company: {nme: Übersee GmbH}", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="facts.yaml: company.nme is no key here"):
        disclosure_facts()


@pytest.mark.parametrize("place", ["/nowhere/facts.yaml", "nothing://bucket/facts.yaml"])
def test_a_file_that_cannot_be_read_is_an_error_that_names_the_option(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv(OPTION, place)
    with pytest.raises(InvalidInputError, match=r"\[carbonmark\] disclosure_facts can't be read .*" + place):
        disclosure_facts()
