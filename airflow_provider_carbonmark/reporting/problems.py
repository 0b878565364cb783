"""What in a ledger's rows needs a person: money above all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from airflow_provider_carbonmark.api.inputs import QUANTITY_STEP
from airflow_provider_carbonmark.ledger.names import COVERING, State
from airflow_provider_carbonmark.ledger.values import EXACT
from airflow_provider_carbonmark.reporting.figures import to_offset, tonnes_in

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.purchase import PurchaseLine
    from airflow_provider_carbonmark.ledger.questions.open_ends import SecondPayment


@dataclass(frozen=True)
class Problem:
    """
    What needs a person.

    :param kind: ``paid_twice``, ``paid_not_retired``, ``over_covered``, ``failed`` or ``declined``.
    :param line: the line's number within entity and month; None where it is about all lines of the month.
    :param is_settled: whether there is nothing to do any more.
    """

    kind: str
    entity: str
    month: str
    line: int | None
    tonnes: Decimal
    what: str
    todo: str
    is_settled: bool = False

    @property
    def urgency(self) -> tuple[bool, int]:
        """What sorts problems: those that are settled last, those that cost money first."""
        kinds = ("paid_twice", "paid_not_retired", "over_covered", "failed", "declined")
        return self.is_settled, kinds.index(self.kind)


def problems_of(lines: Sequence[PurchaseLine]) -> Iterator[Problem]:
    """Find what needs a person about an entity and month in its rows, which are in the order of their numbers."""
    surplus = EXACT.subtract(tonnes_in(lines, *COVERING), to_offset(lines))
    # Less than can be bought at all may be the rounding of an older ledger.
    if surplus >= QUANTITY_STEP:
        yield _over_covered(lines, surplus)
    for line in lines:
        if line.state in (State.PAID_NOT_RETIRED, State.FAILED, State.DECLINED):
            yield _not_bought(line, is_covered=surplus >= 0)


def paid_twice(lines: Iterable[PurchaseLine], payments: Iterable[SecondPayment]) -> Iterator[Problem]:
    """Find the purchases of some rows that were paid a second time; each is told once, with its first row."""
    first: dict[int | None, PurchaseLine] = {}
    for line in lines:
        first.setdefault(line.purchase, line)
    for payment in payments:
        if (known := first.get(payment.purchase)) is not None:
            about = known.entity, known.month, known.line, known.quantity_tonnes
            yield Problem("paid_twice", *about, payment.what, payment.todo)


def _over_covered(lines: Sequence[PurchaseLine], surplus: Decimal) -> Problem:
    last = lines[-1]
    if tonnes_in(lines, State.PLANNED, State.LINK_MADE):
        todo = "Decline what is not paid yet and not needed; what is retired can't be undone."
    else:
        todo = "Check whether the emissions are right; what is paid or retired can't be undone."
    return Problem(
        kind="over_covered",
        entity=last.entity,
        month=last.month,
        line=None,
        tonnes=surplus,
        what=f"Bought or planned for more than the {to_offset(lines):f} t that were to be offset.",
        todo=todo,
    )


def _not_bought(line: PurchaseLine, *, is_covered: bool) -> Problem:
    is_paid = line.state is State.PAID_NOT_RETIRED
    if is_paid and is_covered:
        todo = f"{line.todo} Other lines cover the month."
    elif is_paid:
        todo = (
            f"{line.todo} Run {line.month} again: the tonnes are open, and what is missing is planned anew."
        )
    elif is_covered:
        todo = "Nothing: other lines cover the month."
    elif line.state is State.FAILED:
        todo = f"Run {line.month} again: nothing was paid, and what is missing is planned anew."
    else:
        todo = f"Run {line.month} again to plan it anew, or leave it open."
    return Problem(
        kind=str(line.state),
        entity=line.entity,
        month=line.month,
        line=line.line,
        tonnes=line.quantity_tonnes,
        what=line.reason or "No reason is recorded.",
        todo=todo,
        is_settled=is_covered and not is_paid,
    )
