"""The languages that buyers are spoken to in: which one, that nothing is left in English, and whose amounts are written."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from babel.messages.pofile import read_po

from airflow_provider_carbonmark.web.languages import preferred
from tests.validator.pages import pay_pages, return_pages

if TYPE_CHECKING:
    from babel.messages.catalog import Catalog

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "airflow_provider_carbonmark"
LOCALES = PACKAGE / "web" / "locales"
LANGUAGES = sorted(folder.name for folder in LOCALES.iterdir())
# What the pages show of purchases and payments, by a part of each.
VALUES = ("alert(1)", "https://example.com/", "0000000001", "1.234 t CO₂e", "12.3456 USD", "pay_1")


def read(path: Path) -> Catalog:
    with path.open("rb") as catalogue:
        return read_po(catalogue)


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """What there is to translate, as translators extract it."""
    template = tmp_path_factory.mktemp("catalogue") / "messages.pot"
    extract = (sys.executable, "-m", "babel.messages.frontend", "extract", "-F", ROOT / "pyproject.toml")
    subprocess.run([*extract, "-k", "Words", "-o", template, PACKAGE], check=True, capture_output=True)
    return read(template)


def values_in(text: str) -> list[str]:
    return sorted(re.findall(r"%\(\w+\)s", text))


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_catalogue_has_all_that_there_is_to_translate_and_nothing_else(extracted, language):
    catalogue = read(LOCALES / language / "LC_MESSAGES" / "messages.po")
    assert {message.id for message in catalogue} == {message.id for message in extracted}
    assert not catalogue.obsolete
    for message in catalogue:
        assert message.string
        assert not message.fuzzy
        assert values_in(str(message.string)) == values_in(str(message.id))
        # In a page they are HTML.
        assert not message.id or not re.search("[<>&]", str(message.string))


def texts(page: str) -> list[str]:
    """Return what is written on a page, element by element."""
    return re.split("<[^>]*>", page.partition("</style>")[2])


@pytest.mark.parametrize("make", [pay_pages, return_pages])
@pytest.mark.parametrize("language", LANGUAGES)
def test_of_a_page_nothing_is_left_in_english_but_what_others_wrote(make, language):
    for english, page in zip(asyncio.run(make()), asyncio.run(make(language)), strict=True):
        assert f'<html lang="{language}">' in page
        pairs = zip(texts(english), texts(page), strict=True)
        alike = [text for other, text in pairs if other == text and text.strip()]
        assert [text for text in alike if not any(value in text for value in VALUES)] == []


@pytest.mark.parametrize(
    ("header", "locale"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de_AT"),
        ("DE-at ; Q=0.7", "de_AT"),
        ("en-US,en;q=0.9,de;q=0.8", "en_US"),
        ("it, fr;q=0.5, ja;q=0.8", "ja"),
        ("fr;q=0.5, de;q=0.5", "fr"),
        ("de;q=0, es;q=0.001", "es"),
        ("es-419", "es_419"),
        ("nl, zh-CN", "en"),
        ("*", "en"),
        ("*;q=0.5, fr;q=0.1", "fr"),
        # Countries that nobody knows, and more than countries.
        ("de-XX", "de"),
        ("en-US-u-hc-h12", "en"),
        # Garbage, and a lot of it.
        ("de;q=high, ;q=1, fr;q=1;q=1, ../ja, de_DE, es;q=2,\x00\xff", "en"),
        ("de" + "-abcdefgh" * 1_100, "de"),
        ("x" * 10_000, "en"),
        ("," * 10_000 + "fr", "fr"),
        ("it;q=0.9," * 1_100 + "fr;q=0.8", "fr"),
    ],
    ids=lambda value: value[:40],
)
def test_the_language_that_is_preferred_of_those_that_there_are(header, locale):
    assert str(preferred(header).locale) == locale


@pytest.mark.parametrize(
    ("header", "tonnes", "usd", "time"),
    [
        ("de", "1.234,567", "1.234,50 USD", "3. Oktober 2026, 14:05 UTC"),
        ("ja", "1,234.567", "1,234.50 USD", "2026年10月3日 14:05 UTC"),
    ],
)
def test_amounts_and_times_are_written_as_their_readers_do(header, tonnes, usd, time):
    language = preferred(header)
    assert language.tonnes(Decimal("1234.567")) == tonnes
    assert language.usd(Decimal("1234.5")) == usd
    assert language.time(datetime(2026, 10, 3, 14, 5, tzinfo=UTC)) == time
