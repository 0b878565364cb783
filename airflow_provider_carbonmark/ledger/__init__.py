"""What was planned, linked, paid and retired. Its plain values cost nothing to import, what asks a database costs SQLAlchemy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.book import Ledger
    from airflow_provider_carbonmark.ledger.schema import LedgerError

__all__ = ["Ledger", "LedgerError"]

if not TYPE_CHECKING:  # or mypy would take any name for one of this module

    def __getattr__(name: str) -> Any:
        """Load a name on its first use: planning needs the values only, and DAG files are not to wait for SQLAlchemy."""
        if name == "Ledger":
            from airflow_provider_carbonmark.ledger.book import Ledger

            return Ledger
        if name == "LedgerError":
            from airflow_provider_carbonmark.ledger.schema import LedgerError

            return LedgerError
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
