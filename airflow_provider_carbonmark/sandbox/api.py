"""The calls of Carbonmark's Checkout Service and of its market API."""

# ruff: noqa: TC001 - FastAPI reads the annotations when it starts
from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from airflow_provider_carbonmark.sandbox.errors import ServiceRefusal
from airflow_provider_carbonmark.sandbox.layouts import Answer, checkout_answer, payment_answer
from airflow_provider_carbonmark.sandbox.records import CheckoutBody, QuoteBody
from airflow_provider_carbonmark.sandbox.state import SandboxState

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
        404: "No such listing or payment, or not known yet",
        409: "Sold out or expired",
        422: "The Idempotency-Key was used with another body",
    }
    return {status: {"description": meanings[status]} for status in statuses}


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
