"""A model of what Airflow keeps between tasks, of a worker that runs one, and of a run whose tasks keep the ledger."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import httpx
import pytest
from airflow.providers.common.compat.sdk import BaseOperator, TaskDeferred
from airflow.sdk.execution_time.context import OutletEventAccessors
from sqlalchemy import make_url

from airflow_provider_carbonmark.hooks.ledger import open_ledger
from airflow_provider_carbonmark.ledger.names import Run, Source, Task
from airflow_provider_carbonmark.operators.bought import CarbonmarkCheckBoughtOperator
from airflow_provider_carbonmark.operators.ledger import (
    CARBONMARK_RETIREMENTS,
    PLANNED_KEY,
    CarbonmarkCheckoutPurchaseOperator,
    CarbonmarkPlanOperator,
    CarbonmarkRecordRetirementOperator,
)
from airflow_provider_carbonmark.operators.payment import (
    DECLINE,
    KEEPS_FIRST_TEXT,
    PAID,
    PARKING,
    PAYMENT_KEY,
    CarbonmarkAwaitPaymentOperator,
)
from airflow_provider_carbonmark.sensors.carbonmark import CarbonmarkRetirementSensor
from airflow_provider_carbonmark.triggers.carbonmark import CarbonmarkRetirementTrigger
from tests.integration.airflow.parts import fire, stored
from tests.integration.airflow.points import Reach, watching

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger import Ledger

DAG_ID = "offset"
MONTH = "2026-10"
CHAIN = ("checkout", "payment", "retirement", "record")
RESULT = "return_value"
GOOD_CARD, FAILING_CARD, SOMETHING_ELSE_CARD = "4242424242424242", "4000000000001018", "4000000000001059"
SOLD_OUT_CARD = "4000000000001067"


class Airflow:
    """
    What outlives a worker.

    :ivar runs: states by DAG and run id.
    :ivar requests: what people are asked and have not answered, by task.
    :ivar events: what each asset event that was emitted carries.
    """

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str], str] = {}
        self.requests: dict[Task, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self._xcoms: defaultdict[Task, dict[str, str]] = defaultdict(dict)

    # --- what a worker may ask for

    def push(self, task: Task, key: str, value: Any) -> None:
        self._xcoms[task][key] = json.dumps(value)

    def pull(self, task: Task, key: str) -> Any:
        return json.loads(self._xcoms[task].get(key, "null"))

    def ask(self, task: Task, request: dict[str, Any]) -> None:
        if task not in self.requests or not KEEPS_FIRST_TEXT:
            self.requests[task] = request

    def show(self, task: Task, body: str) -> None:
        self.requests[task]["body"] = body

    def serve(self, name: str, *arguments: Any) -> Any:
        """Do what a worker asks for, by the name of the method."""
        return getattr(self, name)(*arguments)

    def count_runs(self, dag_id: str, run_ids: Collection[str], states: Collection[str]) -> int:
        return sum(self.runs.get((dag_id, run_id)) in states for run_id in run_ids)

    # --- what Airflow does itself

    def begin_try(self, task: Task) -> None:
        """Do what happens when a task starts: its XComs and its open request are gone."""
        self._xcoms.pop(task, None)
        self.requests.pop(task, None)

    def succeed(self, task: Task, value: Any, events: Sequence[dict[str, Any]]) -> None:
        self.push(task, RESULT, value)
        self.events += events

    # --- what browsers and people do

    def come_back(self, checkout: dict[str, Any], payment_id: str, *, verified: bool = True) -> list[Task]:
        """
        Do what the return URL does for a buyer who paid, and return which parked tasks it answers.

        :param verified: whether Carbonmark can be asked about the payment.
        """
        with open_ledger() as ledger:
            link = ledger.purchase(checkout["purchase"]).link
            assert link is not None
            ledger.bring(
                checkout["purchase"],
                link.number,
                payment_id,
                source=Source.RETURNED,
                verified=verified,
                now=datetime.now(UTC),
            )
            waiting = ledger.waiting(checkout["purchase"])
        return [task for task in waiting if task in self.requests]


def answer(option: str, payment_id: object = None) -> dict[str, Any]:
    """Return what Airflow hands to a task that a person, or the return URL, has answered."""
    return {
        "chosen_options": [option],
        "params_input": {PAYMENT_KEY: payment_id},
        "responded_at": datetime(2026, 11, 23, tzinfo=UTC),
        "responded_by_user": {"id": "7", "name": "ada"},
        "timedout": False,
    }


#: What the form sends where nothing was entered.
FIELD = {"value": None, "description": "Only if…", "schema": {"type": ["null", "string"]}}
paid = answer(PAID)
declined = answer(DECLINE, FIELD)


class Worker:
    """
    Runs one try of a task.

    :param send: asks Airflow for something by name, as a worker asks through a pipe.
    :param reach: told each point that the worker comes to.
    """

    def __init__(self, task: Task, send: Callable[..., Any], *, reach: Reach = lambda point: None) -> None:
        self.task = task
        self._send = send
        self._reach = reach

    def run(self, operator: BaseOperator, event: dict[str, Any] | None = None) -> Any:
        """Run the task to its end, or from where the event resumes it; raise what it raises."""
        if event is None:
            self.ask("begin_try")
        context = self._context()
        with self._asking_people(), watching(self._reach):
            if event is None:
                result = self._execute(operator, context)
            else:
                result = operator.execute_complete(context, event)  # type: ignore[attr-defined]
        self._reach("done")
        accessor = context["outlet_events"][CARBONMARK_RETIREMENTS]
        self.ask("succeed", result, [accessor.extra] if operator.outlets else [])
        with watching(self._reach):
            for callback in operator.on_success_callback:
                callback(context | {"task": operator})
        return result

    def ask(self, name: str, *arguments: Any) -> Any:
        self._reach(f"{name} asked")
        reply = self._send(name, self.task, *arguments)
        self._reach(f"{name} done")
        return reply

    def _execute(self, operator: BaseOperator, context: dict[str, Any]) -> Any:
        try:
            return operator.execute(context)  # type: ignore[arg-type]
        except TaskDeferred as deferred:
            if not isinstance(deferred.trigger, CarbonmarkRetirementTrigger):
                raise
            event = asyncio.run(fire(stored(deferred.trigger)))
            return operator.resume_execution(deferred.method_name, {"event": event}, context)

    def _context(self) -> dict[str, Any]:
        task = self.task
        ti = SimpleNamespace(
            dag_id=task.run.dag_id,
            run_id=task.run.run_id,
            task_id=task.task_id,
            map_index=task.map_index,
            id=task.key,
            start_date=datetime.now(UTC),
            get_first_reschedule_date=lambda context: None,
            xcom_push=lambda key, value: self.ask("push", key, value),
            get_dr_count=self._count_runs,
        )
        return {"ti": ti, "task_instance": ti, "outlet_events": OutletEventAccessors()}

    def _count_runs(self, dag_id: str, *, run_ids: list[str], states: list[str]) -> int:
        count: int = self._send("count_runs", dag_id, run_ids, states)
        return count

    @contextmanager
    def _asking_people(self) -> Iterator[None]:
        def upsert(*, ti_id: str, **request: Any) -> None:
            assert ti_id == self.task.key
            self.ask("ask", request)

        def show(ledger: object, purchase: object, task: Task, body: str) -> None:
            self.ask("show", body)

        with (
            patch("airflow.providers.standard.operators.hitl.upsert_hitl_detail", upsert),
            patch("airflow_provider_carbonmark.hooks.api_server.show_again", show),
        ):
            yield


def housekeeper(airflow: Airflow, task_id: str = "review") -> Worker:
    """Return a worker for a task of the housekeeping's DAG."""
    return Worker(Task(Run("carbonmark_housekeeping", "today"), task_id, -1), airflow.serve)


