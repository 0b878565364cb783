"""An Airflow that is below a path altogether, such as one of several behind one host: what is shown, linked and returned to is there too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.browser import Person, chromium, heading, pay_with
from tests.e2e.conftest import API_KEY
from tests.e2e.stand import MONTHLY_OFFSET, Stand

pytestmark = pytest.mark.e2e

PATH = "/team/airflow"


@pytest.fixture
def usual_behaviour() -> None:
    """Take the place of the one that wants the usual Airflow to be running: this test starts one of its own."""


@pytest.fixture(scope="module")
def below() -> Iterator[Stand]:
    # Nothing but [api] base_url says where buyers come back to.
    with Stand(API_KEY, path=PATH, env={"AIRFLOW__CARBONMARK__RETURN_BASE_URL": ""}) as stand:
        yield stand


@pytest.fixture
def person(below: Stand) -> Iterator[Person]:
    with chromium() as browser:
        yield Person(browser, below.airflow.url)


def test_from_the_menu_to_the_page_to_the_payment_and_back_to_the_certificate_and_to_the_run(
    below: Stand, person: Person, tmp_path: Path
) -> None:
    file = tmp_path / "emissions.csv"
    file.write_text("timestamp,project_name,emissions\n2026-10-01T00:00:00,below,70\n")
    conf = {"emissions_file": file.as_uri(), "emissions_format": "codecarbon", "month": "2026-10"}
    run_id = below.start_month(conf | {"beneficiary": "Below a path"})

    ledger = person.open_offsets()
    assert ledger.url == f"{below.airflow.url}/carbonmark-offsets/"
    ledger.get_by_role("link", name="Test mode").click()
    ledger.goto(f"{below.airflow.url}/carbonmark-offsets/?month=2026-10&test=1")
    assert heading(ledger).startswith("Carbon offsets")
    row = ledger.locator("tbody", has=ledger.get_by_text("below", exact=True))
    assert "To be paid" in row.inner_text()
    with ledger.expect_popup() as opened:
        row.get_by_role("link", name="Payment page").click()
    payment = opened.value
    payment.wait_for_load_state()
    pay_with(payment)
    assert payment.url.startswith(f"{below.airflow.url}/carbonmark/return/")
    assert heading(payment) == "Thank you, your payment has arrived"
    below.expect_success(MONTHLY_OFFSET, run_id)

    ledger.reload()
    assert "Retired, as a rehearsal" in row.inner_text()
    with ledger.expect_popup() as opened:
        row.get_by_role("link", name="Certificate").click()
    opened.value.wait_for_load_state()
    assert opened.value.url.startswith(below.sandbox.url)
    row.get_by_role("link", name=MONTHLY_OFFSET).click()
    ledger.get_by_text(run_id).first.wait_for()
    assert ledger.url.startswith(f"{below.airflow.url}/dags/{MONTHLY_OFFSET}/runs/")
    elsewhere = below.airflow.url.removesuffix(PATH)
    assert httpx.get(f"{elsewhere}/carbonmark-offsets/", trust_env=False).status_code == 404
