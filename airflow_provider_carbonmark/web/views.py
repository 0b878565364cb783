"""
What is asked for, and what the ledger says to it: a year in sums, or a month by its rows.

Of the ledger, everybody sees the rows that were planned by runs of the DAGs they may read, and sums of these rows only.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING

from airflow_provider_carbonmark.ledger.figures import Figures
from airflow_provider_carbonmark.ledger.questions import queries
from airflow_provider_carbonmark.ledger.questions.open_ends import second_payments
from airflow_provider_carbonmark.ledger.questions.queries import Rows, ever

if TYPE_CHECKING:
    from decimal import Decimal

    from sqlalchemy import Connection
    from starlette.datastructures import QueryParams

    from airflow_provider_carbonmark.ledger.purchase import Purchase, PurchaseLine
    from airflow_provider_carbonmark.ledger.questions.open_ends import SecondPayment
    from airflow_provider_carbonmark.ledger.questions.queries import LinkToPay

# Rows of a table, in one page.
MOST_ROWS = 200
MOST_TO_PAY = 50
# Of the list to choose from: twenty years.
MOST_MONTHS = 240

_YEAR = re.compile(r"[0-9]{4}")
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_PART = re.compile(r"[1-9][0-9]{0,3}")


class UnreadableRequestError(ValueError):
    """What is asked for is nothing that the page has; the message is for people."""


class NoAccessError(Exception):
    """Somebody may read none of the DAGs whose purchases are in the ledger."""


@dataclass(frozen=True)
class Wanted:
    """
    What is asked for: a year, a month, or what was bought without a plan.

    With none of it, that is the year of the newest month; where there are rehearsals only, their newest month; where there is neither, what
    was bought without a plan.

    :param part: which page of the table, from 1.
    """

    year: str | None = None
    month: str | None = None
    test_mode: bool = False
    without_plan: bool = False
    part: int = 1

    @classmethod
    def of(cls, query: QueryParams) -> Wanted:
        """
        Read the address's query.

        :raises UnreadableRequestError: when it is none that the page links to.
        """
        year = _read(query, "year", _YEAR, "four digits, as 2026")
        month = _read(query, "month", _MONTH, "a year and a month, as 2026-10")
        test = _read(query, "test", re.compile("1"), "1, or left out")
        plan = _read(query, "plan", re.compile("none"), "none, or left out")
        part = _read(query, "part", _PART, "a number from 1 to 9999")
        if year and (month or test):
            raise UnreadableRequestError("A year can't be asked for together with a month or with test mode.")
        if plan and (year or month):
            raise UnreadableRequestError("What was bought without a plan is for no year or month.")
        return cls(year, month, test is not None, plan is not None, int(part or "1"))

    @property
    def is_nothing(self) -> bool:
        return not (self.year or self.month or self.test_mode or self.without_plan)

    @property
    def skip(self) -> int:
        return (self.part - 1) * MOST_ROWS


@dataclass(frozen=True)
class Entity:
    """
    An entity in a month.

    :param figures: what they add up to; None for rehearsals, which count for nothing.
    :param lines: its rows in this part of the table.
    """

    name: str
    figures: Figures | None
    lines: list[PurchaseLine]


@dataclass(frozen=True)
class View:
    """
    What there is to see.

    :param wanted: what was asked for, with the year or the month that stands for neither.
    :param months: those that the reader may see something of in this mode, the newest first.
    :param has_real: whether they may see anything but rehearsals.
    :param has_test_mode: whether they may see any rehearsals.
    :param to_pay: links that nobody has paid; of a year, those of all years. One more than are shown if there are more.
    :param paid_twice: payments that came beside those that count, of the period: to go through all there ever were takes seconds.
    :param by_month: figures of the month, or of the year's months.
    :param by_entity: of a year, figures of the entities in this part of the table.
    :param entities: of a month, its rows in this part of the table.
    :param without_plan: where that is asked for, purchases that no plan made, in this part of the table.
    :param has_more: whether the table has another part.
    """

    wanted: Wanted
    months: list[str] = field(default_factory=list)
    has_real: bool = False
    has_test_mode: bool = False
    to_pay: list[LinkToPay] = field(default_factory=list)
    paid_twice: list[SecondPayment] = field(default_factory=list)
    by_month: dict[str, Figures] = field(default_factory=dict)
    by_entity: dict[str, Figures] = field(default_factory=dict)
    entities: list[Entity] = field(default_factory=list)
    without_plan: list[Purchase] = field(default_factory=list)
    has_more: bool = False

    @property
    def period(self) -> str | None:
        return self.wanted.month or self.wanted.year

    @property
    def totals(self) -> Figures:
        return sum(self.by_month.values(), Figures())

    @property
    def all_emitted(self) -> list[Decimal]:
        return [figures.emitted_tonnes for figures in self._all_figures]

    @property
    def all_costs(self) -> list[Decimal]:
        costs = [link.cost_usd for link in self.to_pay]
        costs += [line.cost_usd for entity in self.entities for line in entity.lines]
        costs += [each.cost_usd for each in self.without_plan if each.cost_usd is not None]
        return costs + [figures.cost_usd for figures in self._all_figures]

    @property
    def _all_figures(self) -> list[Figures]:
        return [*self.by_month.values(), *self.by_entity.values()]


def view(connection: Connection | None, wanted: Wanted, readable: Collection[str]) -> View:
    """
    Read what is asked for.

    :param connection: to the ledger's database; None where nothing was ever written down.
    :param readable: the DAGs that the reader may read.
    :raises NoAccessError: when these are none, or none of the ledger's.
    """
    planners = queries.dag_ids(connection) if connection else set()
    visible = planners & set(readable)
    if not readable or (planners and not visible):
        raise NoAccessError
    if connection is None:
        return View(wanted)
    # Without a filter that would let everything through.
    dag_ids = None if visible == planners else sorted(visible)
    real, rehearsals = (
        # Of the mode that isn't shown, whether there is any.
        queries.months(
            connection, ever(dag_ids, test_mode=mode), most=MOST_MONTHS if mode == wanted.test_mode else 1
        )
        for mode in (False, True)
    )
    if wanted.is_nothing and not real:
        if rehearsals:
            return view(connection, replace(wanted, test_mode=True), readable)
        for mode in (False, True):
            if queries.without_plan(connection, dag_ids, test_mode=mode, most=1):
                return view(connection, replace(wanted, test_mode=mode, without_plan=True), readable)
    months = rehearsals if wanted.test_mode else real
    seen = View(_with_default(wanted, months), months, bool(real), bool(rehearsals))
    if wanted.without_plan:
        return _without_plan(connection, seen, dag_ids)
    if seen.period is None:
        return seen
    return _month(connection, seen, dag_ids) if seen.wanted.month else _year(connection, seen, dag_ids)


def _with_default(wanted: Wanted, months: list[str]) -> Wanted:
    if wanted.year or wanted.month or wanted.without_plan or not months:
        return wanted
    newest = months[0]
    return replace(wanted, month=newest) if wanted.test_mode else replace(wanted, year=newest[:4])


def _year(connection: Connection, seen: View, dag_ids: Collection[str] | None) -> View:
    year = seen.wanted.year
    rows = Rows(f"{year}-01", f"{year}-12", dag_ids)
    names = queries.entities(connection, rows, most=MOST_ROWS + 1, skip=seen.wanted.skip)
    return replace(
        seen,
        to_pay=queries.links_to_pay(connection, ever(dag_ids), most=MOST_TO_PAY + 1),
        paid_twice=second_payments(connection, *rows.conditions),
        by_month=queries.figures_by_month(connection, rows),
        by_entity=queries.figures_by_entity(connection, rows, names[:MOST_ROWS]),
        has_more=len(names) > MOST_ROWS,
    )


def _month(connection: Connection, seen: View, dag_ids: Collection[str] | None) -> View:
    month, is_test = seen.wanted.month or "", seen.wanted.test_mode
    rows = Rows(month, month, dag_ids, is_test)
    found = queries.lines(connection, rows, most=MOST_ROWS + 1, skip=seen.wanted.skip)
    shown = found[:MOST_ROWS]
    names = {line.entity for line in shown}
    figures = {} if is_test else queries.figures_by_entity(connection, rows, names)
    return replace(
        seen,
        to_pay=queries.links_to_pay(connection, rows, most=MOST_TO_PAY + 1),
        paid_twice=second_payments(connection, *rows.conditions),
        by_month={} if is_test else queries.figures_by_month(connection, rows),
        entities=[
            Entity(name, figures.get(name), list(lines))
            for name, lines in groupby(shown, key=lambda line: line.entity)
        ],
        has_more=len(found) > MOST_ROWS,
    )


def _without_plan(connection: Connection, seen: View, dag_ids: Collection[str] | None) -> View:
    most, is_test = MOST_ROWS + 1, seen.wanted.test_mode
    found = queries.without_plan(connection, dag_ids, test_mode=is_test, most=most, skip=seen.wanted.skip)
    return replace(seen, without_plan=found[:MOST_ROWS], has_more=len(found) > MOST_ROWS)


def _read(query: QueryParams, name: str, pattern: re.Pattern[str], form: str) -> str | None:
    given = query.getlist(name)
    if not given:
        return None
    if len(given) > 1 or not pattern.fullmatch(given[0]):
        raise UnreadableRequestError(f"The address is not one of this page: {name} has to be {form}.")
    return given[0]
