"""
The only file that touches Airflow's internals: who is signed in, and which DAGs they may read.

Runs in the API server. Import it late: plugins are imported by every process, and all this is loaded in an API server only. Each
supported version of Airflow is tested, because none of it is Airflow's public interface.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.core_api.security import get_user
from airflow.providers.common.compat.sdk import conf

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
    from fastapi import Request

__all__ = ["get_user", "name_of", "readable_dag_ids", "url_behind_sign_in"]

log = logging.getLogger(__name__)


async def name_of(request: Request) -> str | None:
    """Return who is signed in; None where nobody is, or nobody can tell."""
    try:
        return str((await get_user(request, None, None)).get_name())
    except Exception as error:
        log.debug("Nobody is signed in: %r", error)
        return None


def readable_dag_ids(user: BaseUser) -> set[str]:
    """Return the DAGs that somebody may read, of those that this Airflow knows."""
    return get_auth_manager().get_authorized_dag_ids(user=user, method="GET")


def url_behind_sign_in(request: Request, prefix: str) -> str:
    """Return the page's whole address, which is all that Airflow takes to send people on once they are signed in."""
    # Airflow compares it with its configured address, and without one with that of the request.
    base = (conf.get("api", "base_url", fallback=None) or "").strip() or str(request.base_url)
    return f"{base.rstrip('/')}{prefix}/"
