"""What an entity emitted in a month, what was retired for it, and what became of the figure; every amount is exact."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING

from airflow_provider_carbonmark.ledger.figures import Figures
from airflow_provider_carbonmark.ledger.names import State
from airflow_provider_carbonmark.ledger.values import EXACT, total

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.purchase import PurchaseLine

_ZERO = Decimal(0)


def figures_of(lines: Sequence[PurchaseLine]) -> Figures:
    """Work out the figures of an entity and month from its rows in the order of their numbers: the last holds what was stated last."""
    retired, to_cover = tonnes_in(lines, State.RETIRED), to_offset(lines)
    covered = min(retired, to_cover)
    return Figures(
        emitted_tonnes=lines[-1].emitted_tonnes,
        retired_tonnes=retired,
        covered_tonnes=covered,
        open_tonnes=EXACT.subtract(to_cover, covered),
        planned_tonnes=tonnes_in(lines, State.PLANNED),
        link_made_tonnes=tonnes_in(lines, State.LINK_MADE),
        paid_tonnes=tonnes_in(lines, State.PAID),
        cost_usd=total(line.cost_usd for line in lines if line.state is State.RETIRED),
        rounding_tonnes=total(line.rounding_tonnes for line in lines if line.state is State.RETIRED),
    )


def emitted_of(lines: Sequence[PurchaseLine]) -> PurchaseLine:
    """Return the last of the same rows, with where its figure is from, as far as that is known."""
    last = lines[-1]
    # A figure may be written again without being read again.
    known = (line.origin for line in reversed(lines) if line.emitted_tonnes == last.emitted_tonnes)
    origin = next(filter(None, known), None)
    return last if last.origin is origin else replace(last, origin=origin)


def restatements_of(lines: Sequence[PurchaseLine]) -> Iterator[tuple[PurchaseLine, PurchaseLine]]:
    """Find the same rows' figures that were stated anew: the row with the old one, and that with the new one."""
    return ((old, new) for old, new in pairwise(lines) if old.emitted_tonnes != new.emitted_tonnes)


def to_offset(lines: Sequence[PurchaseLine]) -> Decimal:
    """Return the tonnes that are to be retired for an entity and month."""
    return max(_ZERO, lines[-1].emitted_tonnes)


def tonnes_in(lines: Iterable[PurchaseLine], *states: State) -> Decimal:
    """Add up what rows in some states are for."""
    return total(line.quantity_tonnes for line in lines if line.state in states)
