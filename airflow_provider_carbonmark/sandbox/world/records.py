"""Orders, checkouts, payments and retirements. What became of a payment follows from the time since, so nothing runs in the background."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_UP, Decimal
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from airflow_provider_carbonmark.sandbox.world.cards import Card, Outcome

if TYPE_CHECKING:
    from airflow_provider_carbonmark.sandbox.switches import Switches
    from airflow_provider_carbonmark.sandbox.world.market import Listing

CENT = Decimal("0.01")
# assumed: a page powered by Stripe keeps metadata with Stripe, whose values have at most 500 characters.
METADATA_LENGTH = 500


def _http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
    except ValueError as error:
        raise ValueError(f"is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http or https URL with a host")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url), Field(max_length=2048)]
MetadataText = Annotated[str, Field(max_length=METADATA_LENGTH)]
RequiredText = Annotated[str, Field(min_length=1, max_length=METADATA_LENGTH)]


class ConsumptionMetadata(BaseModel):
    """
    What Puro's credits are retired for (doc: the keys, of an order of the market API; assumed: Unix seconds).

    Numbers may come as text: that is what Stripe's metadata holds.
    """

    country_of_consumption_code: Annotated[str, Field(pattern="^[A-Z]{2}$")]
    consumption_period_start: Annotated[int, Field(gt=0, lt=10**11)]
    consumption_period_end: Annotated[int, Field(gt=0, lt=10**11)]

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        if self.consumption_period_end <= self.consumption_period_start:
            raise ValueError("consumption_period_end must be after consumption_period_start")
        return self


class Metadata(BaseModel):
    """For whom the credits are retired, and anything else to keep with the payment."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, MetadataText | dict[str, MetadataText | int]]

    beneficiary_name: RequiredText
    retirement_message: RequiredText


class QuoteBody(BaseModel):
    """What to price."""

    model_config = ConfigDict(strict=True)

    asset_price_source_id: str = Field(description="The `sourceId` of an entry of `GET /prices`.")
    quantity_tonnes: float = Field(
        gt=0, lt=1e9, allow_inf_nan=False, description="A multiple of 0.001 t; of 1 t for `PUR-` credits."
    )

    @property
    def quantity(self) -> Decimal:
        return Decimal(str(self.quantity_tonnes))


class CheckoutBody(QuoteBody):
    """What to sell on a payment page. `PUR-` credits need `consumption_metadata`, in `metadata` or beside it."""

    model_config = ConfigDict(extra="allow", strict=True)

    metadata: Metadata
    success_url: HttpUrl = Field(description="Where a buyer who paid is sent, with `/<payment id>` added.")
    cancel_url: HttpUrl = Field(description="Where a buyer who cancels is sent.")

    def check_consumption(self) -> None:
        """
        Ask for what consumption the credits are, wherever it is said: no documentation names the place in a checkout.

        :raises pydantic.ValidationError: when it is not said, or makes no sense.
        """
        said: dict[str, Any] = {}
        for place in (self.metadata.model_extra or {}, self.model_extra or {}):
            inner = place.get("consumption_metadata")
            said |= place | (inner if isinstance(inner, dict) else {})
        ConsumptionMetadata.model_validate(said)


@dataclass(frozen=True)
class Transaction:
    """
    Where on which chain a retirement is recorded.

    :param chain_id: 137 is Polygon, 8453 is Base.
    :param hash: ``0x`` and 64 hexadecimal digits.
    :param index: which retirement of the transaction.
    """

    chain_id: int
    hash: str
    index: int = 0

    @property
    def retirement_id(self) -> str:
        return f"{self.chain_id}-{self.hash}-{self.index}"

    @property
    def certificate_path(self) -> str:
        return f"/retirements/id/{self.retirement_id}"

    @property
    def explorer_path(self) -> str:
        return f"/transactions/{self.chain_id}/{self.hash}"


@dataclass(frozen=True)
class Retirement:
    """
    A retirement and whom it says it is for.

    :param status: ``SUBMITTED``, ``COMMITTED``, ``COMPLETED`` or ``FAILED``, before any respelling.
    :param quantity_tonnes: what was retired.
    :param transaction: None until there is a proof.
    :param completed_at: None until it is completed.
    :param message: why it failed (assumed: how Carbonmark says that something sold out is not known).
    """

    status: str
    quantity_tonnes: Decimal
    asset_price_source_id: str
    beneficiary_name: str
    retirement_message: str
    transaction: Transaction | None = None
    completed_at: datetime | None = None
    message: str | None = None

    def of_somebody_else(self) -> Retirement:
        return replace(self, beneficiary_name="Somebody Else Ltd.", quantity_tonnes=self.quantity_tonnes + 1)


