"""Trouble at the moment of return: Carbonmark down or slow of mind, two payments for one link, several servers at once."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from airflow_provider_carbonmark.web import waking
from tests.integration.web.buyers.conftest import KEY
from tests.integration.web.buyers.parts import Task, WaitingTask, title
from tests.integration.web.buyers.test_return import ALREADY, PAID, UNCHECKED, UNKNOWN

SERVER = """
import sys, warnings
warnings.simplefilter("ignore")
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
import airflow_provider_carbonmark.web.buyers
from airflow_provider_carbonmark.web.plugin import CarbonmarkPlugin
app = Starlette(routes=[Mount("/carbonmark", CarbonmarkPlugin.fastapi_apps[0]["app"])])
config = uvicorn.Config(app, port=0, log_level="warning", lifespan="off")
server = uvicorn.Server(config)
config.load()
import asyncio
async def main():
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print("PORT", server.servers[0].sockets[0].getsockname()[1], flush=True)
    await serving
asyncio.run(main())
"""


def errors(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


def unverified(payment_id: str, *others: str) -> dict:
    return {"payment_id": payment_id, "verified": False, "other_payment_ids": list(others)}


def verified(payment_id: str, *others: str) -> dict:
    return {"payment_id": payment_id, "verified": True, "other_payment_ids": list(others)}


# --- Carbonmark can't be asked


@pytest.mark.parametrize(
    "trouble",
    [
        {"status": 503},
        {"status": 500},
        {"status": 429},
        {"status": 401},
        {"status": 403},
        {"kind": "html"},
    ],
    ids=str,
)
def test_what_can_not_be_checked_is_recorded_and_passed_on(link, buyer, sandbox, trouble):
    waiting = WaitingTask(link).ask().park()
    url = buyer.pay(link)
    payment_id = url.rpartition("/")[2]
    fault = {"kind": "error", "path": "/payments"} | trouble
    sandbox.state.change_switches(faults=[fault])
    page = buyer.go(url)
    assert title(page) == UNCHECKED
    assert "has been noted" in page.text
    assert "refresh" not in page.headers
    assert link.record() == unverified(payment_id)
    assert waiting.answer.form == {"payment_id": payment_id}


def test_nobody_listens(link, buyer, connect):
    url = buyer.pay(link)
    connect(host="http://127.0.0.1:9")
    assert title(buyer.go(url)) == UNCHECKED
    assert link.record() == unverified(url.rpartition("/")[2])


def test_an_unverified_payment_is_verified_when_the_buyer_looks_again(link, buyer, connect):
    url = buyer.pay(link)
    connect(host="http://127.0.0.1:9")
    assert [title(buyer.go(url)), title(buyer.go(url))] == [UNCHECKED, UNCHECKED]
    connect()
    assert [title(buyer.go(url)), title(buyer.go(url))] == [PAID, ALREADY]
    assert link.record() == verified(url.rpartition("/")[2])


def test_an_unverified_payment_gives_way_to_a_verified_one(link, buyer, connect):
    url = buyer.pay(link)
    base, _, payment_id = url.rpartition("/")
    connect(host="http://127.0.0.1:9")
    buyer.go(f"{base}/pay_made_up")
    connect()
    assert title(buyer.go(url)) == PAID
    assert link.record() == verified(payment_id, "pay_made_up")


def test_an_unverified_payment_that_proves_genuine_stays_the_first(link, buyer, connect, sandbox, caplog):
    first, second = pay_twice(link, buyer, sandbox)
    connect(host="http://127.0.0.1:9")
    buyer.go(first)
    connect()
    assert title(buyer.go(second)) == ALREADY
    assert link.record() == verified(id_of(first), id_of(second))
    assert len(errors(caplog)) == 1


def test_while_nobody_can_check_a_flood_of_ids_is_bounded(link, buyer, connect, caplog):
    url = buyer.pay(link)
    base, _, payment_id = url.rpartition("/")
    connect(host="http://127.0.0.1:9")
    buyer.go(url)
    for number in range(40):
        buyer.go(f"{base}/pay_{number}")
    assert len(link.record()["other_payment_ids"]) == 20
    assert link.record()["payment_id"] == payment_id
    assert len(errors(caplog)) == 20


# --- not known yet


def test_a_payment_that_is_not_known_yet_is_looked_for_again(link, buyer, sandbox):
    sandbox.state.change_switches(payment_visible_seconds=3600)
    url = buyer.pay(link)
    page = buyer.go(url)
    assert (page.status_code, title(page)) == (200, UNCHECKED)
    assert page.headers["refresh"] == "10; url=?look=1"
    assert link.record() is None
    assert buyer.go(f"{url}?look=7").headers["refresh"] == "10; url=?look=8"
    last = buyer.go(f"{url}?look=30")
    assert "refresh" not in last.headers
    assert url.rpartition("/")[2] in last.text
    assert "refresh" not in buyer.go(f"{url}?look=999").headers
    for odd in ("x", "-1", "9999999", "²", ""):
        assert buyer.go(f"{url}?look={odd}").headers["refresh"] == "10; url=?look=1"
    httpx.post(f"{sandbox.url}/sandbox/clock", json={"advance_seconds": 3600}).raise_for_status()
    assert title(buyer.go(f"{url}?look=2")) == PAID


def test_a_page_that_is_not_paid_yet_records_nothing(make_link, buyer, sandbox):
    sandbox.state.change_switches(checkout_layout="rich")
    link = make_link()
    (checkout,) = sandbox.state.checkouts.values()
    page = buyer.go(f"{checkout.order.success_url}/{link.checkout['payment_id']}")
    assert title(page) == UNCHECKED
    assert link.record() is None


# --- two payments


def test_a_second_payment_is_recorded_beside_the_first_and_reported(link, buyer, sandbox, caplog):
    waiting = WaitingTask(link).ask().park()
    first, second = pay_twice(link, buyer, sandbox)
    assert [title(buyer.go(first)), title(buyer.go(second))] == [PAID, ALREADY]
    assert link.record() == verified(id_of(first), id_of(second))
    assert waiting.answer.form == {"payment_id": id_of(first)}
    (error,) = errors(caplog)
    assert id_of(first) in error
    assert id_of(second) in error
    assert title(buyer.go(second)) == ALREADY
    assert len(errors(caplog)) == 1


def test_one_payment_counts_for_one_link_of_a_run_only(make_link, buyer):
    first, second = make_link(Task(map_index=0)), make_link(Task(map_index=1))
    payment_id, _ = buyer.come_back(first)
    other = buyer.pay(second).rpartition("/")[0]
    page = buyer.go(f"{other}/{payment_id}")
    assert (page.status_code, title(page)) == (404, UNKNOWN)
    assert second.record() is None


# --- several servers at the same moment


@pytest.fixture
def two_servers(link):
    servers = [
        subprocess.Popen(
            [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
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


def test_two_servers_record_one_payment(link, buyer, sandbox, two_servers, airflow_url):
    for _ in range(5):
        urls = pay_twice(link, buyer, sandbox)
        link.forget_payment()
        waiting = WaitingTask(link).ask().park()
        visits = [url.replace(airflow_url, server) for url in urls for server in two_servers * 3]
        with ThreadPoolExecutor(len(visits)) as people:
            pages = list(people.map(lambda url: httpx.get(url, timeout=60, trust_env=False), visits))
        assert {title(page) for page in pages} <= {PAID, ALREADY}
        record = link.record()
        assert record["verified"]
        assert {record["payment_id"], *record["other_payment_ids"]} == {id_of(url) for url in urls}
        assert waiting.answer.form == {"payment_id": record["payment_id"]}
        waiting.remove()


# --- Airflow in trouble


def test_a_payment_is_recorded_even_if_airflow_can_not_wake_the_task(link, buyer, monkeypatch, caplog):
    def changed(**arguments):
        raise TypeError("unexpected keyword argument")

    monkeypatch.setattr(waking, "update_hitl_detail", changed)
    waiting = WaitingTask(link).ask().park()
    payment_id, page = buyer.come_back(link)
    assert title(page) == PAID
    assert link.record() == verified(payment_id)
    assert waiting.answer is None
    assert "can't be woken" in errors(caplog)[0]


def test_a_database_that_is_away_makes_the_page_look_again(link, buyer, monkeypatch):
    url = buyer.pay(link)
    with monkeypatch.context() as broken:
        broken.setattr(waking, "find_link", lambda link: 1 / 0)
        page = buyer.go(url)
        assert (page.status_code, title(page)) == (200, UNCHECKED)
        assert page.headers["refresh"]
        assert "ZeroDivision" not in page.text
    assert title(buyer.go(url)) == PAID


@pytest.mark.parametrize("step", ["_write_record", "_answer_waiting"])
def test_killed_in_the_middle_leaves_nothing_half_done(link, buyer, monkeypatch, step):
    class Killed(BaseException):
        """The server is gone, and nothing catches that."""

    real = getattr(waking, step)

    def killed(*arguments):
        real(*arguments)
        raise Killed

    waiting = WaitingTask(link).ask().park()
    url = buyer.pay(link)
    with monkeypatch.context() as dying:
        dying.setattr(waking, step, killed)
        with pytest.raises(Killed):
            waking.record_payment(waking.LinkKey(**link.where), id_of(url), verified=True)
    # Before 3.3, Airflow commits with the answer: then all is done.
    done = bool(waiting.answer)
    assert bool(link.record()) is done
    assert title(buyer.go(url)) == (ALREADY if done else PAID)
    assert waiting.answer.form == {"payment_id": id_of(url)}
    assert link.record() == verified(id_of(url))


def id_of(url: str) -> str:
    return url.rpartition("/")[2]


def pay_twice(link: Task, buyer, sandbox) -> tuple[str, str]:
    """Make two genuine payments for one link, as two browser tabs might, and return where each buyer goes."""
    (checkout, *_) = sandbox.state.checkouts.values()
    first = buyer.pay(link)
    order = {
        "asset_price_source_id": checkout.order.asset_price_source_id,
        "quantity_tonnes": float(checkout.order.quantity_tonnes),
        "metadata": dict(checkout.order.metadata),
        "success_url": checkout.order.success_url,
        "cancel_url": checkout.order.cancel_url,
    }
    twin = httpx.post(f"{sandbox.url}/checkout", json=order, headers={"authorization": f"Bearer {KEY}"})
    form = {"card_number": "4242 4242 4242 4242", "expiry": "12 / 34", "cvc": "123"}
    return first, httpx.post(twin.json()["url"], data=form).headers["location"]
