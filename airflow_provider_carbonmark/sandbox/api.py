"""The calls of Carbonmark's Checkout Service, and the public ones of its market API."""

# ruff: noqa: TC001 - FastAPI reads the annotations when it starts
from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from airflow_provider_carbonmark.sandbox.errors import ServiceRefusal, error_answer
from airflow_provider_carbonmark.sandbox.switches import ErrorShape
from airflow_provider_carbonmark.sandbox.world.layouts import Answer, checkout_answer, payment_answer
from airflow_provider_carbonmark.sandbox.world.projects import PROJECTS, as_project, fits
from airflow_provider_carbonmark.sandbox.world.records import CheckoutBody, QuoteBody
from airflow_provider_carbonmark.sandbox.world.retirements import (
    certificate_document,
    has_provenance,
    in_snake_case,
    provenance_answer,
    retirement_answer,
)
from airflow_provider_carbonmark.sandbox.world.state import SandboxState, unknown_retirement

bearer = HTTPBearer(auto_error=False, description="`cm_api_<anything>`; `cm_api_sandbox…` retires nothing")


async def get_state(request: Request) -> SandboxState:
    state: SandboxState = request.app.state.sandbox
    return state


async def get_base_url(request: Request) -> str:
    return str(request.base_url).rstrip("/")


State = Annotated[SandboxState, Depends(get_state)]
BaseUrl = Annotated[str, Depends(get_base_url)]


