"""One Airflow and one sandbox for all end-to-end tests: starting them takes longer than any test."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2e.airflow_stack import DAGS
from tests.e2e.browser import Person, chromium
from tests.e2e.buyer import pay
from tests.e2e.purchase import AWAIT_PAYMENT, Purchase
from tests.e2e.stand import MONTHLY_OFFSET, Stand, sample

if TYPE_CHECKING:
    from playwright.sync_api import Browser

API_KEY = f"cm_api_e2e{uuid.uuid4()}"


@dataclass
class Bought:
    """A paid checkout: the payment, and what the task that made its link passed on."""

    payment_id: str
    checkout: dict[str, Any]


ROOT = Path(__file__).resolve().parents[2]
TEST_DAGS = Path(__file__).with_name("dags")
# How soon a scheduler takes over what was run by one that was killed.
SOON = {
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
}


# What is run on PostgreSQL, with an API server of their own for buyers; everything else on SQLite, with one for all.
ON_POSTGRESQL = {"test_every_version", "test_pay", "test_return_faults"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "stand" in metafunc.fixturenames:
        name = metafunc.module.__name__.rpartition(".")[2]
        database = "postgresql" if name in ON_POSTGRESQL else "sqlite"
        metafunc.parametrize("stand", [database], indirect=True, scope="session")


@pytest.fixture(scope="session")
def stand(request: pytest.FixtureRequest) -> Iterator[Stand]:
    """Start everything once per database; where that is PostgreSQL, the ledger is there too."""
    options = {"dags": (DAGS, TEST_DAGS), "env": {"PYTHONPATH": str(ROOT), **SOON}}
    if request.param == "sqlite":
        with Stand(API_KEY, **options) as started:
            yield started
    else:
        from tests.e2e.postgresql import ledger_beside, ledger_connection, postgresql

        with postgresql() as database:
            options["env"] |= ledger_connection(database)
            options["ledger"] = ledger_beside(database)
            with Stand(API_KEY, database=database, api_servers=2, **options) as started:
                yield started


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Show the end of every process's log beside a failure."""
    report = yield
    stands = [used for used in getattr(item, "funcargs", {}).values() if isinstance(used, Stand)]
    for running in stands if report.failed else []:
        report.sections.append(("processes", f"{running.airflow.tails()}\n{running.sandbox.process.tail()}"))
    return report


@pytest.fixture(autouse=True)
def usual_behaviour(request: pytest.FixtureRequest) -> None:
    """
    Undo what the test before told the sandbox to do, and start what it left killed. What is paid for is retired at once.

    Not for tests that start an Airflow of their own, or none.
    """
    if "stand" not in request.fixturenames:
        return
    stand: Stand = request.getfixturevalue("stand")
    stand.sandbox.control("PUT", "switches", {"retirement_seconds": 0})
    stand.airflow.restart(*(name for name, process in stand.airflow.processes.items() if not process.running))


@pytest.fixture(scope="session")
def listing(stand: Stand) -> str:
    return stand.listing()


@pytest.fixture(scope="session")
def link_conf(listing: str) -> Callable[..., dict[str, Any]]:
    """Make the conf of a run of the checkout link DAG; each call for another beneficiary."""

    def conf(**changes: Any) -> dict[str, Any]:
        order = {"asset_price_source_id": listing, "quantity_tonnes": 0.5}
        return order | {"beneficiary_name": f"Beneficiary {uuid.uuid4().hex[:8]}"} | changes

    return conf


@pytest.fixture(scope="session")
def buy(stand: Stand, listing: str) -> Callable[..., Bought]:
    """Make a checkout at the sandbox itself and pay it: for tests of what comes after."""

    def bought(card: str) -> Bought:
        described = {
            "beneficiary_name": f"Beneficiary {uuid.uuid4().hex[:8]}",
            "retirement_message": "An end-to-end test",
        }
        url = stand.sandbox.url
        addresses = {"success_url": f"{url}/returned", "cancel_url": f"{url}/cancelled"}
        checkout = {"asset_price_source_id": listing, "quantity_tonnes": "0.5"}
        order = checkout | {"quantity_tonnes": 0.5, "metadata": described} | addresses
        headers = {"Authorization": f"Bearer {API_KEY}"}
        made = httpx.post(f"{url}/checkout", json=order, headers=headers, trust_env=False)
        paid = pay(made.raise_for_status().json()["url"], card)
        return Bought(paid.payment_id, checkout | described)

    return bought


@pytest.fixture(scope="session")
def purchase(stand: Stand, link_conf: Callable[..., dict[str, Any]]) -> Callable[..., Purchase]:
    """Return a function that starts a run of the test DAG, or of one of its variants."""

    def start(dag_id: str = AWAIT_PAYMENT, **conf: Any) -> Purchase:
        return Purchase(stand, link_conf(**conf), dag_id)

    return start


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def person(browser: Browser, stand: Stand) -> Iterator[Person]:
    person = Person(browser, stand.airflow.url)
    yield person
    person.close()


@pytest.fixture
def emitted(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """
    Write down what some entities emitted, in tonnes by month; return the conf of a run that offsets one of the months.

    A few kilograms are never split: the cheapest listing holds 3 t, and the tests buy less.
    """

    def conf(rows: dict[str, dict[str, str]], month: str = "2026-10", **changes: Any) -> dict[str, Any]:
        file = tmp_path / "emissions.csv"
        lines = [
            f"{each}-01T00:00:00,{entity},{Decimal(tonnes) * 1000}"
            for each, entities in rows.items()
            for entity, tonnes in entities.items()
        ]
        file.write_text("\n".join(["timestamp,project_name,emissions", *lines]) + "\n")
        return {
            "emissions_file": file.as_uri(),
            "emissions_format": "codecarbon",
            "month": month,
            "beneficiary": "Offset ({entity})",
            **changes,
        }

    return conf


@pytest.fixture(scope="session")
def october(stand: Stand) -> str:
    """Return the run that made the links for October of the Google Cloud sample."""
    conf = {
        "emissions_file": sample("gcp-carbon-footprint.csv"),
        "emissions_format": "google_cloud",
        "month": "2026-10",
        "beneficiary": "Full run ({entity})",
    }
    return stand.start_month(conf)


@pytest.fixture(scope="session")
def october_retired(stand: Stand, october: str) -> dict[str, dict[str, Any]]:
    """Pay every link of the October run, the last one first, and return what the run ended with, by entity."""
    for link in reversed(stand.links(october)):
        pay(link["checkout"]["checkout_url"])
    stand.expect_success(MONTHLY_OFFSET, october)
    return {
        bought["entity"]: stand.airflow.api.xcom(
            MONTHLY_OFFSET, october, "purchase.retirement", map_index=index
        )
        for index, bought in enumerate(stand.links(october))
    }
