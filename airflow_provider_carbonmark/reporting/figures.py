"""What an entity emitted in a month, what was retired for it, and what became of the figure; every amount is exact."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING

from airflow_provider_carbonmark.ledger.figures import Figures
from airflow_provider_carbonmark.ledger.names import Run, State
from airflow_provider_carbonmark.ledger.values import Origin, total

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.purchase import PurchaseLine

_ZERO = Decimal(0)


@dataclass(frozen=True)
class Emitted:
    """
    What an entity emitted in a month, as stated last.

    :param origin: where the figure is from; None where that is not known.
    """

    entity: str
    month: str
    tonnes: Decimal
    origin: Origin | None


@dataclass(frozen=True)
class Restatement:
    """
    A figure that was stated anew.

    :param old: where the old figure is from; with ``new``, None where that is not known.
    :param at: when it was stated.
    :param run: the run that did.
    """

    entity: str
    month: str
    old_tonnes: Decimal
    new_tonnes: Decimal
    old: Origin | None
    new: Origin | None
    at: datetime
    run: Run


def figures_of(lines: Sequence[PurchaseLine]) -> Figures:
    """
    Work out the figures of an entity and month.

    :param lines: its rows in the order of their numbers: the last one holds what was stated last.
    """
    retired, to_cover = tonnes_in(lines, State.RETIRED), to_offset(lines)
    covered = min(retired, to_cover)
    return Figures(
        emitted_tonnes=lines[-1].emitted_tonnes,
        retired_tonnes=retired,
        covered_tonnes=covered,
        open_tonnes=less(to_cover, covered),
        planned_tonnes=tonnes_in(lines, State.PLANNED),
        link_made_tonnes=tonnes_in(lines, State.LINK_MADE),
        paid_tonnes=tonnes_in(lines, State.PAID),
        cost_usd=total(line.cost_usd for line in lines if line.state is State.RETIRED),
        rounding_tonnes=total(line.rounding_tonnes for line in lines if line.state is State.RETIRED),
    )


def emitted_of(lines: Sequence[PurchaseLine]) -> Emitted:
    """Return what an entity emitted in a month, from the same rows."""
    last = lines[-1]
    # A figure may be written again without being read again.
    known = (line.origin for line in reversed(lines) if line.emitted_tonnes == last.emitted_tonnes)
    return Emitted(last.entity, last.month, last.emitted_tonnes, next(filter(None, known), None))


def restatements_of(lines: Sequence[PurchaseLine]) -> Iterator[Restatement]:
    """Find what was stated anew for an entity and month, in the same rows."""
    for old, new in pairwise(lines):
        if old.emitted_tonnes != new.emitted_tonnes:
            yield Restatement(
                entity=new.entity,
                month=new.month,
                old_tonnes=old.emitted_tonnes,
                new_tonnes=new.emitted_tonnes,
                old=old.origin,
                new=new.origin,
                at=new.planned_at,
                run=new.run,
            )


def to_offset(lines: Sequence[PurchaseLine]) -> Decimal:
    """Return the tonnes that are to be retired for an entity and month."""
    return max(_ZERO, lines[-1].emitted_tonnes)


def tonnes_in(lines: Iterable[PurchaseLine], *states: State) -> Decimal:
    """Add up what rows in some states are for."""
    return total(line.quantity_tonnes for line in lines if line.state in states)


def less(amount: Decimal, other: Decimal) -> Decimal:
    """Take one amount from another, to the last digit."""
    return total((amount, other.copy_negate()))
