"""
A worker dies, or one that was taken for dead goes on beside the next try, at any point of any task: both come to the same end.

Purchases are made one after the other while something happens to each of their tasks, every time one point later.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from contextlib import suppress
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_carbonmark.hooks.checkout import checkout_of
from airflow_provider_carbonmark.ledger.names import COVERING, State
from airflow_provider_carbonmark.operators.payment import PARKING
from tests.integration.airflow.model import Buyer, DagRun, declined, paid, stated
from tests.integration.airflow.parts import each_database, ledger_and_keys
from tests.integration.airflow.points import KillAt, Killed, OvertakeAt

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger import Ledger
    from airflow_provider_carbonmark.sandbox import SandboxServer

EACH = "0.01"
MANY = 60
PARKED, SKIPPED = "parked", "skipped"


class Disturbed(ABC):
    """
    Runs tasks of a run so that something happens to each at the point of a number.

    :ivar disturbed_at: where it happened, by task and point.
    """

    def __init__(self, run: DagRun, number: int) -> None:
        self.run = run
        self.number = number
        self.disturbed_at: list[str] = []

    @abstractmethod
    def __call__(self, task_id: str, index: int = 0, **arguments: Any) -> Any:
        """Run a task, whatever happens to it, and return its result."""

    @abstractmethod
    def park(self, index: int) -> None:
        """Run the task that awaits the payment, which parks."""


def buy_each(
    disturb: type[Disturbed],
    dag_run: DagRun,
    ledger: Ledger,
    buyer: Buyer,
    sandbox: SandboxServer,
) -> tuple[int, Counter[str]]:
    """
    Plan purchases, and make one after the other until nothing happens to any of its tasks; each is bought once, and no other.

    :param disturb: what runs the tasks of a purchase.
    :return: how many were bought, and how often something happened where.
    """
    dag_run.plan([stated(EACH, f"e{number:02}") for number in range(MANY)])
    seen: Counter[str] = Counter()
    for number in count():
        run = disturb(dag_run, number)
        checkout = run("checkout", number)
        assert checkout == checkout_of(ledger, ledger.purchase(checkout["purchase"]))
        run.park(number)
        # What the return URL could not ask about is for the task to ask about.
        payment_id = buyer.pay(checkout, verified=False)
        assert run("payment", number, event=paid) == payment_id
        run("retirement", number)
        recorded = run("record", number)
        assert (recorded["state"], recorded["payment_id"]) == ("retired", payment_id)
        seen.update(run.disturbed_at)
        if not run.disturbed_at:
            break
    bought = number + 1
    assert bought < MANY, "there are more points than purchases"
    assert sum(bool(each.payment) for each in sandbox.state.checkouts.values()) == bought
    assert Counter(line.state for line in ledger.lines()) == {
        State.RETIRED: bought,
        State.PLANNED: MANY - bought,
    }
    return bought, seen


class Mortal(Disturbed):
    """Each first try dies there."""

    def __call__(self, task_id: str, index: int = 0, **arguments: Any) -> Any:
        self.run.reach = kill = KillAt(self.number)
        try:
            return self.run.run(task_id, index, **arguments)
        except Killed:
            assert kill.point is not None
            self.disturbed_at.append(f"{task_id}: {kill.point}")
        finally:
            self.run.reach = lambda point: None
        return self.run.run(task_id, index, **arguments)

    def park(self, index: int) -> None:
        with pytest.raises(PARKING):
            self("payment", index)


class Overtaken(Disturbed):
    """Another try overtakes each there; both come to the same, which may be that they park or are skipped."""

    def __call__(self, task_id: str, index: int = 0, **arguments: Any) -> Any:
        ends = []

        def overtake():
            self.run.reach = lambda point: None
            ends.append(self._try(task_id, index, **arguments))

        self.run.reach = reach = OvertakeAt(self.number, overtake)
        ends.append(self._try(task_id, index, **arguments))
        self.run.reach = lambda point: None
        assert all(end == ends[0] for end in ends), f"{task_id}, overtaken at {reach.point}: {ends}"
        if reach.point is not None:
            self.disturbed_at.append(f"{task_id}: {reach.point}")
        return ends[0]

    def _try(self, task_id, index, **arguments):
        try:
            return self.run.run(task_id, index, **arguments)
        except PARKING:
            return PARKED
        except AirflowSkipException:
            return SKIPPED

    def park(self, index: int) -> None:
        assert self("payment", index) == PARKED


@ledger_and_keys
def test_each_purchase_is_made_once_wherever_its_workers_die(dag_run, ledger, buyer, sandbox, honoured):
    sandbox.state.change_switches(honour_idempotency_key=honoured)
    bought, seen = buy_each(Mortal, dag_run, ledger, buyer, sandbox)
    for point in ("checkout: COMMIT", "checkout: POST /checkout answered", "record: done", "payment: COMMIT"):
        assert seen[point], seen
    if honoured:
        assert len(sandbox.state.checkouts) == bought


@each_database
@pytest.mark.parametrize("goes_on", ["the same run", "the next run"])
def test_what_is_missing_is_planned_once_wherever_the_planner_dies(airflow, ledger, goes_on):
    for number in count():
        month = f"{2000 + number}-01"
        emissions = [stated(EACH, entity, month) for entity in ("linked", "planned", "unseen")]
        first, second, third = (DagRun(airflow, f"{number}-{name}") for name in ("first", "second", "third"))
        first.plan(emissions[:2])
        first.run("checkout", 0)
        first.end()
        second.reach = kill = KillAt(number)
        with suppress(Killed):
            second.plan(emissions)
        second.reach = lambda point: None
        if goes_on == "the next run":
            second.end()
            second = third
        purchases = second.plan(emissions)
        entities = ["planned", "unseen", "linked"]
        assert [each["entity"] for each in purchases] == entities
        covering = ledger.lines(month=month, states=COVERING)
        assert Counter({line.entity: line.quantity_tonnes for line in covering}) == dict.fromkeys(
            entities, Decimal(EACH)
        )
        assert {line.handler.run_id for line in covering} == {second.run_id}
        if kill.point is None:
            break


@ledger_and_keys
def test_each_purchase_is_made_once_wherever_one_try_overtakes_another(
    dag_run, ledger, buyer, sandbox, honoured
):
    sandbox.state.change_switches(honour_idempotency_key=honoured)
    _, seen = buy_each(Overtaken, dag_run, ledger, buyer, sandbox)
    for point in ("checkout: POST /checkout answered", "checkout: POST /quotes asked", "record: done"):
        assert seen[point], seen


@each_database
def test_a_purchase_is_declined_once_wherever_one_try_overtakes_another(dag_run, ledger):
    dag_run.plan([stated(EACH, f"e{number:02}") for number in range(MANY)])
    for number in count():
        run = Overtaken(dag_run, number)
        dag_run.link(number)
        dag_run.park(number)
        assert run("payment", number, event=declined) == SKIPPED
        if not run.disturbed_at:
            break
    assert 3 < number < MANY - 1
    assert Counter(line.state for line in ledger.lines()) == {
        State.DECLINED: number + 1,
        State.PLANNED: MANY - number - 1,
    }


@each_database
def test_what_is_missing_is_planned_once_wherever_one_try_overtakes_another(airflow, ledger):
    for number in count():
        month = f"{2000 + number}-01"
        emissions = [stated(EACH, entity, month) for entity in ("linked", "planned", "unseen")]
        first, second = DagRun(airflow, f"{number}-first"), DagRun(airflow, f"{number}-second")
        first.plan(emissions[:2])
        first.link(0)
        first.end()
        run = Overtaken(second, number)
        purchases = run("plan", emissions=emissions)
        assert [each["entity"] for each in purchases] == ["planned", "unseen", "linked"]
        assert {line.state for line in ledger.lines(month=month)} == {
            State.FAILED,
            State.PLANNED,
            State.LINK_MADE,
        }
        assert len(ledger.lines(month=month)) == 4
        if not run.disturbed_at:
            break
    assert number > 3
