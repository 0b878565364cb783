"""A worker that was taken for dead goes on beside the next try: wherever one overtakes the other, both come to the same end."""

from __future__ import annotations

from collections import Counter
from itertools import count

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_carbonmark.ledger.purchase import State
from airflow_provider_carbonmark.operators.payment import PARKING
from tests.integration.airflow.disturbed import EACH, buy_each
from tests.integration.airflow.model import DagRun, declined, stated
from tests.integration.airflow.parts import ledger_and_keys
from tests.integration.airflow.points import OvertakeAt

MANY = 40
PARKED, SKIPPED = "parked", "skipped"


class Overtaken:
    """Runs tasks of a run so that another try overtakes each at the point of a number."""

    def __init__(self, run, number):
        self.run = run
        self.number = number
        self.disturbed_at = []

    def __call__(self, task_id, index=0, **arguments):
        """Run two tries of a task, and return what both of them come to."""
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

    def park(self, index):
        assert self("payment", index) == PARKED


@ledger_and_keys
def test_each_purchase_is_made_once_wherever_one_try_overtakes_another(
    dag_run, ledger, buyer, sandbox, honoured
):
    sandbox.state.change_switches(honour_idempotency_key=honoured)
    _, seen = buy_each(Overtaken, dag_run, ledger, buyer, sandbox, planned=MANY)
    for point in ("checkout: POST /checkout answered", "checkout: POST /quotes asked", "record: done"):
        assert seen[point], seen


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
