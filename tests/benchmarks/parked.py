"""
What waiting for a payment costs in a real Airflow, and how soon it goes on once the buyer is back.

Each side's first wait is made by a real run; the other 9,999 are copies of that run in Airflow's database, which is PostgreSQL.
API server, scheduler, DAG processor and one triggerer run throughout, with Airflow's own intervals.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.benchmarks.measured import Row, compare, progress, run, run_module
from tests.e2e.buyer import pay
from tests.e2e.postgresql import postgresql
from tests.e2e.processes import StackError, wait_until
from tests.e2e.stand import Stand

WAITS = 10_000
SECONDS = 60
SETTLE_SECONDS = 20
RETURNS = 50
DAGS = Path(__file__).with_name("dags")

# The end-to-end tests hurry Airflow; these are its own defaults, but for the number of triggers that one triggerer takes.
SETTINGS = {
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "5",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "5",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1",
    "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "15",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "5",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "30",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "5",
    "AIRFLOW__TRIGGERER__CAPACITY": str(WAITS),
    # The API server's requests are counted by its access log.
    "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "http.access=INFO",
}


class NotThere(asyncio.Protocol):
    """Answers every request with 404, on which HttpSensor goes on waiting, and counts them."""

    polls = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n"):
            NotThere.polls += 1
            self._transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


@contextmanager
def not_there() -> Iterator[int]:
    """Serve on a thread while the block runs, and give the port."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(NotThere, "127.0.0.1", 0, backlog=4096))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@dataclass(frozen=True)
class Cost:
    """
    What happened so far, or in between.

    :param polls: requests to the service that is waited for.
    :param api: requests to Airflow's API server.
    :param triggerer: seconds of CPU of the triggerer, all its processes.
    :param scheduler: seconds of CPU of the scheduler and its idle workers.
    :param connections: reads of a connection since the side's waits began, each a request to the Execution API that the triggerer
        has in its own process.
    """

    polls: int
    api: int
    triggerer: float
    scheduler: float
    connections: int = 0

    def __sub__(self, before: Cost) -> Cost:
        return Cost(*(getattr(self, one.name) - getattr(before, one.name) for one in fields(self)))


class Bench:
    """
    One Airflow for all measurements.

    :param stand: what runs.
    """

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.api = stand.airflow.api
        self.listing = stand.listing()

    def database(self, *arguments: object) -> dict[str, Any]:
        """Do something in Airflow's database."""
        return dict(run_module("parked_process", *arguments, env=self.stand.airflow.env))

    def cost(self) -> Cost:
        """Return what happened so far."""
        log = self.stand.airflow.processes["api-server"].log.read_text()
        requests = self.stand.sandbox.control("GET", "state")["requests"]
        return Cost(
            polls=NotThere.polls + sum(requests.values()),
            api=log.count("/api/v2/") + log.count("/execution/"),
            triggerer=_cpu(self.stand.airflow.processes["triggerer"].pid),
            scheduler=_cpu(self.stand.airflow.processes["scheduler"].pid),
        )

    def measure(self, what: str) -> Cost:
        """Return what happens within the time."""
        before = self.cost()
        time.sleep(SECONDS)
        cost = self.cost() - before
        progress(f"parked: {what}: {cost}")
        return cost

    def wait(self, dag_id: str, state: str, conf: dict[str, Any] | None = None) -> Cost:
        """Let one run wait, copy it, and return what all these waits cost."""
        run_id = self.api.trigger(dag_id, conf)
        self.api.wait_for_task(dag_id, run_id, "waiting", state=state, timeout=120)
        progress(f"parked: copying the run of {dag_id}")
        reads = self.database("count", dag_id)["connection_reads"]
        self.database("copy", dag_id, run_id, WAITS - 1)
        if state == "deferred":
            wait_until(
                lambda: self.database("count", dag_id)["triggers"] == WAITS,
                what="the triggerer to take all triggers",
                timeout=120,
                interval=1,
            )
        time.sleep(SETTLE_SECONDS)
        cost = self.measure(dag_id)
        found = self.database("count", dag_id)
        asked = WAITS if state == "awaiting_input" else 0
        if found["states"] != {state: WAITS} or found["requests"] != asked:
            raise RuntimeError(f"Of {WAITS} waits of {dag_id} there are {found}")
        self.database("delete", dag_id)
        return replace(cost, connections=found["connection_reads"] - reads)

    def come_back(self) -> tuple[list[float], list[float]]:
        """Pay one link after the other; return after how many seconds its task ran again, and had ended."""
        dag_id = "returns"
        run_id = self.api.trigger(dag_id, {"listing": self.listing, "buyers": RETURNS})
        for index in range(RETURNS):
            self._wait_for_payment(run_id, index, "awaiting_input")
        progress(f"parked: {RETURNS} links can be paid")
        starts, ends = [], []
        for index in range(RETURNS):
            url = self.api.xcom(dag_id, run_id, "checkout", map_index=index)["checkout_url"]
            address = pay(url, come_back=False).url
            returned = time.time()
            httpx.get(address, timeout=60, trust_env=False).raise_for_status()
            ended = self._wait_for_payment(run_id, index, "success")
            which = {"dag_id": dag_id, "run_id": run_id, "task_id": "payment", "map_index": index}
            events = self.api.get("eventLogs", event="running", **which)["event_logs"]
            starts.append(max(_seconds(event["when"]) for event in events) - returned)
            ends.append(_seconds(ended["end_date"]) - returned)
        if min(starts) < 0:
            raise RuntimeError("A task ran again before its buyer was back")
        return starts, ends

    def _wait_for_payment(self, run_id: str, index: int, state: str) -> dict[str, Any]:
        path = f"dags/returns/dagRuns/{run_id}/taskInstances/payment/{index}"

        def reached() -> dict[str, Any] | None:
            try:
                task = self.api.get(path)
            except StackError:  # not mapped yet
                return None
            return task if task["state"] == state else None

        return wait_until(reached, what=f"payment {index} to be {state}", timeout=600, interval=0.5)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _cpu(pid: int) -> float:
    root = psutil.Process(pid)
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    # An idle worker may end in between; what it used is then its parent's.
    return float(sum(each.user + each.system + each.children_user + each.children_system for each in times))


