"""
The wire as pydantic models, and the checks every input passes before it gets onto the wire.

The evidence for each shape (documented, seen, assumed) is named where it is read. Assumed shapes are read
tolerantly: all known places of a value are tried, unknown fields are kept, and an optional value that can't be
read counts as absent.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Context, Decimal, InvalidOperation
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

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

# doc: credits retire down to 0.001 t (1 kg).
QUANTITY_STEP: Final = Decimal("0.001")
# 15 significant digits, three of them decimals: what a JSON number carries unchanged through a 64-bit float.
QUANTITY_LIMIT: Final = Decimal("1E12")
# assumed: nobody documents a limit. 500 is what Stripe, whose payment page it is, takes per metadata value.
MAX_BENEFICIARY_NAME: Final = 255
MAX_RETIREMENT_MESSAGE: Final = 500
MAX_ID: Final = 255

_EXACT = Context(prec=40)
_NOT_IN_URLS = re.compile(r"[\s\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_PAYMENT_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")

T = TypeVar("T")


def parse_quantity(value: object, field: str = "quantity_tonnes") -> Decimal:
    """
    Read a quantity of carbon: the one check for all of them.

    :param value: tonnes as a Decimal, an int or a decimal string; a float only if its shortest text has three
        decimals at most, as 12.345 has.
    :param field: the input's name, for the error.
    :return: tonnes, without trailing zeros and never in exponent notation.
    :raises InvalidInputError: it is not a number, not finite, not above zero, finer than 0.001 t, or 10^12 t or more.
    """
    remedy = 'Give tonnes above zero in steps of 0.001, for example "12.345"'
    quantity = _decimal(value)
    if quantity is None:
        raise InvalidInputError(field, "is not a decimal number", value=value, remedy=remedy)
    if not quantity.is_finite():
        raise InvalidInputError(field, "is not finite", value=value, remedy=remedy)
    if quantity <= 0:
        raise InvalidInputError(field, "is not above zero", value=value, remedy=remedy)
    if quantity >= QUANTITY_LIMIT:
        raise InvalidInputError(field, "is a trillion tonnes or more", value=value, remedy=remedy)
    rounded = quantity.quantize(QUANTITY_STEP, context=_EXACT)
    if rounded != quantity:
        raise InvalidInputError(field, "is finer than 0.001 t", value=value, remedy=remedy)
    whole = int(rounded)
    return Decimal(whole) if whole == rounded else rounded.normalize(_EXACT)


def _decimal(value: object) -> Decimal | None:
    if isinstance(value, Decimal):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, float):
        # Not repr(): a subclass such as numpy's float64 has its own.
        value = float.__repr__(value)
    # Decimal() would also take 1_000 and digits of other scripts.
    if not isinstance(value, str) or not value.isascii() or "_" in value:
        return None
    try:
        return Decimal(value)
    except InvalidOperation:
        return None


def parse_url(value: object, field: str, *, takes_suffix: bool = False) -> str:
    """
    Read a web address.

    :param value: an absolute http or https address with a host and without user name or password.
    :param field: the input's name, for the error.
    :param takes_suffix: whether a path will be added to it (doc: the service adds ``/<payment_id>`` to
        ``success_url``), which a query, a fragment or a trailing slash would break.
    :return: the address as given, without surrounding white space.
    :raises InvalidInputError: it is none of that.
    """
    remedy = "Give a full address such as https://example.com/paid"
    if not isinstance(value, str) or not value.strip():
        raise InvalidInputError(field, "is empty or not text", remedy=remedy)
    url = value.strip()
    try:
        parts = urlsplit(url)
        host, user, _ = parts.hostname, parts.username, parts.port
        # A part of a name that is empty or too long makes the resolver raise this later (a UnicodeError).
        (host or "").encode("idna")
    except ValueError:
        raise InvalidInputError(field, "is not a valid address", remedy=remedy) from None
    if user is not None:
        # Not shown: it may hold a password.
        raise InvalidInputError(field, "holds a user name or password", remedy=remedy)
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidInputError(field, "is not an http(s) address with a host", value=url, remedy=remedy)
    if _NOT_IN_URLS.search(url):
        raise InvalidInputError(field, "holds white space or a backslash", value=url, remedy=remedy)
    if takes_suffix and ("?" in url or "#" in url or url.endswith("/")):
        raise InvalidInputError(
            field,
            "has a query, a fragment or a trailing slash, but /<payment_id> is added to its end",
            value=url,
            remedy="Leave those out, as in https://example.com/paid",
        )
    return url


def parse_payment_id(value: object) -> str:
    """
    Read a payment id before it gets into a path.

    :param value: 1 to 255 letters, digits, hyphens and underscores (assumed: the format is not documented; this
        takes UUIDs and Stripe's ids, and nothing that could change the address).
    :raises InvalidInputError: it is anything else.
    """
    if not isinstance(value, str) or not _PAYMENT_ID.fullmatch(value):
        raise InvalidInputError(
            "payment_id",
            "is not made of 1 to 255 letters, digits, '-' and '_'",
            value=value,
            remedy="Take it from the address the buyer came back to, where it is the last part of the path",
        )
    return value


def parse_text(value: object, field: str, max_length: int) -> str:
    """
    Read a name or a message that ends up in a public record.

    :param value: text that is more than white space, without control characters other than line breaks and tabs.
    :param field: the input's name, for the error.
    :param max_length: the most characters it may have.
    :return: the text without surrounding white space.
    :raises InvalidInputError: it is not text, empty, too long, or has control characters.
    """
    remedy = f"Give 1 to {max_length} characters of text"
    if not isinstance(value, str):
        raise InvalidInputError(field, "is not text", value=value, remedy=remedy)
    text = value.strip()
    if not text:
        raise InvalidInputError(field, "is empty", value=value, remedy=remedy)
    if len(text) > max_length:
        raise InvalidInputError(field, f"has {len(text)} characters", value=value, remedy=remedy)
    if any(unicodedata.category(sign) in ("Cc", "Cs") and sign not in "\n\r\t" for sign in text):
        raise InvalidInputError(field, "has control characters", value=value, remedy=remedy)
    return text


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


class Quote(_Wire):
    """
    What a quantity of a listing costs, in tonnes and USD.

    doc: the market API's ``POST /quotes``; assumed: the Checkout Service answers alike.
    """

    uuid: Name = Field(validation_alias=AliasChoices("uuid", "id"))
    asset_price_source_id: Name
    quantity_tonnes: Amount
    cost_usd: Amount = Field(validation_alias=AliasChoices("cost_usdc", "cost_usd", "cost"))


class Checkout(_Wire):
    """
    A hosted payment page.

    doc and seen: the answer holds its address. assumed: it may hold the payment's id and an expiry.
    """

    url: WebAddress = Field(validation_alias=AliasChoices("url", "checkout_url"))
    payment_id: Lenient[PaymentId] = Field(
        None, validation_alias=AliasChoices("payment_id", AliasPath("payment", "id"))
    )
    expires_at: Lenient[Moment] = Field(None, validation_alias=AliasChoices("expires_at", "expiry"))


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
    retired_at: Lenient[Moment] = Field(
        None, validation_alias=_beside_retirement("retired_at", "completed_at")
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
