"""What was planned, linked, paid and retired. Its plain values cost nothing to import, what asks a database costs SQLAlchemy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_carbonmark.ledger.names import LedgerError

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.book import Ledger

__all__ = ["Ledger", "LedgerError"]

if not TYPE_CHECKING:  # or mypy would take any name for one of this module

    def __getattr__(name: str) -> Any:
        """Load the ledger on its first use: DAG files are not to wait for SQLAlchemy."""
        if name != "Ledger":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from airflow_provider_carbonmark.ledger.book import Ledger

        return Ledger
