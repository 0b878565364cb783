"""What the ledger's tests plan, say and expect, and which databases they need."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from threading import Event
from typing import TYPE_CHECKING, Any

import pendulum
import pytest
from sqlalchemy import Engine, event, update

from airflow_provider_carbonmark.ledger import Ledger
from airflow_provider_carbonmark.ledger.names import Run, Source, Task
from airflow_provider_carbonmark.ledger.purchase import Link, Order, Purchase
from airflow_provider_carbonmark.ledger.questions.coverage import Scope
from airflow_provider_carbonmark.ledger.tables import schema
from airflow_provider_carbonmark.ledger.values import Coverage, Plan, PlannedPurchase, Restated, Share

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.changes.bringing import Brought

#: For what Python decides and no database can: see the fixture ``url``.
ON_SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
NOW = datetime(2026, 11, 23, 6, tzinfo=UTC)
# What tasks pass; some drivers know Python's own times only.
LATER = pendulum.instance(NOW).add(hours=1)
MONTH = "2026-10"
FIRST, SECOND, THIRD = (Run("offset", f"run-{number}") for number in (1, 2, 3))
CONN_ID = "carbonmark_default"
PATIENCE = 20  # seconds that a test which hangs is given
ORDER = Order("0xabc-2020", Decimal("12.345"), "Example Corp", "Emissions of October")

Make = Callable[[Coverage], Plan]
Key = tuple[str, str]


def line(
    entity: str = "web",
    tonnes: str | Decimal = "12.345",
    month: str = MONTH,
    *,
    emitted_tonnes: Decimal | None = None,
    **other: Any,
) -> PlannedPurchase:
    """Return a purchase for one entity and month."""
    quantity = Decimal(tonnes)
    planned = PlannedPurchase(
        quantity_tonnes=quantity,
        asset_price_source_id="0xabc-2020",
        project_id="VCS-191",
        registry="VCS",
        vintage=2020,
        unit_price_usd=Decimal("2.5"),
        cost_usd=quantity * Decimal("2.5"),
        beneficiary_name="Example Corp",
        retirement_message="Emissions of October",
        shares=(),
    )
    planned = replace(planned, **other)
    share = Share(
        entity, month, quantity if emitted_tonnes is None else emitted_tonnes, quantity, planned.cost_usd
    )
    return replace(planned, shares=(share,))


def buying(*purchases: PlannedPurchase) -> Make:
    """Return a plan's maker that buys just this, whatever is covered."""
    return lambda coverage: Plan(purchases)


def stating(entity: str, tonnes: str, month: str = MONTH) -> Make:
    """Return a plan's maker that states a figure and buys nothing."""
    figure = Decimal(tonnes)
    return lambda coverage: Plan(restated=(Restated(entity, month, figure),))


class Buyer:
    """A plan's maker that buys what is missing, and keeps what it was told."""

    def __init__(self, emitted: Mapping[str, str | Decimal], month: str = MONTH) -> None:
        self.emitted = {(entity, month): Decimal(tonnes) for entity, tonnes in emitted.items()}
        self.told: list[Coverage] = []

    def __call__(self, coverage: Coverage) -> Plan:
        self.told.append(coverage)
        missing = {(need.entity, need.month): need.offset_tonnes for need in coverage.abandoned}
        for key, tonnes in self.emitted.items():
            known = coverage.covered.get(key)
            missing[key] = tonnes - (known.covered_tonnes if known else 0)
        return Plan(
            tuple(
                line(entity, tonnes, month, emitted_tonnes=self._figure(coverage, (entity, month)))
                for (entity, month), tonnes in missing.items()
                if tonnes > 0
            )
        )

    def _figure(self, coverage: Coverage, key: Key) -> Decimal | None:
        return self.emitted[key] if key in self.emitted else coverage.covered[key].emitted_tonnes


class Rival:
    """Somebody else at the ledger, in a thread, with connections of its own."""

    def __init__(self, engine: Engine, threads: ThreadPoolExecutor) -> None:
        self.ledger = Ledger(engine)
        self._engine = engine
        self._threads = threads
        self._doing: Future[Any] | None = None

    def start(self, action: Callable[[Ledger], Any], *, until: str) -> None:
        """Let it act, and go on when it is about to send such a statement (SQLite: to ask for the write lock)."""
        is_about_to = Event()
        on_statement(self._engine, until, "BEGIN IMMEDIATE", do=is_about_to.set)
        self._doing = self._threads.submit(action, self.ledger)
        assert is_about_to.wait(PATIENCE)

    def result(self) -> Any:
        return self._doing.result(PATIENCE)


def nobody(run: Run, since: datetime) -> bool:
    return False


def everybody(run: Run, since: datetime) -> bool:
    return True


def only(*runs: Run) -> Callable[[Run, datetime], bool]:
    """Return what says that just these runs are over."""
    return lambda run, since: run in runs


