"""Two API servers at once, each a process of its own, on one ledger; on PostgreSQL, see tests/e2e/test_every_version.py."""

from __future__ import annotations

import os
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
import asyncio, warnings
warnings.simplefilter("ignore")
import uvicorn
from airflow.api_fastapi.app import create_auth_manager
from starlette.applications import Starlette
from starlette.routing import Mount
from airflow_provider_carbonmark.hooks.return_url import PREFIX
from tests.integration.web.buyers.parts import PATIENT, buyers
create_auth_manager()
app = Starlette(routes=[Mount(PREFIX, buyers.create_app(PATIENT))])
server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
async def main():
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print("PORT", server.servers[0].sockets[0].getsockname()[1], flush=True)
    await serving
asyncio.run(main())
"""


@pytest.fixture
def two_servers(link):
    servers = [
        subprocess.Popen(
            [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True, env=dict(os.environ), cwd=ROOT
        )
        for _ in range(2)
    ]
    try:
        yield [f"http://127.0.0.1:{port_of(server)}" for server in servers]
    finally:
        for server in servers:
            server.terminate()
            server.wait()
            server.stdout.close()


def port_of(server) -> int:
    for line in server.stdout:
        if line.startswith("PORT "):
            return int(line.split()[1])
    raise AssertionError("a server didn't start")


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
