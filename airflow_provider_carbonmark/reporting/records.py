"""All that a report is made of: a period, and what the ledger and the deployment say of it, read once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow_provider_carbonmark.ledger.facts import DisclosureFacts
from airflow_provider_carbonmark.ledger.figures import Figures
from airflow_provider_carbonmark.ledger.names import State
from airflow_provider_carbonmark.reporting.credits import Cancelled, cancelled_of
from airflow_provider_carbonmark.reporting.periods import Period

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_carbonmark.ledger import Ledger
    from airflow_provider_carbonmark.ledger.changes.files import FileOfRun
    from airflow_provider_carbonmark.ledger.projects import Project
    from airflow_provider_carbonmark.ledger.purchase import PurchaseLine
    from airflow_provider_carbonmark.ledger.questions.cancellations import Cancellation
    from airflow_provider_carbonmark.ledger.questions.open_ends import SecondPayment
    from airflow_provider_carbonmark.ledger.retirements import RetirementFacts


@dataclass(frozen=True)
class YearBefore:
    """
    What there is to say of the same period a year before.

    :param totals: of its emissions; None where the ledger has none.
    :param cancelled: what was cancelled in it and for its emissions.
    :param as_of: when the latest of that was.
    """

    totals: Figures | None = None
    cancelled: Cancelled = field(default_factory=Cancelled)
    as_of: datetime | None = None


@dataclass(frozen=True)
class Records:
    """
    What a report is made of.

    :param period: the month or the year.
    :param before: the year before.
    :param lines: the rows for its emissions, as ``Ledger.lines`` gives them; those of other months are passed over.
    :param cancelled: what was cancelled in the period, or for its emissions (``Ledger.cancelled``).
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
    before: YearBefore = YearBefore()
    lines: Collection[PurchaseLine] = ()
    cancelled: Collection[Cancellation] = ()
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
        yield self.before.as_of
        steps = ("planned_at", "link_made_at", "paid_at", "retired_at", "failed_at", "declined_at")
        for line in self.lines:
            yield from (getattr(line, name) for name in steps)
        for bought in chain(self.cancelled, self.contracts):
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
    :param pay_url: says where a purchase can be paid, None for its payment page; by default the report doesn't say.
    :param certificates: stores copies of certificates, for the purchases given, and says where they are, from the report's folder. It is
        called before what is known of the retirements is read, their SHA-256 among it.
    :raises InvalidInputError: when the period is neither a month nor a year.
    """
    asked = Period(period)
    scope: dict[str, Any] = {"year": int(period)} if asked.is_year else {"month": period}
    # Before all else, so that it is gone from memory by then.
    before = _year_before(ledger, asked.before)
    lines = ledger.lines(**scope)
    cancelled = ledger.cancelled(asked.since, asked.until, asked.months)
    contracts = ledger.contracts(asked.until)
    purchases = {each.purchase for each in cancelled}
    copies = certificates(purchases) if certificates else {}
    to_pay = {line.purchase: line for line in lines if line.purchase and line.state is State.LINK_MADE}
    return Records(
        period=asked,
        before=before,
        lines=lines,
        cancelled=cancelled,
        contracts=contracts,
        projects=ledger.projects({each.project_id for each in cancelled if each.project_id}),
        retirements=ledger.retirements(purchases),
        certificates=copies,
        files=ledger.files(**scope, test_mode=False),
        second_payments=ledger.second_payments(**scope),
        pay_urls={id: pay_url(ledger, id) or line.checkout_url or "" for id, line in sorted(to_pay.items())}
        if pay_url
        else {},
        facts=facts or DisclosureFacts(),
        ledger_version=ledger.version,
    )


def _year_before(ledger: Ledger, period: Period) -> YearBefore:
    # Imported late: only who asks a ledger pays for it.
    from airflow_provider_carbonmark.ledger.questions.queries import Rows, figures_by_month, stated_last

    rows = Rows(*period.months)
    with ledger.reading() as connection:
        months = figures_by_month(connection, rows) if connection else {}
        stated = stated_last(connection, rows) if connection else None
    cancelled = ledger.cancelled(period.since, period.until, period.months)
    return YearBefore(
        totals=sum(months.values(), Figures()) if months else None,
        cancelled=cancelled_of(period, cancelled),
        as_of=max(filter(None, (stated, *(each.cancelled_at for each in cancelled))), default=None),
    )
