"""What a report has to say, worked out of its records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import chain, groupby
from typing import TYPE_CHECKING, Final

from airflow_provider_carbonmark.ledger.figures import Figures
from airflow_provider_carbonmark.reporting.credits import Cancelled, Credit, cancelled_of, credits_of
from airflow_provider_carbonmark.reporting.disclosures import (
    Ab1305,
    EsrsE17,
    ab_1305,
    esrs_e1_7,
    retired_where,
)
from airflow_provider_carbonmark.reporting.figures import emitted_of, figures_of, restatements_of
from airflow_provider_carbonmark.reporting.problems import Problem, paid_twice, problems_of

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_carbonmark.ledger.changes.files import FileOfRun
    from airflow_provider_carbonmark.ledger.purchase import PurchaseLine
    from airflow_provider_carbonmark.reporting.periods import Period
    from airflow_provider_carbonmark.reporting.records import Records

PACKAGE: Final = "airflow-provider-carbonmark"


@dataclass(frozen=True)
class Content:
    """What there is to say of a month or a year: exact, and the same for the same records."""

    records: Records

    @property
    def period(self) -> Period:
        return self.records.period

    @property
    def package_version(self) -> str:
        return version(PACKAGE)

    @cached_property
    def as_of(self) -> datetime | None:
        return self.records.as_of

    @cached_property
    def lines(self) -> list[PurchaseLine]:
        """The ledger's rows for the period's emissions, by month, entity and line."""
        return _in_order(self.records.lines, self.period, test_mode=False)

    @cached_property
    def test_lines(self) -> list[PurchaseLine]:
        """The rows in test mode, likewise. They are in no figure."""
        return _in_order(self.records.lines, self.period, test_mode=True)

    @cached_property
    def entities(self) -> dict[str, Figures]:
        """The figures of each entity that has rows, by name."""
        return dict(sorted(_added_up((entity, each) for _, entity, each in self._figures).items()))

    @cached_property
    def months(self) -> dict[str, Figures]:
        """The figures of each month that has rows."""
        return _added_up((month, each) for month, _, each in self._figures)

    @cached_property
    def totals(self) -> Figures:
        """All months and entities together."""
        return sum(self.months.values(), Figures())

    @cached_property
    def emitted(self) -> list[PurchaseLine]:
        """The rows that hold what each entity emitted in each month, as stated last, with where the figure is from."""
        return [emitted_of(group) for group in self._groups]

    @cached_property
    def restatements(self) -> list[tuple[PurchaseLine, PurchaseLine]]:
        """What was stated anew, the oldest first: the rows with the old figure and with the new one."""
        found = chain.from_iterable(restatements_of(group) for group in self._groups)
        return sorted(found, key=lambda rows: (rows[1].planned_at, rows[1].month, rows[1].entity))

    @cached_property
    def files(self) -> list[FileOfRun]:
        """The files that emissions were read from, by month and when."""
        files = self.records.files
        return sorted(files, key=lambda file: (file.month, file.read_at, file.path, file.sha256))

    @cached_property
    def problems(self) -> list[Problem]:
        """What needs a person, the most urgent first."""
        found = [*chain.from_iterable(problems_of(group) for group in self._groups)]
        found += paid_twice(self.lines, self.records.second_payments)
        return sorted(found, key=lambda problem: problem.urgency)

    @cached_property
    def cancelled(self) -> Cancelled:
        """What was cancelled in the period, and for the emissions of it."""
        return cancelled_of(self.period, self.records.cancelled)

    @cached_property
    def credits(self) -> list[Credit]:
        """The credits that were, by when."""
        known = self.records
        return credits_of(
            self.period,
            known.cancelled,
            projects=known.projects,
            retirements=known.retirements,
            certificates=known.certificates,
            facts=known.facts,
        )

    @cached_property
    def esrs_e1_7(self) -> EsrsE17:
        return esrs_e1_7(self.credits, self.records.before.cancelled.in_period_tonnes, self.records.contracts)

    @cached_property
    def ab_1305(self) -> Ab1305:
        return ab_1305(self.credits, self.records.facts.company.verification)

    @property
    def retired_where(self) -> str | None:
        """What of Verra's credits was retired where; None where there are none."""
        return retired_where(self.credits)

    @cached_property
    def _figures(self) -> list[tuple[str, str, Figures]]:
        return [(group[0].month, group[0].entity, figures_of(group)) for group in self._groups]

    @cached_property
    def _groups(self) -> list[list[PurchaseLine]]:
        """The rows of each entity and month, in the order of their numbers."""
        return [list(group) for _, group in groupby(self.lines, key=lambda line: (line.month, line.entity))]


def _in_order(lines: Iterable[PurchaseLine], period: Period, *, test_mode: bool) -> list[PurchaseLine]:
    wanted = (line for line in lines if line.test_mode == test_mode and period.has_month(line.month))
    return sorted(wanted, key=lambda line: (line.month, line.entity, line.line))


def _added_up(figures: Iterable[tuple[str, Figures]]) -> dict[str, Figures]:
    sums: dict[str, Figures] = defaultdict(Figures)
    for name, each in figures:
        sums[name] += each
    return dict(sums)
