"""
What the market says of the projects whose credits are bought: read once, when a purchase is planned, and kept.

The functions are what the ledger's methods on projects do within a transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select

from airflow_provider_carbonmark.ledger.tables.database import outrun_if_taken
from airflow_provider_carbonmark.ledger.tables.rows import in_batches
from airflow_provider_carbonmark.ledger.tables.schema import projects, purchases

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True)
class Methodology:
    """By what a project's credits are worked out; what is not told is empty."""

    id: str = ""
    category: str = ""
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Project:
    """
    A project, as the market told of it; what it didn't tell is None.

    :param project_id: as in a purchase, such as ``VCS-191``.
    :param url: the registry's page.
    """

    project_id: str
    name: str | None = None
    country: str | None = None
    region: str | None = None
    registry: str | None = None
    methodologies: tuple[Methodology, ...] = ()
    url: str | None = None
    read_at: datetime


def missing(connection: Connection) -> list[str]:
    known = select(projects.c.project_id)
    query = select(purchases.c.project_id).where(
        purchases.c.project_id.is_not(None), purchases.c.project_id.not_in(known)
    )
    return sorted(connection.scalars(query.distinct()))


def keep(connection: Connection, told: Iterable[Project]) -> None:
    by_id = {each.project_id: each for each in told}
    known = {each.project_id for each in read(connection, by_id)}
    rows = [_row(each) for id, each in sorted(by_id.items()) if id not in known]
    if rows:
        with outrun_if_taken("Another plan kept what is told of the same projects first"):
            connection.execute(insert(projects), rows)


def read(connection: Connection, ids: Collection[str]) -> list[Project]:
    found: list[Project] = []
    for some in in_batches(sorted(ids)):
        query = select(projects).where(projects.c.project_id.in_(some))
        found += [_project(row) for row in connection.execute(query).mappings()]
    return sorted(found, key=lambda project: project.project_id)


def _row(project: Project) -> dict[str, Any]:
    return vars(project) | {
        "methodologies": {"methodologies": [vars(each) for each in project.methodologies]}
    }


def _project(row: Any) -> Project:
    methodologies = tuple(Methodology(**each) for each in row["methodologies"]["methodologies"])
    return Project(**{**row, "methodologies": methodologies})
