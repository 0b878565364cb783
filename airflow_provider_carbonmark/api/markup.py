"""What a page or a picture may hold of what others wrote: their text and their addresses, so that it stays valid whatever they are."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, urlsplit

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import parse_url

# Two at the end of each of Unicode's planes, and 32 more, are no characters and never will be.
_NON_CHARACTERS = "\ufdd0-\ufdef" + "".join(
    chr(plane + last) for plane in range(0, 0x110000, 0x10000) for last in (0xFFFE, 0xFFFF)
)
_UNWRITABLE = re.compile(f"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff{_NON_CHARACTERS}]")
# Beside letters, digits and -._~, which always may.
_IN_ADDRESSES: Final = "!$%&'()*+,/:;=?@"
_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")


def writable(text: str) -> str:
    """Replace the signs that HTML and XML have no way to write, not even escaped."""
    return _UNWRITABLE.sub("\ufffd", text)


def web_address(url: str | None) -> str | None:
    """
    Return an address as it may stand in a link; None when it may not become one.

    :param url: what is said to be an address. One that is http or https, and nothing else that a browser might run, becomes a
        link; signs that no address may have are percent-encoded, as a browser does.
    """
    try:
        parts = urlsplit(_STRAY_PERCENT.sub("%25", parse_url(url, "url")))
    except InvalidInputError:
        return None
    path, query, fragment = (
        quote(part, safe=_IN_ADDRESSES) for part in (parts.path, parts.query, parts.fragment)
    )
    return parts._replace(path=path, query=query, fragment=fragment).geturl()
