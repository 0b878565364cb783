"""A month on an Airflow whose tasks run on two machines: with one ledger for both it is bought, with one for each it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.buyer import THANKS, pay
from tests.e2e.conftest import API_KEY
from tests.e2e.machines import Machine, celery, without
from tests.e2e.postgresql import ledger_beside, ledger_connection, postgresql
from tests.e2e.redis_server import redis
from tests.e2e.stand import MONTHLY_OFFSET, Stand, sample

pytestmark = pytest.mark.e2e

OCTOBER = {
    "emissions_file": sample("gcp-carbon-footprint.csv"),
    "emissions_format": "google_cloud",
    "month": "2026-10",
    "beneficiary": "On several machines ({entity})",
    "allow_test_mode": True,
}


@pytest.fixture(scope="module")
def machines() -> list[Machine]:
    """Return the machines of :func:`cluster`, which fills this."""
    return []


@pytest.fixture(scope="module")
def cluster(machines: list[Machine]) -> Iterator[Stand]:
    """Start an Airflow with two machines for its tasks, metadata and ledger in PostgreSQL."""
    with postgresql() as database, redis() as broker:
        stand = Stand(
            API_KEY,
            env=celery(broker) | ledger_connection(database),
            ledger=ledger_beside(database),
            database=database,
        )
        machines += [Machine(stand.airflow, name) for name in ("machine-1", "machine-2")]
        with stand:
            yield stand


def test_a_month_is_bought_once_whichever_machine_its_tasks_run_on(
    cluster: Stand, machines: list[Machine]
) -> None:
    run_id = cluster.start_month(OCTOBER)
    links = cluster.links(run_id)
    for link in links:
        assert pay(link["checkout"]["checkout_url"]).title == THANKS
    cluster.expect_success(MONTHLY_OFFSET, run_id)

    tasks = cluster.airflow.api.task_instances(MONTHLY_OFFSET, run_id)
    assert {task["state"] for task in tasks} == {"success"}
    assert {task["hostname"] for task in tasks} == {"machine-1", "machine-2"}
    assert {bought["entity"]: bought["quantity_tonnes"] for bought in cluster.retired(run_id)} == {
        "(no Google Cloud project)": "0.001",
        "checkout-prod": "1.254",
        "search-prod": "0.261",
    }
    assert len(links) == len(payments(cluster)) == 3

    again = cluster.run(MONTHLY_OFFSET, OCTOBER)
    assert cluster.links(again) == []
    assert [machine.kept() for machine in machines] == [[], []]


def payments(stand: Stand) -> list[dict[str, Any]]:
    made = stand.sandbox.control("GET", "state")["checkouts"]
    return [checkout for checkout in made if checkout["is_paid"]]


def test_a_ledger_for_each_machine_is_refused_before_anything_is_written_or_asked(
    cluster: Stand, machines: list[Machine]
) -> None:
    asked = cluster.sandbox.control("GET", "requests")
    with without(machines, "AIRFLOW__CARBONMARK__LEDGER_CONN_ID"):
        run_id = cluster.airflow.api.trigger(MONTHLY_OFFSET, OCTOBER | {"month": "2026-09"})
        cluster.expect_failure(MONTHLY_OFFSET, run_id)

    plan = cluster.airflow.api.task_instance(MONTHLY_OFFSET, run_id, "plan")
    assert plan is not None
    assert (plan["state"], plan["try_number"]) == ("failed", 1)
    log = cluster.airflow.api.log(MONTHLY_OFFSET, run_id, plan)
    assert "CeleryExecutor runs tasks on more than one machine" in log
    assert "[carbonmark] ledger_conn_id" in log
    assert "ledger_path to a file that all machines mount" in log
    assert [machine.kept() for machine in machines] == [[], []]
    assert cluster.sandbox.control("GET", "requests") == asked
