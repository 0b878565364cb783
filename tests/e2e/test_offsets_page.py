"""The ledger's page in a real browser: on every screen, and in nobody's frame. Where it leads: test_below_a_path."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import NullPool, create_engine

from airflow_provider_carbonmark.hooks.ledger import DEFAULT_FILE
from airflow_provider_carbonmark.ledger.names import OPEN, Run, State
from tests.e2e.browser import NARROW, WIDE, Person
from tests.e2e.stand import MONTHLY_OFFSET, Stand
from tests.unit.ledger.rows import write
from tests.unit.reporting.sample import a_year

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from airflow_provider_carbonmark.ledger.purchase import PurchaseLine

pytestmark = pytest.mark.e2e

YEAR = 1996


@pytest.fixture(scope="module")
def year(stand: Stand) -> str:
    """Return the query of a year of which the ledger tells real things."""
    run = Run(MONTHLY_OFFSET, "page")

    def of_this_year(line: PurchaseLine) -> PurchaseLine:
        return replace(
            line,
            id=10**6 + line.id,
            month=f"{YEAR}{line.month[4:]}",
            run=run,
            handler=run,
            checkout_url=f"{stand.sandbox.url}/pay/{line.id}" if line.state is State.LINK_MADE else None,
            payment_id=line.payment_id and f"{YEAR}_{line.payment_id}",
        )

    engine = create_engine(f"sqlite:///{stand.airflow.home / DEFAULT_FILE}", poolclass=NullPool)
    # Not the rehearsals that are still open: the next run of the DAG would take them up.
    write(engine, [of_this_year(line) for line in a_year() if not (line.test_mode and line.state in OPEN)])
    return f"?year={YEAR}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_the_page_fits_every_screen_and_loads_nothing(
    browser: Browser, stand: Stand, year: str, viewport: dict[str, int], scheme: Any
) -> None:
    person = Person(browser, stand.airflow.url, viewport, scheme=scheme)
    asked: list[str] = []
    complaints: list[str] = []
    person.page.on("request", lambda request: asked.append(request.url))
    person.page.on("console", lambda said: complaints.append(said.text))
    for query in (year, f"?month={YEAR}-10", f"?month={YEAR}-09", f"?month={YEAR}-10&test=1"):
        asked.clear()
        url = f"{stand.airflow.url}/carbonmark-offsets/{query}"
        person.page.goto(url)
        assert [each for each in asked if each != url and not each.startswith("data:image/svg+xml")] == []
        assert person.page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
        # The width of each picture that could be drawn, 0 of any other.
        drawn = person.page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert [width > 300 for width in drawn] == ([True] if query == year else [])
    assert complaints == []
    person.close()


def test_a_month_shows_a_wide_table_by_moving_it_and_not_the_page(
    browser: Browser, stand: Stand, year: str
) -> None:
    person = Person(browser, stand.airflow.url, NARROW)
    person.page.goto(f"{stand.airflow.url}/carbonmark-offsets/?month={YEAR}-10")
    box = person.page.get_by_role("region", name="Purchases by entity")
    box.get_by_role("link", name=MONTHLY_OFFSET).first.scroll_into_view_if_needed()
    assert box.evaluate("box => box.scrollLeft") > 0
    assert person.page.evaluate("window.scrollX") == 0
    person.close()


def test_the_page_is_shown_in_nobody_s_frame(person: Person, stand: Stand, year: str) -> None:
    person.page.goto(f"{stand.airflow.url}/")
    person.page.evaluate(
        "url => { const frame = document.createElement('iframe'); frame.src = url; document.body.append(frame);"
        " return new Promise(done => { frame.onload = done }) }",
        f"{stand.airflow.url}/carbonmark-offsets/{year}",
    )
    assert [frame.url for frame in person.page.frames[1:]] == ["chrome-error://chromewebdata/"]
