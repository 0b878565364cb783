"""A web app behind a real server, and the pages that it gives."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

if TYPE_CHECKING:
    import httpx


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an app in a thread while the block runs, and give its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def title(page: httpx.Response) -> str:
    """Return the headline of a page."""
    return page.text.partition("<h1>")[2].partition("</h1>")[0]


def policy(page: httpx.Response) -> dict[str, str]:
    """Return a page's content security policy; its own style is allowed, by its hash."""
    parts = page.headers["content-security-policy"].split(";")
    found = dict(part.strip().split(" ", 1) for part in parts)
    assert found.pop("style-src").startswith("'sha256-")
    return found