def plan(
    ledger: Ledger,
    make: Make,
    run: Run = FIRST,
    *,
    months: Collection[str] = (MONTH,),
    test_mode: bool = False,
    is_over: Callable[[Run, datetime], bool] = nobody,
    now: datetime = NOW,
    **other: Any,
) -> list[Purchase]:
    scope = Scope(run=run, months=months, test_mode=test_mode, is_over=is_over, now=now, **other)
    return ledger.plan(make, scope)


def preview(
    ledger: Ledger,
    make: Make,
    run: Run = FIRST,
    is_over: Callable[[Run, datetime], bool] = nobody,
    **other: Any,
) -> Plan:
    scope = Scope(run=run, months=[MONTH], test_mode=False, is_over=is_over, now=NOW, **other)
    return ledger.preview(make, scope)


def order(ledger: Ledger, of: Task, wanted: Order = ORDER, **other: Any) -> Purchase:
    return ledger.order(of, wanted, test_mode=False, now=NOW, **other)


def entity(of: Purchase) -> str:
    (share,) = of.allocations
    return share.entity


def entities(purchases: list[Purchase]) -> list[str]:
    return [entity(each) for each in purchases]


def checkout_task(run: Run = FIRST, map_index: int = 0) -> Task:
    return Task(run, "checkout", map_index)


def request(number: int) -> dict[str, Any]:
    return {"success_url": f"https://airflow.example/{number}", "metadata": {"ß": [1, None]}}


def ask(ledger: Ledger, of: Purchase, run: Run = FIRST, **other: Any) -> Link:
    return ledger.ask_link(
        of.id, checkout_task(run), **({"request_of": request, "conn_id": CONN_ID, "now": NOW} | other)
    )


def link(ledger: Ledger, of: Purchase, run: Run = FIRST, *, now: datetime = NOW) -> Purchase:
    """Make a purchase's link, as a task does."""
    asked = ask(ledger, of, run, now=now)
    return ledger.link_made(of.id, run, asked, url=page(of), now=now)


def expire(ledger: Ledger, id: int, end: datetime | None = None) -> None:
    """Let a purchase's current link come to its end then, or have come to it a minute ago."""
    ended = {"expires_at": end or datetime.now(UTC) - timedelta(minutes=1)}
    with ledger.reading() as connection:
        connection.execute(update(schema.links).where(schema.links.c.current_of == id).values(ended))
        connection.commit()


def links(ledger: Ledger, *names: str, run: Run = FIRST) -> list[Purchase]:
    """Return purchases of a run that have their links, each for the entity of that name."""
    return [link(ledger, each, run) for each in plan(ledger, buying(*map(line, names)), run)]


def become(ledger: Ledger, of: Purchase, stage: str) -> Purchase:
    """Let a purchase that is planned become ``asked``, ``linked``, ``paid``, ``retired``, ``declined``, ``failed`` after its payment, or ``given up``."""
    if stage in ("asked", "given up"):
        ask(ledger, of, of.run)
    elif stage != "planned":
        link(ledger, of, of.run)
    if stage in ("paid", "retired", "failed"):
        ledger.paid(of.id, payment_id(of), now=NOW)
    if stage == "retired":
        ledger.retired(of.id, retirement(of), now=NOW)
    if stage == "failed":
        ledger.failed(of.id, "refunded", now=NOW)
    if stage == "declined":
        ledger.declined(of.id, of.run, "no", now=NOW)
    if stage == "given up":
        ledger.failed(of.id, "gone", now=NOW, run=of.run)
    return ledger.purchase(of.id)


def page(of: Purchase) -> str:
    return f"https://pay.example/{of.id}"


def bring(
    ledger: Ledger, of: Purchase, payment: str, *, verified: bool = True, source: Source = Source.RETURNED
) -> Brought:
    return ledger.bring(of.id, 1, payment, source=source, verified=verified, now=LATER)


def payment_id(of: Purchase) -> str:
    return f"pay-{of.id}"


def retirement(of: Purchase, **other: Any) -> dict[str, Any]:
    return {
        "payment_id": payment_id(of),
        "quantity_tonnes": f"{of.quantity_tonnes:f}",
        "certificate_url": f"https://certificate.example/{of.id}",
        "transaction_hash": f"0x{of.id:064x}",
        "explorer_url": None,
        "test_mode": of.test_mode,
        "retired_at": "2026-11-24T08:00:00+01:00",
        **other,
    }


def on_statement(engine: Engine, *words: str, do: Callable[[], object], number: int = 1) -> None:
    """Do something once, right before the engine first executes a statement with one of these words, or the one of that number."""
    numbers = count(1)

    @event.listens_for(engine, "before_cursor_execute")
    def _(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if any(word in statement for word in words) and next(numbers) == number:
            do()


def on_commit(engine: Engine, do: Callable[[], object], *, number: int = 1) -> None:
    """Do something once, right before the engine's next commit, or the one of that number from here on."""
    numbers = count(1)

    @event.listens_for(engine, "commit")
    def _(connection: Any) -> None:
        if next(numbers) == number:
            do()
