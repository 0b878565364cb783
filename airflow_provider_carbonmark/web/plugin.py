"""
The place of our apps in Airflow's API server: the return URL, open to the world, and the ledger's page, with its menu entry.

Every Airflow process imports its plugins, but only API servers serve them: so an app is made when its first request comes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowPlugin

from airflow_provider_carbonmark.hooks.return_url import PREFIX
from airflow_provider_carbonmark.web import place

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Receive, Scope, Send


def _buyers() -> FastAPI:
    from airflow_provider_carbonmark.web.buyers.app import create_app

    return create_app()


def _readers() -> FastAPI:
    from airflow_provider_carbonmark.web.readers import create_app

    return create_app()


class LateApp:
    """An app that is made when it is first needed. A class, since Airflow's pages name an app by its class."""

    def __init__(self, create: Callable[[], FastAPI]) -> None:
        self._app = cache(create)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app()(scope, receive, send)


class CarbonmarkPlugin(AirflowPlugin):
    """Serves the return URL at ``/carbonmark`` and the ledger's page at ``/carbonmark-offsets``."""

    name = "carbonmark"
    fastapi_apps: list[Any] = [
        {"app": LateApp(_buyers), "url_prefix": PREFIX, "name": "Carbonmark return URL"},
        {"app": LateApp(_readers), "url_prefix": place.PREFIX, "name": "Carbon offsets"},
    ]
    external_views: list[Any] = [place.MENU_ENTRY]
