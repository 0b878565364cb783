"""Tasks as Airflow's database knows them, and the buyer's browser."""

from __future__ import annotations

import json
import uuid
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import airflow.sdk
import pytest
from airflow.models.dagrun import DagRun
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import delete, insert, inspect, select, text, update

with warnings.catch_warnings():
    # What Airflow's API warns of itself while it is being imported differs from version to version.
    warnings.simplefilter("ignore")
    import airflow_provider_carbonmark.web.buyers  # noqa: F401

from airflow_provider_carbonmark.operators.payment import DECLINE, PAID
from airflow_provider_carbonmark.web.link import LinkKey

if TYPE_CHECKING:
    import httpx

    from airflow_provider_carbonmark.sandbox import SandboxServer

HAS_STATE_STORE = hasattr(airflow.sdk, "NEVER_EXPIRE")
needs_state_store = pytest.mark.skipif(
    not HAS_STATE_STORE, reason="the task state store came with Airflow 3.3"
)
PARKED = "awaiting_input" if HAS_STATE_STORE else "deferred"
RUN = {"dag_id": "offset", "run_id": "scheduled__2026-08-21T00:00:00+00:00"}
GOOD_CARD = "4242 4242 4242 4242"


def forget_all() -> None:
    """Empty the tables that a run leaves rows in."""
    with create_session(scoped=False) as session:
        for model in (HITLDetail, XComModel, TaskInstance, DagRun):
            session.execute(delete(model))


def everything_in_the_database() -> dict[str, list[Any]]:
    """Return every row of every table."""
    with create_session(scoped=False) as session:
        tables = inspect(session.connection()).get_table_names()
        return {table: session.execute(text(f'SELECT * FROM "{table}"')).all() for table in tables}


class StateStore:
    """The task state store (3.3) as a worker reaches it, without the worker's pipe."""

    def __init__(self, task: Task) -> None:
        from airflow.state import TaskScope

        self._scope = TaskScope(**task.where)

    def get(self, key: str, default: Any = None) -> Any:
        from airflow.state import get_state_backend

        kept = get_state_backend().get(self._scope, key)
        return default if kept is None else json.loads(kept)

    def delete(self, key: str) -> None:
        from airflow.state import get_state_backend

        get_state_backend().delete(self._scope, key)

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        from airflow.state import get_state_backend

        get_state_backend().set(self._scope, key, json.dumps(value))


class Task:
    """A task instance in Airflow's database, and its run."""

    def __init__(self, task_id: str = "checkout", map_index: int = -1, run_id: str = RUN["run_id"]) -> None:
        self.where: dict[str, Any] = {
            "dag_id": RUN["dag_id"],
            "run_id": run_id,
            "task_id": task_id,
            "map_index": map_index,
        }
        self.id = uuid.uuid4()
        run = {"dag_id": RUN["dag_id"], "run_id": run_id}
        with create_session(scoped=False) as session:
            if session.scalar(select(DagRun.id).filter_by(**run)) is None:
                session.execute(
                    insert(DagRun).values(
                        run_type="manual", state="running", run_after=datetime.now(UTC), **run
                    )
                )
            # The older one's type is text.
            column = TaskInstance.__table__.c.id.type.python_type
            session.execute(
                insert(TaskInstance.__table__).values(
                    id=self.id if column is uuid.UUID else str(self.id),
                    pool="default_pool",
                    state="success",
                    try_number=1,
                    **self.where,
                )
            )

    @property
    def checkout(self) -> dict[str, Any]:
        checkout: dict[str, Any] = self.xcom("return_value")
        return checkout

    def context(self) -> dict[str, Any]:
        """Return what the task itself sees of Airflow when it runs."""
        ti = SimpleNamespace(**self.where, xcom_push=self.push)
        return {"ti": ti} | ({"task_state_store": StateStore(self)} if HAS_STATE_STORE else {})

    def finish(self, result: Any) -> None:
        self.push("return_value", result)

    def push(self, key: str, value: Any) -> None:
        """Write an XCom as Airflow's execution API does for a worker."""
        with create_session(scoped=False) as session:
            session.execute(delete(XComModel).filter_by(key=key, **self.where))
            run = session.scalar(
                select(DagRun.id).filter_by(dag_id=RUN["dag_id"], run_id=self.where["run_id"])
            )
            session.execute(insert(XComModel).values(dag_run_id=run, key=key, value=value, **self.where))

    def xcom(self, key: str) -> Any:
        """Return what the database holds, as it is."""
        with create_session(scoped=False) as session:
            return session.scalar(select(XComModel.value).filter_by(key=key, **self.where))

    def clear(self) -> None:
        """Do what Airflow does when the task runs again: its XComs go, its state store stays."""
        with create_session(scoped=False) as session:
            session.execute(delete(XComModel).filter_by(**self.where))

    def kept(self, key: str) -> Any:
        return StateStore(self).get(key)

    def record(self) -> dict[str, Any] | None:
        """Return the record of the payment, which is the same wherever it is kept."""
        recorded: dict[str, Any] | None = self.xcom("carbonmark_payment")
        assert self.xcom("payment_id") == (recorded and recorded["payment_id"])
        if HAS_STATE_STORE:
            assert self.kept("carbonmark_payment") == recorded
        return recorded

    def forget_payment(self) -> None:
        with create_session(scoped=False) as session:
            mine = delete(XComModel).filter_by(**self.where)
            session.execute(mine.where(XComModel.key.in_(("payment_id", "carbonmark_payment"))))
        if HAS_STATE_STORE:
            StateStore(self).delete("carbonmark_payment")

    def remove(self) -> None:
        with create_session(scoped=False) as session:
            session.execute(delete(TaskInstance).filter_by(**self.where))


