"""A worker that was taken for dead goes on beside the next try: wherever one overtakes the other, both come to the same end."""

from __future__ import annotations

from collections import Counter
from itertools import count

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_carbonmark.offsets.ledger import State
from airflow_provider_carbonmark.operators.payment import PARKING
from tests.integration.airflow.model import paid, stated

MANY = 40
PARKED = "parked"


class OvertakeAt:
    """
    Calls a function at the point of a number, counting those at which another process can go on: where no lock is held.

    :ivar point: where it was called; None while it was not.
    """

    def __init__(self, number, overtake):
        self._left = number
        self._overtake = overtake
        self._last = ""
        self._holds_lock = False
        self.point = None

    def __call__(self, point):
        if self.point is not None:
            return
        if self._last == "COMMIT":
            self._holds_lock = False
        elif self._last in ("BEGIN", "INSERT", "UPDATE"):
            self._holds_lock = True
        self._last = point
        if self._holds_lock:
            return
        self._left -= 1
        if self._left < 0:
            self.point = point
            self._overtake()


class Overtaken:
    """Runs tasks of a run so that another try overtakes each at the point of a number."""

    def __init__(self, run, number):
        self.run = run
        self.number = number
        self.overtaken_at = []

    def __call__(self, task_id, index=0, **arguments):
        """Run two tries of a task, and the next if the slower was told to leave it to that; return what all of them return."""
        results = []

        def overtake():
            self.run.reach = lambda point: None
            results.append(self._try(task_id, index, **arguments))

        self.run.reach = reach = OvertakeAt(self.number, overtake)
        try:
            results.append(self._try(task_id, index, **arguments))
        except AirflowException as late:
            assert not isinstance(late, AirflowFailException), f"{task_id}, overtaken at {reach.point}: {late}"
            assert "another try meanwhile" in str(late)
            results.append(self._try(task_id, index, **arguments))
        finally:
            self.run.reach = lambda point: None
        if reach.point is not None:
            self.overtaken_at.append(f"{task_id}: {reach.point}")
        assert all(each == results[0] for each in results), f"{task_id}, overtaken at {reach.point}"
        return results[0]

    def _try(self, task_id, index, **arguments):
        try:
            result = self.run.run(task_id, index, **arguments)
        except PARKING:
            return PARKED
        # Each quote has a number of its own.
        return result | {"uuid": None} if task_id == "quote" else result


@pytest.mark.parametrize("keys_are_honoured", [True, False])
@pytest.mark.parametrize("has_store", ["state store", "no state store"], indirect=True)
def test_a_line_is_bought_once_wherever_one_try_overtakes_another(
    dag_run, airflow, ledger, buyer, sandbox, has_store, keys_are_honoured
):
    airflow.has_store = has_store
    sandbox.state.change_switches(honour_idempotency_key=keys_are_honoured)
    dag_run.plan([stated("0.01", f"e{number:02}") for number in range(MANY)])
    seen = Counter()
    for number in count():
        run = Overtaken(dag_run, number)
        run("quote", number)
        checkout = run("checkout", number)
        assert checkout == ledger.line(checkout["purchase_line"]).checkout
        assert run("payment", number) == PARKED
        payment_id = buyer.pay(checkout, knows_ledger=False)
        assert run("payment", number, event=paid) == payment_id
        run("retirement", number)
        recorded = run("record", number)
        assert (recorded["state"], recorded["payment_id"]) == ("retired", payment_id)
        seen.update(run.overtaken_at)
        if not run.overtaken_at:
            break
    assert number < MANY - 1, "there are more points than lines"
    for point in ("checkout: POST /checkout answered", "quote: POST /quotes asked", "record: done"):
        assert seen[point], seen
    assert sum(bool(each.payment) for each in sandbox.state.checkouts.values()) == number + 1
    assert Counter(line.state for line in ledger.lines()) == {
        State.RETIRED: number + 1,
        State.PLANNED: MANY - number - 1,
    }
