"""A worker dies at any point of any task: the next try comes to the same end, and nothing is bought twice."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from decimal import Decimal
from itertools import count

import pytest

from airflow_provider_carbonmark.offsets.ledger import COVERING, State
from airflow_provider_carbonmark.operators.payment import PARKING
from tests.integration.airflow.model import DagRun, paid, stated
from tests.integration.airflow.points import KillAt, Killed

MANY = 60
EACH = "0.01"


class Mortal:
    """Runs tasks of a run so that each first try dies at the point of a number."""

    def __init__(self, run: DagRun, number: int) -> None:
        self.run = run
        self.number = number
        self.died_at: list[str] = []

    def __call__(self, task_id: str, index: int = 0, **arguments):
        """Run a task until it gets through, and return its result."""
        self.run.reach = kill = KillAt(self.number)
        try:
            return self.run.run(task_id, index, **arguments)
        except Killed:
            assert kill.point is not None
            self.died_at.append(f"{task_id}: {kill.point}")
        finally:
            self.run.reach = lambda point: None
        return self.run.run(task_id, index, **arguments)

    def park(self, index: int) -> None:
        with pytest.raises(PARKING):
            self("payment", index)


@pytest.mark.parametrize(
    ("url", "has_store", "keys_are_honoured"),
    [
        ("sqlite", "state store", True),
        ("sqlite", "no state store", False),
        ("postgresql", "state store", False),
        ("postgresql", "no state store", True),
    ],
    indirect=["url", "has_store"],
)
def test_a_line_is_bought_once_wherever_its_workers_die(
    dag_run, airflow, ledger, buyer, sandbox, has_store, keys_are_honoured
):
    airflow.has_store = has_store
    sandbox.state.change_switches(honour_idempotency_key=keys_are_honoured)
    dag_run.plan([stated(EACH, f"e{number:02}") for number in range(MANY)])
    seen = Counter()
    for number in count():
        run = Mortal(dag_run, number)
        run("quote", number)
        checkout = run("checkout", number)
        assert checkout == ledger.line(checkout["purchase_line"]).checkout
        run.park(number)
        # What the return URL could not tell the ledger is for the task to tell.
        payment_id = buyer.pay(checkout, knows_ledger=False)
        assert run("payment", number, event=paid) == payment_id
        run("retirement", number)
        recorded = run("record", number)
        assert (recorded["state"], recorded["payment_id"]) == ("retired", payment_id)
        seen.update(run.died_at)
        if not run.died_at:
            break
    assert number < MANY, "there are more points than lines"
    for point in ("checkout: COMMIT", "checkout: POST /checkout answered", "record: done", "payment: COMMIT"):
        assert seen[point], seen
    bought = [each for each in sandbox.state.checkouts.values() if each.payment]
    assert len(bought) == number + 1
    if keys_are_honoured:
        assert len(sandbox.state.checkouts) == number + 1
    assert Counter(line.state for line in ledger.lines()) == {
        State.RETIRED: number + 1,
        State.PLANNED: MANY - number - 1,
    }


@pytest.mark.parametrize("goes_on", ["the same run", "the next run"])
def test_what_is_missing_is_planned_once_wherever_the_planner_dies(airflow, ledger, goes_on):
    for number in count():
        month = f"{2000 + number}-01"
        emissions = [stated(EACH, entity, month) for entity in ("linked", "planned", "unseen")]
        first, second, third = (DagRun(airflow, f"{number}-{name}") for name in ("first", "second", "third"))
        first.plan(emissions[:2])
        first.run("quote", 0)
        first.run("checkout", 0)
        first.end()
        second.reach = kill = KillAt(number)
        with suppress(Killed):
            second.plan(emissions)
        second.reach = lambda point: None
        if goes_on == "the next run":
            second.end()
            second = third
        lines = second.plan(emissions)
        entities = ["planned", "unseen", "linked"]
        assert [line["entity"] for line in lines] == entities
        covering = ledger.lines(month=month, states=COVERING)
        assert Counter({line.entity: line.quantity_tonnes for line in covering}) == dict.fromkeys(
            entities, Decimal(EACH)
        )
        assert {line.handler.run_id for line in covering} == {second.run_id}
        if kill.point is None:
            break