# seen: what every test-mode order in the world links to. Block and hash are made up, the wording is paraphrased.
PLACEHOLDER = Retirement(
    status="COMPLETED",
    quantity_tonnes=Decimal("0.017"),
    asset_price_source_id="listing-137-0x" + hashlib.sha256(b"placeholder listing").hexdigest(),
    beneficiary_name="Developer Tester",
    retirement_message="TEST MODE - this retirement was made once, for developers to test with."
    " Do NOT present it or pass it on as the retirement of anybody's emissions.",
    transaction=Transaction(137, "0x" + hashlib.sha256(b"placeholder").hexdigest()),
    completed_at=datetime(2024, 3, 12, 9, 41, 7, tzinfo=UTC),
)


@dataclass
class Payment:
    """
    What a buyer paid, or will have paid once it is confirmed.

    :param card: whether it confirms late, and whether the browser comes back.
    :param outcome: how it ends: the card's, unless test mode or a control call makes it another.
    :param switches: as they were when it was paid: how long its steps take.
    :param payment_status: a word to say instead of the usual one, set by a control call.
    :param retirement_status: likewise for the retirement.
    """

    paid_at: datetime
    card: Card
    outcome: Outcome
    switches: Switches
    payment_status: str | None = None
    retirement_status: str | None = None

    @property
    def confirmed_at(self) -> datetime:
        """When the money is there, or turns out not to come."""
        late = self.switches.processing_seconds if self.card.confirms_late else 0
        return self.paid_at + timedelta(seconds=late)

    def status(self, now: datetime) -> str:
        """Return ``PROCESSING``, ``PAID`` or ``FAILED``, before any respelling."""
        if now < self.confirmed_at:
            return "PROCESSING"
        return "FAILED" if self.outcome is Outcome.UNPAID else "PAID"


@dataclass
class Checkout:
    """
    A payment page.

    :param payment_id: the id its payment has, or will have.
    :param test_mode: made with a key that retires nothing.
    :param payment_announced: the answer named the payment's id before it was paid.
    """

    id: str
    order: CheckoutBody
    listing: Listing
    price: Decimal
    test_mode: bool
    created_at: datetime
    expires_at: datetime
    payment_id: str
    payment_announced: bool
    payment: Payment | None = None

    @property
    def amount(self) -> Decimal:
        """USD charged: in whole cents, rounded up."""
        return (self.order.quantity * self.price).quantize(CENT, ROUND_UP)

    @property
    def transaction(self) -> Transaction:
        """The proof that its retirement will have."""
        return Transaction(self.listing.chain_id, "0x" + hashlib.sha256(self.payment_id.encode()).hexdigest())

    def retirement(self, now: datetime) -> Retirement:
        """Return its retirement as it stands; before it is paid, what was asked for."""
        payment, metadata = self.payment, self.order.metadata
        asked = Retirement(
            status="SUBMITTED",
            quantity_tonnes=self.order.quantity,
            asset_price_source_id=self.order.asset_price_source_id,
            beneficiary_name=metadata.beneficiary_name,
            retirement_message=metadata.retirement_message,
        )
        if payment is None or payment.status(now) != "PAID" or payment.outcome is Outcome.STUCK:
            return asked
        elapsed, takes = (now - payment.confirmed_at).total_seconds(), payment.switches.retirement_seconds
        if elapsed < takes / 3:
            return asked
        if elapsed < takes:
            return replace(asked, status="COMMITTED")
        if payment.outcome is Outcome.FAILED:
            return replace(asked, status="FAILED")
        if payment.outcome is Outcome.SOLD_OUT:
            message = f"Listing {self.listing.credit} sold out before the retirement"
            return replace(asked, status="FAILED", message=message)
        if payment.outcome is Outcome.PLACEHOLDER:
            return PLACEHOLDER
        done = replace(
            asked, status="COMPLETED", completed_at=payment.confirmed_at + timedelta(seconds=takes)
        )
        if payment.outcome is Outcome.NO_PROOF or elapsed < takes + payment.switches.proof_seconds:
            return done
        if payment.outcome is Outcome.SOMETHING_ELSE:
            done = done.of_somebody_else()
        return replace(done, transaction=self.transaction)


class ProvenRetirement(NamedTuple):
    """A retirement that has its proof, and what was retired; the placeholder is of no listing of this market."""

    retirement: Retirement
    transaction: Transaction
    listing: Listing | None

    def neighbour(self) -> ProvenRetirement:
        """Return somebody else's retirement in the same transaction."""
        other = replace(self.transaction, index=self.transaction.index + 1)
        return ProvenRetirement(self.retirement.of_somebody_else(), other, self.listing)


class PaymentView(NamedTuple):
    """A payment at one moment, before it is laid out as an answer."""

    checkout: Checkout
    payment_status: str
    retirement_status: str | None
    retirement: Retirement
