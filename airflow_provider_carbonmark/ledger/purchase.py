"""What the ledger knows, as values: a purchase with its links, payments and allocations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from airflow_provider_carbonmark.ledger.names import Run, Source, State, Task
from airflow_provider_carbonmark.ledger.values import REFERENCE, Origin, spans

#: How many links one purchase can have.
MOST_LINKS: Final = 20

# Crockford's base 32: no letter of it is taken for a digit.
_REFERENCE_DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Any number below 10^15.
_REFERENCE_LENGTH: Final = 10

#: How many payment ids that Carbonmark has not confirmed are kept for one link: its holder could bring any number of them.
MOST_UNVERIFIED: Final = 20


@dataclass(frozen=True, kw_only=True)
class Link:
    """
    A payment page that was asked for.

    :param number: 1, 2, 3… within its purchase.
    :param url: the page; None while no answer is stored.
    :param request: what Carbonmark was asked for, word for word.
    :param conn_id: the Airflow connection that it was asked with.
    :param made_at: when its answer was stored.
    :param expires_at: until when it can be paid; None for one that can be paid for ever.
    :param payment_id: its payment, where the service tells it with the page.
    :param cost_usd: what was quoted for it, USD; None where nobody asked.
    :param limits: what it could cost at most, as its task said.
    :param outcome: ``paid``, ``declined``, ``failed`` or ``unpaid``; None while it is open.
    :param unpaid_said_by: who said that nobody paid it, so that the next one could be made; with ``unpaid_said_at``.
    """

    number: int
    url: str | None
    request: Mapping[str, Any]
    idempotency_key: str
    conn_id: str
    made_by: Task
    asked_at: datetime
    made_at: datetime | None = None
    expires_at: datetime | None = None
    payment_id: str | None = None
    cost_usd: Decimal | None = None
    limits: Mapping[str, Any] | None = None
    outcome: str | None = None
    unpaid_said_by: str | None = None
    unpaid_said_at: datetime | None = None

    def can_be_paid(self, now: datetime) -> bool:
        return self.url is not None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, kw_only=True)
class Payment:
    """
    A payment id that somebody brought for a link.

    :param link: the link's number.
    :param brought_by: who brought it, in words; None for a buyer's browser.
    :param verified_at: when Carbonmark said that it is for this link; None when it has not.
    """

    payment_id: str
    link: int
    source: Source
    brought_by: str | None
    brought_at: datetime
    verified_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """
    How much of a purchase is for which entity and month.

    :param line: 1, 2, 3… within entity, month and test mode.
    :param emitted_tonnes: what the entity was known to have emitted in the month, rounded up to 10^-9 t.
    :param cost_usd: its share of the cost, rounded down to 10^-9 USD.
    """

    entity: str
    month: str
    line: int
    emitted_tonnes: Decimal
    quantity_tonnes: Decimal
    cost_usd: Decimal | None = None


@dataclass(frozen=True)
class Order:
    """What is to be bought, where no plan says so."""

    asset_price_source_id: str
    quantity_tonnes: Decimal
    beneficiary_name: str
    retirement_message: str


def reference_of(id: int) -> str:
    """Return a purchase's reference: ten digits and capital letters that no other purchase has."""
    digits = ""
    for _ in range(_REFERENCE_LENGTH):
        id, digit = divmod(id, len(_REFERENCE_DIGITS))
        digits = _REFERENCE_DIGITS[digit] + digits
    return digits


def with_reference(message: str, id: int) -> str:
    """Return a purchase's message, with its reference where that is to be."""
    return message.replace(REFERENCE, reference_of(id))


#: What tasks hand on of a purchase, beside its number, its state and whom it is for.
_HANDED_ON = (
    *("ledger", "test_mode", "quantity_tonnes", "asset_price_source_id", "project_id", "registry", "vintage"),
    *("unit_price_usd", "base_unit_price_usd", "cost_usd"),
    *("beneficiary_name", "retirement_message", "payment_id"),
)


@dataclass(frozen=True, kw_only=True)
class _Progress:
    """
    What a purchase and each of its lines tell alike.

    :param unit_price_usd: USD per tonne with fees, when it was planned; None where no plan says.
    :param base_unit_price_usd: the same without fees, where the market told it.
    :param reason: why it failed or was declined; it stays when a payment comes in after all.
    :param planned_at: when it was planned, or stated.
    :param retired_at_told: whether ``retired_at`` is what Carbonmark told, else it is when we looked; None where nobody kept that.
    :param payment_id: the payment that counts for it, which counts for no other purchase.
    :param run: the run that planned it; never changes.
    :param handler: the run that carries it on.
    """

    test_mode: bool
    project_id: str | None = None
    registry: str | None = None
    vintage: int | None = None
    unit_price_usd: Decimal | None = None
    base_unit_price_usd: Decimal | None = None
    state: State
    reason: str | None = None
    planned_at: datetime
    paid_at: datetime | None = None
    retired_at: datetime | None = None
    retired_at_told: bool | None = None
    failed_at: datetime | None = None
    declined_at: datetime | None = None
    payment_id: str | None = None
    certificate_url: str | None = None
    transaction_hash: str | None = None
    explorer_url: str | None = None
    run: Run
    handler: Run

    @property
    def todo(self) -> str:
        """What a person has to do, where money is involved; else empty, as it is for rehearsals."""
        if self.state is not State.PAID_NOT_RETIRED or self.test_mode:
            return ""
        return (
            f"Payment {self.payment_id} counts as taken, and nothing is retired for it: ask Carbonmark for the money back, or, while "
            "nothing else is bought for the tonnes, for another listing."
        )


