"""
How the sandbox behaves.

The one definition of every switch: command line options, ``SandboxServer(…)`` arguments and the control
calls under ``/sandbox/switches`` are all read from here.
"""

from __future__ import annotations

import random
import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

ErrorShape = Literal["message_name", "status_code"]
FaultKind = Literal[
    "error",
    "slow",
    "drop",
    "drop_mid_body",
    "html",
    "redirect",
    "invalid_json",
    "empty_object",
    "wrong_types",
    "bad_urls",
    "oversized",
    "oversized_chunked",
]
ProofField = Literal["view_retirement_url", "certificate_url", "transaction_hash", "on_chain_explorer_url"]

# The pages of certificates lie below the API's retirements.
API_PATHS = re.compile("/(checkout|quotes|payments/|prices|carbonProjects|retirements(?!/id/))")

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Fault(BaseModel):
    """One way to go wrong, and when."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FaultKind = Field(
        description="error: an error status. slow: the right answer, late. drop: close the connection without an"
        " answer. drop_mid_body: close it halfway through. html, redirect, invalid_json, empty_object: instead of"
        " the answer. wrong_types: text and numbers swapped. bad_urls: every URL a javascript: one. oversized:"
        " more than 4 MiB, with a Content-Length; oversized_chunked: without one."
    )
    path: str = Field(
        default="",
        description="Only paths that start with this. Empty: the API calls, but no page.",
    )
    next: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Only the next so many requests it fits. Empty: all of them."
    )
    rate: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="Share of the requests it fits that are hit, drawn with the switch `seed`."
    )
    after_work: bool = Field(
        default=False,
        description="Do what was asked first, so that only the answer is lost. Kinds that need the right answer do so"
        " anyway.",
    )
    status: Annotated[int, Field(ge=400, le=599)] = Field(
        default=503, description="HTTP status of kind error."
    )
    retry_after: Seconds | None = Field(
        default=None, description="Seconds to name in a Retry-After header, for kind error."
    )
    retry_after_as: Literal["seconds", "date"] = Field(
        default="seconds", description="How the Retry-After header is written."
    )
    seconds: Seconds = Field(default=1.0, description="How late, for kind slow.")
    location: str = Field(default="/redirected", description="Where to, for kind redirect.")


class Switches(BaseModel):
    """Everything about the sandbox that can be changed, also while it runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    retirement_seconds: Seconds = Field(
        default=3.0,
        description="Seconds from payment to retirement: SUBMITTED in the first third, then COMMITTED, then"
        " COMPLETED. 0 retires at once. Holds for later payments.",
    )
    processing_seconds: Seconds = Field(
        default=5.0,
        description="Seconds for which the payment of a card that confirms late is PROCESSING (in Stripe's words a"
        " Checkout Session is complete and unpaid meanwhile: see status_words). Holds for later payments.",
    )
    proof_seconds: Seconds = Field(
        default=0.0, description="Seconds between COMPLETED and its proof. Holds for later payments."
    )
    certificate_seconds: Seconds = Field(
        default=0.0,
        description="Seconds from COMPLETED until GET /retirements/{id}/certificate has the document; 404 until then.",
    )
    payment_visible_seconds: Seconds = Field(
        default=0.0,
        description="Seconds for which a new payment still answers 404. Holds for later payments.",
    )
    checkout_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=86_400.0, description="Seconds a checkout can be paid. Holds for later checkouts."
    )
    late_payment_seconds: Seconds = Field(
        default=0.0,
        description="Seconds after its expiry for which a payment page that was opened before can still be paid; after"
        " them it charges nothing, and doesn't say so. What really happens at Carbonmark is unknown.",
    )
    require_key: bool = Field(
        default=True,
        description="Ask for a bearer key at the Checkout Service's calls; the market API's are public.",
    )
    honour_idempotency_key: bool = Field(
        default=True, description="Answer a repeated Idempotency-Key with the checkout it made before."
    )
    minimum_charge_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=0.0,
        description="Least that can be paid: a checkout of less is refused (doc: Stripe takes no less than 0.50).",
    )
    checkout_layout: Literal["url", "expiry", "rich"] = Field(
        default="url",
        description="What POST /checkout answers: only the URL; also the expiry; or also the checkout's id, the"
        " payment's id and the expiry.",
    )
    expiry_field: Literal["expires_at", "expires_on", "expiresAt"] = Field(
        default="expires_at", description="What POST /checkout calls the expiry where it tells it."
    )
    prices_layout: Literal["array", "items"] = Field(
        default="array", description='What GET /prices answers: an array, or {"items": […]}.'
    )
    projects_layout: Literal["items", "array"] = Field(
        default="items",
        description='What GET /carbonProjects answers: {"items": […], "itemsCount": N}, or an array, as before v17.',
    )
    shared_transactions: bool = Field(
        default=False,
        description="Have another's retirement in each transaction, which GET /retirements?hash= lists first.",
    )
    retirements_spelling: Literal["camelCase", "snake_case"] = Field(
        default="camelCase",
        description="How the names are spelled in what GET /retirements and below answer.",
    )
    payment_status_at: Literal["status", "payment_status", "payment.status"] = Field(
        default="payment_status", description="Where GET /payments/{id} says the payment's status."
    )
    retirement_status_at: Literal[
        "retirement.status", "retirement_status", "order.status", "order_status"
    ] = Field(
        default="retirement.status", description="Where GET /payments/{id} says the retirement's status."
    )
    proof_at: Literal["beside", "top"] = Field(
        default="beside",
        description="Where the proof of retirement is: beside the retirement's status, or on top.",
    )
    proof_fields: tuple[ProofField, ...] = Field(
        default=("view_retirement_url", "transaction_hash", "on_chain_explorer_url"),
        description="The fields a proof consists of.",
    )
    bought_at: Literal["top", "metadata", "quote", "retirement", "order", "untold"] = Field(
        default="top", description="Where GET /payments/{id} describes what was retired, and for whom."
    )
    echo_metadata: bool = Field(
        default=False,
        description="Also repeat the checkout's metadata in the payment, whatever was really retired (and instead of"
        " the description there, with bought_at=metadata).",
    )
    quote_float_noise: bool = Field(
        default=False, description="Quote costs with a float's last digits, such as 4.664520000000001."
    )
    status_spelling: Literal["UPPER_SNAKE", "lower_snake", "Title Words", "kebab-case", "camelCase"] = Field(
        default="UPPER_SNAKE", description="How status words are spelled."
    )
    status_words: dict[str, str] = Field(
        default_factory=dict,
        description='Words to say instead of the usual ones, such as {"PAID": "COMPLETED", "COMMITTED": "IN_PROGRESS"}.',
    )
    error_shape: ErrorShape = Field(
        default="message_name",
        description='message_name: {"message", "name"}. status_code: {"statusCode", "error", "message", "code"}.',
    )
    latency: Seconds = Field(
        default=0.0, description="Seconds before every answer of the API and of the pages."
    )
    faults: tuple[Fault, ...] = Field(
        default=(), description="What goes wrong. The first that fits a request hits it."
    )
    seed: int = Field(default=0, description="Seed of the random draws for `rate`.")


class FaultPlan:
    """The faults, and how many requests each has left to hit."""

    def __init__(self, switches: Switches) -> None:
        self._faults = [(fault, [fault.next]) for fault in switches.faults]
        self._random = random.Random(switches.seed)

    def pick(self, path: str) -> Fault | None:
        """Return the fault that hits the next request for a path, and count it."""
        for fault, left in self._faults:
            fits = path.startswith(fault.path) if fault.path else API_PATHS.match(path)
            if not fits or left[0] == 0 or self._random.random() >= fault.rate:
                continue
            if left[0] is not None:
                left[0] -= 1
            return fault
        return None
