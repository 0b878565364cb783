"""
An Airflow that is below a path altogether, such as one of several behind one host: what is shown, linked and returned to is there too.

Its scheduler keeps to the schedules, so it has few DAGs: a purchase, and the report that follows each retirement.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.e2e.airflow_stack import DAGS
from tests.e2e.browser import Person, heading, pay_with
from tests.e2e.buyer import THANKS
from tests.e2e.conftest import API_KEY, TEST_DAGS
from tests.e2e.processes import wait_until
from tests.e2e.stand import ESG_REPORT, Stand

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.e2e

PATH = "/team/airflow"
PURO_OFFSET = "puro_offset"


@pytest.fixture(scope="module")
def below(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    dags = tmp_path_factory.mktemp("airflow") / "dags"
    dags.mkdir()
    for file in (TEST_DAGS / f"{PURO_OFFSET}.py", DAGS / f"{ESG_REPORT}.py"):
        shutil.copy(file, dags)
    # Nothing but [api] base_url says where buyers come back to.
    env = {"AIRFLOW__CARBONMARK__RETURN_BASE_URL": "", "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True"}
    with Stand(API_KEY, path=PATH, dags=(dags,), env=env) as stand:
        api = stand.airflow.api
        # The run that the schedule asks for at once. Seen (3.3.2, SQLite): another that is asked for as its task starts is answered 500.
        scheduled = wait_until(lambda: api.runs(ESG_REPORT), what="the schedule's first run", timeout=60)
        api.wait_for_run(ESG_REPORT, scheduled[0]["dag_run_id"])
        yield stand


@pytest.fixture
def person(browser: Browser, below: Stand) -> Iterator[Person]:
    person = Person(browser, below.airflow.url)
    yield person
    person.close()


def test_from_the_menu_to_the_page_to_the_payment_and_back_to_the_certificate_and_to_the_run(
    below: Stand, person: Person
) -> None:
    emissions = [{"entity": "below", "month": "2026-10", "emitted_tonnes": "0.2"}]
    conf = {"emissions": emissions, "allow_test_mode": True}
    run_id = below.airflow.api.trigger(PURO_OFFSET, conf)
    below.wait_for_links(run_id, PURO_OFFSET)

    ledger = person.open_offsets()
    assert ledger.url == f"{below.airflow.url}/carbonmark-offsets/"
    # On the rehearsals by itself, since there is nothing else.
    assert heading(ledger) == "Carbon offsets, October 2026"
    row = ledger.locator("tbody", has=ledger.get_by_text("below", exact=True)).last
    assert "To be paid" in row.inner_text()
    with ledger.expect_popup() as opened:
        row.get_by_role("link", name="Pay").click()
    payment = opened.value
    payment.wait_for_load_state()
    pay_with(payment)
    assert payment.url.startswith(f"{below.airflow.url}/carbonmark/return/")
    assert heading(payment) == THANKS
    below.expect_success(PURO_OFFSET, run_id)

    ledger.reload()
    assert "Retired, as a rehearsal" in row.inner_text()
    with ledger.expect_popup() as opened:
        row.get_by_role("link", name="Certificate").click()
    opened.value.wait_for_load_state()
    assert opened.value.url.startswith(below.sandbox.url)
    row.get_by_role("link", name=PURO_OFFSET).click()
    ledger.get_by_text(run_id).first.wait_for()
    assert ledger.url.startswith(f"{below.airflow.url}/dags/{PURO_OFFSET}/runs/")
    elsewhere = below.airflow.url.removesuffix(PATH)
    assert httpx.get(f"{elsewhere}/carbonmark-offsets/", trust_env=False).status_code == 404


def test_a_retirement_has_the_report_on_its_month_and_year_written(below: Stand) -> None:
    api = below.airflow.api
    (asset,) = api.get("assets", name_pattern="carbonmark_retirements")["assets"]
    api.post("assets/events", {"asset_id": asset["id"], "extra": {"months": ["2025-03"]}})
    reports = below.airflow.home / "carbonmark-reports"
    pages = [reports / period / "index.html" for period in ("2025-03", "2025")]
    wait_until(lambda: all(page.exists() for page in pages), what="the reports", timeout=120)

    assert json.loads((reports / "2025-03" / "report.json").read_text())["period"] == "2025-03"
