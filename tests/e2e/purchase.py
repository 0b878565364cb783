"""One run of the test DAG ``await_payment``: a purchase from its link to its certificate."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import update

from airflow_provider_carbonmark.ledger.names import Source, State
from airflow_provider_carbonmark.ledger.tables.schema import links as link_rows
from tests.e2e.processes import wait_until

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.purchase import Purchase as Recorded
    from tests.e2e.stand import Stand

AWAIT_PAYMENT = "await_payment"


class Purchase:
    """
    A run of the test DAG, started when this is made.

    :param stand: what it runs on.
    :param conf: the run's conf, see the DAG.
    :param dag_id: which of its variants.
    """

    def __init__(self, stand: Stand, conf: dict[str, Any], dag_id: str = AWAIT_PAYMENT) -> None:
        self.stand = stand
        self.dag_id = dag_id
        self.beneficiary = str(conf["beneficiary_name"])
        self.run_id = stand.airflow.api.trigger(dag_id, conf)

    @property
    def subject(self) -> str:
        return f"Pay for 0.5 t CO2e, {self.beneficiary}"

    @property
    def link(self) -> str:
        """The address of the payment page."""
        return str(self.xcom("checkout")["checkout_url"])

    @property
    def pay_url(self) -> str:
        """The address at which it can be paid as long as it is open."""
        return str(self.xcom("checkout")["pay_url"])

    def expire(self) -> None:
        """Let its current link have come to its end, by the ledger's account."""
        ended = {"expires_at": datetime.now(UTC) - timedelta(minutes=1)}
        is_it = link_rows.c.current_of == self.recorded.id
        with self.stand.ledger.reading() as connection:
            assert connection is not None
            connection.execute(update(link_rows).where(is_it).values(ended))
            connection.commit()

    @property
    def recorded(self) -> Recorded:
        """What the ledger says of it."""
        return self.stand.ledger.purchase(self.xcom("checkout")["purchase"])

    def wait_until_parked(self) -> Purchase:
        self.stand.airflow.api.wait_until_parked(self.dag_id, self.run_id, "payment")
        return self

    def wait_until_asked(self) -> None:
        """Wait until the request is made, whether or not the task is parked yet."""
        api = self.stand.airflow.api
        wait_until(lambda: api.requests(self.dag_id, self.run_id), what="the request", timeout=180)

    def wait_until_asked_again(self) -> None:
        """Wait until the request, once answered, is open again."""

        def is_open() -> bool:
            (request,) = self.stand.airflow.api.requests(self.dag_id, self.run_id)
            return not request["response_received"]

        wait_until(is_open, what="the request to be open again", timeout=60)
        self.wait_until_parked()

    def wait_until(self, task_id: str, state: str) -> None:
        self.stand.airflow.api.wait_for_task(self.dag_id, self.run_id, task_id, state=state)

    def wait_for_try(self, task_id: str, number: int) -> None:
        wait_until(
            lambda: self.task(task_id)["try_number"] >= number,
            what=f"try {number} of {task_id}",
            timeout=120,
        )

    def task(self, task_id: str) -> dict[str, Any]:
        found = self.stand.airflow.api.task_instance(self.dag_id, self.run_id, task_id)
        assert found is not None
        return found

    def clear(self, task_id: str, *, downstream: bool = True) -> None:
        self.stand.airflow.api.clear(self.dag_id, self.run_id, task_id, downstream=downstream)

    def clear_all(self) -> None:
        """Make Airflow run the whole run again."""
        self.stand.airflow.api.post(f"dags/{self.dag_id}/dagRuns/{self.run_id}/clear", {"dry_run": False})

    def answer(self, option: str, **form: Any) -> None:
        self.stand.airflow.api.answer(self.dag_id, self.run_id, "payment", option, **form)

    def answer_parked(self, answer: Callable[[], None]) -> None:
        """Answer the request, and wait until the task is over."""
        self.stand.airflow.answer_parked(answer, self.dag_id, self.run_id, "payment")

    def xcom(self, task_id: str) -> Any:
        return self.stand.airflow.api.xcom(self.dag_id, self.run_id, task_id)

    def log(self, task_id: str) -> str:
        return self.stand.airflow.api.log(self.dag_id, self.run_id, self.task(task_id))

    def expect_failure(self) -> None:
        self.stand.expect_failure(self.dag_id, self.run_id)

    def expect_certificate(self, source: Source = Source.RETURNED, *, links: int = 1) -> str:
        """Wait for the run's good end, and check that there are so many links, and one payment, which came like this and is retired."""
        self.stand.expect_success(self.dag_id, self.run_id)
        assert len(self.checkouts()) == links
        (paid,) = self.payments()
        retirement = self.xcom("retirement")
        assert self.xcom("payment") == retirement["payment_id"] == paid
        assert retirement["beneficiary_name"] == self.beneficiary
        assert retirement["certificate_url"]
        recorded = self.recorded
        assert (recorded.state, recorded.payment_id) == (State.RETIRED, paid)
        (brought,) = self.stand.ledger.payments(recorded.id)
        assert (brought.payment_id, brought.source) == (paid, source)
        return paid

    def checkouts(self) -> list[dict[str, Any]]:
        """Return the links that the sandbox made for this purchase."""
        return self.stand.checkouts_for(self.beneficiary)

    def payments(self) -> list[str]:
        """Return the payments that the sandbox took for this purchase."""
        return [checkout["payment_id"] for checkout in self.checkouts() if checkout["is_paid"]]
