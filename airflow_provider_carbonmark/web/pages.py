"""The page in HTML: no scripts, nothing from elsewhere, and whatever others wrote is text."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from airflow_provider_carbonmark.api.markup import writable
from airflow_provider_carbonmark.hooks.return_url import pay_path
from airflow_provider_carbonmark.reporting.chart import Bars, picture
from airflow_provider_carbonmark.reporting.page import amount, decimals, hash_of, month_name, templates
from airflow_provider_carbonmark.web.views import MOST_TO_PAY

if TYPE_CHECKING:
    from markupsafe import Markup

    from airflow_provider_carbonmark.ledger.names import Run
    from airflow_provider_carbonmark.web.views import View, Wanted


def ledger(view: View, deployment: str, key: bytes | None) -> str:
    """
    Return the page for a year or a month.

    :param key: what pay addresses are signed with; None where nothing was ever written.
    :param deployment: this Airflow's name in the ledger: runs of another one lead nowhere here.
    """
    newest_months: dict[str, str] = {}
    for month in view.months:
        newest_months.setdefault(month[:4], month)
    year = (view.period or "")[:4]
    return _page(
        "ledger.html",
        view=view,
        here=deployment,
        # From here, since an Airflow may be below a path.
        pay_path=lambda purchase: f"..{pay_path(purchase, key)}" if key else None,
        title=month_name(view.period) if view.period else None,
        is_year=bool(view.wanted.year),
        newest_months=newest_months,
        year=year,
        months_of_year=[month for month in view.months if month[:4] == year],
        chart=_chart(view) if view.wanted.year and view.by_month else None,
        to_pay=view.to_pay[:MOST_TO_PAY],
        # All amounts of a column have as many decimals as its finest one: exact, and in line.
        emitted_places=decimals(view.all_emitted, 3),
        cost_places=decimals(view.all_costs, 2),
    )


def message(title: str, text: str) -> str:
    return _page("message.html", title=title, text=text, login=None)


def please_sign_in(back: str) -> str:
    """Return the page for those who are not signed in, and then come back to an address."""
    return _page(
        "message.html",
        title="Please sign in",
        text="The ledger of carbon offsets is for those who are signed in to Airflow.",
        login=f"../api/v2/auth/login?{urlencode({'next': back})}",
    )


def _page(template: str, **values: object) -> str:
    return writable(_TEMPLATES.get_template(template).render(style=_STYLE, **values))


def _address(wanted: Wanted, part: int) -> str:
    """Return the address of another part of the same table."""
    names = {"year": wanted.year, "month": wanted.month, "test": "1" if wanted.test_mode else None}
    names["plan"] = "none" if wanted.without_plan else None
    return f"?{urlencode({name: value for name, value in names.items() if value} | {'part': part})}"


def _run_address(run: Run) -> str:
    """Return the address of a run in Airflow, from here: an Airflow may have a path, or several addresses."""
    return f"../dags/{quote(run.dag_id, safe='')}/runs/{quote(run.run_id, safe='')}"


def _chart(view: View) -> Markup:
    year, totals = view.wanted.year, view.totals
    bars = []
    for number in range(1, 13):
        month = f"{year}-{number:02}"
        figures = view.by_month.get(month)
        amounts = (figures.emitted_tonnes, figures.retired_tonnes) if figures else (None, None)
        bars.append(Bars(month_name(month)[:3], *amounts))
    alt = (
        f"Bar chart of {year} by month: tonnes emitted beside tonnes retired. Altogether {amount(totals.emitted_tonnes)} t were "
        f"emitted and {amount(totals.retired_tonnes)} t retired. The table below has the figures."
    )
    return picture(bars, alt)


_TEMPLATES = templates("airflow_provider_carbonmark.web", "templates/readers")
_TEMPLATES.filters |= {"address": _address, "run_address": _run_address}
_STYLE = _TEMPLATES.get_template("style.css").render()
#: Of the style within each page, for the content security policy.
STYLE_HASH = hash_of(_STYLE)
