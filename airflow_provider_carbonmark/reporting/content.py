"""What a report says, in whatever format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.figures import Figures
    from airflow_provider_carbonmark.ledger.purchase import PurchaseLine
    from airflow_provider_carbonmark.reporting.figures import Problem


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
    """

    period: str
    totals: Figures
    months: dict[str, Figures]
    entities: dict[str, Figures]
    problems: tuple[Problem, ...]
    lines: tuple[PurchaseLine, ...]
    test_lines: tuple[PurchaseLine, ...]
