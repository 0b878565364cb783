"""The page *Carbon offsets* in an Airflow with the FAB auth manager, below a path: who sees it, and where signing in leads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.e2e.airflow_stack import AirflowStack
from tests.e2e.browser import Person, heading
from tests.e2e.processes import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.e2e

FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Seen:
    """What somebody gets to see once they are signed in."""

    role: str
    status: int
    heading: str


EVERYBODY = [
    Seen("Admin", 200, "Carbon offsets"),
    Seen("Viewer", 200, "Carbon offsets"),
    Seen("Public", 403, "You may not see this"),
]


@pytest.fixture(scope="module")
def airflow() -> Iterator[str]:
    """Start an API server that knows the DAGs and somebody of each role, named after it; return its address."""
    stack = AirflowStack({"AIRFLOW__CORE__AUTH_MANAGER": FAB}, path="/team/airflow")
    server = stack.processes["api-server"]
    try:
        stack.cli("db", "migrate")
        stack.cli("dags", "reserialize")
        person = {"username": "Admin", "firstname": "A", "lastname": "B", "email": "Admin@example.com"}
        arguments = [f"--{name}={value}" for name, value in person.items()]
        stack.cli("users", "create", "--role=Admin", f"--password={PASSWORD}", *arguments)
        server.start()
        wait_until(lambda: server.check() or stack.api.health(), what="the API server", timeout=180)
        _add_people(stack.url)
        yield stack.url
    finally:
        stack.stop()


def _add_people(url: str) -> None:
    """Add the others, as the administrator: each command of Airflow's takes longer than all of them."""
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as http:
        signing_in = {"username": "Admin", "password": PASSWORD}
        token = http.post("/auth/token", json=signing_in).raise_for_status().json()["access_token"]
        for seen in EVERYBODY[1:]:
            person = {"username": seen.role, "first_name": "A", "last_name": "B", "password": PASSWORD}
            about = {"email": f"{seen.role}@example.com", "roles": [{"name": seen.role}]}
            headers = {"Authorization": f"Bearer {token}"}
            http.post("/auth/fab/v1/users", json=person | about, headers=headers).raise_for_status()


@pytest.mark.parametrize("seen", EVERYBODY, ids=lambda seen: seen.role)
def test_who_signs_in_comes_back_to_the_page_and_sees_what_their_role_may(
    browser: Browser, airflow: str, seen: Seen
) -> None:
    person = Person(browser, airflow)
    page, url = person.page, f"{airflow}/carbonmark-offsets/"
    answer = page.goto(url)
    assert answer is not None
    assert (answer.status, heading(page)) == (401, "Please sign in")

    page.get_by_role("link", name="Sign in to Airflow").click()
    page.locator("[name=username]").fill(seen.role)
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("form [type=submit]").click()
    page.wait_for_url(url)

    answer = page.reload()
    assert answer is not None
    assert (answer.status, heading(page)) == (seen.status, seen.heading)
    person.close()
