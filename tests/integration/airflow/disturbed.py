"""Purchases that are made one after the other while something happens to each of their tasks, every time one point later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_carbonmark.hooks.checkout import checkout_of
from airflow_provider_carbonmark.ledger.purchase import State
from tests.integration.airflow.model import Buyer, DagRun, paid, stated

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger import Ledger
    from airflow_provider_carbonmark.sandbox import SandboxServer

EACH = "0.01"


class Disturbed(Protocol):
    """
    Runs tasks of a run so that something happens to each at the point of a number.

    :ivar disturbed_at: where it happened, by task and point.
    """

    disturbed_at: list[str]

    def __call__(self, task_id: str, index: int = 0, **arguments: Any) -> Any:
        """Run a task, whatever happens to it, and return its result."""

    def park(self, index: int) -> None:
        """Run the task that awaits the payment, which parks."""


def buy_each(
    disturb: Callable[[DagRun, int], Disturbed],
    dag_run: DagRun,
    ledger: Ledger,
    buyer: Buyer,
    sandbox: SandboxServer,
    *,
    planned: int,
) -> tuple[int, Counter[str]]:
    """
    Plan purchases, and make one after the other until nothing happens to any of its tasks; each is bought once, and no other.

    :param disturb: gives what runs the tasks of a purchase, for the point of a number.
    :return: how many were bought, and how often something happened where.
    """
    dag_run.plan([stated(EACH, f"e{number:02}") for number in range(planned)])
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
    assert bought < planned, "there are more points than purchases"
    assert sum(bool(each.payment) for each in sandbox.state.checkouts.values()) == bought
    assert Counter(line.state for line in ledger.lines()) == {
        State.RETIRED: bought,
        State.PLANNED: planned - bought,
    }
    return bought, seen
