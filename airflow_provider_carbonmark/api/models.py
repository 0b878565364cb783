"""
The wire as pydantic models.

The evidence for each shape (documented, seen, assumed) is named where it is read. Assumed shapes are read
tolerantly: all known places of a value are tried, unknown fields are kept, and an optional value that can't be
read counts as absent.
"""

from __future__ import annotations

import re
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
from airflow_provider_carbonmark.api.inputs import parse_payment_id, parse_retirement_id, parse_url

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
# Of anything, there is no such number: one entry with it must not break the arithmetic of all.
Amount = Annotated[Decimal, Field(ge=0, lt=Decimal("1E30"))]
# Less can be no price: the cheapest listing that was seen asks 0.10 USD for a tonne, and nothing below a kilogram is sold.
Cost = Annotated[Decimal, Field(ge=Decimal("0.000001"), lt=Decimal("1E9"))]
Moment = Annotated[datetime, AfterValidator(_aware)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
PaymentId = Annotated[str, AfterValidator(parse_payment_id)]
RetirementId = Annotated[str, AfterValidator(parse_retirement_id)]
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


def _told(*names: str) -> AliasChoices:
    """Look for a name, behind those that it is below, as they were seen, in camelCase, and as the rest of the API spells names."""
    spelled = (names, tuple(re.sub("([A-Z])", r"_\1", name).lower() for name in names))
    return AliasChoices(*(AliasPath(*each) for each in dict.fromkeys(spelled)))


class Retirement(_Wire):
    """
    A retirement, as the market tells of it (doc: ``GET /retirements/{id}``; seen, v6: the names, in camelCase).

    ``bridge`` is how the credits came on chain (seen, v6: beside the credit). An id in another form than today's (seen, v6) counts as
    absent.
    """

    id: Lenient[RetirementId] = None
    # seen, v6: tonnes.
    quantity_tonnes: Lenient[Amount] = Field(None, validation_alias="amount")
    transaction_hash: Lenient[Name] = Field(None, validation_alias="hash")
    beneficiary_name: Lenient[Name] = Field(None, validation_alias=_told("beneficiaryName"))
    retiring_name: Lenient[Name] = Field(None, validation_alias=_told("retiringName"))
    # seen, v6: seconds since 1970.
    retired_at: Lenient[Moment] = Field(None, validation_alias="timestamp")
    bridge: Lenient[Name] = Field(None, validation_alias=_told("credit", "bridgeProtocol"))
    # doc.
    project_id: Lenient[Name] = Field(None, validation_alias=_told("creditId", "projectId"))
    vintage: Lenient[int] = Field(None, validation_alias=_told("creditId", "vintage"))


class ProvenanceRecord(_Wire):
    """
    A step on the way of a retirement's credits (doc: ``GET /retirements/{id}/provenance``; seen, v6: the names).

    Of type ``ORIGINATION``, how they came on chain: ``registry_serial_numbers`` are those of the batch that they were a part of then.
    """

    transaction_type: Name = Field(validation_alias=_told("transactionType"))
    registry_serial_numbers: Lenient[list[Lenient[Name]]] = Field(
        None, validation_alias=_told("registrySerialNumbers")
    )


# By its content type: the ending of its file's name, and what such a document begins and ends with.
_DOCUMENTS = {
    "application/pdf": ("pdf", b"%PDF-", b"%%EOF"),
    "image/png": ("png", b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"),
    "image/jpeg": ("jpg", b"\xff\xd8\xff", b"\xff\xd9"),
}
# Line breaks may follow the end, and readers of PDF look so far back for it.
_END_BYTES = 1024


class Certificate(_Wire):
    """
    A document that says what was retired (doc: ``GET /retirements/{id}/certificate``; seen, of its predecessor: PDF, made anew when asked).

    Its bytes say what it is, and that it is whole: a page of an error comes as the right content type, too.
    """

    content: bytes = Field(exclude=True, repr=False)

    @property
    def content_type(self) -> str:
        """What it is, such as ``application/pdf``; empty for what is no whole document of a kind that is known."""
        for content_type, (_, first, last) in _DOCUMENTS.items():
            if self.content.startswith(first) and last in self.content[-_END_BYTES:]:
                return content_type
        return ""

    @property
    def suffix(self) -> str:
        """What its file's name ends with, such as ``pdf``."""
        return _DOCUMENTS[self.content_type][0]


#: What the name of a certificate's file can end with.
SUFFIXES = tuple(suffix for suffix, *_ in _DOCUMENTS.values())


def _without_blanks(part: Mapping[str, Any], depth: int) -> dict[str, Any]:
    kept = {}
    for name, value in part.items():
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        kept[name] = _without_blanks(value, depth - 1) if depth > 1 and isinstance(value, dict) else value
    return kept
