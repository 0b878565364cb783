"""A running sandbox whose clock stands still unless a test puts it forward, and somebody who shops there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from airflow_provider_carbonmark.sandbox import SandboxServer

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
GOOD_CARD = "4242 4242 4242 4242"
#: What Puro's credits are for: October 2026 in Germany.
CONSUMPTION = {
    "country_of_consumption_code": "DE",
    "consumption_period_start": 1_790_812_800,
    "consumption_period_end": 1_793_491_199,
}


class Shopper:
    """Calls the sandbox as a client with a right key, and pays as a buyer's browser would."""

    def __init__(self, url: str, key: str = "cm_api_shopper") -> None:
        headers = {"authorization": f"Bearer {key}"}
        # To load certificates, which nothing here has, would take longer than most tests.
        self.http = httpx.Client(base_url=url, headers=headers, timeout=60, verify=False)
        self.url = url

    def liquid_listing(self, tonnes: float = 100, project_id: str | None = None) -> dict[str, Any]:
        query = {"projectIds": project_id} if project_id else {}
        entries = self.http.get("/prices", params=query).json()
        return next(
            entry
            for entry in entries
            if entry["liquidSupply"] >= tonnes and entry["listing"]["expiresAfter"] > NOW.timestamp()
        )

    def order(self, project_id: str | None = None, **changes: Any) -> dict[str, Any]:
        """Return an order of whatever is for sale, or of a project's credits, with changes."""
        tonnes = 1 if project_id else 100
        usual = {
            "asset_price_source_id": changes.get("asset_price_source_id")
            or self.liquid_listing(tonnes, project_id)["sourceId"],
            "quantity_tonnes": 1.234,
            "metadata": {"beneficiary_name": "Example GmbH", "retirement_message": "October 2026"},
            "success_url": "http://buyer.test/thanks",
            "cancel_url": "http://buyer.test/no",
        }
        return usual | changes

    def checkout(self, **changes: Any) -> dict[str, Any]:
        answer = self.http.post("/checkout", json=self.order(**changes))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def open_checkout(self, **changes: Any) -> str:
        return self.checkout(**changes)["url"]

    def is_refused(self, status: int, complaint: str, **changes: Any) -> None:
        """Check that nothing can be sold, and why."""
        answer = self.http.post("/checkout", json=self.order(**changes))
        assert (answer.status_code, complaint in answer.json()["message"]) == (status, True), answer.text
        assert self.state()["checkouts"] == []

    def pay(self, checkout_url: str, card: str = GOOD_CARD) -> str:
        """Return the payment's id, as it is found at the end of the address after paying."""
        form = {"card_number": card, "expiry": "12 / 34", "cvc": "123", "action": "pay"}
        answer = self.http.post(checkout_url, data=form)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"].rpartition("/")[2]

    def buy(self, card: str = GOOD_CARD, **changes: Any) -> str:
        return self.pay(self.open_checkout(**changes), card)

    def payment(self, payment_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/payments/{payment_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def switch(self, **changes: Any) -> None:
        answer = self.http.patch("/sandbox/switches", json=changes)
        assert answer.status_code == 200, answer.text

    def advance(self, seconds: float) -> None:
        self.http.post("/sandbox/clock", json={"advance_seconds": seconds}).raise_for_status()

    def state(self) -> dict[str, Any]:
        return self.http.get("/sandbox/state").json()


@pytest.fixture(scope="session")
def server() -> Iterator[SandboxServer]:
    with SandboxServer(port=0, time_source=lambda: NOW) as server:
        yield server


@pytest.fixture
def shopper(server: SandboxServer) -> Iterator[Shopper]:
    server.state.reset()
    shopper = Shopper(server.url)
    with shopper.http:
        yield shopper
