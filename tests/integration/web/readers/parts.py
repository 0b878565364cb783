"""Airflow's API server, people with rights, and what they get to see."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import httpx
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.utils.session import create_session
from sqlalchemy import delete

with warnings.catch_warnings():
    # What Airflow's API warns of itself while it is being imported differs from version to version.
    warnings.simplefilter("ignore")
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    import airflow_provider_carbonmark.web.readers  # noqa: F401

PAGE = "/carbonmark-offsets/"


class PerDagAuthManager(SimpleAuthManager):
    """Airflow's simple auth manager, but people may read the DAGs that their names begin with; ``all`` may read all."""

    def is_authorized_dag(self, *, user: Any, details: Any = None, **more: Any) -> bool:
        may = super().is_authorized_dag(user=user, details=details, **more)
        return may and (
            user.username == "all" or (details is not None and details.id.startswith(user.username))
        )


@dataclass
class Reader:
    """Somebody with a browser, signed in or not."""

    url: str
    token: str | None = None

    def get(self, query: str = "", path: str = PAGE, **more: Any) -> httpx.Response:
        cookies = {"_token": self.token} if self.token else {}
        with httpx.Client(base_url=self.url, cookies=cookies, timeout=60, trust_env=False) as browser:
            return browser.get(path + query, **more)

    def may_read(self, query: str = "") -> str:
        page = self.get(query)
        assert page.status_code == 200, page.text
        return page.text


def token_of(name: str, role: str | None = "viewer") -> str:
    """Return what Airflow hands to somebody who signs in."""
    return get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=name, role=role))


def know_dags(dag_ids: Collection[str]) -> None:
    """Let Airflow know these DAGs, and no other."""
    with create_session(scoped=False) as session:
        session.execute(delete(DagModel))
        session.execute(delete(DagBundleModel))
        session.add(DagBundleModel(name="dags"))
        session.flush()
        for dag_id in dag_ids:
            # Later versions want to know the kind of its timetable.
            timetable = {"timetable_type": ""} if hasattr(DagModel, "timetable_type") else {}
            session.add(DagModel(dag_id=dag_id, bundle_name="dags", fileloc="dags.py", **timetable))


def words(html: str) -> str:
    """Return what a page says, without its markup."""
    return " ".join(re.sub(r"<[^>]*>", " ", html.partition("</style>")[2]).split())


def links(html: str) -> list[str]:
    return re.findall(r'href="([^"]*)"', html)
