"""
The wire as pydantic models.

The evidence for each shape (documented, seen, assumed) is named where it is read. Assumed shapes are read
tolerantly: all known places of a value are tried, unknown fields are kept, and an optional value that can't be
read counts as absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import parse_payment_id, parse_url

T = TypeVar("T")


def _absent_if_unreadable(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _web_address(value: str) -> str:
    try:
        return parse_url(value, "url")
    except InvalidInputError:
        # Without the value: it may echo the key, and what shortens it would leave a part of that.
        raise ValueError("is not an http(s) address with a host") from None


Lenient = Annotated[T | None, WrapValidator(_absent_if_unreadable)]
Amount = Annotated[Decimal, Field(ge=0)]
# Less can be no price: the cheapest listing that was seen asks 0.10 USD for a tonne, and nothing below a kilogram is sold.
Cost = Annotated[Decimal, Field(ge=Decimal("0.000001"), lt=Decimal("1E9"))]
Moment = Annotated[datetime, AfterValidator(_aware)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
PaymentId = Annotated[str, AfterValidator(parse_payment_id)]
Name = Annotated[str, Field(min_length=1)]


class _Wire(BaseModel):
    """An answer, or a part of one: read-only, with the fields we don't know kept as they came."""

    model_config = ConfigDict(
        frozen=True, extra="allow", validate_by_name=True, validate_by_alias=True, defer_build=True
    )


class Listing(_Wire):
    """
    One price source of the market (seen: ``GET /prices``, 14 August 2026).

    Prices are USD per tonne, amounts are tonnes. ``purchase_price`` includes fees, ``base_unit_price`` does not.
    What can be bought is ``liquid_supply``. ``is_ex_ante`` marks promises of future removal.
    """

    source_id: Name = Field(validation_alias="sourceId")
    type: Name
    purchase_price: Amount = Field(validation_alias="purchasePrice")
    base_unit_price: Lenient[Amount] = Field(None, validation_alias="baseUnitPrice")
    supply: Amount
    liquid_supply: Amount = Field(validation_alias="liquidSupply")
    min_fill_amount: Amount = Field(validation_alias="minFillAmount")
    project_id: Name = Field(validation_alias=AliasPath("listing", "creditId", "projectId"))
    vintage: Lenient[int] = Field(None, validation_alias=AliasPath("listing", "creditId", "vintage"))
    # Required, because a missing answer must not pass for "no".
    is_ex_ante: bool = Field(validation_alias=AliasPath("listing", "token", "isExAnte"))
    # doc: seconds since 1970. Not lenient: an expiry we can't read must not pass for "never".
    expires_at: Moment | None = Field(None, validation_alias=AliasPath("listing", "expiresAfter"))
    token_symbol: Lenient[str] = Field(None, validation_alias=AliasPath("listing", "token", "symbol"))

    @property
    def registry(self) -> str:
        """The project's registry: the part of its key before the first hyphen, e.g. ``VCS``."""
        return self.project_id.partition("-")[0]

    @property
    def whole_tonnes_only(self) -> bool:
        """Whether its credits retire in whole tonnes only (doc: Puro's do)."""
        return self.registry == "PUR"


class Methodology(_Wire):
    """By what a project's credits are worked out (doc: each of the three may be null)."""

    id: Lenient[str] = None
    category: Lenient[str] = None
    name: Lenient[str] = None


class Project(_Wire):
    """
    A project of the market (doc: ``GET /carbonProjects``; most fields may be null).

    ``url`` is the registry's page.
    """

    key: Name
    name: Lenient[str] = None
    country: Lenient[str] = None
    region: Lenient[str] = None
    registry: Lenient[str] = None
    methodologies: Lenient[list[Methodology | None]] = None
    url: Lenient[WebAddress] = None


class Quote(_Wire):
    """
    What a quantity of a listing costs, in tonnes and USD.

    doc: the market API's ``POST /quotes``; assumed: the Checkout Service answers alike.
    """

    uuid: Name = Field(validation_alias=AliasChoices("uuid", "id"))
    asset_price_source_id: Name
    quantity_tonnes: Amount
    cost_usd: Cost = Field(validation_alias=AliasChoices("cost_usdc", "cost_usd", "cost"))


