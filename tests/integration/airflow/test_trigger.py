"""The triggerer's half: stored without secrets, one event, one client for all waits of a connection and loop."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_carbonmark.api.client import AsyncCarbonmarkClient
from airflow_provider_carbonmark.api.waiting import WaitTerms
from airflow_provider_carbonmark.hooks import shared_client as module
from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook
from airflow_provider_carbonmark.hooks.shared_client import shared_client
from airflow_provider_carbonmark.triggers.carbonmark import CarbonmarkRetirementTrigger
from tests.integration.airflow.parts import START, fire, polls, stored
from tests.integration.conftest import KEY

STUCK = "4000000000001026"


def make_trigger(
    payment_id: str, *, started: datetime = START, seconds: float = 600, **terms
) -> CarbonmarkRetirementTrigger:
    return CarbonmarkRetirementTrigger(
        carbonmark_conn_id="carbonmark_default",
        terms=WaitTerms(payment_id=payment_id, **terms).to_json(),
        started_at=started.isoformat(),
        deadline=(started + timedelta(seconds=seconds)).isoformat(),
        poke_interval=1,
        max_wait=300,
    )


@pytest.fixture
def reads(monkeypatch):
    """The connection reads, each a request to Airflow's API server."""
    reads = []
    read = CarbonmarkHook.aget_connection

    async def counted(conn_id):
        reads.append(conn_id)
        return await read(conn_id)

    monkeypatch.setattr(CarbonmarkHook, "aget_connection", counted)
    return reads


class Clients(list):
    def __init__(self):
        self.polls_begun = asyncio.Semaphore(0)


@pytest.fixture
def clients(monkeypatch):
    """The clients made, with what became of them."""
    made = Clients()

    class Counted(AsyncCarbonmarkClient):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)
            self.closed = 0
            self.in_flight = self.most_in_flight = 0

        async def get_payment(self, payment_id):
            assert not self.closed
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            made.polls_begun.release()
            try:
                return await super().get_payment(payment_id)
            finally:
                self.in_flight -= 1

        async def aclose(self):
            self.closed += 1
            await super().aclose()

    monkeypatch.setattr(module, "AsyncCarbonmarkClient", Counted)
    return made


async def fire_all(triggers) -> list[dict]:
    return await asyncio.gather(*(fire(trigger) for trigger in triggers))


def nothing_left() -> bool:
    return not any(module._clients.values())


# --- what is stored, and what is fired


def test_what_is_stored_is_plain_json_without_the_key(connect, clock):
    connect(KEY)
    trigger = make_trigger("pay_1", allow_test_mode=True)
    path, arguments = trigger.serialize()
    assert stored(trigger).serialize() == (path, arguments)
    assert KEY not in json.dumps(arguments)
    names = "carbonmark_conn_id terms started_at deadline poke_interval max_wait not_before"
    assert set(arguments) == {*names.split()}


async def test_a_restarted_triggerer_goes_on_where_it_was(sandbox, clock, buy):
    _, payment_id = buy(STUCK)
    clock.advance(500)
    event = await fire(stored(make_trigger(payment_id)))
    assert event["outcome"] == "timeout"
    # Not with pauses of a second again, and not with a new deadline.
    assert len([pause for pause in clock.sleeps if pause]) == 1
    assert clock.elapsed == pytest.approx(600, abs=0.1)


@pytest.mark.parametrize("apart", [timedelta(minutes=7), -timedelta(minutes=7)])
async def test_a_worker_whose_clock_is_off_neither_ends_nor_delays_the_wait_for_a_payment_that_is_not_there_yet(
    sandbox, clock, buy, apart
):
    sandbox.state.change_switches(payment_visible_seconds=60, retirement_seconds=0)
    _, payment_id = buy()
    event = await fire(make_trigger(payment_id, started=START + apart, seconds=86_400))
    assert event["outcome"] == "retired"
    assert clock.elapsed < 300


async def test_a_deadline_that_passed_while_no_triggerer_ran_still_gets_a_last_poll(sandbox, clock, buy):
    _, payment_id = buy()
    clock.advance(100_000)
    assert (await fire(make_trigger(payment_id)))["outcome"] == "retired"


