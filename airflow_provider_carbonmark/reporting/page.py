"""The report as a page for people: the operator's, or one that may be published."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from airflow_provider_carbonmark.api.markup import web_address, writable
from airflow_provider_carbonmark.ledger.names import State
from airflow_provider_carbonmark.ledger.values import EXACT
from airflow_provider_carbonmark.reporting.chart import Bars, image, picture
from airflow_provider_carbonmark.reporting.disclosures import MECHANISMS, NOT_STATED
from airflow_provider_carbonmark.reporting.regulations import ISO_14068_1, PRODUCT_CLAIMS
from airflow_provider_carbonmark.reporting.tables import state_of

if TYPE_CHECKING:
    from markupsafe import Markup

    from airflow_provider_carbonmark.ledger.changes.files import FileOfRun
    from airflow_provider_carbonmark.ledger.figures import Figures
    from airflow_provider_carbonmark.ledger.purchase import PurchaseLine
    from airflow_provider_carbonmark.reporting.content import Content

_MONTHS: Final = (
    "January February March April May June July August September October November December".split()
)
_KINDS: Final = {
    "paid_twice": "Paid twice",
    "paid_not_retired": "Paid, not retired",
    "over_covered": "Bought beyond need",
    "failed": "Failed",
    "declined": "Declined",
}
# More don't fit a picture; the table has them all.
_MOST_ENTITIES_DRAWN = 12
#: Rows of a table: no browser shows a million. The files beside the page have them all.
MOST_ROWS: Final = 2_000
_CENT = Decimal("0.01")


def page(report: Content, *, is_public: bool = False) -> str:
    """Return the report as HTML; where it is to be published, without what is for the operator only."""
    environment = _templates()
    style = environment.get_template("report.css").render()
    all_figures = (*report.entities.values(), *report.months.values(), report.totals)
    lines = sorted(report.lines, key=lambda line: (line.entity, line.month, line.line))
    html = environment.get_template("report.html").render(
        report=report,
        is_public=is_public,
        company=report.records.facts.company,
        title=month_name(report.period.text),
        before_title=month_name(report.period.before.text),
        style=style,
        style_hash=hash_of(style),
        is_year=report.period.is_year,
        chart=_chart(report) if report.lines else None,
        drawn=_MOST_ENTITIES_DRAWN,
        most=MOST_ROWS,
        missing_months=_missing_months(report),
        # All amounts of a column have as many decimals as its finest one: exact, and in line.
        emitted_places=decimals((figures.emitted_tonnes for figures in all_figures), 3),
        cost_places=decimals((line.cost_usd for line in (*report.lines, *report.test_lines)), 2),
        lines=lines,
        files=_first_read(report.files),
        credits_of=_credits_of(report.lines),
        kinds=_KINDS,
        # Where the rows are that lead to them: the first of each entity that is shown.
        anchors={} if is_public else _anchors(lines[:MOST_ROWS], list(report.entities)[:MOST_ROWS]),
        twelve_months=ISO_14068_1,
        product_claims=PRODUCT_CLAIMS,
    )
    return writable(html)


@cache
def _templates() -> Environment:
    return templates("airflow_provider_carbonmark.reporting")


def templates(package: str, folder: str = "templates") -> Environment:
    """Return a package's templates, for pages that show whatever others wrote as text."""
    environment = Environment(
        loader=PackageLoader(package, folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "amount": amount,
        "coverage": coverage,
        "mechanism": lambda mechanism: MECHANISMS[mechanism] if mechanism else "mechanism not stated",
        "month": month_name,
        "rounded": rounded,
        "state_of": state_of,
        "stated": lambda value: value or NOT_STATED,
        "web_address": web_address,
    }
    return environment


def hash_of(style: str) -> str:
    """Return what a page's policy calls its style, so that it needs no exception for it."""
    return base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


def amount(value: Decimal, places: int = 3) -> str:
    """Write an amount with thousands separators and all of its decimals, at least ``places``."""
    return f"{value:,.{decimals([value], places)}f}"


def coverage(figures: Figures) -> str:
    """Write what of the emissions is covered, in per cent; a dash where nothing was emitted."""
    percent = figures.coverage_percent
    return "–" if percent is None else f"{amount(percent, 1)} %"


def rounded(value: Decimal) -> str:
    """Write an amount with two decimals, as disclosures do at most; one that would be none as what it is less than."""
    if 0 < value < _CENT / 2:
        return f"< {_CENT}"
    return f"{value.quantize(_CENT, ROUND_HALF_UP, EXACT):,f}"


def month_name(period: str) -> str:
    """Write ``2026-10`` as October 2026; a year stays as it is."""
    year, _, month = period.partition("-")
    return f"{_MONTHS[int(month) - 1]} {year}" if month else year


def _chart(report: Content) -> dict[str, Markup]:
    """Draw a year by its months, a month by its entities: for screens, and for paper."""
    drawn: dict[str, Figures | None]
    if report.period.is_year:
        by, table = "month", "By month"
        drawn = {
            name[:3]: report.months.get(f"{report.period}-{month:02}")
            for month, name in enumerate(_MONTHS, 1)
        }
    else:
        by, table = "entity", "By entity"
        by_size = sorted(report.entities.items(), key=lambda item: item[1].emitted_tonnes, reverse=True)
        drawn = dict(by_size[:_MOST_ENTITIES_DRAWN])
    bars = [
        Bars(name, figures.emitted_tonnes, figures.retired_tonnes) if figures else Bars(name, None, None)
        for name, figures in drawn.items()
    ]
    alt = (
        f"Bar chart by {by}, {month_name(report.period.text)}: tonnes emitted beside tonnes retired for them. Altogether "
        f"{amount(report.totals.emitted_tonnes)} t were emitted and {amount(report.totals.retired_tonnes)} t retired. "
        f"The table “{table}” has the figures."
    )
    lying = by == "entity"
    return {"on_screen": picture(bars, alt, lying=lying), "on_paper": image(bars, alt, lying=lying)}


def _first_read(files: Iterable[FileOfRun]) -> list[FileOfRun]:
    """Leave out what another run read before: the same content of the same file."""
    first: dict[tuple[str, str, str], FileOfRun] = {}
    for file in files:
        first.setdefault((file.month, file.path, file.sha256), file)
    return list(first.values())


def _missing_months(report: Content) -> list[str]:
    if not report.period.is_year:
        return []
    return [
        name for number, name in enumerate(_MONTHS, 1) if f"{report.period}-{number:02}" not in report.months
    ]


def _credits_of(lines: Iterable[PurchaseLine]) -> dict[str, list[PurchaseLine]]:
    """Collect, for each entity, a line for each project and vintage that was retired for it."""
    found: dict[str, dict[tuple[str, int], PurchaseLine]] = {}
    for line in lines:
        if line.state is State.RETIRED:
            found.setdefault(line.entity, {}).setdefault((line.project_id or "", line.vintage or 0), line)
    return {entity: [credit for _, credit in sorted(found[entity].items())] for entity in found}


def _anchors(lines: Iterable[PurchaseLine], linked: Iterable[str]) -> dict[str, str]:
    shown = {line.entity for line in lines}
    return {entity: f"entity-{number}" for number, entity in enumerate(linked, 1) if entity in shown}


def decimals(values: Iterable[Decimal], least: int) -> int:
    """Count the decimals that write all values exactly."""
    exponents = (value.normalize(EXACT).as_tuple().exponent for value in values)
    return max([least, *(-exponent for exponent in exponents if isinstance(exponent, int))])
