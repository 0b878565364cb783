"""What the market says of projects is kept as it was told first."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_carbonmark.ledger.projects import Methodology, Project
from tests.integration.ledger.parts import LATER, NOW, Rival, buying, line, on_commit, plan

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from airflow_provider_carbonmark.ledger import Ledger

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
