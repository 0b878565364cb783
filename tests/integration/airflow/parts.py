"""What plays Airflow's part: time, contexts, and the three ways a sensor waits."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseNotifier, TaskDeferred
from airflow.sdk.bases.sensor import AirflowRescheduleException

from airflow_provider_carbonmark.links import RetirementLink
from airflow_provider_carbonmark.sensors.carbonmark import CarbonmarkRetirementSensor
from airflow_provider_carbonmark.triggers.carbonmark import CarbonmarkRetirementTrigger
from tests.integration.conftest import KINDS

START = datetime(2026, 8, 20, 9, 0, tzinfo=UTC)
MODES = ("poke", "reschedule", "deferrable")

#: What comes before the ledger's database is the same with each, and so is what the ledger's own tests show with each.
sqlite_only = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
each_database = pytest.mark.parametrize("url", KINDS, indirect=True)
#: Each database, and a service that honours idempotency keys as well as one that doesn't: neither minds which of the other it is.
ledger_and_keys = pytest.mark.parametrize(
    ("url", "honoured"), [("sqlite", True), ("postgresql", False)], indirect=["url"]
)


class Clock:
    """Time that only moves when somebody sleeps."""

    # What is left of a sleep when Python's own is over: a little too much.
    OVERSHOOT = 0.001
    MANY = 5000

    def __init__(self, traveller: Any) -> None:
        self._traveller = traveller
        self.sleeps: list[float] = []
        #: Called before each sleep.
        self.before_sleep: Callable[[], None] = lambda: None

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)

    @property
    def elapsed(self) -> float:
        return (self.now - START).total_seconds()

    def advance(self, seconds: float) -> None:
        self._traveller.shift(seconds)

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        assert len(self.sleeps) < self.MANY, "this never ends"
        self.before_sleep()
        self.sleeps.append(seconds)
        self.advance(seconds + self.OVERSHOOT)

    async def async_sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.sleep(seconds)

    def monotonic(self) -> float:
        return self.elapsed


def make_context(
    *,
    run_id: str = "2026-07",
    task_id: str = "link",
    map_index: int = -1,
    first_reschedule: datetime | None = None,
) -> dict[str, Any]:
    """Return what a task sees of Airflow."""
    ti = SimpleNamespace(
        dag_id="offset",
        run_id=run_id,
        task_id=task_id,
        map_index=map_index,
        start_date=datetime.now(UTC),
        get_first_reschedule_date=lambda context: first_reschedule,
    )
    return {"ti": ti}


class Told(BaseNotifier):
    """A notifier that keeps what it told, which is a template."""

    template_fields = ("text",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.told: list[str] = []

    def notify(self, context: Any) -> None:
        self.told.append(self.text)


@contextmanager
def stranger(status: int, content_type: str = "text/html", body: bytes = b"") -> Iterator[str]:
    """Some other web server, which gives all requests the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Location", "https://login.example.com/")
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def asked(sandbox: Any, path: str) -> list[dict[str, Any]]:
    """Return the requests that a sandbox had for what begins with a path."""
    return [each for each in sandbox.state.requests if each["path"].startswith(path)]


def polls(sandbox: Any) -> list[dict[str, Any]]:
    """Return the requests for payments that a sandbox had."""
    return asked(sandbox, "/payments/")


def wait(mode: str, clock: Clock, **arguments: Any) -> Any:
    """Run a sensor to its end in one of the three modes, and return its result or raise what it raises."""

    def sensor() -> CarbonmarkRetirementSensor:
        # A new one each time, as each worker process makes its own.
        how = {"deferrable": True} if mode == "deferrable" else {"deferrable": False, "mode": mode}
        return CarbonmarkRetirementSensor(task_id="confirm", **how, **arguments)

    first_reschedule = None
    while True:
        started = clock.now
        context = make_context(first_reschedule=first_reschedule)
        current = sensor()
        try:
            return with_its_button(current, current.execute(context))
        except AirflowRescheduleException as pause:
            assert mode == "reschedule"
            first_reschedule = first_reschedule or started
            clock.sleep(max(0.0, (pause.reschedule_date - clock.now).total_seconds()))
        except TaskDeferred as deferred:
            return resume(sensor(), deferred)


def resume(sensor: CarbonmarkRetirementSensor, deferred: TaskDeferred) -> Any:
    """Do what triggerer and next worker do of a task that deferred."""
    # The triggerer keeps the deadline; the scheduler only steps in where no triggerer runs.
    assert deferred.timeout > timedelta(seconds=sensor.timeout)
    event = asyncio.run(fire(stored(deferred.trigger)))
    return with_its_button(
        sensor, sensor.resume_execution(deferred.method_name, {"event": event}, make_context())
    )


def with_its_button(sensor: CarbonmarkRetirementSensor, result: Any) -> Any:
    """Return a sensor's result, to which the button that Airflow asks for then has to lead."""
    assert RetirementLink().get_link(sensor, ti_key=None) == (result["certificate_url"] or "")
    return result


def stored(trigger: CarbonmarkRetirementTrigger) -> CarbonmarkRetirementTrigger:
    """Return a trigger as the triggerer makes it again from what the database holds."""
    path, arguments = trigger.serialize()
    assert path == "airflow_provider_carbonmark.triggers.carbonmark.CarbonmarkRetirementTrigger"
    return CarbonmarkRetirementTrigger(**json.loads(json.dumps(arguments)))


async def fire(trigger: CarbonmarkRetirementTrigger) -> dict[str, Any]:
    """Run a trigger to its end, and return what its one event says."""
    events = [event async for event in trigger.run()]
    assert len(events) == 1
    payload: dict[str, Any] = json.loads(json.dumps(events[0].payload))
    return payload