async def get_key(
    state: State, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> str:
    """Return the caller's API key, or refuse (assumed: the market API's answers hold here too)."""
    key = credentials.credentials if credentials else ""
    if key.startswith("cm_api_forbidden"):
        raise ServiceRefusal(403, "This API key may not do that")
    if state.switches.require_key and not (key.startswith("cm_api_") and key != "cm_api_"):
        raise ServiceRefusal(401, "Missing or wrong API key")
    return key


Key = Annotated[str, Depends(get_key)]


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    meanings = {
        400: "The request is not valid",
        401: "Missing or wrong key",
        403: "The key may not do that",
        404: "No such thing, or not known yet",
        409: "Sold out or expired",
        422: "The Idempotency-Key was used with another body",
    }
    told = {status: {"description": meanings[status]} for status in statuses}
    return told | {
        "4XX": {"description": "How any error is said", "content": {"application/json": {"schema": _ERROR}}}
    }


def _error_layout(shape: ErrorShape) -> dict[str, Any]:
    fields = error_answer(400, "", name="", code="", shape=shape)
    kinds = {
        name: {"type": "integer" if isinstance(value, int) else "string"} for name, value in fields.items()
    }
    return {"title": shape, "type": "object", "properties": kinds, "required": list(kinds)}


_ERROR = {"oneOf": [_error_layout(shape) for shape in get_args(ErrorShape)]}


router = APIRouter(tags=["Carbonmark"])


@router.post("/quotes", summary="Price a quantity of a listing", responses=_errors(400, 401, 403, 404, 409))
async def create_quote(body: QuoteBody, state: State, key: Key) -> Answer:
    return Answer(state.quote(body.asset_price_source_id, body.quantity))


@router.post("/checkout", summary="Make a payment page", responses=_errors(400, 401, 403, 404, 409, 422))
async def create_checkout(
    body: CheckoutBody,
    request: Request,
    state: State,
    key: Key,
    base_url: BaseUrl,
    idempotency_key: Annotated[
        str | None,
        Header(description="A repeated key gets the checkout it made before; assumed, not documented."),
    ] = None,
) -> Answer:
    checkout = state.open_checkout(body, key=key, idempotency_key=idempotency_key, sent=await request.body())
    return Answer(checkout_answer(checkout, base_url, state.switches))


@router.get(
    "/payments/{payment_id}", summary="Read a payment and its retirement", responses=_errors(401, 403, 404)
)
async def get_payment(payment_id: str, state: State, key: Key, base_url: BaseUrl) -> Answer:
    return Answer(payment_answer(state.view_payment(payment_id), base_url, state.switches))


@router.get("/prices", summary="List what is for sale", responses=_errors(400))
async def list_prices(
    state: State,
    project_ids: Annotated[
        list[str] | None, Query(alias="projectIds", description="Repeatable, such as `VCS-191`.")
    ] = None,
    min_price: Annotated[
        float, Query(alias="minPriceUSD", ge=0, description="Least purchase price, USD per tonne.")
    ] = 0,
    min_supply: Annotated[
        float, Query(alias="minSupply", ge=0, description="Least supply in tonnes, liquid or not.")
    ] = 0,
    kind: Annotated[
        Literal["listing", "klimaprotocol"], Query(alias="assetPriceType", description="What to list.")
    ] = "listing",
) -> Answer:
    with state.lock:
        entries: list[dict[str, Any]] = [
            listing.as_price()
            for listing in state.listings.values()
            if listing.type == kind
            and (not project_ids or listing.project_id in project_ids)
            and listing.purchase_price >= Decimal(str(min_price))
            and listing.supply >= Decimal(str(min_supply))
        ]
    return Answer(entries if state.switches.prices_layout == "array" else {"items": entries})


@router.get("/carbonProjects", summary="List the projects behind the market", responses=_errors(400))
async def list_projects(
    state: State,
    country: Annotated[str | None, Query(description="Such as `Brazil`.")] = None,
    category: Annotated[str | None, Query(description="A methodology's, such as `Blue Carbon`.")] = None,
    vintage: Annotated[str | None, Query(description="A year.")] = None,
    registry: Annotated[str | None, Query(description="Such as `VCS`.")] = None,
    search: Annotated[str | None, Query(description="Text in the key, the name or the description.")] = None,
    keys: Annotated[list[str] | None, Query(description="Repeatable, such as `VCS-191`.")] = None,
    min_supply: Annotated[
        float, Query(alias="minSupply", ge=0, description="Least supply in tonnes, liquid or not.")
    ] = 0,
    kind: Annotated[
        Literal["listing", "klimaprotocol"] | None,
        Query(alias="assetPriceType", description="Only what is sold so."),
    ] = None,
    limit: Annotated[int, Query(ge=1, description="How many at most; more are cut off silently.")] = 20,
    offset: Annotated[int, Query(ge=0, description="How many to leave out.")] = 0,
) -> Answer:
    wanted = {
        "country": country,
        "category": category,
        "vintage": vintage,
        "registry": registry,
        "search": search,
    }
    with state.lock:
        market = list(state.listings.values())
        sold = {listing.project_id for listing in market if kind in (None, listing.type)}
        projects = [as_project(key, market) for key in PROJECTS if key in sold]
    found = [
        project
        for project in projects
        if fits(project, wanted)
        and (not keys or project["key"] in keys)
        and project["stats"]["totalSupply"] >= Decimal(str(min_supply))
    ]
    page = found[offset : offset + limit]
    if state.switches.projects_layout == "array":
        return Answer(page)
    # assumed: the count is of all that were found.
    return Answer({"items": page, "itemsCount": len(found)})


@router.get("/carbonProjects/{key}", summary="Read a project", responses=_errors(404))
async def get_project(key: str, state: State) -> Answer:
    if key not in PROJECTS:
        raise ServiceRefusal(404, f"There is no project {key[:80]!r}.", "PROJECT_NOT_FOUND")
    with state.lock:
        return Answer(as_project(key, state.listings.values()))


def _retirements(content: Any, state: SandboxState) -> Answer:
    return Answer(in_snake_case(content) if state.switches.retirements_spelling == "snake_case" else content)


@router.get("/retirements", summary="List the retirements of a transaction", responses=_errors(400))
async def list_retirements(
    state: State, transaction_hash: Annotated[str, Query(alias="hash", description="The transaction's hash.")]
) -> Answer:
    proven = [each for each in state.proven_retirements() if each.transaction.hash == transaction_hash]
    return _retirements(list(map(retirement_answer, proven)), state)


@router.get("/retirements/{retirement_id}", summary="Read a retirement", responses=_errors(404))
async def get_retirement(retirement_id: str, state: State) -> Answer:
    return _retirements(retirement_answer(state.find_retirement(retirement_id)), state)


@router.get(
    "/retirements/{retirement_id}/provenance",
    summary="Read where a retirement's credits come from",
    responses=_errors(404),
)
async def get_provenance(retirement_id: str, state: State) -> Answer:
    proven = state.find_retirement(retirement_id)
    if proven.listing is None or not has_provenance(proven.listing):
        raise unknown_retirement("There is no provenance of this retirement.")
    return _retirements(provenance_answer(proven.retirement, proven.listing), state)


@router.get(
    "/retirements/{retirement_id}/certificate",
    summary="Read a retirement's certificate",
    response_class=Response,
    responses=_errors(404) | {200: {"content": {"application/pdf": {}}}},
)
async def get_certificate(retirement_id: str, state: State) -> Response:
    document = certificate_document(state.find_certificate(retirement_id))
    return Response(document, media_type="application/pdf")
