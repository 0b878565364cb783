"""The ledger's page in a real Airflow and a real browser: from the menu to the page, from the page to the payment and the run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import NullPool, create_engine

from airflow_provider_carbonmark.hooks.ledger import DEFAULT_FILE
from airflow_provider_carbonmark.ledger.purchase import OPEN, PurchaseLine, Run, State
from tests.e2e.browser import NARROW, WIDE, Person, heading, pay_with
from tests.e2e.processes import Process, free_ports, wait_until
from tests.e2e.stand import MONTHLY_OFFSET, Stand
from tests.unit.ledger.rows import write
from tests.unit.reporting.sample import a_year

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.e2e

YEAR = 1996
PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module")
def offsets_run(stand: Stand, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a run of the monthly DAG that waits for a payment."""
    file = tmp_path_factory.mktemp("emissions") / "emissions.csv"
    file.write_text("timestamp,project_name,emissions\n1997-03-01T00:00:00,page-visitors,70\n")
    conf = {"emissions_file": file.as_uri(), "emissions_format": "codecarbon", "month": "1997-03"}
    return stand.start_month(conf | {"beneficiary": "Page ({entity})"})


@pytest.fixture(scope="module")
def year(stand: Stand, offsets_run: str) -> str:
    """Return the query of a year of which the ledger tells real things, planned by a run that there is."""
    run = Run(MONTHLY_OFFSET, offsets_run)

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


@pytest.fixture(scope="module")
def below_a_path(stand: Stand, year: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start one more API server, which has a path, and in which people have names, passwords and rights of their own."""
    (port,) = free_ports(1)
    folder = tmp_path_factory.mktemp("api-server")
    passwords = folder / "passwords.json"
    passwords.write_text(json.dumps({"anna": PASSWORD, "bob": PASSWORD}))
    url = f"http://127.0.0.1:{port}/team/airflow"
    settings = {
        "API__BASE_URL": url,
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": "anna:viewer,bob:",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }
    server = Process(
        "api-server-below-a-path",
        [sys.executable, "-m", "airflow", "api-server", f"--port={port}"],
        env={**stand.airflow.env, **{f"AIRFLOW__{name}": value for name, value in settings.items()}},
        log=folder / "api-server.log",
    )
    server.start()
    try:
        wait_until(lambda: server.check() or _answers(url), what="the API server below a path", timeout=120)
        yield url
    finally:
        server.stop()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/v2/monitor/health", trust_env=False).is_success
    except httpx.TransportError:
        return False


def sign_in(page: Page, name: str) -> None:
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def test_from_the_menu_to_the_page_to_the_payment_and_to_the_certificate(
    person: Person, stand: Stand, offsets_run: str, year: str
) -> None:
    page = person.open_offsets()
    assert page.url == f"{stand.airflow.url}/carbonmark-offsets/"
    assert heading(page).startswith("Carbon offsets")
    page.get_by_role("link", name="Test mode").click()
    page.goto(f"{stand.airflow.url}/carbonmark-offsets/?month=1997-03&test=1")
    row = page.locator("tbody", has=page.get_by_text("page-visitors", exact=True))
    assert "To be paid" in row.inner_text()

    with page.expect_popup() as opened:
        row.get_by_role("link", name="Payment page").click()
    opened.value.wait_for_load_state()
    pay_with(opened.value)
    stand.expect_success(MONTHLY_OFFSET, offsets_run)

    page.reload()
    assert "Retired, as a rehearsal" in row.inner_text()
    with page.expect_popup() as opened:
        row.get_by_role("link", name="Certificate").click()
    opened.value.wait_for_load_state()
    assert opened.value.url.startswith(stand.sandbox.url)
    row.get_by_role("link", name=MONTHLY_OFFSET).click()
    page.get_by_text(offsets_run).first.wait_for()
    assert page.url.startswith(
        f"{stand.airflow.url}/dags/{MONTHLY_OFFSET}/runs/{quote(offsets_run, safe='')}"
    )


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


def test_below_a_path_somebody_signs_in_and_finds_the_page_and_its_runs(
    browser: Browser, below_a_path: str, offsets_run: str, year: str
) -> None:
    person = Person(browser, below_a_path)
    answer = person.page.goto(f"{below_a_path}/carbonmark-offsets/{year}")
    assert answer is not None
    assert (answer.status, heading(person.page)) == (401, "Please sign in")

    person.page.get_by_role("link", name="Sign in to Airflow").click()
    sign_in(person.page, "anna")
    person.page.get_by_role("heading", name="Carbon offsets").wait_for()
    assert person.page.url == f"{below_a_path}/carbonmark-offsets/"

    page = person.open_offsets()
    assert page.url == f"{below_a_path}/carbonmark-offsets/"
    page.goto(f"{page.url}{year}")
    page.get_by_role("link", name=f"October {YEAR}").click()
    page.get_by_role("link", name=MONTHLY_OFFSET).first.click()
    page.get_by_text(offsets_run).first.wait_for()
    assert page.url.startswith(f"{below_a_path}/dags/{MONTHLY_OFFSET}/runs/")
    person.close()


def test_somebody_without_rights_is_told_so(browser: Browser, below_a_path: str, year: str) -> None:
    person = Person(browser, below_a_path)
    person.page.goto(f"{below_a_path}/carbonmark-offsets/")
    person.page.get_by_role("link", name="Sign in to Airflow").click()
    sign_in(person.page, "bob")
    person.page.get_by_role("heading", name="You may not see this").wait_for()
    assert "page-visitors" not in person.page.content()
    person.close()


def test_the_page_is_shown_in_nobody_s_frame(person: Person, stand: Stand, year: str) -> None:
    person.page.goto(f"{stand.airflow.url}/")
    person.page.evaluate(
        "url => { const frame = document.createElement('iframe'); frame.src = url; document.body.append(frame);"
        " return new Promise(done => { frame.onload = done }) }",
        f"{stand.airflow.url}/carbonmark-offsets/{year}",
    )
    assert [frame.url for frame in person.page.frames[1:]] == ["chrome-error://chromewebdata/"]
