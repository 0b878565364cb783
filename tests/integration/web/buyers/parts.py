"""Tasks as Airflow's database knows them, links as the ledger does, and the buyer's browser."""

from __future__ import annotations

import http.client
import logging
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import airflow.sdk.exceptions
from airflow.models.connection import Connection
from airflow.models.dagrun import DagRun
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import Engine, delete, event, insert, inspect, select, text, update

with warnings.catch_warnings():
    # What Airflow's API warns of itself while it is being imported differs from version to version.
    warnings.simplefilter("ignore")
    from airflow.api_fastapi.core_api.routes.public import hitl  # noqa: F401

    from airflow_provider_carbonmark.web.buyers import app as buyers  # noqa: F401

from airflow_provider_carbonmark.hooks.return_url import pay_url
from airflow_provider_carbonmark.ledger.names import Run, Task
from airflow_provider_carbonmark.ledger.tables.schema import links
from airflow_provider_carbonmark.operators.payment import DECLINE, PAID
from airflow_provider_carbonmark.web.buyers.desk import Limits

if TYPE_CHECKING:
    import httpx
    import pytest

    from airflow_provider_carbonmark.ledger import Ledger
    from airflow_provider_carbonmark.ledger.purchase import Purchase
    from airflow_provider_carbonmark.sandbox import SandboxServer

T = TypeVar("T")

PARKED = "awaiting_input" if hasattr(airflow.sdk.exceptions, "TaskAwaitingInput") else "deferred"
DAG_ID, RUN_ID = "offset", "scheduled__2026-08-21T00:00:00+00:00"
GOOD_CARD = {"card_number": "4242 4242 4242 4242", "expiry": "12 / 34", "cvc": "123"}
# From Airflow 3.4, a task's index is one within a region.
_INDEX = "region_index" if "region_index" in TaskInstance.__table__.c else "map_index"
#: For tests of anything but the limits: a busy machine takes its time.
PATIENT = Limits(page=50.0, check=30.0, waking=30.0)


def forget_all() -> None:
    """Empty the tables that a run leaves rows in."""
    with create_session(scoped=False) as session:
        for model in (HITLDetail, TaskInstance, DagRun):
            session.execute(delete(model.__table__))


def everything(ledger: Ledger) -> list[Any]:
    """Return every row of every table of Airflow's database and the ledger's."""
    with create_session(scoped=False) as session, ledger.reading() as connection:
        databases = [each for each in (session.connection(), connection) if each is not None]
        return [
            database.execute(text(f'SELECT * FROM "{table}"')).all()
            for database in databases
            for table in sorted(inspect(database).get_table_names())
        ]


