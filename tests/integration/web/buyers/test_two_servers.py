"""Two API servers at once, each a process of its own, on one ledger; on PostgreSQL, see tests/e2e/test_every_version.py."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.integration.web.buyers.parts import ALREADY, PAID_PAGE, WaitingTask, forget_all, id_of
from tests.integration.web.serving import title

ROOT = Path(__file__).parents[4]
SERVER = """
import sys, warnings
warnings.simplefilter("ignore")
from airflow.api_fastapi.app import create_auth_manager
from starlette.applications import Starlette
from starlette.routing import Mount
from airflow_provider_carbonmark.hooks.return_url import PREFIX
from tests.integration.web.buyers.parts import PATIENT, buyers
from tests.integration.web.serving import serving
create_auth_manager()
with serving(Starlette(routes=[Mount(PREFIX, buyers.create_app(PATIENT))])) as url:
    print("SERVES", url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def two_servers(link):
    servers = [
        subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        for _ in range(2)
    ]
    try:
        yield [url_of(server) for server in servers]
    finally:
        for server in servers:
            server.kill()
            server.communicate()


def url_of(server) -> str:
    return next(line.split()[1] for line in server.stdout if line.startswith("SERVES "))


def test_two_servers_record_one_payment(make_link, buyer, two_servers, api_server):
    for turn in range(3):
        link = make_link(run_id=f"turn {turn}")
        urls = buyer.pay_twice(link)
        waiting = WaitingTask(link).ask().park()
        visits = [url.replace(api_server.url, server) for url in urls for server in two_servers * 3]
        with ThreadPoolExecutor(len(visits)) as people:
            pages = list(people.map(lambda url: httpx.get(url, timeout=60, trust_env=False), visits))
        assert {title(page) for page in pages} <= {PAID_PAGE, ALREADY}
        assert link.brought == {id_of(url): True for url in urls}
        assert waiting.answered_with == link.paid_with
        forget_all()


def test_two_servers_make_one_next_link(make_link, buyer, two_servers, sandbox):
    sandbox.state.change_switches(honour_idempotency_key=False)
    for turn in range(3):
        link = make_link(run_id=f"turn {turn}").expired()
        with ThreadPoolExecutor(6) as people:
            led = list(people.map(partial(buyer.nobody_paid, link, 1), two_servers * 3))
        assert {page.headers["location"] for page in led} == {link.current}
        assert len(link.ledger.links(link.number)) == 2
        forget_all()
