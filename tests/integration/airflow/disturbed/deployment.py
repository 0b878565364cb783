"""A deployment for the stress test: a scheduler with worker processes that die, runs in parallel, and the people around it."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from random import Random
from typing import TYPE_CHECKING, Any

from airflow_provider_carbonmark.operators.payment import DECLINE, PAID
from tests.integration.airflow.disturbed.worker import AWAITING, FAILED, RETRY, SKIPPED, SUCCESS, Order, run
from tests.integration.airflow.model import (
    CHAIN,
    DAG_ID,
    FAILING_CARD,
    GOOD_CARD,
    SOMETHING_ELSE_CARD,
    Airflow,
    DagRun,
    answer,
    charge,
    stated,
)

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger import names

NEW, RUNNING = "new", "running"
TRIES = 3
SLOTS = 3
MOST_POINTS = 40
UNDER_WAY = {NEW, RUNNING, AWAITING}
POOLED = {"beneficiary_name": "Example Corp", "retirement_message": "Emissions of {months}"}

Month = str
Place = tuple[str, int]  # a step and a map index


@dataclass
class Task:
    """A task instance. ``event`` is what resumes it, if anything does."""

    key: names.Task
    state: str = NEW
    tries: int = 0
    event: dict[str, Any] | None = None


@dataclass
class Run:
    """A run of the DAG, for some months; with certificates for all together, or for each entity and month."""

    of: DagRun
    months: list[Month]
    pooled: bool = False
    tasks: dict[Place, Task] = field(default_factory=dict)

    def task(self, step: str, index: int = -1) -> Task:
        return self.tasks.setdefault((step, index), Task(self.of.task(step, index)))


@dataclass
class Slot:
    """A worker process at a task; a zombie's end doesn't count any more."""

    process: BaseProcess
    pipe: Connection
    task: Task
    is_zombie: bool = False


class Deployment:
    """
    :ivar emitted: by entity and month, as stated now, in billionths of a tonne.
    :ivar most: the highest figure that was ever stated.
    :ivar links: the checkout of each link that people were shown, by its address.
    :ivar paid: payment ids by the address of the link that was paid.
    :ivar late: addresses of links that were paid after they were declined.
    :ivar errors: what no task may end with.
    """

    def __init__(self, chance: Random, environment: dict[str, str], log: str) -> None:
        self.chance = chance
        self.airflow = Airflow()
        self.emitted: dict[tuple[str, Month], int] = {}
        self.most: dict[tuple[str, Month], int] = {}
        self.links: dict[str, dict[str, Any]] = {}
        self.paid: dict[str, str] = {}
        self.declined: set[str] = set()
        self.errors: list[str] = []
        self.count: Counter[str] = Counter()
        self.runs: list[Run] = []
        self._slots: list[Slot] = []
        self._environment = environment
        self._log = log
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(["tests.integration.airflow.disturbed.worker"])

    # --- the scheduler

    def start_run(self, months: list[Month], *, pooled: bool = False) -> Run:
        made = Run(DagRun(self.airflow, f"run-{len(self.runs)}"), months, pooled)
        made.task("plan")
        self.runs.append(made)
        self.count["run"] += 1
        return made

    def is_active(self, a_run: Run) -> bool:
        return self.airflow.runs[DAG_ID, a_run.of.run_id] == RUNNING

    def schedule(self, *, mortal: bool) -> bool:
        """Start a task in each free slot; tell whether anything is running."""
        ready = [task for a_run in self.runs if self.is_active(a_run) for task in self._ready(a_run)]
        self.chance.shuffle(ready)
        for task in ready[: max(0, SLOTS - len(self._slots))]:
            self._start(task, self.chance.randrange(MOST_POINTS) if mortal and self._hits(0.25) else None)
        return bool(self._slots)

    def _ready(self, a_run: Run) -> list[Task]:
        """Return what can start, and end the run when nothing is left."""
        plan = a_run.task("plan")
        if plan.state != SUCCESS:
            if plan.state == FAILED:
                a_run.of.end(FAILED)
            return [plan] if plan.state == NEW else []
        ready, open_tasks = [], 0
        for index in range(len(a_run.of.result("plan"))):
            before = SUCCESS
            for step in CHAIN:
                task = a_run.task(step, index)
                if task.state == NEW and before in (FAILED, SKIPPED):
                    task.state = before
                if before == SUCCESS and (task.state == NEW or (task.state == AWAITING and task.event)):
                    ready.append(task)
                open_tasks += task.state in UNDER_WAY
                before = task.state
        if not open_tasks:
            states = {task.state for task in a_run.tasks.values()}
            a_run.of.end(FAILED if FAILED in states else SUCCESS)
        return ready

    def _start(self, task: Task, kill_at: int | None) -> None:
        order = Order(
            task=task.key,
            arguments=self._arguments(task),
            environment=self._environment,
            log=self._log,
            event=task.event,
            kill_at=kill_at,
        )
        ours, theirs = self._processes.Pipe()
        process = self._processes.Process(target=run, args=(order, theirs), daemon=True)
        process.start()
        theirs.close()
        task.state, task.event = RUNNING, None
        task.tries += order.event is None
        self._slots.append(Slot(process, ours, task))
        self.count[task.key.task_id] += 1

    def _arguments(self, task: Task) -> dict[str, Any]:
        step = task.key.task_id
        a_run = next(each for each in self.runs if each.of.run_id == task.key.run.run_id)
        arguments = a_run.of.inputs(step, task.key.map_index)
        if step == "plan":
            emissions = [
                stated(f"{tonnes_of(milligrams):f}", entity, month)
                for (entity, month), milligrams in self.emitted.items()
                if month in a_run.months
            ]
            return {"emissions": emissions} | (POOLED if a_run.pooled else {})
        if step == "payment":
            self.links[arguments["checkout"]["checkout_url"]] = arguments["checkout"]
        return arguments

    def settle(self) -> None:
        """Serve the workers until one is done, if any is at work."""
        while self._slots:
            for pipe in wait([slot.pipe for slot in self._slots]):
                slot = next(each for each in self._slots if each.pipe is pipe)
                if self._serve(slot):
                    return

    def _serve(self, slot: Slot) -> bool:
        """Answer a worker once; tell whether it is gone."""
        try:
            name, arguments = slot.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.count["killed"] += 1
            self._over(slot, RETRY, "")
            return True
        if name == "over":
            self._over(slot, *arguments)
            return True
        reply = self.airflow.serve(name, *arguments)
        # One that is killed while it waits: the next look at its pipe says so.
        with suppress(BrokenPipeError, ConnectionResetError):
            slot.pipe.send(reply)
        return False

    def _over(self, slot: Slot, state: str, why: str) -> None:
        self._slots.remove(slot)
        slot.process.join()
        slot.pipe.close()
        if why and not is_expected(state, why):
            self.errors.append(f"{slot.task.key}: {state}\n{why}")
        task = slot.task
        if slot.is_zombie:
            return
        if state == RETRY:
            state = NEW if task.tries < TRIES else FAILED
            task.event = None
        task.state = state

    # --- what goes wrong

    def give_up(self) -> None:
        """Take a worker for dead that isn't: it goes on beside the next try."""
        if alive := [slot for slot in self._slots if not slot.is_zombie]:
            slot = self.chance.choice(alive)
            slot.is_zombie = True
            slot.task.state = NEW if slot.task.tries < TRIES else FAILED
            self.count["given up"] += 1

    def clear(self, a_run: Run, step: str, index: int = -1) -> None:
        """Clear a task and what follows it."""
        after = CHAIN if step == "plan" else CHAIN[CHAIN.index(step) :]
        cleared = [
            task
            for (its_step, its_index), task in a_run.tasks.items()
            if step == "plan" or (its_step in after and its_index == index)
        ]
        for task in cleared:
            self._kill(task)
            task.state, task.tries, task.event = NEW, 0, None
            self.airflow.requests.pop(task.key, None)
        a_run.of.go_on()
        self.count["clear"] += 1

    def clear_any(self) -> None:
        a_run = self.chance.choice(self.runs)
        self.clear(a_run, *self.chance.choice(list(a_run.tasks)))

    def end_any(self) -> None:
        """Mark a run as failed, whatever it is at."""
        a_run = self.chance.choice(self.runs)
        if self.is_active(a_run):
            for task in a_run.tasks.values():
                if task.state in UNDER_WAY:
                    self._kill(task)
                    task.state = FAILED
                    self.airflow.requests.pop(task.key, None)
            a_run.of.end(FAILED)
            self.count["ended"] += 1

    def _kill(self, task: Task) -> None:
        for slot in [each for each in self._slots if each.task is task]:
            slot.process.kill()
            slot.process.join()
            slot.pipe.close()
            self._slots.remove(slot)
            self.count["killed"] += 1

    # --- people

    def restate(self) -> None:
        key = self.chance.choice(list(self.emitted))
        self.state(*key, max(0, self.emitted[key] + self.chance.randint(-40_000_000, 60_000_000)))
        self.count["restated"] += 1

    def state(self, entity: str, month: Month, milligrams: int) -> None:
        self.emitted[entity, month] = milligrams
        self.most[entity, month] = max(milligrams, self.most.get((entity, month), 0))

    def respond(self, *, pays_all: bool = False) -> bool:
        """Answer a request that somebody sees; tell whether there was one."""
        waiting = [
            task
            for a_run in self.runs
            for task in a_run.tasks.values()
            if task.state == AWAITING and task.event is None
        ]
        if not waiting:
            return False
        task = self.chance.choice(waiting)
        checkout = self._arguments(task)["checkout"]
        url = checkout["checkout_url"]
        if not pays_all and self._hits(0.1):
            self._decline(task, url)
        elif not pays_all and self._hits(0.03) and self.paid:
            other = self.chance.choice(list(self.paid))
            if self.links[other]["beneficiary_name"] != checkout["beneficiary_name"]:
                task.event = answer(PAID, self.paid[other])
        else:
            cards = [GOOD_CARD] if pays_all else [GOOD_CARD] * 16 + [FAILING_CARD] * 3 + [SOMETHING_ELSE_CARD]
            payment_id = self._pay(url, self.chance.choice(cards))
            if payment_id is None:
                self._decline(task, url)
            elif self._hits(0.2):
                task.event = answer(PAID, payment_id)
            else:
                self._come_back(checkout, payment_id, verified=not self._hits(0.2))
        return True

    def pay_late(self) -> None:
        """Pay a link that was shown at some time, whatever became of it."""
        if unpaid := [url for url in self.links if url not in self.paid]:
            url = self.chance.choice(unpaid)
            if payment_id := self._pay(url, GOOD_CARD):
                self._come_back(self.links[url], payment_id, verified=not self._hits(0.2))
                self.count["paid late"] += 1

    def reload(self, payment_id: str) -> None:
        """Load the page once more that a buyer came back to."""
        url = next(url for url, paid in self.paid.items() if paid == payment_id)
        self._come_back(self.links[url], payment_id)

    def _decline(self, task: Task, url: str) -> None:
        task.event = answer(DECLINE)
        self.declined.add(url)
        self.count["declined"] += 1

    def _pay(self, url: str, card: str) -> str | None:
        """Pay a link, once; None when there is nothing left to sell."""
        if url not in self.paid:
            page = charge(url, card)
            if page.status_code == 409:
                return None
            assert page.status_code == 303, page.text
            self.paid[url] = page.headers["location"].rpartition("/")[2]
            self.count["paid"] += 1
        return self.paid[url]

    def _come_back(self, checkout: dict[str, Any], payment_id: str, *, verified: bool = True) -> None:
        keys = self.airflow.come_back(checkout, payment_id, verified=verified)
        for a_run in self.runs:
            for task in a_run.tasks.values():
                if task.key in keys:
                    task.event = answer(PAID, payment_id)

    def _hits(self, share: float) -> bool:
        return self.chance.random() < share

    def stop(self) -> None:
        for slot in list(self._slots):
            self._kill(slot.task)


EXPECTED = {
    SKIPPED: ("is declined", "is failed", "declined to pay", "handled by run"),
    FAILED: (
        "status of the retirement is 'FAILED'",
        "Something else was retired",
        "It is for something else",
        "left, and",  # sold out
        "can't get a link: Its run ended",
        "and can't be given up",  # taken for dead, and told late that the listing is sold out
    ),
}


def tonnes_of(milligrams: int) -> Decimal:
    return Decimal(milligrams).scaleb(-9)


def is_expected(state: str, why: str) -> bool:
    return any(text in why for text in EXPECTED.get(state, ()))
