"""
What buyers' browsers go to and come back to, over HTTP, open to the world.

Three addresses, pages without scripts or anything from elsewhere, and no word about the deployment behind them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.exceptions import HTTPException

from airflow_provider_carbonmark.api.markup import web_address, writable
from airflow_provider_carbonmark.hooks.return_url import (
    LONGEST_TEXT,
    PREFIX,
    InvalidTokenError,
    own_addresses,
)
from airflow_provider_carbonmark.ledger.names import State
from airflow_provider_carbonmark.reporting.page import hash_of, templates
from airflow_provider_carbonmark.web import waking
from airflow_provider_carbonmark.web.buyers.desk import Desk, Limits, TurnedAwayError
from airflow_provider_carbonmark.web.buyers.paying import SOMEBODY, Lead, PayVisits, Said, Sight
from airflow_provider_carbonmark.web.buyers.visits import UNKNOWN_LINK, Page, Visit, Visits
from airflow_provider_carbonmark.web.languages import preferred
from airflow_provider_carbonmark.web.place import HEADERS

log = logging.getLogger(__name__)

T = TypeVar("T")

# A page that can't say yet what became of the payment looks again: as long as the sensor would wait for an unknown payment.
LOOK_AGAIN_SECONDS = 10
MAX_LOOKS = 30

_TEMPLATES = templates("airflow_provider_carbonmark.web", "templates/buyers")
_TEMPLATES.add_extension("jinja2.ext.i18n")
_STYLE = _TEMPLATES.get_template("style.css").render()

_LONGEST_FORM = LONGEST_TEXT + 1000

_HEADERS = HEADERS | {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{hash_of(_STYLE)}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
}
_PAY_HEADERS = _HEADERS | {
    # A form's policy holds for where it leads, too, and a payment page may be anywhere.
    "Content-Security-Policy": _HEADERS["Content-Security-Policy"].replace(
        "form-action 'none'", "form-action 'self' https: http:"
    ),
    # With no-referrer, browsers don't say which page a form is from.
    "Referrer-Policy": "same-origin",
}
_PAY_STATUS = {
    Page.UNKNOWN_LINK: HTTPStatus.NOT_FOUND,
    Page.ELSEWHERE: HTTPStatus.FORBIDDEN,
    Page.LATER: HTTPStatus.SERVICE_UNAVAILABLE,
}


def create_app(limits: Limits | None = None) -> FastAPI:
    """Return the app, to be mounted at ``/carbonmark``."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    limits = limits or Limits()
    desk = Desk(limits)
    visits, pay_visits = Visits(desk), PayVisits(desk)

    async def within_its_time(visit: Awaitable[T], in_trouble: T, to_strangers: T) -> T:
        try:
            async with asyncio.timeout(limits.page):
                return await visit
        except (InvalidTokenError, TurnedAwayError):
            # Anybody can cause this, as often as they like: not a line in the log.
            return to_strangers
        except TimeoutError:
            log.debug("A buyer's page gave up waiting")
        except Exception as error:
            log.debug("A buyer's page has nothing to tell: %r", error)
        return in_trouble

    @app.get("/return/{token}/{payment_id}")
    async def returned(request: Request, token: str, payment_id: str) -> Response:
        if _is_only_looking_ahead(request):
            return _not_now()
        returned = visits.returned(token, payment_id)
        visit = await within_its_time(returned, Visit(Page.UNCHECKED), UNKNOWN_LINK)
        return _page(request, visit, payment_id)

    @app.get("/cancelled/{token}")
    async def cancelled(request: Request, token: str) -> Response:
        if _is_only_looking_ahead(request):
            return _not_now()
        visit = await within_its_time(visits.cancelled(token), Visit(Page.CANCELLED), UNKNOWN_LINK)
        can_pay = visit.purchase and visit.page is Page.CANCELLED and visit.purchase.state is State.LINK_MADE
        way_back = desk.key.pay_path(visit.purchase.id) if visit.purchase and can_pay else None
        return _page(request, visit, way_back=way_back)

    @app.get("/pay/{token}")
    async def looked(request: Request, token: str) -> Response:
        seen: Sight | Page = await within_its_time(pay_visits.look(token), Page.LATER, Page.UNKNOWN_LINK)
        return _pay_page(request, seen, token)

    @app.post("/pay/{token}")
    async def said(request: Request, token: str) -> Response:
        async def say() -> Sight | Lead | Page:
            id = await desk.key.purchase(token)
            if not _is_from_its_own_page(request):
                return Page.ELSEWHERE
            form = await _form(request)
            return await pay_visits.say(id, form, await waking.name_of(request) or SOMEBODY)

        return _pay_page(request, await within_its_time(say(), Page.LATER, Page.UNKNOWN_LINK), token)

    @app.exception_handler(HTTPException)
    async def elsewhere(request: Request, error: HTTPException) -> Response:
        return _page(request, UNKNOWN_LINK, status=error.status_code)

    return app


