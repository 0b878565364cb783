"""What to do where no answer came, or one that isn't Carbonmark's: mostly a look at one field of the connection."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

# doc: the market API's host carries its version, which is retired some months after a newer one comes.
_MARKET_VERSION = re.compile(r"(v[0-9]+)\.api\.carbonmark\.com")


def look_at(request: httpx.Request, checkout_url: str) -> str:
    """
    Say where the address that a request went to comes from, and what belongs there, as the end of a sentence.

    :param checkout_url: base URL of the Checkout Service; what is not below it is asked of the market API.
    """
    if str(request.url).startswith(checkout_url):
        return "the connection's host, which has to be the address of Carbonmark's Checkout Service"
    return "market_url in the connection's extra, which has to be the address of Carbonmark's market API"


def without_answer(error: Exception, request: httpx.Request, checkout_url: str) -> str:
    """Say what to do where a request got no answer."""
    causes = tuple(_causes(error))
    said = " ".join(map(str, causes))
    is_unknown = any(isinstance(each, socket.gaierror) for each in causes)
    place = look_at(request, checkout_url)
    # seen: the host of a retired version fails as a TLS error, since its certificate has expired.
    version = _MARKET_VERSION.fullmatch(request.url.host)
    if version and (is_unknown or any(isinstance(each, ssl.SSLError) for each in causes)):
        certainty = "If other hosts can be reached, this" if is_unknown else "This"
        return (
            f"{certainty} version of the market API, {version[1]}, has probably been retired. Set market_url in the connection's extra to that of "
            "the current one (docs.carbonmark.com tells it), or upgrade this package, which has one as its default."
        )
    if is_unknown:
        return f"No host {request.url.host!r} can be found. Check the network, and {place}."
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return (
            "Its certificate isn't trusted. Where it is signed by an authority of your own, name that in SSL_CERT_FILE; else check "
            f"{place}."
        )
    if "WRONG_VERSION_NUMBER" in said or "RECORD_LAYER_FAILURE" in said:
        return f"It speaks no TLS, so http:// instead of https:// may be right. Check {place}."
    if request.url.scheme == "http" and "disconnected" in said:
        return f"It may be that https:// is right instead of http://. Check {place}, or try again later."
    return f"Check the network and the proxy, and {place}, or try again later."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
