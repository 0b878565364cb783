"""
The checks that every input passes before it gets onto the wire. They cost nothing to import, so operators share them.

``field`` is the input's name, for the error.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from decimal import Context, Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

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
_RETIREMENT_ID = re.compile(r"[0-9]{1,20}-0x[0-9a-fA-F]{64}-[0-9]{1,20}")


def parse_quantity(value: object, field: str = "quantity_tonnes") -> Decimal:
    """
    Read a quantity of carbon: the one check for all of them.

    :param value: tonnes as a Decimal, an int or a decimal string; a float only if its shortest text has three
        decimals at most, as 12.345 has.
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


def parse_retirement_id(value: object) -> str:
    """
    Read the id of a retirement before it gets into a path.

    :param value: ``{chainId}-{transaction hash}-{index}`` (doc).
    :raises InvalidInputError: it is anything else.
    """
    if not isinstance(value, str) or not _RETIREMENT_ID.fullmatch(value):
        raise InvalidInputError(
            "retirement_id",
            "is not made of a chain's number, a transaction's hash and an index",
            value=value,
            remedy="Take it from the address of the certificate's page, where it is the last part of the path",
        )
    return value


def parse_flag(value: object, field: str) -> bool:
    """
    Read a yes or no that a template may have rendered.

    :param value: a bool, or its word in any case.
    :raises InvalidInputError: it is neither: a typing mistake must not buy anything.
    """
    known = {"true": True, "false": False}
    if (word := str(value).strip().lower()) not in known:
        raise InvalidInputError(field, "is neither true nor false", value=value, remedy="Pass one of the two")
    return known[word]


def bare_source_id(source_id: str) -> str:
    """Return what tells a listing from others: its id without letter case, since hexadecimal addresses come in either (``0xAb``, ``0xab``)."""
    return source_id.lower()


def bare_methodology(id: str) -> str:
    """Return what tells a methodology from others: the market has ``AMS-ID`` for ``AMS-I.D.`` (doc)."""
    return "".join(filter(str.isalnum, id.casefold()))


def parse_text(value: object, field: str, max_length: int) -> str:
    """
    Read a name or a message that ends up in a public record.

    :param value: text that is more than white space, without control characters other than line breaks and tabs.
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


def parse_names(value: object, field: str) -> tuple[str, ...]:
    """Read names: a list, or text with commas between them, such as a template renders. :raises InvalidInputError: for anything else."""
    if isinstance(value, str):
        value = [name.strip(" '\"") for name in value.strip("[]() ").split(",")]
    if not isinstance(value, Sequence) or not all(isinstance(name, str) for name in value):
        raise InvalidInputError(
            field, "is no list of names", value=value, remedy='Give names, such as ["web", "api"]'
        )
    return tuple(name for name in value if name)


def parse_money(value: object, field: str) -> Decimal:
    """Read an amount of money, USD. :raises InvalidInputError: when it is none, or below zero."""
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise InvalidInputError(
            field, "is not an amount of money", value=value, remedy='Give USD, for example "250.00"'
        )
    return amount


def parse_count(value: str, field: str, *, of: str, most: int) -> int:
    """Read a number of days, or whatever, that an option says. :raises InvalidInputError: when it is none from 1 to ``most``."""
    if not (value.isascii() and value.isdigit() and 0 < int(value) <= most):
        raise InvalidInputError(field, f"is no number of {of}", value=value, remedy=f"Give 1 to {most}")
    return int(value)


def on_local_disk(path: Any) -> Path | None:
    """Return where on this machine's disk a path is; older paths of object storage are ``os.PathLike`` wherever they lead."""
    protocol = getattr(path, "protocol", None)
    if protocol is None:
        return Path(path) if isinstance(path, os.PathLike) else None
    return Path(path.path) if protocol in ("", "file") else None
