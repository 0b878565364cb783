"""A sandbox over real HTTP, a connection to it, and time that stands still unless somebody sleeps."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import certifi
import pytest
import time_machine
from sqlalchemy import NullPool, create_engine

from airflow_provider_carbonmark.ledger import Ledger
from airflow_provider_carbonmark.operators.carbonmark import CarbonmarkCreateCheckoutOperator
from airflow_provider_carbonmark.operators.housekeeping import CarbonmarkHousekeepingOperator
from airflow_provider_carbonmark.sandbox.world.retirements import has_provenance
from tests.integration.airflow.model import (
    Airflow,
    Buyer,
    DagRun,
    housekeeper,
    ledger_environment,
    stated,
)
from tests.integration.airflow.parts import MODES, START, Clock, make_context

RETURN_URL = "https://buyer.example.com/returned"


@pytest.fixture(scope="session", autouse=True)
def _one_authority(tmp_path_factory):
    """Trust one certificate authority instead of a hundred: a client takes 1 ms to make instead of 20."""
    path = tmp_path_factory.mktemp("trust") / "one.pem"
    end = "-----END CERTIFICATE-----\n"
    path.write_text(Path(certifi.where()).read_text().partition(end)[0] + end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(path))
        yield


@pytest.fixture
def clock(monkeypatch):
    """Time that stands still; sleeps of sensor, trigger and client only move it."""
    with time_machine.travel(START, tick=False) as traveller:
        clock = Clock(traveller)
        now = SimpleNamespace(sleep=clock.sleep, monotonic=clock.monotonic)
        monkeypatch.setattr("airflow.sdk.bases.sensor.time", now)
        monkeypatch.setattr("airflow_provider_carbonmark.api.client.time", now)
        monkeypatch.setattr(
            "airflow_provider_carbonmark.triggers.carbonmark.asyncio",
            SimpleNamespace(**{**vars(asyncio), "sleep": clock.async_sleep}),
        )
        yield clock


@pytest.fixture(params=MODES)
def mode(request):
    """Each of the ways in which a sensor waits."""
    return request.param


@pytest.fixture(scope="session")
def _empty_ledger(tmp_path_factory):
    """A ledger's file with its tables and nothing in them, which takes longer to make than to copy."""
    path = tmp_path_factory.mktemp("empty") / "ledger.db"
    made = Ledger(create_engine(f"sqlite:///{path}", poolclass=NullPool))
    made.upgrade()
    return path


@pytest.fixture
def ledger_file(_empty_ledger, tmp_path, monkeypatch):
    """A ledger of the test's own, in a file."""
    path = shutil.copy(_empty_ledger, tmp_path / "ledger.db")
    monkeypatch.setenv("AIRFLOW__CARBONMARK__LEDGER_PATH", str(path))


@pytest.fixture
def checkout_operator(connect, listing, ledger_file):
    """Return a function that makes the checkout operator."""

    def make(**changes: Any) -> CarbonmarkCreateCheckoutOperator:
        arguments = {
            "task_id": "link",
            "asset_price_source_id": listing.source_id,
            "quantity_tonnes": "1.234",
            "beneficiary_name": "Acme GmbH",
            "retirement_message": "Cloud emissions of July 2026",
            "success_url": RETURN_URL,
            "cancel_url": "https://buyer.example.com/cancelled",
        }
        return CarbonmarkCreateCheckoutOperator(**arguments | changes)

    return make


@pytest.fixture
def buy(checkout_operator, sandbox):
    """Return a function that makes a checkout and pays it: the checkout and the payment id."""

    numbers = count()

    def buy(card: str = "4242424242424242", **changes: Any) -> tuple[dict[str, Any], str]:
        checkout = checkout_operator(**changes).execute(make_context(run_id=f"run-{next(numbers)}"))
        return checkout, sandbox.pay(checkout["checkout_url"], card)

    return buy


@pytest.fixture
def logged(caplog, capsys):
    """Return a function that returns what was logged since it was asked last, whichever way this Airflow logs."""
    caplog.set_level("INFO")

    def logged() -> str:
        printed = capsys.readouterr()
        text = "\n".join([caplog.text, printed.out, printed.err])
        caplog.clear()
        return text

    return logged


@pytest.fixture
def url(request, new_database):
    """The address of an empty database, of SQLite unless a test says that the kind can matter."""
    return new_database(getattr(request, "param", "sqlite"))


@pytest.fixture
def ledger(url, connect, sandbox, ledger_file, monkeypatch):
    """The ledger that the tasks keep, which this Airflow is configured with, read past them."""
    for name, value in ledger_environment(url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com")
    sandbox.state.change_switches(retirement_seconds=0, proof_seconds=0)
    return Ledger(create_engine(url, poolclass=NullPool))


@pytest.fixture
def airflow(ledger):
    """What Airflow keeps between tasks."""
    return Airflow()


@pytest.fixture
def dag_run(airflow):
    """A run of the DAG."""
    return DagRun(airflow, "first")


@pytest.fixture
def parked(dag_run):
    """The checkout of a purchase of the run, whose task awaits the payment."""
    dag_run.plan()
    checkout = dag_run.link()
    dag_run.park()
    return checkout


@pytest.fixture
def second(airflow, dag_run):
    """Another run of the DAG, while the first goes on."""
    return DagRun(airflow, "second")


@pytest.fixture
def buyer(airflow):
    """Somebody with a card and a browser."""
    return Buyer(airflow)


@pytest.fixture
def review(airflow):
    """Return a function that does the housekeeping, so many days from now."""

    def review(days: float = 0, **arguments: Any) -> list[dict[str, Any]]:
        task = CarbonmarkHousekeepingOperator(task_id="review", **arguments)
        with time_machine.travel(datetime.now(UTC) + timedelta(days=days), tick=False):
            result: list[dict[str, Any]] = housekeeper(airflow).run(task)
            return result

    return review


@pytest.fixture
def retire(dag_run, buyer, sandbox):
    """Return a function that buys for an entity what is of a project whose credits have serial numbers, and returns the purchase."""
    for listing in sandbox.state.listings.values():
        if not has_provenance(listing) or listing.chain_id != 137:
            listing.liquid_supply = listing.liquid_supply * 0

    def retire(*entities: str) -> list[int]:
        planned = dag_run.plan([stated("0.5", entity) for entity in entities])
        return [buyer.buy(dag_run, index)["purchase"] for index, _ in enumerate(planned)]

    return retire