class DagRun:
    """A run of the DAG, whose tasks are run one by one, by whoever wants to: ``plan``, then ``CHAIN`` for each purchase."""

    def __init__(self, airflow: Airflow, run_id: str, *, reach: Reach = lambda point: None) -> None:
        self.airflow = airflow
        self.run_id = run_id
        self.reach = reach
        self.go_on()

    def go_on(self) -> None:
        self.airflow.runs[DAG_ID, self.run_id] = "running"

    def end(self, state: str = "failed") -> None:
        self.airflow.runs[DAG_ID, self.run_id] = state

    def run(self, task_id: str, index: int = 0, event: dict[str, Any] | None = None, **changes: Any) -> Any:
        """Run a task, with what those before it left as XComs, and return its result."""
        task = self.task(task_id, index)
        operator = make_operator(task_id, {**self.inputs(task_id, index, changes), **changes})
        return Worker(task, self.airflow.serve, reach=self.reach).run(operator, event)

    def task(self, task_id: str, index: int = 0) -> Task:
        return Task(Run(DAG_ID, self.run_id), task_id, -1 if task_id in ("plan", "bought") else index)

    def result(self, task_id: str, index: int = 0) -> Any:
        return self.airflow.pull(self.task(task_id, index), RESULT)

    def inputs(self, task_id: str, index: int = 0, given: Collection[str] = ()) -> dict[str, Any]:
        """Return what the tasks before it hand on to a task, but for what it is given otherwise."""
        if task_id == "checkout":
            return {} if "purchase" in given else {"purchase": self.result("plan")[index]}
        if task_id == "bought":
            return {"plan": self.airflow.pull(self.task("plan"), PLANNED_KEY)}
        names = {
            "payment": {"checkout": "checkout"},
            "retirement": {"payment_id": "payment", "checkout": "checkout"},
            "record": {"retirement": "retirement", "checkout": "checkout"},
        }
        return {name: self.result(source, index) for name, source in names.get(task_id, {}).items()}

    def park(self, index: int = 0, event: dict[str, Any] | None = None) -> None:
        """Run the task that awaits the payment, which parks."""
        with pytest.raises(PARKING):
            self.run("payment", index, event)
        assert self.task("payment", index) in self.airflow.requests

    def link(self, index: int = 0) -> dict[str, Any]:
        """Run the task that makes the link, and return the checkout."""
        checkout: dict[str, Any] = self.run("checkout", index)
        return checkout

    def plan(self, emissions: Any = "1.234", **changes: Any) -> list[dict[str, Any]]:
        """Plan, for the entity ``web`` unless told otherwise."""
        if isinstance(emissions, str):
            emissions = [stated(emissions)]
        purchases: list[dict[str, Any]] = self.run("plan", emissions=emissions, **changes)
        return purchases


