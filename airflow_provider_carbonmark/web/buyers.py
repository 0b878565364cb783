"""
The return URL over HTTP: what buyers' browsers come back to, open to the world.

Two addresses, pages without scripts or anything from elsewhere, and no word about the deployment behind them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from airflow_provider_carbonmark.api.markup import web_address, writable
from airflow_provider_carbonmark.ledger.purchase import State
from airflow_provider_carbonmark.reporting.page import hash_of, templates
from airflow_provider_carbonmark.web.place import HEADERS
from airflow_provider_carbonmark.web.visits import UNKNOWN_LINK, Limits, Page, Visit, Visits

log = logging.getLogger(__name__)

# A page that can't say yet what became of the payment looks again: as long as the sensor would wait for an unknown payment.
LOOK_AGAIN_SECONDS = 10
MAX_LOOKS = 30

_TEMPLATES = templates("airflow_provider_carbonmark.web", "templates/buyers")
_STYLE = _TEMPLATES.get_template("style.css").render()

_HEADERS = HEADERS | {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{hash_of(_STYLE)}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
}


def create_app(limits: Limits | None = None) -> FastAPI:
    """Return the app, to be mounted at ``/carbonmark``."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    limits = limits or Limits()
    visits = Visits(limits)

    async def within_its_time(visit: Awaitable[Visit], in_trouble: Page) -> Visit:
        try:
            async with asyncio.timeout(limits.page):
                return await visit
        except TimeoutError:
            log.debug("A buyer's page gave up waiting")
        except Exception as error:
            log.debug("A buyer's page has nothing to tell: %r", error)
        return Visit(in_trouble)

    @app.get("/return/{token}/{payment_id}")
    async def returned(request: Request, token: str, payment_id: str) -> Response:
        if _is_only_looking_ahead(request):
            return _not_now()
        visit = await within_its_time(visits.returned(token, payment_id), Page.UNCHECKED)
        return _page(request, visit, payment_id)

    @app.get("/cancelled/{token}")
    async def cancelled(request: Request, token: str) -> Response:
        if _is_only_looking_ahead(request):
            return _not_now()
        return _page(request, await within_its_time(visits.cancelled(token), Page.CANCELLED))

    @app.exception_handler(HTTPException)
    async def elsewhere(request: Request, error: HTTPException) -> Response:
        return _page(request, UNKNOWN_LINK, status=error.status_code)

    return app


def _is_only_looking_ahead(request: Request) -> bool:
    """Tell whether a browser fetches the page before anybody asked for it. A prefetch that fails is done again later."""
    names = ("purpose", "sec-purpose", "x-purpose", "x-moz")
    return any(
        word in request.headers.get(name, "").lower()
        for name in names
        for word in ("prefetch", "prerender", "preview")
    )


def _not_now() -> Response:
    return Response(status_code=HTTPStatus.SERVICE_UNAVAILABLE, headers=_HEADERS)


def _page(
    request: Request, visit: Visit, payment_id: str | None = None, status: int | None = None
) -> Response:
    headers = dict(_HEADERS)
    looks_again = False
    if visit.page is Page.UNCHECKED and not visit.recorded:
        looks = _looks(request)
        if looks_again := looks < MAX_LOOKS:
            headers["Refresh"] = f"{LOOK_AGAIN_SECONDS}; url=?look={looks + 1}"
    html = _TEMPLATES.get_template(f"{visit.page}.html").render(
        style=_STYLE,
        purchase=visit.purchase,
        way_back=_way_back(visit),
        # A second payment's number is for nobody's eyes, and the first is not this buyer's business.
        payment_id=None if visit.page is Page.ALREADY_RECORDED else payment_id,
        recorded=visit.recorded,
        told=visit.told,
        looks_again=looks_again,
    )
    known = HTTPStatus.NOT_FOUND if visit.page is Page.UNKNOWN_LINK else HTTPStatus.OK
    return HTMLResponse(writable(html), status_code=status or known, headers=headers)


def _way_back(visit: Visit) -> str | None:
    """Return the payment page, as long as somebody may still pay there."""
    purchase = visit.purchase
    if visit.page is not Page.CANCELLED or purchase is None or purchase.state is not State.LINK_MADE:
        return None
    return web_address(purchase.link.url) if purchase.link else None


def _looks(request: Request) -> int:
    """Return how often this page has looked again already."""
    said = request.query_params.get("look", "0")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 4 else 0
