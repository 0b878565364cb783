"""Where the page is, and what goes with each of our pages. Plain values: nothing of Airflow, no import of HTTP."""

from __future__ import annotations

from typing import Any

#: Where Airflow's API server serves the page.
PREFIX = "/carbonmark-offsets"

#: The page's entry in Airflow's menu, which opens it in a tab of its own. Inside of Airflow (with a ``url_route``) it would be in a
#: sandboxed frame, which lets no link out: no payment page, no certificate and no run could be opened from it.
MENU_ENTRY: dict[str, Any] = {
    "name": "Carbon offsets",
    # Without a slash in front, it is below the address of an Airflow that has a path.
    "href": f"{PREFIX.strip('/')}/",
    "destination": "nav",
    "category": "browse",
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
