"""The figures of a report, and what in them needs a person. Every amount is exact."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from decimal import ROUND_CEILING, ROUND_HALF_UP, Context, Decimal, Inexact
from functools import reduce
from typing import Self

from airflow_provider_carbonmark.offsets.ledger_schema import COVERING, PurchaseLine, State

_STEP = Decimal("0.001")  # the smallest quantity that is retired, 1 kg (doc)
_CENT = Decimal("0.01")
_ZERO = Decimal(0)
_EXACT = Context(prec=60, traps=[Inexact])
_ROUNDED = Context(prec=60)
# Credits of this registry (Puro) retire in whole tonnes only (doc), so that a little more than needed is bought.
_WHOLE_TONNES_REGISTRY = "PUR"


@dataclass(frozen=True)
class Figures:
    """
    The figures of an entity, of a month, or of everything: tonnes of CO₂e, and USD.

    :param emitted_tonnes: as stated last for each entity and month.
    :param retired_tonnes: what was retired for it.
    :param open_tonnes: emitted, rounded up to 0.001 t, less retired, for each entity and month: a surplus of one is not taken
        for another.
    :param planned_tonnes: in lines without a link to pay.
    :param link_made_tonnes: in lines with a link that nobody has paid.
    :param paid_tonnes: paid, and not retired yet.
    :param cost_usd: cost of what was retired, fees included.
    """

    emitted_tonnes: Decimal = _ZERO
    retired_tonnes: Decimal = _ZERO
    open_tonnes: Decimal = _ZERO
    planned_tonnes: Decimal = _ZERO
    link_made_tonnes: Decimal = _ZERO
    paid_tonnes: Decimal = _ZERO
    cost_usd: Decimal = _ZERO

    def __add__(self, other: Self) -> Self:
        names = [field.name for field in fields(self)]
        return type(self)(*(_EXACT.add(getattr(self, name), getattr(other, name)) for name in names))

    @property
    def coverage_percent(self) -> Decimal | None:
        """Retired in per cent of emitted, rounded down to 0.1; None where nothing was emitted."""
        if self.emitted_tonnes <= 0:
            return None
        per_mille = _EXACT.divide_int(
            _EXACT.multiply(self.retired_tonnes, Decimal(1000)), self.emitted_tonnes
        )
        return per_mille.scaleb(-1, _EXACT)

    @property
    def price_per_tonne_usd(self) -> Decimal | None:
        """USD per retired tonne, rounded to the cent; None where nothing was retired."""
        if not self.retired_tonnes:
            return None
        return _ROUNDED.divide(self.cost_usd, self.retired_tonnes).quantize(_CENT, ROUND_HALF_UP, _ROUNDED)


@dataclass(frozen=True)
class Problem:
    """
    What needs a person.

    :param kind: ``failed_after_payment``, ``over_covered``, ``failed`` or ``declined``.
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
        kinds = ("failed_after_payment", "over_covered", "failed", "declined")
        return self.is_settled, kinds.index(self.kind)


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
    )


def problems_of(lines: Sequence[PurchaseLine]) -> Iterator[Problem]:
    """
    Find what needs a person about an entity and month.

    :param lines: its rows in the order of their numbers.
    """
    surplus = _EXACT.subtract(_tonnes(lines, *COVERING), _to_offset(lines))
    is_rounded_up = any(line.registry == _WHOLE_TONNES_REGISTRY for line in lines if line.state in COVERING)
    if surplus >= 1 or (surplus > 0 and not is_rounded_up):
        yield _over_covered(lines, surplus)
    for line in lines:
        if line.state in (State.FAILED, State.DECLINED):
            yield _not_bought(line, is_covered=surplus >= 0)


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
    kind, settled = str(line.state), is_covered
    if line.state is State.FAILED and line.payment_id:
        kind, settled = "failed_after_payment", False
        todo = f"Ask Carbonmark for the retirement or the money: payment {line.payment_id}."
    elif is_covered:
        todo = "Nothing: other lines cover the month."
    elif line.state is State.FAILED:
        todo = f"Run {line.month} again: nothing was paid, and what is missing is planned anew."
    else:
        todo = f"Run {line.month} again to plan it anew, or leave it open."
    return Problem(
        kind=kind,
        entity=line.entity,
        month=line.month,
        line=line.line,
        tonnes=line.quantity_tonnes,
        what=line.reason or "No reason is recorded.",
        todo=todo,
        is_settled=settled,
    )


def _to_offset(lines: Sequence[PurchaseLine]) -> Decimal:
    """Return the tonnes that are to be retired for an entity and month."""
    return max(_ZERO, lines[-1].emitted_tonnes).quantize(_STEP, ROUND_CEILING, _ROUNDED)


def _tonnes(lines: Sequence[PurchaseLine], *states: State) -> Decimal:
    return _total(line.quantity_tonnes for line in lines if line.state in states)


def _total(amounts: Iterable[Decimal]) -> Decimal:
    return reduce(_EXACT.add, amounts, _ZERO)
