"""
The only file that touches Airflow's internals for readers: who is signed in, and which DAGs they may read.

Runs in the API server. Import it late: plugins are imported by every process, and all this is loaded in an API server only. Each
supported version of Airflow is tested, because none of it is Airflow's public interface.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.core_api.security import get_user
from airflow.providers.common.compat.sdk import conf

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
    from fastapi import Request

__all__ = ["get_user", "readable_dag_ids", "url_behind_sign_in"]


def readable_dag_ids(user: BaseUser) -> set[str]:
    """Return the DAGs that somebody may read, of those that this Airflow knows."""
    return get_auth_manager().get_authorized_dag_ids(user=user, method="GET")


def url_behind_sign_in(request: Request, prefix: str) -> str:
    """Return the page's whole address, which is all that Airflow takes to send people on once they are signed in."""
    # Airflow compares it with its configured address, and without one with that of the request.
    base = (conf.get("api", "base_url", fallback=None) or "").strip() or str(request.base_url)
    return f"{base.rstrip('/')}{prefix}/"