@dataclass(frozen=True, kw_only=True)
class Purchase(_Progress):
    """
    One listing, one quantity, one beneficiary: one payment and one retirement.

    :param id: its number, a random one below 10^15: that of another ledger is found in no other.
    :param ledger: the id of the ledger that it is in.
    :param test_mode: whether it is a rehearsal, which retires nothing.
    :param cost_usd: USD with fees, as planned, then as quoted; None where neither was.
    :param to_announce: whether it is retired, and Airflow's asset was not seen to be updated with that yet.
    :param task_id: the task that ordered it, where no plan did; with ``map_index``.
    :param link: its current link, asked for or made.
    :param allocations: whom it is for; none where no plan says.
    """

    id: int
    ledger: str
    asset_price_source_id: str
    quantity_tonnes: Decimal
    cost_usd: Decimal | None = None
    beneficiary_name: str
    retirement_message: str
    to_announce: bool = False
    reminded_at: datetime | None = None
    task_id: str | None = None
    map_index: int | None = None
    handled_since: datetime
    link: Link | None = None
    allocations: tuple[Allocation, ...] = ()

    def __str__(self) -> str:
        rehearsal = ", test mode" if self.test_mode else ""
        number = f", no. {self.allocations[0].line}" if len(self.allocations) == 1 else ""
        return f"purchase {self.id} ({self.for_whom}{number}{rehearsal})"

    @property
    def for_whom(self) -> str:
        """Say which entities and months it is for, or, where no plan says, whom."""
        if not self.allocations:
            return f"{self.quantity_tonnes:f} t for {self.beneficiary_name}"
        entities = {share.entity for share in self.allocations}
        name = next(iter(entities)) if len(entities) == 1 else f"{len(entities)} entities"
        return f"{name}, {', '.join(spans({share.month for share in self.allocations}))}"

    @property
    def reference(self) -> str:
        """What tells it, in a message, from others that ask for just the same."""
        return reference_of(self.id)

    @property
    def has_link(self) -> bool:
        """Whether there is a page that somebody may pay at."""
        return self.link is not None and self.link.url is not None

    @property
    def link_made_at(self) -> datetime | None:
        return self.link.made_at if self.link else None

    @property
    def order(self) -> Order:
        return Order(
            self.asset_price_source_id, self.quantity_tonnes, self.beneficiary_name, self.retirement_message
        )

    def to_json(self) -> dict[str, Any]:
        """Return what a task hands on (XCom): plain JSON, tonnes and USD as decimal strings."""
        values: dict[str, Any] = {"purchase": self.id, "state": self.state.value, "for_whom": self.for_whom}
        # Who they all are is in the ledger: there may be thousands.
        entities = sorted({share.entity for share in self.allocations})
        values["entity"] = entities[0] if len(entities) == 1 else None
        values["entities"] = len(entities)
        values["months"] = sorted({share.month for share in self.allocations})
        values |= {name: getattr(self, name) for name in _HANDED_ON}
        return {name: f"{value:f}" if isinstance(value, Decimal) else value for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class PurchaseLine(_Progress, Allocation):
    """
    A row for reports and pages: an allocation with what became of its purchase, or a figure that was stated anew.

    :param id: the row's number.
    :param purchase: its purchase's number; None for ``restated``.
    :param line: the highest of an entity and month in its mode holds the figure that was stated last.
    :param quantity_tonnes: tonnes that are bought for it; 0 for ``restated`` only.
    :param cost_usd: what they cost, USD with fees, as planned, then as quoted.
    :param origin: where the emitted figure is from, as far as it is known and was asked for.
    :param rounding_tonnes: what rounding added to the purchase beside the last of its allocations; nobody's.
    :param checkout_url: the current link.
    """

    id: int
    purchase: int | None = None
    asset_price_source_id: str | None = None
    cost_usd: Decimal = Decimal(0)
    origin: Origin | None = None
    rounding_tonnes: Decimal = Decimal(0)
    beneficiary_name: str | None = None
    retirement_message: str | None = None
    link_made_at: datetime | None = None
    checkout_url: str | None = None

    def __str__(self) -> str:
        rehearsal = ", test mode" if self.test_mode else ""
        return f"line {self.line} of {self.entity}, {self.month}{rehearsal}"
