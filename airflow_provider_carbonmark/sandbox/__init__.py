"""
A local understudy of Carbonmark, with a payment page, on which nothing is ever bought.

``python -m airflow_provider_carbonmark.sandbox`` serves it; tests start it in their own process::

    with SandboxServer(port=0) as sandbox:
        httpx.get(f"{sandbox.url}/prices")

It shares no code with the client side of this package: shared models would hide shared mistakes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_carbonmark.sandbox.server import SandboxServer

__all__ = ["SandboxServer"]


def __getattr__(name: str) -> Any:
    """Load the server on first use, so that importing this package costs nothing."""
    if name == "SandboxServer":
        from airflow_provider_carbonmark.sandbox.server import SandboxServer

        return SandboxServer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
