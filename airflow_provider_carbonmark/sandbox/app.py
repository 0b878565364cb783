"""The app: the service's calls, the pages, the control calls, and how errors are said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from airflow_provider_carbonmark.sandbox import api, control, pages
from airflow_provider_carbonmark.sandbox.errors import ServiceRefusal, bad_request, error_answer
from airflow_provider_carbonmark.sandbox.gate import Gate
from airflow_provider_carbonmark.sandbox.world.cards import cards_as_markdown

if TYPE_CHECKING:
    from airflow_provider_carbonmark.sandbox.world.state import SandboxState

DESCRIPTION = f"""
A local understudy of Carbonmark's Checkout Service and of its market API: prices, projects, retirements. **Nothing is bought, and no
credit is retired.**

Keys: `cm_api_<anything>` is right. `cm_api_sandbox…` is right, and in Carbonmark's test mode: every payment ends in the
shared placeholder. `cm_api_forbidden…` answers 403. Anything else answers 401.

On the payment page, the card decides how it ends:

{cards_as_markdown()}

The calls under `/sandbox` need no key. They move the clock, change a listing or a payment, and set the switches, with which
the service is slow, fails, or answers in another layout.
"""


def create_app(state: SandboxState) -> Gate:
    """Build the ASGI app."""
    # FastAPI's own documentation pages load scripts from elsewhere.
    app = FastAPI(
        title="Carbonmark sandbox", description=DESCRIPTION, version="1", docs_url=None, redoc_url=None
    )
    app.state.sandbox = state
    for part in (api, control, pages):
        app.include_router(part.router)
    app.exception_handler(ServiceRefusal)(_refused)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(ValidationError)(_invalid)
    app.exception_handler(HTTPException)(_not_served)
    return Gate(app, state)


async def _refused(request: Request, error: ServiceRefusal) -> Response:
    if pages.is_page(request):
        return pages.notice(error.status, error.message)
    shape = request.app.state.sandbox.switches.error_shape
    content = error_answer(error.status, error.message, name=error.name, code=error.code, shape=shape)
    return JSONResponse(content, error.status)


async def _invalid(request: Request, error: RequestValidationError | ValidationError) -> Response:
    problems = [f"{'/'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return await _refused(request, bad_request("; ".join(problems)[:2000]))


async def _not_served(request: Request, error: HTTPException) -> Response:
    return await _refused(request, ServiceRefusal(error.status_code, error.detail))