def main() -> list[Row]:
    """Measure the returns, then an idle minute, then each side's minute, all in one Airflow."""
    with not_there() as port, postgresql() as database:
        progress("parked: starting Airflow")
        with Stand("cm_api_benchmark", env=SETTINGS, database=database, dags=(DAGS,)) as stand:
            # Where most sites keep their connections.
            add = ("connections", "add", "http_default", "--conn-type=http", "--conn-host=127.0.0.1")
            stand.airflow.cli(*add, f"--conn-port={port}")
            bench = Bench(stand)
            starts, ends = bench.come_back()
            progress(f"parked: {starts=} {ends=}")
            idle = bench.measure("nothing waits")
            ours = bench.wait("parked", "awaiting_input", {"listing": bench.listing})
            theirs = bench.wait("deferred", "deferred")
    return _rows(starts, ends, idle, ours, theirs)


def _rows(starts: list[float], ends: list[float], idle: Cost, ours: Cost, theirs: Cost) -> list[Row]:
    title = f"{WAITS:,} parked payments for {SECONDS} s"
    # Less than the one poll a minute of each that is HttpSensor's default: one triggerer gets no more done, because each poll asks
    # Airflow for the connection first, and the answers come one after the other.
    name = f"`HttpSensor`, {WAITS:,} deferred to one triggerer, which were to poll {WAITS * SECONDS // 60:,} times"
    asked = [side.api + side.connections for side in (ours, theirs)]
    after = f"{RETURNS} returns, one at a time: buyer's return until the task"

    def row(what: str, mine: float, other: float, text: str, target: str = "") -> Row:
        return compare(
            f"{title}: {what}", mine, other, text, name, target, their_text=text.partition(" (")[0]
        )

    return [
        row("requests to the service", ours.polls, theirs.polls, "{:,}", "ours 0"),
        row("requests to the Airflow API, also when the waits began", *asked, "{:,}", "ours 0"),
        *(
            row(f"{who} CPU", mine, other, f"{{:.1f}} s (nothing waits: {nothing:.1f} s)")
            for who, mine, other, nothing in (
                ("triggerer", ours.triggerer, theirs.triggerer, idle.triggerer),
                ("scheduler", ours.scheduler, theirs.scheduler, idle.scheduler),
            )
        ),
        Row(f"{after} runs again", _median_and_worst(starts)),
        Row(f"{after} has ended with the payment id", _median_and_worst(ends)),
    ]


def _median_and_worst(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} s median, {max(seconds):.1f} s worst"


if __name__ == "__main__":
    run(main)
