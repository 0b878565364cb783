"""
The ledger over HTTP, for those who are signed in to Airflow and may read the DAGs that planned it.

One address, which changes nothing; pages without scripts or anything from elsewhere. Airflow checks nothing of who asks before
it hands a request on, so this does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from airflow_provider_carbonmark.hooks.ledger import open_ledger
from airflow_provider_carbonmark.hooks.runs import deployment
from airflow_provider_carbonmark.web import access, pages, views
from airflow_provider_carbonmark.web.buyers.threads import Threads
from airflow_provider_carbonmark.web.place import HEADERS, PREFIX
from airflow_provider_carbonmark.web.views import NoAccessError, UnreadableRequestError, Wanted

log = logging.getLogger(__name__)

# Readers at once. They have threads of their own, so that a slow ledger doesn't hold up Airflow's API.
_AT_ONCE = 4
_HANGING = 16
SECONDS = 30.0

_HEADERS = HEADERS | {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{pages.STYLE_HASH}'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def create_app(seconds: float = SECONDS) -> FastAPI:
    """Return the app, to be mounted at ``/carbonmark-offsets``; a reader waits so many seconds at most."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    threads = Threads(_AT_ONCE, hanging=_HANGING, seconds=seconds)

    @app.get("/")
    async def ledger(request: Request, user: Annotated[Any, Depends(access.get_user)]) -> Response:
        try:
            wanted = Wanted.of(request.query_params)
            async with asyncio.timeout(seconds):
                return _page(await threads.run(partial(_read, wanted, user)))
        except UnreadableRequestError as refusal:
            return _message(HTTPStatus.BAD_REQUEST, "There is no such page", str(refusal))
        except NoAccessError:
            return _message(
                HTTPStatus.FORBIDDEN,
                "You may not see this",
                "The ledger is for those who may read the DAGs that plan its purchases, and you may read none of them. "
                "Ask whoever gives out rights in this Airflow.",
            )
        except Exception:
            log.exception("The ledger can't be read for its page")
            return _message(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "The ledger can’t be read right now",
                "Try again later. The API server’s log says why.",
            )

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        # Only Airflow's own check answers so: nobody is signed in, or with something that is no token of this Airflow.
        if error.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            back = access.url_behind_sign_in(request, PREFIX)
            return _page(pages.please_sign_in(back), HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": "Bearer"})
        html = pages.message("There is no such page", "The ledger has one address only.")
        return _page(html, error.status_code, error.headers)

    return app


def _read(wanted: Wanted, user: Any) -> str:
    readable = access.readable_dag_ids(user)
    with open_ledger() as ledger, ledger.reading() as connection:
        return pages.ledger(views.view(connection, wanted, readable), deployment(), ledger.signing_key())


def _message(status: int, title: str, text: str) -> Response:
    return _page(pages.message(title, text), status)


def _page(html: str, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response:
    return HTMLResponse(html, status_code=int(status), headers=_HEADERS | dict(headers or {}))
