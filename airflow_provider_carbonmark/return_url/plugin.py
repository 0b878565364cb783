"""
The app's place in Airflow's API server.

Every Airflow process imports its plugins, but only API servers serve them: so the app is made when the first request comes.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowPlugin

from airflow_provider_carbonmark.return_url.link import PREFIX

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Receive, Scope, Send


@cache
def _app() -> FastAPI:
    from airflow_provider_carbonmark.return_url.app import create_app

    return create_app()


class ReturnUrlApp:
    """The app, made when it is first needed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _app()(scope, receive, send)


class CarbonmarkPlugin(AirflowPlugin):
    """Serves the return URL at ``/carbonmark``."""

    name = "carbonmark"
    fastapi_apps: list[Any] = [{"app": ReturnUrlApp(), "url_prefix": PREFIX, "name": "Carbonmark return URL"}]
