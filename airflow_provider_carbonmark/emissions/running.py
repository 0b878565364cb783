"""Running totals: what the total of each run grew by within a month, from rows in any order."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from airflow_provider_carbonmark.emissions.errors import EmissionsError, shown
from airflow_provider_carbonmark.emissions.units import TONNES

if TYPE_CHECKING:
    from airflow_provider_carbonmark.emissions.periods import Moment

#: A row counts for one of these: an entity, by one version of the model.
Owner = tuple[str, str]
#: Whether it is within the month, the time in seconds, and the total in tonnes: so totals sort by time, those of one moment by size.
_Point = tuple[bool, float, Decimal]

_POINTS_KEPT: Final = 20_000
#: The parts of a total are floats, too, and their sum may be above it by a rounding error.
_ROUNDING = Decimal("1.000000001")
_EPOCH = datetime.datetime(1970, 1, 1)
_EPOCH_UTC = _EPOCH.replace(tzinfo=datetime.UTC)


@dataclass(slots=True)
class Run:
    """
    What is known of a run.

    :param owner: whose its rows are.
    :param has_zone: whether its times have a time zone.
    :param points: its totals, those that are dropped left out.
    :param sealed: between which two of them there were others.
    :param parts_before: tonnes of parts of the total before the month; ``parts_within`` likewise within it.
    :param is_within: whether it has a row within the month.
    """

    owner: Owner
    has_zone: bool
    points: list[_Point] = field(default_factory=list)
    sealed: tuple[_Point, _Point] | None = None
    parts_before: Decimal = Decimal(0)
    parts_within: Decimal = Decimal(0)
    is_within: bool = False


class RunningTotals:
    """
    The totals of runs up to the end of a month, ``YYYY-MM``.

    All points are kept until there are 20,000 of all runs. Then those in the middle of each run are checked and dropped, so that
    memory grows with the number of runs only; a row that comes later and belongs among those is refused.
    """

    def __init__(self, column: str, month: str) -> None:
        self._column = column
        self._month = month
        self._runs: dict[tuple[str, str], Run] = {}
        self._doubts: dict[str, EmissionsError] = {}
        self._points = 0
        self._limit = _POINTS_KEPT

    def doubt(self, name: str, error: EmissionsError) -> None:
        """Note why a run can't be trusted, which matters only if it has rows within the month."""
        self._doubts.setdefault(name, error)

    def run_of(
        self, name: str, amount: str, owner: Owner, moment: Moment, error: Callable[[str], EmissionsError]
    ) -> Run:
        """
        Return the run that a row belongs to.

        :param amount: the column of the amount.
        :param error: makes an error about the row.
        """
        has_zone = moment.at.tzinfo is not None
        run = self._runs.get((name, amount))
        if run is None:
            run = self._runs[name, amount] = Run(owner, has_zone)
        if run.owner != owner:
            problem = (
                f"column {self._column!r} is {shown(name)}, which is of {shown(' '.join(run.owner).strip())} in an earlier row "
                f"and of {shown(' '.join(owner).strip())} here: a running total can't be divided; give each its own"
            )
            self.doubt(name, error(problem))
        if run.has_zone != has_zone:
            self.doubt(
                name, error(f"some times of {self._column} {shown(name)} have a zone: write all with one")
            )
        run.is_within |= moment.month == self._month
        return run

    def add_total(self, run: Run, name: str, moment: Moment, tonnes: Decimal) -> None:
        seconds = (moment.at - (_EPOCH_UTC if moment.at.tzinfo else _EPOCH)).total_seconds()
        point = (moment.month == self._month, seconds, tonnes)
        if run.sealed and run.sealed[0] < point < run.sealed[1]:
            problem = f"the rows of {self._column} {shown(name)} are too many and too far out of order to be checked"
            self.doubt(name, EmissionsError(f"{problem}: sort the table by time"))
        run.points.append(point)
        self._points += 1
        if self._points > self._limit:
            for (each, _), other in self._runs.items():
                self._seal(other, each)
            self._points = sum(len(other.points) for other in self._runs.values())
            self._limit = max(_POINTS_KEPT, 2 * self._points)

    def add_part(self, run: Run, moment: Moment, tonnes: Decimal) -> None:
        if moment.month == self._month:
            run.parts_within = TONNES.add(run.parts_within, tonnes)
        else:
            run.parts_before = TONNES.add(run.parts_before, tonnes)

    def grown(self) -> Iterator[tuple[Owner, str, Decimal]]:
        """
        Yield of each run with rows within the month: whose it is, the column of the amount, and tonnes.

        :raises EmissionsError: when a total falls, or can't be trusted for another reason.
        """
        for (name, amount), run in self._runs.items():
            if not run.is_within:
                continue
            self._seal(run, name)
            if name in self._doubts:
                raise self._doubts[name]
            before = _total([point for point in run.points if not point[0]], run.parts_before)
            now = _total(run.points, TONNES.add(run.parts_before, run.parts_within))
            if now < before:
                raise self._falls(name, before, now)
            yield run.owner, amount, TONNES.subtract(now, before)

    def _seal(self, run: Run, name: str) -> None:
        """Check that the total never falls, and keep its ends and the last one before the month."""
        points = sorted(run.points)
        last = Decimal(0)
        for _, _, total in points:
            if total < last:
                self.doubt(name, self._falls(name, last, total))
            last = total
        if points:
            before = [point for point in points if not point[0]][-1:]
            run.points = sorted({points[0], *before, points[-1]})
            run.sealed = points[0], points[-1]

    def _falls(self, name: str, before: Decimal, after: Decimal) -> EmissionsError:
        return EmissionsError(
            f"the running total of {self._column} {shown(name)} falls from {before} t to {after} t, so what was emitted can't be "
            "told: give what started anew a name of its own, or take the wrong rows out; where clocks were set back, write times "
            "with their zone"
        )


def _total(points: list[_Point], parts: Decimal) -> Decimal:
    """Return the last total, or the sum of the parts where that is ahead of it."""
    last = points[-1][2] if points else Decimal(0)
    return parts if parts > TONNES.multiply(last, _ROUNDING) else last
