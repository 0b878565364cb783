"""What is kept with a plan: where its figures are from, out of which files, and what the market says of its projects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, text

from airflow_provider_carbonmark.ledger.projects import Methodology, Project
from airflow_provider_carbonmark.ledger.questions import queries
from airflow_provider_carbonmark.ledger.values import Coverage, Origin, Part, Plan, Restated, SourceFile
from tests.integration.ledger.parts import (
    FIRST,
    LATER,
    MONTH,
    NOW,
    SECOND,
    THIRD,
    Buyer,
    Make,
    Rival,
    buying,
    everybody,
    line,
    on_commit,
    plan,
    preview,
)

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger import Ledger

EXACT = Decimal("1E-30") + 7
PARTS = (Part("scope1", "1", "", Decimal(0)), Part("scope 2, ß", "2", "market-based", EXACT))
ORIGIN = Origin("AWS", "v3.0", PARTS)
FILES = [SourceFile("s3://carbon/ß.csv", 3, "a" * 64), SourceFile("s3://carbon/a.parquet", 4, "b" * 64)]


def reading(files: Sequence[SourceFile] = FILES, **origins: Origin) -> Make:
    """Return a plan's maker that buys for one entity and states a figure of another, where nothing is covered yet."""
    bought, stated = line("web"), Restated("api", MONTH, Decimal(0))

    def make(coverage: Coverage) -> Plan:
        about = {(entity, MONTH): origin for entity, origin in origins.items()}
        new: tuple[Any, ...] = () if coverage.covered else (bought, stated)
        return Plan(new[:1], restated=new[1:], origins=about, files={MONTH: files})

    return make


def test_each_figure_keeps_where_it_is_from(ledger: Ledger, engine: Engine) -> None:
    plan(ledger, reading(web=ORIGIN, api=replace(ORIGIN, version="", parts=())))
    plan(ledger, buying(line("shop")), SECOND)
    found = {each.entity: each.origin for each in ledger.lines()}
    assert found == {"api": Origin("AWS", "", ()), "shop": None, "web": ORIGIN}
    # A page doesn't ask for it.
    with engine.connect() as connection:
        shown = queries.lines(connection, queries.ever(), most=9, skip=0)
    assert shown == [replace(each, origin=None) for each in ledger.lines()]


def test_what_is_planned_anew_without_being_stated_is_from_where_it_was(ledger: Ledger) -> None:
    about = {("web", MONTH): ORIGIN, ("api", MONTH): ORIGIN}
    old = Plan((line("web"), line("api")), origins={key: replace(ORIGIN, version="v2") for key in about})
    plan(ledger, lambda coverage: old)
    plan(ledger, lambda coverage: Plan((line("web", "1"),), origins=about), SECOND)
    told = Buyer({})
    preview(ledger, told, THIRD, everybody)
    assert told.told[0].origins == {("web", MONTH): ORIGIN, ("api", MONTH): old.origins["api", MONTH]}


def test_a_run_s_files_are_written_once_however_often_it_plans(ledger: Ledger) -> None:
    assert ledger.files() == []
    preview(ledger, reading())
    assert ledger.files() == []
    for now in (NOW, LATER):
        plan(ledger, reading(), now=now)
    found = ledger.files(month=MONTH)
    assert [(file.path, file.row_count, file.sha256) for file in found] == [
        (file.path, file.row_count, file.sha256) for file in FILES[::-1]
    ]
    assert {(file.month, file.test_mode, file.run, file.read_at) for file in found} == {
        (MONTH, False, FIRST, NOW)
    }


def test_other_content_other_runs_months_and_modes_are_files_of_their_own(ledger: Ledger) -> None:
    one, *_ = FILES
    plan(ledger, reading([one, replace(one, sha256="c" * 64)]))
    # What only is from elsewhere now is no new figure; the files are kept all the same.
    plan(ledger, reading([one], web=ORIGIN), SECOND)
    plan(ledger, reading([one]), test_mode=True)
    assert {each.run for each in ledger.lines()} == {FIRST}
    files = ledger.files(year=2026)
    assert [(file.sha256[0], file.test_mode) for file in files if file.run == FIRST] == [
        ("a", False),
        ("c", False),
        ("a", True),
    ]
    assert len(files) == 4
    assert len(ledger.files(test_mode=True)) == 1
    assert ledger.files(year=2025) == ledger.files(dag_ids=["another"]) == ledger.files(month="2026-11") == []


def test_of_two_tries_that_read_the_same_at_once_one_writes_it_down(
    ledger: Ledger, engine: Engine, rival: Rival
) -> None:
    plan(ledger, reading([]))
    theirs = "INSERT INTO carbonmark_source_files"
    on_commit(engine, lambda: rival.start(lambda ledger: plan(ledger, reading()), until=theirs))
    plan(ledger, reading())
    rival.result()
    assert len(ledger.files()) == 2


@pytest.mark.parametrize(("path", "kept"), [("x" * 9_000, "x" * 9_000), ("\udcff.csv", "\\udcff.csv")])
def test_a_file_may_have_any_name(ledger: Ledger, path: str, kept: str) -> None:
    plan(ledger, reading([SourceFile(path, 1, "a" * 64)]))
    assert [file.path for file in ledger.files()] == [kept]


def test_whoever_asks_in_sql_finds_json(ledger: Ledger, engine: Engine) -> None:
    plan(ledger, reading(web=ORIGIN))
    with engine.connect() as connection:
        found = connection.scalar(text("SELECT origin FROM carbonmark_origins WHERE entity = 'web'"))
    assert f'"method": "market-based", "tonnes": "{EXACT:f}"' in found


# --- projects


PROJECT = Project(
    project_id="VCS-191",
    name="Wind park, ß",
    country="India",
    registry="VCS",
    methodologies=(Methodology("ACM0002", "Renewable Energy", "Grid-connected"), Methodology()),
    url="https://registry.example/191",
    read_at=NOW,
)


def test_what_is_told_first_stays_and_what_is_missing_is_known(ledger: Ledger) -> None:
    assert (ledger.missing_projects(), ledger.projects(["VCS-191"])) == ([], [])
    plan(ledger, buying(line(), line("api", project_id="VCS-7")))
    assert ledger.missing_projects() == ["VCS-191", "VCS-7"]
    ledger.keep_projects([PROJECT])
    ledger.keep_projects([replace(PROJECT, name="otherwise", read_at=LATER)])
    assert ledger.projects(["VCS-191", "VCS-7"]) == [PROJECT]
    assert ledger.missing_projects() == ["VCS-7"]


def test_two_plans_that_keep_the_same_at_once_stand_in_nobody_s_way(
    ledger: Ledger, engine: Engine, rival: Rival
) -> None:
    plan(ledger, buying(line()))
    until = "INSERT INTO carbonmark_projects"
    on_commit(engine, lambda: rival.start(lambda theirs: theirs.keep_projects([PROJECT]), until=until))
    ledger.keep_projects([PROJECT])
    rival.result()
    assert ledger.projects(["VCS-191"]) == [PROJECT]
