"""What the demo and the end-to-end tests run on: a sandbox, and an Airflow whose connection points there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import NullPool, create_engine

from airflow_provider_carbonmark.ledger import Ledger
from tests.e2e.airflow_api import OVER, PARKED
from tests.e2e.airflow_stack import DAGS, AirflowStack
from tests.e2e.processes import RunFailed, StackError, Started, wait_until
from tests.e2e.sandbox_process import SandboxProcess

MONTHLY_OFFSET = "carbonmark_monthly_offset"
CHECKOUT_LINK = "carbonmark_checkout_link"
CONFIRM_RETIREMENT = "carbonmark_confirm_retirement"
ESG_REPORT = "carbonmark_esg_report"


def sample(name: str) -> str:
    """Return the address of a file in the sample data."""
    return (DAGS / "data" / name).as_uri()


class Stand(Started):
    """
    A sandbox and an Airflow, started together and stopped together.

    :param api_key: the key of the connection ``carbonmark_default``.
    :param tell: called with a line whenever there is progress to report.
    :param env: what to add to the environment of Airflow's processes.
    :param ledger: the address of the ledger's database, where ``env`` names another than the default.
    :param airflow: what else to pass on to :class:`AirflowStack`.
    """

    def __init__(
        self,
        api_key: str,
        tell: Callable[[str], None] = lambda text: None,
        *,
        env: Mapping[str, str] | None = None,
        ledger: str | None = None,
        **airflow: Any,
    ) -> None:
        self._logs = tempfile.TemporaryDirectory(prefix="carbonmark-sandbox-")
        self.sandbox = SandboxProcess(Path(self._logs.name) / "sandbox.log")
        self.airflow = AirflowStack(
            {"AIRFLOW_CONN_CARBONMARK_DEFAULT": self.sandbox.connection(api_key), **(env or {})},
            tell=tell,
            **airflow,
        )
        address = ledger or f"sqlite:///{self.airflow.home / 'carbonmark-ledger.db'}"
        self.ledger = Ledger(create_engine(address, poolclass=NullPool))
        self._tell = tell

    def start(self) -> None:
        self._tell(f"Starting the sandbox at {self.sandbox.url}")
        self.sandbox.start()
        self.airflow.start()

    def stop(self) -> None:
        self.airflow.stop()
        self.sandbox.stop()
        self._logs.cleanup()

    def run(self, dag_id: str, conf: dict[str, Any], **how: Any) -> str:
        """Run a DAG to its good end and return the run's id; see :meth:`expect_success`."""
        run_id = self.airflow.api.trigger(dag_id, conf)
        self.expect_success(dag_id, run_id, **how)
        return run_id

    def expect_failure(self, dag_id: str, run_id: str) -> None:
        """Wait for a run's bad end; raise ``StackError`` when it ends well."""
        if self.airflow.api.wait_for_run(dag_id, run_id) != "failed":
            raise StackError(f"The run {run_id} of {dag_id} did not fail.")

    def expect_success(self, dag_id: str, run_id: str, **how: Any) -> None:
        """
        Wait for a run's good end.

        :param how: what to pass on to :meth:`AirflowApi.wait_for_run`.
        :raises RunFailed: with the end of the failed tasks' logs when it fails.
        """
        if self.airflow.api.wait_for_run(dag_id, run_id, **how) != "success":
            failures = self.airflow.api.failures(dag_id, run_id)
            raise RunFailed(f"The run {run_id} of {dag_id} failed.\n{failures}")

    def start_month(self, conf: dict[str, Any]) -> str:
        """Start a run of the monthly DAG, wait until its links can be paid, and return its id."""
        run_id = self.airflow.api.trigger(MONTHLY_OFFSET, conf | {"allow_test_mode": True})
        self.wait_for_links(run_id)
        return run_id

    def wait_for_links(self, run_id: str, dag_id: str = MONTHLY_OFFSET) -> None:
        """Wait until each purchase of a run waits for a person, or is over."""

        def offered() -> bool:
            tasks = self.airflow.api.task_instances(dag_id, run_id)
            states = [task["state"] for task in tasks if task["task_id"] == "purchase.payment"]
            return bool(states) and all(state in PARKED | OVER for state in states)

        wait_until(offered, what=f"the links of {run_id}", timeout=120)

    def links(self, run_id: str) -> list[dict[str, Any]]:
        """Return what a run of the monthly DAG offers for payment, one entry per link."""
        xcom = partial(self.airflow.api.xcom, MONTHLY_OFFSET, run_id)
        return [
            bought
            | {
                "cost_usd": f"{self.ledger.purchase(bought['purchase']).cost_usd:f}",
                "checkout": xcom("purchase.checkout", map_index=index),
            }
            for index, bought in enumerate(xcom("plan"))
        ]

    def listing(self) -> str:
        """Return a listing with a price of a dollar or more, and enough supply for every test."""
        prices = httpx.get(f"{self.sandbox.url}/prices", trust_env=False).json()
        return next(
            str(price["sourceId"])
            for price in prices
            if price["type"] == "listing" and price["liquidSupply"] > 500
            if price["purchasePrice"] > 1 and not price["listing"]["token"]["isExAnte"]
        )

    def checkouts_for(self, beneficiary: str) -> list[dict[str, Any]]:
        """Return the links that the sandbox made for a beneficiary."""
        made = self.sandbox.control("GET", "state")["checkouts"]
        return [checkout for checkout in made if checkout["metadata"]["beneficiary_name"] == beneficiary]

    def polls(self, payment_id: str) -> int:
        """Return how often the sandbox was asked for a payment, answered or not."""
        requests = self.sandbox.control("GET", "requests")
        return sum(request["path"] == f"/payments/{payment_id}" for request in requests)

    def retired(self, run_id: str) -> list[dict[str, Any]]:
        """Return what a finished run of the monthly DAG lists as retired, one entry per link."""
        return list(self.airflow.api.xcom(MONTHLY_OFFSET, run_id, "bought"))

    def report(self, period: str, folder: str) -> list[str]:
        """Have the report on a month or a year written; return where its pages are."""
        run_id = self.run(ESG_REPORT, {"period": period, "folder": folder})
        return list(self.airflow.api.xcom(ESG_REPORT, run_id, "report"))

    def start_confirmation(self, payment_id: str, checkout: dict[str, Any]) -> str:
        """Do what the page behind ``success_url`` does: start the wait for the retirement."""
        conf = {"payment_id": payment_id, "checkout": checkout, "allow_test_mode": True}
        return self.airflow.api.trigger(CONFIRM_RETIREMENT, conf)

    def retirement(self, run_id: str) -> dict[str, Any]:
        """Return what the finished wait proved."""
        return dict(self.airflow.api.xcom(CONFIRM_RETIREMENT, run_id, "retirement"))
