"""One entity has one name, however its letters and spaces are encoded."""

from __future__ import annotations

import re
import unicodedata

# Zero-width space, word joiner, byte-order mark, soft hyphen, marks of direction: copied along from web pages, dialogs and spreadsheets, and
# seen by nobody. Joiners that make other letters, as in Persian or Hindi, stay.
_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def entity_name(text: str) -> str:
    """Return a name in the one spelling that the ledger knows: NFC, each space a plain one, none around it."""
    return " ".join(unicodedata.normalize("NFC", _INVISIBLE.sub("", text)).split())
