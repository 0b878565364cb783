"""A report's figures from the ledger's rows, and what in them needs a person. Every amount is exact."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal, Inexact
from functools import reduce
from typing import TYPE_CHECKING

from airflow_provider_carbonmark.api.inputs import QUANTITY_STEP
from airflow_provider_carbonmark.ledger.figures import Figures
from airflow_provider_carbonmark.ledger.purchase import COVERING, PurchaseLine, State

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.open_ends import SecondPayment

_ZERO = Decimal(0)
_EXACT = Context(prec=60, traps=[Inexact])


@dataclass(frozen=True)
class Problem:
    """
    What needs a person.

    :param kind: ``paid_twice``, ``paid_not_retired``, ``over_covered``, ``failed`` or ``declined``.
    :param entity: whose.
    :param month: of which month.
    :param line: the line's number within entity and month; None where it is about all lines of the month.
    :param tonnes: tonnes that it is about.
    :param what: what happened.
    :param todo: what to do about it.
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


@dataclass(frozen=True)
class Content:
    """
    What there is to say of a month or a year.

    :param period: ``YYYY-MM`` or ``YYYY``.
    :param totals: all months and entities together.
    :param months: the figures of each month that has rows.
    :param entities: the figures of each entity that has rows.
    :param problems: what needs a person, the most urgent first.
    :param lines: the ledger's rows, by month, entity and line.
    :param test_lines: the rows in test mode, likewise. They are in no figure.
    :param pay_urls: where purchases that wait can be paid, by number.
    """

    period: str
    totals: Figures
    months: dict[str, Figures]
    entities: dict[str, Figures]
    problems: tuple[Problem, ...]
    lines: tuple[PurchaseLine, ...]
    test_lines: tuple[PurchaseLine, ...]
    pay_urls: Mapping[int, str] = field(default_factory=dict)


def figures_of(lines: Sequence[PurchaseLine]) -> Figures:
    """
    Work out the figures of an entity and month.

    :param lines: its rows in the order of their numbers: the last one holds what was stated last.
    """
    retired = _tonnes(lines, State.RETIRED)
    return Figures(
        emitted_tonnes=lines[-1].emitted_tonnes,
        retired_tonnes=retired,
        open_tonnes=max(_ZERO, _EXACT.subtract(_to_offset(lines), retired)),
        planned_tonnes=_tonnes(lines, State.PLANNED),
        link_made_tonnes=_tonnes(lines, State.LINK_MADE),
        paid_tonnes=_tonnes(lines, State.PAID),
        cost_usd=_total(line.cost_usd for line in lines if line.state is State.RETIRED),
        rounding_tonnes=_total(line.rounding_tonnes for line in lines if line.state is State.RETIRED),
    )


def problems_of(lines: Sequence[PurchaseLine]) -> Iterator[Problem]:
    """
    Find what needs a person about an entity and month.

    :param lines: its rows in the order of their numbers.
    """
    surplus = _EXACT.subtract(_tonnes(lines, *COVERING), _to_offset(lines))
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
            todo = "Ask Carbonmark for the second payment's money back."
            yield Problem(
                "paid_twice", known.entity, known.month, known.line, known.quantity_tonnes, payment.what, todo
            )


def _over_covered(lines: Sequence[PurchaseLine], surplus: Decimal) -> Problem:
    last = lines[-1]
    if _tonnes(lines, State.PLANNED, State.LINK_MADE):
        todo = "Decline what is not paid yet and not needed; what is retired can't be undone."
    else:
        todo = "Check whether the emissions are right; what is paid or retired can't be undone."
    return Problem(
        kind="over_covered",
        entity=last.entity,
        month=last.month,
        line=None,
        tonnes=surplus,
        what=f"Bought or planned for more than the {_to_offset(lines):f} t that were to be offset.",
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


def _to_offset(lines: Sequence[PurchaseLine]) -> Decimal:
    """Return the tonnes that are to be retired for an entity and month."""
    return max(_ZERO, lines[-1].emitted_tonnes)


def _tonnes(lines: Sequence[PurchaseLine], *states: State) -> Decimal:
    return _total(line.quantity_tonnes for line in lines if line.state in states)


def _total(amounts: Iterable[Decimal]) -> Decimal:
    return reduce(_EXACT.add, amounts, _ZERO)
