"""What the market says of the projects whose credits are bought, for the ledger; never in the way of buying them."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_provider_carbonmark.api.errors import CarbonmarkError
from airflow_provider_carbonmark.api.retries import NO_RETRIES

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.client import CarbonmarkClient
    from airflow_provider_carbonmark.api.models import Project as Told
    from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook
    from airflow_provider_carbonmark.ledger.book import Ledger
    from airflow_provider_carbonmark.ledger.projects import Project

log = logging.getLogger(__name__)


def learn_of_projects(ledger: Ledger, hook: CarbonmarkHook, ids: Collection[str]) -> None:
    """Read and keep what the market says of projects that the ledger knows nothing of. What can't be read now, housekeeping reads later."""
    unknown = set(ids) - {project.project_id for project in ledger.projects(ids)}
    if not unknown:
        return
    try:
        with hook.get_conn(NO_RETRIES) as client:
            told = _told(client, unknown)
    except CarbonmarkError as error:
        log.warning("What the market says of %s can't be read now: %s", ", ".join(sorted(unknown)), error)
        return
    ledger.keep_projects(told)


def known_projects(
    ledger: Ledger, hook: CarbonmarkHook, ids: Collection[str], *, keep: bool
) -> list[Project]:
    """
    Return what is known of projects. What the ledger doesn't know, the market is asked, once for all.

    :param ids: of the projects, such as ``VCS-191``; what nobody knows is missing in the answer.
    :param keep: whether the ledger keeps what the market says.
    :raises CarbonmarkError: when the market can't be asked.
    """
    known = ledger.projects(ids)
    unknown = set(ids) - {project.project_id for project in known}
    if not unknown:
        return known
    told = _told(hook, unknown)
    if keep:
        ledger.keep_projects(told)
    return [*known, *told]


def _told(market: CarbonmarkHook | CarbonmarkClient, ids: Collection[str]) -> list[Project]:
    told = [_kept(project) for project in market.list_projects(ids)]
    if silent := {*ids} - {project.project_id for project in told}:
        log.warning("The market says nothing of %s", ", ".join(sorted(silent)))
    return told


def _kept(told: Told) -> Project:
    # Imported late: a DAG file needs none of SQLAlchemy.
    from airflow_provider_carbonmark.ledger.projects import Methodology, Project

    return Project(
        project_id=told.key,
        name=told.name,
        country=told.country,
        region=told.region,
        registry=told.registry,
        methodologies=tuple(
            # One of which nothing is told is one all the same.
            Methodology(each.id or "", each.category or "", each.name or "") if each else Methodology()
            for each in told.methodologies or ()
        ),
        url=told.url,
        read_at=datetime.now(UTC),
    )
