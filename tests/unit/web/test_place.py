"""The page's place in Airflow: made late, found in the menu."""

from __future__ import annotations

import warnings
from urllib.parse import unquote
from xml.etree import ElementTree

from airflow_provider_carbonmark.web.place import MENU_ENTRY
from airflow_provider_carbonmark.web.plugin import CarbonmarkPlugin, LateApp


async def test_an_app_is_made_once_and_when_it_is_first_needed():
    made, asked = [], []

    def create():
        made.append(1)

        async def app(scope, receive, send):
            asked.append(scope)

        return app

    app = LateApp(create)
    assert made == []
    await app({"first": True}, None, None)
    await app({"first": False}, None, None)
    assert (made, asked) == ([1], [{"first": True}, {"first": False}])


def test_the_menu_entry_is_one_that_this_airflow_shows():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from airflow.api_fastapi.core_api.datamodels.plugins import ExternalViewResponse, FastAPIAppResponse
    shown = ExternalViewResponse.model_validate(MENU_ENTRY)
    assert (shown.name, shown.destination, shown.category) == ("Carbon offsets", "nav", "browse")
    for icon in (shown.icon, shown.icon_dark_mode):
        drawing = unquote(str(icon).removeprefix("data:image/svg+xml,"))
        assert ElementTree.fromstring(drawing).tag == "{http://www.w3.org/2000/svg}svg"
    # With a route of its own it would be in a frame that lets no link out.
    assert shown.url_route is None
    for app in CarbonmarkPlugin.fastapi_apps:
        FastAPIAppResponse.model_validate(app | {"app": str(app["app"])})


def test_the_menu_entry_leads_to_the_app_below_whatever_path_airflow_has():
    (app,) = (app for app in CarbonmarkPlugin.fastapi_apps if app["name"] == MENU_ENTRY["name"])
    assert MENU_ENTRY["href"] == f"{app['url_prefix'].removeprefix('/')}/"