async def test_waits_whose_polls_all_hang_end_in_time_although_they_queue(connect, silent, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CARBONMARK__MAX_CONCURRENT_POLLS", "1")
    started, most = datetime.now(UTC), timedelta(seconds=20)
    connect(host=f"http://127.0.0.1:{silent}", timeout=1)
    waits = [make_trigger("pay_1", started=started, seconds=1) for _ in range(40)]
    events = await fire_all(waits)
    assert {event["outcome"] for event in events} == {"timeout"}
    assert datetime.now(UTC) - started < most


async def test_a_failed_poll_is_followed_by_the_wait_s_own_pause(sandbox, clock, buy):
    sandbox.state.change_switches(retirement_seconds=0)
    _, payment_id = buy()
    sandbox.state.change_switches(faults=[{"kind": "error", "path": "/payments/", "next": 4}])
    await fire(make_trigger(payment_id))
    times = [each["at"] for each in polls(sandbox)]
    assert len(set(times)) == len(times) == 5


async def test_an_unusable_connection_fails_the_wait(connect, clock):
    connect(host="ftp://example.com")
    event = await fire(make_trigger("pay_1"))
    assert event["outcome"] == "untold"
    assert "connection 'carbonmark_default', host" in event["reason"]
    assert nothing_left()


# --- one client for all


@pytest.mark.parametrize(("setting", "most"), [(None, 10), ("4", 4), ("0", 1)])
async def test_waits_share_one_client_one_read_of_the_connection_and_so_many_polls_at_once(
    sandbox, clock, buy, reads, clients, monkeypatch, setting, most
):
    if setting:
        monkeypatch.setenv("AIRFLOW__CARBONMARK__MAX_CONCURRENT_POLLS", setting)
    _, payment_id = buy()
    # Slow enough that polls meet. The sandbox's own time is real.
    sandbox.state.change_switches(latency=0.005)
    before = sandbox.state.connections
    events = await fire_all(make_trigger(payment_id) for _ in range(50))
    assert {event["outcome"] for event in events} == {"retired"}
    assert reads == ["carbonmark_default"]
    (client,) = clients
    assert client.most_in_flight == most
    assert sandbox.state.connections - before <= most
    assert client.closed == 1
    assert nothing_left()


async def test_waits_on_other_connections_have_clients_of_their_own(
    sandbox, clock, buy, clients, reads, monkeypatch
):
    sandbox.state.change_switches(retirement_seconds=0)
    _, payment_id = buy()
    monkeypatch.setenv("AIRFLOW_CONN_SECOND", os.environ["AIRFLOW_CONN_CARBONMARK_DEFAULT"])
    other = make_trigger(payment_id)
    other.carbonmark_conn_id = "second"
    await fire_all([make_trigger(payment_id), other])
    assert sorted(reads) == ["carbonmark_default", "second"]
    assert [client.closed for client in clients] == [1, 1]


async def test_waits_that_are_cancelled_close_the_client_too(sandbox, clock, buy, clients, monkeypatch):
    _, payment_id = buy(STUCK)
    asleep = asyncio.Semaphore(0)

    async def sleep_for_ever(seconds):
        if seconds:
            asleep.release()
            await asyncio.Event().wait()

    monkeypatch.setattr("airflow_provider_carbonmark.triggers.carbonmark.asyncio.sleep", sleep_for_ever)
    waits = [asyncio.create_task(fire(make_trigger(payment_id))) for _ in range(5)]
    for _ in waits:
        await asleep.acquire()
    for number, wait in enumerate(waits):
        (client,) = clients
        assert client.closed == 0
        wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait
        assert client.closed == (number == len(waits) - 1)
    assert nothing_left()


async def test_a_wait_cancelled_while_it_polls_leaves_the_others_their_client(sandbox, clock, buy, clients):
    sandbox.state.change_switches(retirement_seconds=0, latency=0.02)
    _, payment_id = buy()
    first, second = (asyncio.create_task(fire(make_trigger(payment_id))) for _ in range(2))
    for _ in range(2):
        await clients.polls_begun.acquire()
    assert clients[0].in_flight == 2
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await second)["outcome"] == "retired"
    assert clients[0].closed == 1
    assert nothing_left()


def test_two_loops_do_not_share_a_client(sandbox, connect, clients):
    async def in_another_loop():
        async with shared_client("carbonmark_default") as shared:
            return shared

    async def main():
        async with shared_client("carbonmark_default") as mine:
            others = []
            thread = threading.Thread(target=lambda: others.append(asyncio.run(in_another_loop())))
            thread.start()
            await asyncio.to_thread(thread.join)
            assert others[0] is not mine
            assert [client.closed for client in clients] == [0, 1]
            async with shared_client("carbonmark_default") as again:
                assert again is mine

    asyncio.run(main())
    assert [client.closed for client in clients] == [1, 1]


# --- a key that is replaced while waits go on


async def test_a_key_that_is_replaced_again_and_again_is_picked_up_without_ending_a_wait(
    sandbox, clock, buy, connect, reads, clients
):
    sandbox.state.change_switches(retirement_seconds=2000)
    _, payment_id = buy()

    def rotate():
        # The old key is revoked, the connection has the new one.
        if clock.elapsed > 400 * len(reads) and len(reads) < 4:
            connect(f"cm_api_new_{len(reads)}")
            sandbox.state.change_switches(
                faults=[{"kind": "error", "status": 401, "next": 1, "path": "/payments/"}]
            )

    clock.before_sleep = rotate
    assert (await fire(make_trigger(payment_id, seconds=5000)))["outcome"] == "retired"
    assert len(reads) == 4
    assert [client.closed for client in clients] == [1] * 4
    assert nothing_left()


async def test_many_waits_pick_a_replaced_key_up_together(sandbox, clock, buy, connect, reads, clients):
    _, payment_id = buy()
    connect("wrong")
    events = []

    async def replaced_during_the_first_polls():
        await clients.polls_begun.acquire()
        connect(KEY)

    *events, _ = await asyncio.gather(
        *(fire(make_trigger(payment_id)) for _ in range(20)), replaced_during_the_first_polls()
    )
    assert {event["outcome"] for event in events} == {"retired"}
    assert len(reads) == 2
    assert [client.closed for client in clients] == [1, 1]


async def test_a_key_that_stays_wrong_fails_every_wait_with_its_remedy(sandbox, clock, buy, connect, reads):
    _, payment_id = buy()
    connect("cm_geheim")
    events = await fire_all(make_trigger(payment_id) for _ in range(5))
    assert {event["outcome"] for event in events} == {"untold"}
    assert all("HTTP 401" in event["reason"] for event in events)
    assert all("geheim" not in event["reason"] for event in events)
    assert len(reads) <= 6
    assert nothing_left()


async def test_a_connection_that_became_test_mode_does_not_retire(sandbox, clock, buy, connect):
    _, payment_id = buy()
    connect("cm_api_sandbox_1", environment=None)
    event = await fire(make_trigger(payment_id))
    assert event["outcome"] == "not_as_asked"
    assert "test mode" in event["reason"]
