"""
The languages that buyers are spoken to in, and how their readers write amounts and times.

English is what the code and the templates say; each other language is a folder of ``locales``, with a catalogue that is read as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_time, get_datetime_format
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.words import Words

_LOCALES = Path(__file__).with_name("locales")
_ENGLISH: Final = "en"
# One of a browser's preferences (RFC 9110, sections 12.4.2 and 12.5.4): language, the rest of its tag, quality.
_PREFERENCE = re.compile(
    r"([a-z]{2,3})((?:-[a-z0-9]{1,8})*)(?:\s*;\s*q=([01](?:\.\d{0,3})?))?", re.IGNORECASE
)


@dataclass(frozen=True)
class Language:
    """
    A language, and whose amounts and times are written: 1.234,5 in Spain is 1,234.5 in Mexico.

    :param locale: of a country, or of the language alone.
    """

    locale: Locale

    @property
    def code(self) -> str:
        """The language without a country, such as ``de``."""
        return self.locale.language

    def gettext(self, text: str) -> str:
        """Translate a text of a template or of :class:`Words`."""
        return _catalogue(self.code).gettext(text)

    def say(self, words: Words) -> str:
        values = {name: self._written(value) for name, value in words.values.items()}
        return self.gettext(words.text) % values

    def tonnes(self, quantity: Decimal) -> str:
        """Write an amount exactly, without its unit."""
        return format_decimal(quantity, locale=self.locale, decimal_quantization=False)

    def usd(self, amount: Decimal) -> str:
        """Write an amount exactly, with its currency's code: a dollar sign is not the same money everywhere."""
        return f"{format_decimal(amount, '#,##0.00', self.locale, decimal_quantization=False)} USD"

    def time(self, when: datetime) -> str:
        """Write a time in UTC, and say so."""
        date = format_date(when.astimezone(UTC), "long", self.locale)
        time = format_time(when, "short", UTC, self.locale)
        return f"{str(get_datetime_format(locale=self.locale)).format(time, date)} UTC"

    def _written(self, value: Decimal | datetime | int | str) -> str:
        if isinstance(value, Decimal):
            return self.usd(value)
        return self.time(value) if isinstance(value, datetime) else str(value)


def preferred(accept_language: str) -> Language:
    """
    Return the language that a browser prefers, of those that there are; English where it takes none of them, or any.

    :param accept_language: what it says in the header of this name, which may be anything.
    """
    found = (_PREFERENCE.fullmatch(each.strip()) for each in accept_language.split(","))
    wanted = [(float(each[3] or 1), each[1].lower(), each[2]) for each in found if each]
    # Of equal ones the first, as browsers mean it.
    for quality, language, country in sorted(wanted, key=itemgetter(0), reverse=True):
        if quality and language in _languages():
            return Language(_locale(language, country))
    return Language(Locale(_ENGLISH))


def _locale(language: str, country: str) -> Locale:
    try:
        return Locale.parse(f"{language}{country}", sep="-")
    except (UnknownLocaleError, ValueError):
        # A country that Babel doesn't know, or more than that.
        return Locale(language)


@cache
def _languages() -> frozenset[str]:
    return frozenset({_ENGLISH, *(folder.name for folder in _LOCALES.iterdir())})


@cache
def _catalogue(language: str) -> NullTranslations:
    if language == _ENGLISH:
        return NullTranslations()
    compiled = BytesIO()
    with (_LOCALES / language / "LC_MESSAGES" / "messages.po").open("rb") as catalogue:
        write_mo(compiled, read_po(catalogue))
    compiled.seek(0)
    return GNUTranslations(compiled)