class Checkout(_Wire):
    """
    A hosted payment page.

    doc and seen: the answer holds its address. assumed: it may hold the payment's id and an expiry.
    """

    url: WebAddress = Field(validation_alias=AliasChoices("url", "checkout_url"))
    payment_id: Lenient[PaymentId] = Field(
        None, validation_alias=AliasChoices("payment_id", AliasPath("payment", "id"))
    )
    # assumed, all of them; epoch seconds (as Stripe writes it) or ISO 8601.
    expires_at: Lenient[Moment] = Field(
        None, validation_alias=AliasChoices("expires_at", "expires_on", "expiresAt", "expiry")
    )


def _beside_retirement(*names: str) -> AliasChoices:
    """Look beside the retirement's status, then beside the order's, then at the top."""
    places: tuple[tuple[str, ...], ...] = (("retirement",), ("order",), ())
    return AliasChoices(*(AliasPath(*place, name) for place in places for name in names))


def _bought(name: str) -> AliasChoices:
    """Look at what was retired before what was ordered, and at the echo of our own request last."""
    places = (("retirement",), ("order",), ("order", "quote"), (), ("quote",), ("metadata",))
    return AliasChoices(*(AliasPath(*place, name) for place in places))


class Payment(_Wire):
    """
    A payment and the retirement it starts, in whichever layout it came (assumed: every field name).

    Status words are kept as sent. ``answer`` is the whole answer as it came. An address that is not http(s) counts
    as absent: it proves nothing.
    """

    id: Lenient[str] = Field(
        None, validation_alias=AliasChoices("payment_id", AliasPath("payment", "id"), "id")
    )
    payment_status: Lenient[str] = Field(
        None, validation_alias=AliasChoices("payment_status", AliasPath("payment", "status"), "status")
    )
    retirement_status: Lenient[str] = Field(
        None,
        validation_alias=AliasChoices(
            AliasPath("retirement", "status"),
            "retirement_status",
            AliasPath("order", "status"),
            "order_status",
        ),
    )
    certificate_url: Lenient[WebAddress] = Field(
        None, validation_alias=_beside_retirement("view_retirement_url", "certificate_url")
    )
    transaction_hash: Lenient[str] = Field(None, validation_alias=_beside_retirement("transaction_hash"))
    explorer_url: Lenient[WebAddress] = Field(
        None, validation_alias=_beside_retirement("on_chain_explorer_url", "explorer_url")
    )
    quantity_tonnes: Lenient[Decimal] = Field(None, validation_alias=_bought("quantity_tonnes"))
    asset_price_source_id: Lenient[str] = Field(None, validation_alias=_bought("asset_price_source_id"))
    beneficiary_name: Lenient[str] = Field(None, validation_alias=_bought("beneficiary_name"))
    retirement_message: Lenient[str] = Field(None, validation_alias=_bought("retirement_message"))
    # assumed: told at all. When the payment was made, or its page.
    created_at: Lenient[Moment] = Field(
        None,
        validation_alias=AliasChoices(
            "created_at",
            "createdAt",
            "paid_at",
            AliasPath("payment", "created_at"),
            AliasPath("payment", "paid_at"),
        ),
    )
    retired_at: Lenient[Moment] = Field(
        None, validation_alias=_beside_retirement("retired_at", "completed_at")
    )
    # assumed: what it is called. Only shown to people.
    failure: Lenient[str] = Field(
        None, validation_alias=_beside_retirement("message", "reason", "failure_reason", "error")
    )
    answer: dict[str, Any] = Field(default_factory=dict, exclude=True, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _skip_blanks(cls, answer: Any) -> Any:
        # A null or empty string in one place would hide the value in the next.
        return (
            {**_without_blanks(answer, depth=3), "answer": answer} if isinstance(answer, Mapping) else answer
        )


def _without_blanks(part: Mapping[str, Any], depth: int) -> dict[str, Any]:
    kept = {}
    for name, value in part.items():
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        kept[name] = _without_blanks(value, depth - 1) if depth > 1 and isinstance(value, dict) else value
    return kept