def charge(url: str, card: str = GOOD_CARD) -> httpx.Response:
    """Fill in and send the form of a payment page."""
    return httpx.post(url, data={"card_number": card, "expiry": "12 / 34", "cvc": "123"}, timeout=60)


class Buyer:
    """Somebody with a card and a browser."""

    def __init__(self, airflow: Airflow) -> None:
        self.airflow = airflow

    def pay(
        self,
        checkout: dict[str, Any],
        card: str = GOOD_CARD,
        *,
        comes_back: bool = True,
        verified: bool = True,
    ) -> str:
        """Pay at the payment page, and return the payment's id."""
        answer = charge(checkout["checkout_url"], card)
        assert answer.status_code == 303, answer.text
        payment_id: str = answer.headers["location"].rpartition("/")[2]
        if comes_back:
            self.airflow.come_back(checkout, payment_id, verified=verified)
        return payment_id

    def buy(self, run: DagRun, index: int = 0) -> dict[str, Any]:
        """Take a purchase from its link to the record of its retirement."""
        self.pay(run.link(index))
        for step in ("payment", "retirement", "record"):
            result = run.run(step, index)
        recorded: dict[str, Any] = result
        return recorded


def ledger_environment(url: str) -> dict[str, str]:
    """Return what tells Airflow that the ledger is in a database, by name of the environment variable."""
    address = make_url(url)
    if address.get_backend_name() == "sqlite":
        return {"AIRFLOW__CARBONMARK__LEDGER_PATH": str(address.database)}
    connection = {
        "conn_type": "postgres",
        "host": address.host or address.query["host"],
        "login": address.username,
        "schema": address.database,
    }
    if address.get_backend_name() == "mysql":
        connection |= {"conn_type": "mysql", "extra": {"client": "pymysql", **address.query}}
    else:
        connection |= {"extra": {"sqlalchemy_query": {"options": address.query["options"]}}}
    return {"AIRFLOW__CARBONMARK__LEDGER_CONN_ID": "books", "AIRFLOW_CONN_BOOKS": json.dumps(connection)}


def states(ledger: Ledger) -> list[str]:
    """Return where each of the ledger's lines stands."""
    return [line.state.value for line in ledger.lines()]


def body(run: DagRun, index: int = 0) -> str:
    """Return what people are asked, without what only Markdown needs."""
    text: str = run.airflow.requests[run.task("payment", index)]["body"]
    return text.replace("\\", "")


def stated(tonnes: str, entity: str = "web", month: str = MONTH) -> dict[str, str]:
    return {"entity": entity, "month": month, "emitted_tonnes": tonnes}


def make_operator(task_id: str, arguments: dict[str, Any]) -> BaseOperator:
    """Return a task as ``task_groups.purchase`` puts it into a DAG."""
    kinds: dict[str, type[BaseOperator]] = {
        "plan": CarbonmarkPlanOperator,
        "checkout": CarbonmarkCheckoutPurchaseOperator,
        "payment": CarbonmarkAwaitPaymentOperator,
        "retirement": CarbonmarkRetirementSensor,
        "record": CarbonmarkRecordRetirementOperator,
        "bought": CarbonmarkCheckBoughtOperator,
    }
    usual: dict[str, dict[str, Any]] = {
        "plan": {
            "beneficiary_name": "Example Corp, {entity}",
            "retirement_message": "Emissions of {entity} in {month}: {emitted_tonnes} t CO2e",
        },
        "retirement": {"deferrable": True},
    }
    return kinds[task_id](task_id=task_id, **usual.get(task_id, {}) | arguments)
