"""The test cards. Which card is used on the payment page decides how payment and retirement end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from airflow_provider_carbonmark.sandbox.errors import ServiceRefusal


class Outcome(StrEnum):
    """How a paid checkout ends."""

    RETIRED = "retired"
    FAILED = "failed"
    SOLD_OUT = "sold_out"
    STUCK = "stuck"
    NO_PROOF = "no_proof"
    PLACEHOLDER = "placeholder"
    SOMETHING_ELSE = "something_else"
    UNPAID = "unpaid"


@dataclass(frozen=True)
class Card:
    """
    A test card.

    :param number: 16 digits.
    :param outcome: how a payment with it ends; None if the card is declined.
    :param description: what happens, for people; of a declined card, what the payment page says.
    :param confirms_late: the payment is PROCESSING at first (doc: some of Stripe's methods are, for 2 to 14 days).
    :param comes_back: the buyer's browser reaches the success URL (doc, Stripe: nobody guarantees that).
    """

    number: str
    outcome: Outcome | None
    description: str
    confirms_late: bool = False
    comes_back: bool = True

    @property
    def what_happens(self) -> str:
        """What happens, for the table of cards."""
        return self.description if self.outcome else f"Declined: “{self.description}”"

    @property
    def spaced_number(self) -> str:
        """The number in groups of four digits, as printed on cards."""
        return " ".join(self.number[i : i + 4] for i in range(0, len(self.number), 4))


# The first three are Stripe's (docs.stripe.com/testing); the others are made up here, and pass the Luhn check too.
CARDS: tuple[Card, ...] = (
    Card("4242424242424242", Outcome.RETIRED, "Pays, and the credits are retired."),
    Card("4000000000000002", None, "Your card was declined."),
    Card("4000000000009995", None, "Your card has insufficient funds."),
    Card("4000000000001018", Outcome.FAILED, "Pays, then the retirement fails."),
    Card(
        "4000000000001067",
        Outcome.SOLD_OUT,
        "Pays, then the listing is sold out to others before the retirement, which fails.",
    ),
    Card("4000000000001026", Outcome.STUCK, "Pays, then the retirement stays SUBMITTED for ever."),
    Card("4000000000001034", Outcome.NO_PROOF, "Pays, the retirement is COMPLETED but never proven."),
    Card("4000000000001042", Outcome.PLACEHOLDER, "Pays, and the shared test-mode placeholder comes back."),
    Card(
        "4000000000001059",
        Outcome.SOMETHING_ELSE,
        "Pays, and a retirement for somebody else, of another quantity, comes back.",
    ),
    Card(
        "4000000000001075",
        Outcome.RETIRED,
        "The buyer is sent back while the payment is still PROCESSING; later it is PAID, and the credits are retired.",
        confirms_late=True,
    ),
    Card(
        "4000000000001083",
        Outcome.UNPAID,
        "The buyer is sent back while the payment is still PROCESSING; later it has FAILED, and nothing is retired.",
        confirms_late=True,
    ),
    Card(
        "4000000000001091",
        Outcome.RETIRED,
        "Pays, and the credits are retired, but the browser never comes back: the page stays, without a payment id.",
        comes_back=False,
    ),
)

GOOD_CARD = CARDS[0]


def charge(number: str, expiry: str, cvc: str, today: date) -> Card:
    """
    Return the card that pays.

    :param number: as typed, with or without spaces and hyphens.
    :param expiry: month and year, such as ``12 / 34``.
    :param cvc: three or four digits.
    :raises ServiceRefusal: when it doesn't.
    """
    digits = number.replace(" ", "").replace("-", "")
    card = next((card for card in CARDS if card.number == digits), None)
    if card is None:
        raise ServiceRefusal(402, "This sandbox takes only the test cards listed below.")
    typed = re.fullmatch(r"\s*(0?[1-9]|1[0-2])\s*/\s*(?:20)?(\d\d)\s*", expiry, re.ASCII)
    if typed is None:
        raise ServiceRefusal(402, "The expiry is a month and a year, such as 12 / 34.")
    if (2000 + int(typed[2]), int(typed[1])) < (today.year, today.month):
        raise ServiceRefusal(402, "Your card has expired.")
    if not re.fullmatch(r"\d{3,4}", cvc.strip(), re.ASCII):
        raise ServiceRefusal(402, "The CVC is three or four digits.")
    if card.outcome is None:
        raise ServiceRefusal(402, card.description)
    return card


def cards_as_markdown() -> str:
    """Return the table of cards in Markdown, for the OpenAPI description and for READMEs."""
    rows = [f"| `{card.spaced_number}` | {card.what_happens} |" for card in CARDS]
    return "\n".join(["| Card | What happens |", "|---|---|", *rows])
