"""
What the report's disclosures are for: each rule with the place that asks for it, as read in November 2026. They move; they stand here only.

This is no legal advice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final


@dataclass(frozen=True)
class Regulation:
    """A rule: what people call it, where it is written, with its date, and which paragraphs of that."""

    name: str
    text: str
    places: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}, {self.places}"


#: A revised ESRS E1 is under way (Omnibus I, Directive 2026/470), which will number its paragraphs anew.
ESRS_E1_7: Final = Regulation(
    "ESRS E1-7",
    "Delegated Regulation (EU) 2023/2772 of 31 July 2023",
    "ESRS E1, paragraphs 59 to 61, AR 61 to AR 64",
)
AB_1305: Final = Regulation(
    "AB 1305",
    "California Health and Safety Code, in force since 1 January 2024",
    "section 44475.1 (a) to (f)",
)
ISO_14068_1: Final = Regulation("ISO 14068-1", "edition of 2023", "clause 11")
PRODUCT_CLAIMS: Final = Regulation(
    "Directive (EU) 2024/825", "applied since 27 September 2026", "claims on products"
)

#: How long after the end of the year of the emissions credits may be cancelled for them (ISO 14068-1).
YEARS_TO_CANCEL: Final = 1


def too_late_from(month: str) -> datetime:
    """Return from when on it is more than 12 months since the end of the calendar's year that a month, ``YYYY-MM``, is in."""
    return datetime(int(month[:4]) + 1 + YEARS_TO_CANCEL, 1, 1, tzinfo=UTC)