class WaitingTask(Task):
    """
    A task that waits for the payment of a link, or is on its way to.

    :param link: the task that made the link.
    :param assigned: who may answer; everybody when empty.
    """

    def __init__(
        self,
        link: Task,
        *,
        map_index: int = -1,
        run_id: str = RUN["run_id"],
        assigned: list[dict[str, str]] | None = None,
    ) -> None:
        super().__init__("await", map_index, run_id)
        self._assigned = assigned
        self.push(LinkKey(**link.where).awaits_key, link.where)

    def ask(self) -> WaitingTask:
        ti_type = HITLDetail.__table__.c.ti_id.type.python_type
        with create_session(scoped=False) as session:
            session.execute(
                insert(HITLDetail).values(
                    ti_id=self.id if ti_type is uuid.UUID else str(self.id),
                    options=[PAID, DECLINE],
                    subject="Pay",
                    multiple=False,
                    params={"payment_id": {"value": None, "schema": {"type": ["null", "string"]}}},
                    assignees=self._assigned,
                    created_at=datetime.now(UTC),
                )
            )
        return self

    def park(self) -> WaitingTask:
        with create_session(scoped=False) as session:
            session.execute(
                update(TaskInstance.__table__)
                .filter_by(**self.where)
                .values(state=PARKED, next_method="execute_complete", next_kwargs={})
            )
        return self

    @property
    def answer(self) -> Any:
        """The answer to its request; None while nobody has answered."""
        names = (
            HITLDetail.responded_at,
            HITLDetail.chosen_options,
            HITLDetail.params_input,
            HITLDetail.responded_by,
        )
        of_task = (
            select(*names)
            .join(TaskInstance, TaskInstance.id == HITLDetail.ti_id)
            .where(*(getattr(TaskInstance, name) == value for name, value in self.where.items()))
        )
        with create_session(scoped=False) as session:
            row = session.execute(of_task).first()
        return (
            None if row is None or row[0] is None else SimpleNamespace(options=row[1], form=row[2], by=row[3])
        )

    @property
    def state(self) -> str | None:
        with create_session(scoped=False) as session:
            return session.scalar(select(TaskInstance.state).filter_by(**self.where))


@dataclass
class Buyer:
    """Somebody with a browser and a card."""

    browser: httpx.Client
    sandbox: SandboxServer

    def pay(self, link: Task, card: str = GOOD_CARD) -> str:
        """Pay, and return the address the buyer is then sent to, without going there."""
        form = {"card_number": card, "expiry": "12 / 34", "cvc": "123"}
        answer = self.browser.post(link.checkout["checkout_url"], data=form)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    def go(self, url: str, **headers: str) -> httpx.Response:
        return self.browser.get(url, headers=headers)

    def come_back(self, link: Task) -> tuple[str, httpx.Response]:
        """Pay and go where that leads: the payment id, and the page."""
        url = self.pay(link)
        return url.rpartition("/")[2], self.go(url)


def title(page: httpx.Response) -> str:
    """Return the headline of a page."""
    return page.text.partition("<h1>")[2].partition("</h1>")[0]
