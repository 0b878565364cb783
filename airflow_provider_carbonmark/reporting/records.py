"""All that a report is made of: a period, and what the ledger and the deployment say of it, read once."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.ledger.facts import DisclosureFacts
from airflow_provider_carbonmark.ledger.purchase import State

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger import Ledger
    from airflow_provider_carbonmark.ledger.cancellations import Cancellation
    from airflow_provider_carbonmark.ledger.files import FileOfRun
    from airflow_provider_carbonmark.ledger.open_ends import SecondPayment
    from airflow_provider_carbonmark.ledger.projects import Project
    from airflow_provider_carbonmark.ledger.purchase import PurchaseLine
    from airflow_provider_carbonmark.ledger.retirements import RetirementFacts

_PERIOD = re.compile(r"[0-9]{4}(-(0[1-9]|1[0-2]))?")


@dataclass(frozen=True)
class Period:
    """
    A month or a year of the calendar, in UTC.

    :param text: ``YYYY-MM`` or ``YYYY``.
    :raises InvalidInputError: when it is neither.
    """

    text: str

    def __post_init__(self) -> None:
        # The first year has none before it, and the last no end.
        is_one = isinstance(self.text, str) and _PERIOD.fullmatch(self.text) and 1 < int(self.text[:4]) < 9999
        if not is_one:
            raise InvalidInputError(
                "period", "is neither a month nor a year", value=self.text, remedy='Write "2026-10" or "2026"'
            )

    def __str__(self) -> str:
        return self.text

    @property
    def is_year(self) -> bool:
        return len(self.text) == 4

    @property
    def months(self) -> tuple[str, str]:
        """The first and the last of its months."""
        return (f"{self.text}-01", f"{self.text}-12") if self.is_year else (self.text, self.text)

    @property
    def since(self) -> datetime:
        """When it begins."""
        return datetime(int(self.text[:4]), int(self.months[0][5:]), 1, tzinfo=UTC)

    @property
    def until(self) -> datetime:
        """When it is over."""
        years, months = divmod(int(self.months[1][5:]), 12)
        return datetime(int(self.text[:4]) + years, months + 1, 1, tzinfo=UTC)

    @property
    def before(self) -> Self:
        """The same a year before."""
        return type(self)(f"{int(self.text[:4]) - 1:04}{self.text[4:]}")

    def has_month(self, month: str) -> bool:
        first, last = self.months
        return first <= month <= last

    def has_time(self, time: datetime | None) -> bool:
        return time is not None and self.since <= time < self.until


@dataclass(frozen=True)
class Records:
    """
    What a report is made of.

    :param period: the month or the year.
    :param lines: the rows for its emissions, as ``Ledger.lines`` gives them; those of other months are passed over.
    :param lines_before: likewise for the year before.
    :param cancelled: what was cancelled in the period, or for its emissions (``Ledger.cancelled``).
    :param cancelled_before: likewise for the year before.
    :param contracts: what was paid before its end and not cancelled by then (``Ledger.contracts``).
    :param projects: what is known of their projects.
    :param retirements: what the market tells of their retirements.
    :param certificates: where the copies of certificates are, from the report's folder, by purchase.
    :param files: the files that its emissions were read from.
    :param second_payments: what was paid beside the payments that count.
    :param pay_urls: where purchases that wait can be paid, by number, for the operator's page: whoever has it can pay.
    :param facts: what the deployment states.
    :param ledger_version: of the ledger's tables.
    """

    period: Period
    lines: Collection[PurchaseLine] = ()
    lines_before: Collection[PurchaseLine] = ()
    cancelled: Collection[Cancellation] = ()
    cancelled_before: Collection[Cancellation] = ()
    contracts: Collection[Cancellation] = ()
    projects: Collection[Project] = ()
    retirements: Collection[RetirementFacts] = ()
    certificates: Mapping[int, str] = field(default_factory=dict)
    files: Collection[FileOfRun] = ()
    second_payments: Collection[SecondPayment] = ()
    pay_urls: Mapping[int, str] = field(default_factory=dict)
    facts: DisclosureFacts = field(default_factory=DisclosureFacts)
    ledger_version: int = 0

    @property
    def as_of(self) -> datetime | None:
        """The latest time in all that was read: the same ledger gives the same. None where nothing was."""
        return max(filter(None, self._times()), default=None)

    def _times(self) -> Iterator[datetime | None]:
        steps = ("planned_at", "link_made_at", "paid_at", "retired_at", "failed_at", "declined_at")
        for line in chain(self.lines, self.lines_before):
            yield from (getattr(line, name) for name in steps)
        for bought in chain(self.cancelled, self.cancelled_before, self.contracts):
            yield from (bought.cancelled_at, bought.paid_at)
        yield from (told.read_at for told in self.projects)
        yield from (told.read_at for told in self.retirements)
        yield from (file.read_at for file in self.files)
        yield from (payment.brought_at for payment in self.second_payments)


def read_records(
    ledger: Ledger,
    period: str,
    *,
    facts: DisclosureFacts | None = None,
    pay_url: Callable[[Ledger, int], str | None] | None = None,
    certificates: Callable[[Collection[int]], Mapping[int, str]] | None = None,
) -> Records:
    """
    Read all that a report is made of.

    :param period: ``YYYY-MM`` or ``YYYY``.
    :param facts: what the deployment states; nothing by default.
    :param pay_url: says where a purchase can be paid; by default the report doesn't say.
    :param certificates: stores copies of certificates, for the purchases given, and says where they are, from the report's folder. It is
        called before what is known of the retirements is read, their SHA-256 among it.
    :raises InvalidInputError: when the period is neither a month nor a year.
    """
    asked = Period(period)
    scope, before = _scope(asked), _scope(asked.before)
    lines = ledger.lines(**scope)
    cancelled = ledger.cancelled(asked.since, asked.until, asked.months)
    contracts = ledger.contracts(asked.until)
    purchases = {each.purchase for each in cancelled}
    copies = certificates(purchases) if certificates else {}
    to_pay = {line.purchase for line in lines if line.purchase and line.state is State.LINK_MADE}
    return Records(
        period=asked,
        lines=lines,
        lines_before=ledger.lines(**before),
        cancelled=cancelled,
        cancelled_before=ledger.cancelled(asked.before.since, asked.before.until, asked.before.months),
        contracts=contracts,
        projects=ledger.projects({each.project_id for each in cancelled if each.project_id}),
        retirements=ledger.retirements(purchases),
        certificates=copies,
        files=ledger.files(**scope, test_mode=False),
        second_payments=ledger.second_payments(**scope),
        pay_urls={id: url for id in sorted(to_pay) if (url := pay_url(ledger, id))} if pay_url else {},
        facts=facts or DisclosureFacts(),
        ledger_version=ledger.version,
    )


def _scope(period: Period) -> dict[str, Any]:
    return {"year": int(period.text)} if period.is_year else {"month": period.text}