@contextmanager
def costing_a_hash(
    ledger: Ledger, sandbox: SandboxServer, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Check that what is asked meanwhile costs no look-up, query, write or line in the log, and no request to Carbonmark."""
    before, asked = everything(ledger), len(sandbox.state.requests)
    looked_up: list[object] = []

    def count(*arguments: object) -> None:
        looked_up.append(arguments)

    caplog.set_level(logging.INFO)
    caplog.clear()
    monkeypatch.setattr(Connection, "get_connection_from_secrets", count)
    event.listen(Engine, "connect", count)
    event.listen(Engine, "before_cursor_execute", count)
    try:
        yield
    finally:
        event.remove(Engine, "connect", count)
        event.remove(Engine, "before_cursor_execute", count)
    assert looked_up == []
    assert (everything(ledger), len(sandbox.state.requests)) == (before, asked)
    # The browser's own log is the test's.
    assert [record.getMessage() for record in caplog.records if not record.name.startswith("http")] == []


def comes(look: Callable[[], T | None]) -> T:
    """Look until there is something, for a minute."""
    end = time.monotonic() + 60
    while (found := look()) is None:
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def send_raw(
    url: str, method: str = "GET", body: bytes | str | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], str]:
    """Send just what is said, whoever would tidy it up, and return status, headers and text of the answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    connection.request(method, url.partition(parts.netloc)[2].partition("#")[0], body, headers or {})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text


def errors(caplog: Any) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


@dataclass(frozen=True)
class Link:
    """A link that an operator made, and what the ledger knows of its purchase."""

    checkout: dict[str, Any]
    ledger: Ledger

    @property
    def number(self) -> int:
        number: int = self.checkout["purchase"]
        return number

    @property
    def purchase(self) -> Purchase:
        return self.ledger.purchase(self.number)

    @property
    def paid_with(self) -> str | None:
        return self.purchase.payment_id

    def was_asked_for(self, ago: timedelta) -> None:
        """Let the link be as old as that by the ledger's account."""
        self._change(links.c.purchase_id, asked_at=datetime.now(UTC) - ago)

    def expired(self) -> Link:
        """Let the current link have come to its end a minute ago, by the ledger's account."""
        return self.ends_at(datetime.now(UTC) - timedelta(minutes=1))

    def ends_at(self, end: datetime | None) -> Link:
        """Let the current link be good until then by the ledger's account, or for ever."""
        self._change(links.c.current_of, expires_at=end)
        return self

    def _change(self, column: Any, **values: Any) -> None:
        with self.ledger.reading() as connection:
            connection.execute(update(links).where(column == self.number).values(values))

    @property
    def pay_url(self) -> str:
        return pay_url(self.ledger, self.number) or ""

    @property
    def current(self) -> str:
        """Where the current link is paid."""
        return self.purchase.link.url

    @property
    def brought(self) -> dict[str, bool]:
        """The payment ids that were brought, and whether Carbonmark knows them as this link's."""
        return {each.payment_id: each.verified_at is not None for each in self.ledger.payments(self.number)}


class WaitingTask:
    """
    A task instance in Airflow's database that waits for the payment of a link, or is on its way to.

    :param assigned: who may answer; everybody when empty.
    :param deployment: the Airflow that it is of.
    :param columns: other columns of its row.
    """

    def __init__(
        self,
        link: Link,
        *,
        run_id: str = RUN_ID,
        map_index: int = -1,
        assigned: list[dict[str, str]] | None = None,
        deployment: str = "",
        **columns: Any,
    ) -> None:
        self.id = uuid.uuid4()
        self._assigned = assigned
        self.task = Task(Run(DAG_ID, run_id, deployment), "await", map_index)
        link.ledger.awaits(link.number, self.task, now=datetime.now(UTC))
        run = {"dag_id": DAG_ID, "run_id": run_id}
        row = {"pool": "default_pool", "state": "success", "try_number": 1, _INDEX: map_index} | columns
        with create_session(scoped=False) as session:
            if session.scalar(select(DagRun.id).filter_by(**run)) is None:
                now = datetime.now(UTC)
                session.execute(
                    insert(DagRun).values(run_type="manual", state="running", run_after=now, **run)
                )
            id = self._id(TaskInstance.id)
            session.execute(insert(TaskInstance.__table__).values(id=id, task_id="await", **run, **row))

    def _id(self, column: Any) -> Any:
        # The older one's type is text.
        return self.id if column.type.python_type is uuid.UUID else str(self.id)

    def ask(self) -> WaitingTask:
        row = {
            "options": [PAID, DECLINE],
            "subject": "Pay",
            "multiple": False,
            "params": {"payment_id": {"value": None, "schema": {"type": ["null", "string"]}}},
            "assignees": self._assigned,
            "created_at": datetime.now(UTC),
        }
        with create_session(scoped=False) as session:
            session.execute(insert(HITLDetail).values(ti_id=self._id(HITLDetail.ti_id), **row))
        return self

    def park(self) -> WaitingTask:
        parked = {"state": PARKED, "next_method": "execute_complete", "next_kwargs": {}}
        table = TaskInstance.__table__
        with create_session(scoped=False) as session:
            session.execute(update(table).where(table.c.id == self._id(table.c.id)).values(**parked))
        return self

    @property
    def request(self) -> Any:
        """Its request as Airflow has it; None where it made none."""
        table = HITLDetail.__table__
        is_it = table.c.ti_id == self._id(table.c.ti_id)
        with create_session(scoped=False) as session:
            return session.execute(select(table).where(is_it)).mappings().first()

    @property
    def answer(self) -> Any:
        """The answer to its request; None while nobody has answered."""
        row = self.request
        if row is None or row["responded_at"] is None:
            return None
        return SimpleNamespace(
            options=row["chosen_options"], form=row["params_input"], by=row["responded_by"]
        )

    def is_answered(self) -> Any:
        """Return the answer that somebody is about to give."""
        return comes(lambda: self.answer)

    @property
    def answered_with(self) -> str | None:
        return self.answer.form["payment_id"] if self.answer else None

    @property
    def state(self) -> str | None:
        table = TaskInstance.__table__
        with create_session(scoped=False) as session:
            return session.scalar(select(table.c.state).where(table.c.id == self._id(table.c.id)))


@dataclass
class Buyer:
    """Somebody with a browser and a card."""

    browser: httpx.Client
    sandbox: SandboxServer

    def pay(self, link: Link, url: str = "", **card: str) -> str:
        """
        Pay, and return the address the buyer is then sent to, without going there.

        :param url: where; the link that was made first when empty.
        """
        answer = self.browser.post(url or link.checkout["checkout_url"], data=GOOD_CARD | card)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    def pay_twice(self, link: Link) -> tuple[str, str]:
        """Make two genuine payments for one link, as two browser tabs might, and return where each buyer goes."""
        first, order = self.pay(link), self.order_of(link)
        twin = self.sandbox.state.open_checkout(order, key="cm_api_1", idempotency_key=None, sent=b"")
        return first, self.pay(link, f"{self.sandbox.url}/pay/{twin.id}")

    def order_of(self, link: Link) -> Any:
        """Return what the sandbox was asked for."""
        (order,) = (
            each.order
            for each in self.sandbox.state.checkouts.values()
            if link.checkout["checkout_url"].endswith(each.id)
        )
        return order

    def look(self, link: Link) -> httpx.Response:
        """Open the pay address."""
        return self.go(link.pay_url)

    def say(self, link: Link, said: str, server: str = "", /, **form: str) -> httpx.Response:
        """
        Press a button of the page at the pay address, and go nowhere.

        :param server: which one is asked, where it isn't the usual one.
        """
        url = f"{server}{urlsplit(link.pay_url).path}" if server else link.pay_url
        headers = {"sec-fetch-site": "same-origin"}
        return self.browser.post(url, data={"said": said, **form}, headers=headers)

    def nobody_paid(self, link: Link, number: int = 1, server: str = "") -> httpx.Response:
        """Say that nobody has paid the link with this number."""
        return self.say(link, "nobody-paid", server, link=str(number))

    def paid(self, link: Link, typed: str) -> httpx.Response:
        """Say that it is paid, and type the payment's number."""
        return self.say(link, "i-paid", payment_id=typed)

    def go(self, url: str, **headers: str) -> httpx.Response:
        return self.browser.get(url, headers=headers)

    def stay(self, url: str) -> httpx.Response:
        """Stay on a page for as long as it looks again by itself."""

        def settled() -> httpx.Response | None:
            page = self.go(url)
            return None if "refresh" in page.headers else page

        return comes(settled)

    def come_back(self, link: Link) -> tuple[str, httpx.Response]:
        """Pay and go where that leads: the payment id, and the page."""
        url = self.pay(link)
        return id_of(url), self.go(url)

    def leave(self, link: Link) -> httpx.Response:
        """Leave the payment page without paying."""
        return self.go(self.order_of(link).cancel_url)


def id_of(url: str) -> str:
    return url.rpartition("/")[2]


PAID_PAGE = "Thank you, your payment has arrived"
ALREADY = "A payment is already recorded"
UNCHECKED = "Your payment can’t be checked right now"
UNKNOWN = "This link is unknown"
CANCELLED = "Nothing was paid"
