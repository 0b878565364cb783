"""The market: what is for sale, as GET /prices shows it."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass

MARKET_FILE = Path(__file__).with_name("market.csv")

# seen: 3.78 with fees, 2.7 without.
FEE_FACTOR = Decimal("1.4")
SMALLEST_FILL = Decimal("0.001")


@dataclass
class Listing:
    """
    Credits for sale.

    :param type: ``listing``, or ``klimaprotocol``, which the Checkout Service does not sell.
    :param chain_id: 137 is Polygon, 8453 is Base.
    :param project_id: registry and number, such as ``VCS-191``.
    :param vintage: year.
    :param purchase_price: USD per tonne, with fees.
    :param supply: tonnes offered.
    :param liquid_supply: tonnes that can be bought now.
    :param is_ex_ante: a promise of a future removal.
    :param expires_after: epoch seconds (seen: one in 2030).
    :param min_fill_amount: smallest quantity sold, in tonnes.
    """

    type: str
    chain_id: int
    project_id: str
    vintage: int
    purchase_price: Decimal
    supply: Decimal
    liquid_supply: Decimal
    is_ex_ante: bool
    expires_after: int
    min_fill_amount: Decimal = SMALLEST_FILL

    @property
    def hash(self) -> str:
        """The listing's own id, made from what it is, so that it is the same at every start."""
        return "0x" + hashlib.sha256(f"{self.type} {self.chain_id} {self.credit}".encode()).hexdigest()

    @property
    def source_id(self) -> str:
        """What the API calls ``sourceId`` and ``asset_price_source_id``."""
        return f"{self.type}-{self.chain_id}-{self.hash}"

    @property
    def credit(self) -> str:
        """Project and vintage, such as ``VCS-191-2008``."""
        return f"{self.project_id}-{self.vintage}"

    @property
    def registry(self) -> str:
        """The registry's prefix in the project's id, such as ``VCS``."""
        return self.project_id.partition("-")[0]

    @property
    def is_puro(self) -> bool:
        return self.registry == "PUR"

    @property
    def step(self) -> Decimal:
        """Tonnes the quantity has to be a multiple of: Puro retires whole tonnes only (doc)."""
        return Decimal(1) if self.is_puro else SMALLEST_FILL

    def is_expired(self, now: datetime) -> bool:
        return now.timestamp() > self.expires_after

    @property
    def credit_id(self) -> dict[str, Any]:
        return {"vintage": self.vintage, "projectId": self.project_id}

    @property
    def token(self) -> dict[str, Any]:
        return {
            "tokenStandard": "erc1155",
            "symbol": self.credit,
            "isExAnte": self.is_ex_ante,
            "tokenId": 1,
        }

    def as_price(self) -> dict[str, Any]:
        """Return the entry of GET /prices (seen; what klimaprotocol entries carry is assumed)."""
        details: dict[str, Any] = {
            "id": self.hash,
            "creditId": self.credit_id,
            "token": self.token,
        }
        if self.type == "listing":
            seller = hashlib.sha256(self.hash.encode()).hexdigest()[:40]
            details |= {"sellerId": f"0x{seller}", "expiresAfter": self.expires_after}
        return {
            "sourceId": self.source_id,
            "type": self.type,
            "purchasePrice": self.purchase_price,
            "baseUnitPrice": (self.purchase_price / FEE_FACTOR).quantize(Decimal("0.000001")),
            "supply": self.supply,
            "liquidSupply": self.liquid_supply,
            "minFillAmount": self.min_fill_amount,
            self.type: details,
        }


def plain(value: Decimal) -> str:
    """Return a decimal as people write it: no exponent, no zeros at the end."""
    return f"{value.normalize():f}"


def open_market() -> dict[str, Listing]:
    """Return a fresh market by source id: fewer listings than the measured one of August 2026, but its mix."""
    with MARKET_FILE.open(encoding="ascii", newline="") as file:
        rows: Iterable[dict[str, Any]] = csv.DictReader(file)
        listings = [Listing(**row) for row in rows]
    return {listing.source_id: listing for listing in listings}
