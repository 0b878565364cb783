"""Markets for tests."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from airflow_provider_carbonmark.api.models import Listing
from airflow_provider_carbonmark.planning import ListingFilter

NOW = datetime(2026, 11, 21, 6, tzinfo=UTC)
WITH_PURO = ListingFilter(registries=["VCS", "PUR"])


def listing(source_id: str = "listing-137-0xa", **changes) -> Listing:
    return Listing(
        **{
            "source_id": source_id,
            "type": "listing",
            "purchase_price": Decimal("3.78"),
            "supply": Decimal(1000),
            "liquid_supply": Decimal(1000),
            "min_fill_amount": Decimal("0.001"),
            "project_id": "VCS-191",
            "vintage": 2019,
            "is_ex_ante": False,
            "expires_at": None,
            **changes,
        }
    )


def offer(source_id: str, price: str, supply: str, minimum: str = "0.001", **changes) -> Listing:
    """A listing as a test of splits thinks of it: USD per tonne, tonnes left, least tonnes sold."""
    return listing(
        source_id,
        purchase_price=Decimal(price),
        liquid_supply=Decimal(supply),
        min_fill_amount=Decimal(minimum),
        **changes,
    )
