"""The control calls: what tests and demos do to the sandbox behind the service's back."""

# ruff: noqa: TC001 - FastAPI reads the annotations when it starts
from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_carbonmark.sandbox.api import State
from airflow_provider_carbonmark.sandbox.errors import ServiceRefusal
from airflow_provider_carbonmark.sandbox.switches import Seconds, Switches
from airflow_provider_carbonmark.sandbox.world.cards import Outcome
from airflow_provider_carbonmark.sandbox.world.layouts import Answer, timestamp
from airflow_provider_carbonmark.sandbox.world.state import unknown_payment

Tonnes = Annotated[Decimal, Field(ge=0)]


class ClockChange(BaseModel):
    """How far to put the clock forward."""

    model_config = ConfigDict(extra="forbid")

    advance_seconds: Seconds


class ListingChange(BaseModel):
    """What to change of a listing."""

    model_config = ConfigDict(extra="forbid")

    purchase_price: Tonnes | None = Field(default=None, description="USD per tonne.")
    supply: Tonnes | None = Field(default=None, description="Tonnes.")
    liquid_supply: Tonnes | None = Field(default=None, description="Tonnes.")
    min_fill_amount: Tonnes | None = Field(default=None, description="Tonnes.")
    expires_after: int | None = Field(default=None, description="Epoch seconds.")


class PaymentChange(BaseModel):
    """What to change of a payment. A status that is null is the usual one again."""

    model_config = ConfigDict(extra="forbid")

    outcome: Outcome = Field(default=Outcome.RETIRED, description="How its retirement ends.")
    payment_status: str | None = Field(default=None, description="Word to say, such as `REFUNDED`.")
    retirement_status: str | None = Field(default=None, description="Word to say, such as `CANCELLED`.")


router = APIRouter(prefix="/sandbox", tags=["Sandbox control (no key)"])


@router.get("/state", summary="Checkouts, payments, request counts")
async def get_snapshot(state: State) -> Answer:
    return Answer(state.snapshot())


@router.get("/requests", summary="The last requests, with the body each carried and the answer's status")
async def get_requests(state: State) -> Answer:
    with state.lock:
        return Answer(list(state.requests))


@router.post("/reset", summary="Forget everything, and behave as at the start")
async def reset(state: State) -> Answer:
    state.reset()
    return Answer(state.snapshot())


@router.get("/switches", summary="How the sandbox behaves")
async def get_switches(state: State) -> Switches:
    return state.switches


@router.put("/switches", summary="Set all switches; those not named get their default")
async def put_switches(switches: Switches, state: State) -> Switches:
    return state.change_switches(**switches.model_dump())


@router.patch("/switches", summary="Set the named switches")
async def patch_switches(changes: dict[str, Any], state: State) -> Switches:
    return state.change_switches(**changes)


@router.post("/clock", summary="Put the clock forward")
async def advance_clock(change: ClockChange, state: State) -> dict[str, str]:
    return {"now": timestamp(state.advance_clock(change.advance_seconds))}


@router.patch("/listings/{source_id}", summary="Change a listing: sell it out, reprice it, let it expire")
async def change_listing(source_id: str, change: ListingChange, state: State) -> Answer:
    with state.lock:
        listing = state.listings.get(source_id)
        if listing is None:
            message = f"There is no listing {source_id[:120]!r}."
            raise ServiceRefusal(404, message, "ASSET_PRICE_SOURCE_NOT_FOUND")
        vars(listing).update(change.model_dump(exclude_none=True))
        return Answer(listing.as_price())


@router.patch("/payments/{payment_id}", summary="Change how a payment ends, or what it says")
async def change_payment(payment_id: str, change: PaymentChange, state: State) -> Answer:
    with state.lock:
        checkout = state.checkout_of(payment_id)
        if checkout.payment is None:
            raise unknown_payment(payment_id)
        vars(checkout.payment).update(change.model_dump(exclude_unset=True))
        return Answer(state.payment_snapshot(checkout))