async def _form(request: Request) -> dict[str, str]:
    """Read a form of ours; what is longer than any of ours counts as empty."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            return {}
    return dict(parse_qsl(body.decode("utf-8", "replace")))


def _is_from_its_own_page(request: Request) -> bool:
    """Tell whether a form was sent from the page that it is on. Every browser of today says where it is from."""
    if site := request.headers.get("sec-fetch-site"):
        # "none" is the person themselves, reloading the page.
        return site in ("same-origin", "none")
    # Browsers tell the above only to https and localhost; to others they tell the page's origin. A proxy may name another host than it.
    origin = request.headers.get("origin", "")
    own = {f"{each.scheme}://{each.netloc.lower()}" for each in map(urlsplit, own_addresses())}
    _, _, host = origin.partition("://")
    return origin in own or (bool(host) and host == request.headers.get("host"))


def _pay_page(request: Request, seen: Sight | Lead | Page, token: str) -> Response:
    if isinstance(seen, Lead):
        # To the page itself by its last part, since an Airflow may be below a path.
        return RedirectResponse(seen.url or token, HTTPStatus.SEE_OTHER, headers=_PAY_HEADERS)
    page, sight = (Page.PAY, seen) if isinstance(seen, Sight) else (seen, None)
    return _answer(
        request,
        page,
        _PAY_STATUS.get(page, HTTPStatus.OK),
        _PAY_HEADERS,
        purchase=sight.purchase if sight else None,
        sight=sight,
        said=Said,
        certificate=sight and web_address(sight.purchase.certificate_url),
        payment_id=None,
        told=True,
    )


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
    request: Request,
    visit: Visit,
    payment_id: str | None = None,
    status: int | None = None,
    way_back: str | None = None,
) -> Response:
    headers = dict(_HEADERS)
    looks_again = False
    if visit.page is Page.UNCHECKED and not visit.recorded:
        looks = _looks(request)
        if looks_again := looks < MAX_LOOKS:
            headers["Refresh"] = f"{LOOK_AGAIN_SECONDS}; url=?look={looks + 1}"
    known = HTTPStatus.NOT_FOUND if visit.page is Page.UNKNOWN_LINK else HTTPStatus.OK
    return _answer(
        request,
        visit.page,
        status or known,
        headers,
        purchase=visit.purchase,
        # As seen from the page, since an Airflow may be below a path.
        way_back=way_back and f"..{way_back.removeprefix(PREFIX)}",
        # A second payment's number is for nobody's eyes, and the first is not this buyer's business.
        payment_id=None if visit.page is Page.ALREADY_RECORDED else payment_id,
        recorded=visit.recorded,
        told=visit.told,
        looks_again=looks_again,
    )


def _answer(
    request: Request, page: Page, status: int, headers: Mapping[str, str], **values: object
) -> Response:
    """Return a page in the language of its reader."""
    language = preferred(request.headers.get("accept-language", ""))
    template = _TEMPLATES.get_template(f"{page}.html")
    html = template.render(style=_STYLE, language=language, gettext=language.gettext, **values)
    chosen = {"Content-Language": language.code, "Vary": "Accept-Language"}
    return HTMLResponse(writable(html), status, headers={**headers, **chosen})


def _looks(request: Request) -> int:
    """Return how often this page has looked again already."""
    said = request.query_params.get("look", "0")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 4 else 0
