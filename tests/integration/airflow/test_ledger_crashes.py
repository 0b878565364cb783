"""A worker dies at any point of any task: the next try comes to the same end, and nothing is bought twice."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from decimal import Decimal
from itertools import count

import pytest

from airflow_provider_carbonmark.ledger.purchase import COVERING
from airflow_provider_carbonmark.operators.payment import PARKING
from tests.integration.airflow.disturbed import EACH, buy_each
from tests.integration.airflow.model import DagRun, stated
from tests.integration.airflow.parts import ledger_and_keys
from tests.integration.airflow.points import KillAt, Killed


class Mortal:
    """Runs tasks of a run so that each first try dies at the point of a number."""

    def __init__(self, run: DagRun, number: int) -> None:
        self.run = run
        self.number = number
        self.disturbed_at: list[str] = []

    def __call__(self, task_id: str, index: int = 0, **arguments):
        """Run a task until it gets through, and return its result."""
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


@ledger_and_keys
def test_each_purchase_is_made_once_wherever_its_workers_die(dag_run, ledger, buyer, sandbox, honoured):
    sandbox.state.change_switches(honour_idempotency_key=honoured)
    bought, seen = buy_each(Mortal, dag_run, ledger, buyer, sandbox, planned=60)
    for point in ("checkout: COMMIT", "checkout: POST /checkout answered", "record: done", "payment: COMMIT"):
        assert seen[point], seen
    if honoured:
        assert len(sandbox.state.checkouts) == bought


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
