"""One Airflow and one sandbox for all end-to-end tests: starting them takes longer than any test."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.e2e.buyer import pay
from tests.e2e.stand import CHECKOUT_LINK, MONTHLY_OFFSET, Stand, sample

API_KEY = f"cm_api_e2e{uuid.uuid4()}"


@dataclass
class Bought:
    """A paid checkout: the payment, and what the task that made its link passed on."""

    payment_id: str
    checkout: dict[str, Any]


@pytest.fixture(scope="session")
def stand() -> Iterator[Stand]:
    with Stand(API_KEY) as started:
        yield started


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Show the end of every process's log beside a failure."""
    report = yield
    running = getattr(item, "funcargs", {}).get("stand")
    if report.failed and running is not None:
        report.sections.append(("processes", f"{running.airflow.tails()}\n{running.sandbox.process.tail()}"))
    return report


@pytest.fixture(autouse=True)
def usual_behaviour(stand: Stand) -> None:
    """Undo what the test before told the sandbox to do."""
    stand.sandbox.control("PUT", "switches", {})


@pytest.fixture(scope="session")
def listing(stand: Stand) -> str:
    """Return a listing with a price of a dollar or more, and enough supply for every test."""
    prices = httpx.get(f"{stand.sandbox.url}/prices", trust_env=False).json()
    return next(
        price["sourceId"]
        for price in prices
        if price["type"] == "listing"
        and price["liquidSupply"] > 500
        and price["purchasePrice"] > 1
        and not price["listing"]["token"]["isExAnte"]
    )


@pytest.fixture(scope="session")
def link_conf(listing: str) -> Callable[..., dict[str, Any]]:
    """Make the conf of a run of the checkout link DAG; each call for another beneficiary."""

    def conf(**changes: Any) -> dict[str, Any]:
        beneficiary = f"Beneficiary {uuid.uuid4().hex[:8]}"
        return {
            "asset_price_source_id": listing,
            "quantity_tonnes": 0.5,
            "beneficiary_name": beneficiary,
            **changes,
        }

    return conf


@pytest.fixture(scope="session")
def buy(stand: Stand, listing: str) -> Callable[..., Bought]:
    """Make a checkout at the sandbox itself and pay it: for tests of what comes after."""

    def bought(card: str) -> Bought:
        described = {
            "beneficiary_name": f"Beneficiary {uuid.uuid4().hex[:8]}",
            "retirement_message": "An end-to-end test",
        }
        order = {
            "asset_price_source_id": listing,
            "quantity_tonnes": 0.5,
            "metadata": described,
            "success_url": f"{stand.sandbox.url}/returned",
            "cancel_url": f"{stand.sandbox.url}/cancelled",
        }
        headers = {"Authorization": f"Bearer {API_KEY}"}
        made = httpx.post(f"{stand.sandbox.url}/checkout", json=order, headers=headers, trust_env=False)
        url = made.raise_for_status().json()["url"]
        checkout = {"asset_price_source_id": listing, "quantity_tonnes": "0.5", **described}
        return Bought(pay(url, card).payment_id, checkout)

    return bought


@pytest.fixture(scope="session")
def october(stand: Stand) -> str:
    """Return the run that made the links for October of the Google Cloud sample."""
    conf = {
        "emissions_file": sample("gcp-carbon-footprint.csv"),
        "emissions_format": "google_cloud",
        "month": "2026-10",
        "beneficiary": "Full run ({entity})",
    }
    return stand.run(MONTHLY_OFFSET, conf)


@pytest.fixture(scope="session")
def october_retired(stand: Stand, october: str) -> dict[str, dict[str, Any]]:
    """Pay every link of the October run, and return what each confirmation proved, by entity."""
    links = {link["entity"]: link["checkout"] for link in stand.links(october)}
    confirmations = {
        entity: stand.start_confirmation(pay(checkout["checkout_url"]).payment_id, checkout)
        for entity, checkout in links.items()
    }
    for run_id in confirmations.values():
        stand.expect_success("carbonmark_confirm_retirement", run_id)
    return {entity: stand.retirement(run_id) for entity, run_id in confirmations.items()}


def checkouts_for(stand: Stand, beneficiary: str) -> list[dict[str, Any]]:
    """Return the checkouts that the sandbox made for a beneficiary."""
    made = stand.sandbox.control("GET", "state")["checkouts"]
    return [checkout for checkout in made if checkout["metadata"]["beneficiary_name"] == beneficiary]


def only_task(stand: Stand, run_id: str, task_id: str, dag_id: str = CHECKOUT_LINK) -> dict[str, Any]:
    """Return the one instance of a task in a run."""
    (task,) = [
        task for task in stand.airflow.api.task_instances(dag_id, run_id) if task["task_id"] == task_id
    ]
    return task
