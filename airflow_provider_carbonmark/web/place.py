"""Where the page is, and what goes with each of our pages. Plain values: nothing of Airflow, no import of HTTP."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

#: Where Airflow's API server serves the page.
PREFIX = "/carbonmark-offsets"


def _leaf(color: str) -> str:
    """Draw the entry's icon as Airflow draws its own, in lines; within its address, so that nobody has to be asked for it."""
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="{color}" stroke-width="2" stroke-linecap="round" '
        'stroke-linejoin="round"><path d="M7 19C3 12 8 5 20 4c1 12-5 18-13 15z"/><path d="M4 21c2-5 5-8 10-10"/></svg>'
    )
    return f"data:image/svg+xml,{quote(drawing)}"


#: The page's entry in Airflow's menu, which opens it in a tab of its own. Inside of Airflow (with a ``url_route``) it would be in a
#: sandboxed frame, which lets no link out: no payment page, no certificate and no run could be opened from it.
MENU_ENTRY: dict[str, Any] = {
    "name": "Carbon offsets",
    # Without a slash in front, it is below the address of an Airflow that has a path.
    "href": f"{PREFIX.strip('/')}/",
    "destination": "nav",
    "category": "browse",
    # As the icons and words beside it (seen: 3.2 to 3.4).
    "icon": _leaf("#18181b"),
    "icon_dark_mode": _leaf("#fafafa"),
}

#: Headers of every page of ours, beside its own policy.
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}
