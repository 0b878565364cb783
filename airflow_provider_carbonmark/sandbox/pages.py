"""What people see: the payment page, certificates, and a stand-in for the buyer's own site."""

# ruff: noqa: TC001 - FastAPI reads the annotations when it starts
from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from airflow_provider_carbonmark.sandbox.api import BaseUrl, State
from airflow_provider_carbonmark.sandbox.errors import ServiceRefusal, expired
from airflow_provider_carbonmark.sandbox.world.cards import CARDS, GOOD_CARD, charge
from airflow_provider_carbonmark.sandbox.world.records import PLACEHOLDER, Checkout, Payment

TEMPLATES = Path(__file__).with_name("templates")
PAGES = ("/pay/", "/retirements/id/", "/transactions/", "/returned/", "/cancelled")
HEADERS = {
    # form-action holds for the redirects after a form too, and the buyer's own site may redirect anywhere.
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none';"
    " frame-ancestors 'none'; form-action 'self' http: https:",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}

router = APIRouter(tags=["Pages"], default_response_class=HTMLResponse)
templates = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
templates.globals["cards"] = CARDS


def _written(number: Decimal, least_digits: int) -> str:
    digits = max(least_digits, -int(number.normalize().as_tuple().exponent))
    return f"{number:,.{digits}f}"


def usd(amount: Decimal) -> str:
    """Return an amount such as ``$1,234.50``; cents, or finer if it is."""
    return f"${_written(amount, 2)}"


def tonnes(quantity: Decimal) -> str:
    """Return a quantity such as ``1,234.5 t``."""
    return f"{_written(quantity, 0)} t"


templates.filters |= {"usd": usd, "tonnes": tonnes}


def is_page(request: Request) -> bool:
    return request.url.path.startswith(PAGES)


def page(name: str, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(templates.get_template(name).render(values), status, HEADERS)


def notice(status: int, message: str) -> HTMLResponse:
    """Return a page that only says something."""
    return page("notice.html", status, title=HTTPStatus(status).phrase, message=message)


def payment_page(checkout: Checkout, status: int = 200, problem: str = "") -> HTMLResponse:
    return page(
        "payment.html", status, checkout=checkout, listing=checkout.listing, problem=problem, card=GOOD_CARD
    )


def success_url(checkout: Checkout) -> str:
    """Return where a buyer who paid is sent (doc: the success URL, with the payment's id as a suffix)."""
    return f"{checkout.order.success_url}/{checkout.payment_id}"


def paid_page(checkout: Checkout, payment: Payment, now: datetime) -> HTMLResponse:
    heading = {
        "PROCESSING": "This payment is being processed",
        "PAID": "This checkout is paid",
        "FAILED": "This payment has failed",
    }[payment.status(now)]
    next_url = success_url(checkout) if payment.card.comes_back else None
    return page("paid.html", checkout=checkout, heading=heading, next_url=next_url)


@router.get("/", summary="What this is")
async def home(base_url: BaseUrl) -> Response:
    return page("home.html", base_url=base_url)


@router.get("/style.css", include_in_schema=False)
async def style() -> Response:
    return Response((TEMPLATES / "style.css").read_bytes(), media_type="text/css")


@router.get("/pay/{checkout_id}", summary="Payment page")
async def show_checkout(checkout_id: str, state: State) -> Response:
    checkout = state.find_checkout(checkout_id)
    if checkout.payment is not None:
        return paid_page(checkout, checkout.payment, state.now())
    if state.is_expired(checkout):
        raise expired()
    return payment_page(checkout)


@router.post("/pay/{checkout_id}", summary="Pay, or cancel", status_code=303)
async def pay(
    checkout_id: str,
    state: State,
    card_number: Annotated[str, Form(max_length=40)] = GOOD_CARD.number,
    expiry: Annotated[str, Form(max_length=10)] = "12 / 34",
    cvc: Annotated[str, Form(max_length=10)] = "123",
    action: Annotated[str, Form()] = "pay",
) -> Response:
    checkout = state.find_checkout(checkout_id)
    payment = checkout.payment
    if payment is None:
        if action == "cancel":
            return RedirectResponse(checkout.order.cancel_url, 303, HEADERS)
        if not state.can_be_paid(checkout):
            # The form was shown, so the page was opened in time. Stripe's then leaves both possible (doc).
            said = "Either you completed this payment already, or this page timed out."
            return page("notice.html", 410, title="You are done here", message=said)
        try:
            payment = state.pay(checkout_id, charge(card_number, expiry, cvc, state.now().date()))
        except ServiceRefusal as refusal:
            return payment_page(checkout, refusal.status, refusal.message)
    if payment.card.comes_back:
        return RedirectResponse(success_url(checkout), 303, HEADERS)
    return paid_page(checkout, payment, state.now())


@router.get("/retirements/id/{certificate_id}", summary="Certificate of a retirement")
async def certificate(certificate_id: str, state: State) -> Response:
    retirement, _, listing = state.find_retirement(certificate_id)
    return page(
        "certificate.html", retirement=retirement, listing=listing, is_placeholder=retirement is PLACEHOLDER
    )


@router.get("/transactions/{chain_id}/{transaction_hash}", summary="Stand-in for a block explorer")
async def transaction(chain_id: int, transaction_hash: str, state: State) -> Response:
    proven = state.find_retirement(f"{chain_id}-{transaction_hash}-0")
    return page("transaction.html", retirement=proven.retirement)


@router.get("/returned/{payment_id}", summary="Stand-in for the buyer's own site, after paying")
async def returned(payment_id: str) -> Response:
    return page("returned.html", payment_id=payment_id)


@router.get("/cancelled", summary="Stand-in for the buyer's own site, after cancelling")
async def cancelled() -> Response:
    return page("notice.html", title="Cancelled", message="You cancelled. Nothing was charged.")
