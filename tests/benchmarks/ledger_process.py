"""
The measured process of the ledger: `python -m tests.benchmarks.ledger_process fill <rows>|measure`.

The environment says where the ledger is, as it does for a task.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from typing import Any

from sqlalchemy import Connection, delete, insert, literal, select

from airflow_provider_carbonmark.hooks.ledger import open_ledger, reading_ledger
from airflow_provider_carbonmark.ledger.schema import Run, State, purchases
from airflow_provider_carbonmark.ledger.values import Coverage, Plan
from airflow_provider_carbonmark.planning import plan_purchases
from airflow_provider_carbonmark.web import pages, views
from airflow_provider_carbonmark.web.views import Wanted
from tests.benchmarks.planning_process import DEDICATION, MONTH, NOW, emissions_of, market_of

ENTITIES = 1_000
LISTINGS = 70
ROUNDS = 10
#: Rows of a month; a large ledger has several times as many in each month before 2026.
BLOCK = 2_500
UNPAID_MONTHS = [f"2026-{number:02}" for number in (7, 8, 9)]
PAID_MONTHS = [f"2026-{number:02}" for number in range(1, 7)]
OLD_MONTHS = [f"{year}-{number:02}" for year in (2023, 2024, 2025) for number in range(1, 13)][-30:]
DAGS = [f"offset_{name}" for name in ("cloud", "fleet", "offices", "shops", "travel")]
RUN = Run(DAGS[0], "scheduled__2026-11-21")
DEAD_RUN = Run(DAGS[0], "scheduled__2026-11-20")
DONE_RUN = Run(DAGS[0], "scheduled__2026-11-19")

_SETTLING = {
    "postgresql": ("VACUUM ANALYZE", "CHECKPOINT"),
    "mysql": (f"ANALYZE TABLE {purchases.name}",),
}
_c = purchases.c
_NAMES = [column.name for column in purchases.columns if column.name != "id"]
_NOTHING: dict[str, Any] = dict.fromkeys(_NAMES) | {"to_announce": False}
_PURCHASE = {
    "asset_price_source_id": f"listing-137-0x{0x79A4:040x}",
    "project_id": "VCS-191",
    "registry": "VCS",
    "vintage": 2019,
    "unit_price_usd": Decimal("3.78"),
    "beneficiary_name": "Example Corp, entity-00001",
    "retirement_message": "Emissions of entity-00001 in 2026-10: 12.345 t CO2e",
}
_LINK = f"https://checkout.carbonmark.com/pay/{0x79A4:032x}"
_LINKED = {
    "link_made_at": NOW,
    "checkout_url": _LINK,
    "idempotency_key": f"{0x79A4:064x}",
    "checkout": {
        **{name: value for name, value in _PURCHASE.items() if isinstance(value, str)},
        "checkout_url": _LINK,
        "payment_id": None,
        "quantity_tonnes": "12.345",
        "test_mode": False,
        "dag_id": RUN.dag_id,
        "run_id": RUN.run_id,
        "task_id": "checkout",
        "map_index": 0,
    },
}
_PROVEN = {
    "retired_at": NOW,
    "certificate_url": f"https://app.carbonmark.com/retirements/id/137-0x{0x79A4:064x}-0",
    "transaction_hash": f"0x{0x79A4:064x}",
    "explorer_url": f"https://polygonscan.com/tx/0x{0x79A4:064x}",
}


def a_row(number: int, state: State, run: Run, **changes: Any) -> dict[str, Any]:
    """Return a row of the entity with a number, about as long as real ones are."""
    emitted = Decimal(f"{number % 50 + 1}.{number % 1000:03}")
    row = _NOTHING | {
        "entity": f"entity-{number:05}",
        "month": MONTH,
        "test_mode": False,
        "line": 1,
        "emitted_tonnes": emitted,
        "quantity_tonnes": emitted,
        "state": state,
        "reason": "Declined by alice: not this month" if state in (State.FAILED, State.DECLINED) else None,
        "planned_at": NOW,
        "dag_id": run.dag_id,
        "run_id": run.run_id,
        "handler_dag_id": run.dag_id,
        "handler_run_id": run.run_id,
        "handled_since": NOW,
        **changes,
    }
    if state is State.RESTATED:
        return row | {"quantity_tonnes": Decimal(0), "cost_usd": Decimal(0)}
    row |= _PURCHASE | {"cost_usd": row["quantity_tonnes"] * _PURCHASE["unit_price_usd"]}
    if state is not State.PLANNED:
        row |= _LINKED
    if state in (State.PAID, State.RETIRED):
        row |= {"payment_id": f"pay_{row['month']}_{number:05}_{row['test_mode']:d}", "paid_at": NOW}
    return row | _PROVEN if state is State.RETIRED else row


def past_block(month: str, bought: State = State.RETIRED) -> Iterator[dict[str, Any]]:
    """Make up the rows of a month that is behind: every twelfth entity needed a second line."""
    for entity in range(BLOCK * 12 // 13 + 1):
        run = Run(DAGS[entity % len(DAGS)], f"scheduled__{month}")
        first = (State.FAILED, State.DECLINED, bought)[entity // 12 % 3] if entity % 12 == 0 else bought
        yield a_row(entity, first, run, month=month)
        if entity % 12 == 0:
            yield a_row(entity, State.RESTATED if first is bought else bought, run, month=month, line=2)


def planned_block() -> Iterator[dict[str, Any]]:
    """
    Make up the rows of the month that is planned.

    Of a thousand entities, seven hundred are offset, a hundred were left without a link by a run that is over and a hundred with
    one, and a hundred were never seen. The rest are other DAGs', in all states.
    """
    seen = emissions_of(ENTITIES, "seen")[: ENTITIES * 9 // 10]
    for number, one in enumerate(seen):
        state = {7: State.PLANNED, 8: State.LINK_MADE}.get(number * 10 // ENTITIES, State.RETIRED)
        run = DONE_RUN if state is State.RETIRED else DEAD_RUN
        amounts = {"emitted_tonnes": one.emitted_tonnes, "quantity_tonnes": one.offset_tonnes}
        yield a_row(number, state, run, entity=one.entity, **amounts)
    states = [State.RETIRED] * 6 + list(State)
    for number in range(ENTITIES, ENTITIES + BLOCK - len(seen)):
        yield a_row(number, states[number % len(states)], Run(DAGS[1 + number % 4], RUN.run_id))


def fill(rows: int) -> None:
    """
    Make a ledger of so many rows; most are copies of a month that the database makes.

    Whatever their size, ledgers have the same rows of 2026. The years before it have what is left: more entities in each month,
    which are gone since, and come first in all that is sorted by name.
    """
    with open_ledger() as ledger:
        # As a first run that has nothing to buy.
        ledger.plan(lambda coverage: Plan(), run=RUN, months=[], test_mode=False, is_over=_is_over, now=NOW)
    copies = [(month, "") for month in OLD_MONTHS[1:] + PAID_MONTHS]
    for number in range(rows // BLOCK - len(OLD_MONTHS) - len(PAID_MONTHS) - len(UNPAID_MONTHS) - 1):
        times, place = divmod(number, len(OLD_MONTHS))
        copies.append((OLD_MONTHS[place], f"closed-{times:02}-"))
    rehearsals = [
        a_row(number, State.RETIRED, RUN, month=OLD_MONTHS[0], test_mode=True) for number in range(50)
    ]
    with _connected() as connection, _without_indexes(connection):
        connection.execute(insert(purchases), list(past_block(OLD_MONTHS[0])))
        for number, (month, prefix) in enumerate(copies):
            _copy_first_block(connection, number, month, prefix)
        for month in UNPAID_MONTHS:
            connection.execute(insert(purchases), list(past_block(month, State.LINK_MADE)))
        connection.execute(insert(purchases), [*planned_block(), *rehearsals])


@contextmanager
def _connected() -> Iterator[Connection]:
    with reading_ledger() as connection:
        if connection is None:
            raise RuntimeError("The ledger has no tables")
        yield connection


@contextmanager
def _without_indexes(connection: Connection) -> Iterator[None]:
    """Spare the database what it needn't do for rows that come all at once."""
    is_sqlite = connection.dialect.name == "sqlite"
    if is_sqlite:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -500000"):
            connection.exec_driver_sql(f"PRAGMA {pragma}")
    for index in purchases.indexes:
        index.drop(connection)
    yield
    for index in purchases.indexes:
        index.create(connection)
    connection.commit()
    if is_sqlite:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    else:
        # It would come to this by itself, but in the middle of the measurement.
        connection.execution_options(isolation_level="AUTOCOMMIT")
        for statement in _SETTLING[connection.dialect.name]:
            connection.exec_driver_sql(statement)


def _copy_first_block(connection: Connection, number: int, month: str, prefix: str) -> None:
    """Copy the rows that were written first, which have the first ids."""
    run_id = literal(f"scheduled__{month}")
    changes = {
        "entity": literal(prefix).concat(_c.entity),
        "month": literal(month),
        "payment_id": _c.payment_id.concat(f"-{number}"),
        "run_id": run_id,
        "handler_run_id": run_id,
    }
    originals = select(*(changes.get(name, _c[name]) for name in _NAMES)).where(_c.id <= BLOCK)
    connection.execute(insert(purchases).from_select(_NAMES, originals))


def reset() -> None:
    """Take back what planning changed, and no more: each row that goes leaves PostgreSQL one to step over."""
    touched = {RUN.run_id, DEAD_RUN.run_id}
    left_behind = [row for row in planned_block() if row["run_id"] == DEAD_RUN.run_id]
    with _connected() as connection:
        connection.execute(delete(purchases).where(_c.dag_id == RUN.dag_id, _c.run_id.in_(touched)))
        connection.execute(insert(purchases), left_behind)
        connection.commit()


def planner() -> Callable[[], None]:
    """Return what plans the month, the emissions and the market being there."""
    emissions = emissions_of(ENTITIES, "seen")
    market = market_of("stocked", LISTINGS, sum((one.offset_tonnes for one in emissions), Decimal(0)))

    def make(coverage: Coverage) -> Plan:
        return plan_purchases(emissions, coverage, market, dedication=DEDICATION, now=NOW)

    def plan() -> None:
        with open_ledger() as ledger:
            lines = ledger.plan(make, run=RUN, months=[MONTH], test_mode=False, is_over=_is_over, now=NOW)
        planned = {line.entity for line in lines if line.run == RUN}
        if (len(planned), sum(line.run == DEAD_RUN for line in lines)) != (ENTITIES // 5, ENTITIES // 10):
            raise RuntimeError(f"Of {len(lines)} lines, those of {len(planned)} entities are new")

    return plan


def _is_over(run: Run) -> bool:
    return run == DEAD_RUN


def show(wanted: Wanted) -> None:
    """Do what the page's app does for somebody who may read every DAG."""
    with reading_ledger() as connection:
        html = pages.ledger(views.view(connection, wanted, DAGS))
    if "entity-" not in html and "closed-" not in html:
        raise RuntimeError(f"The page shows nothing of {wanted}")


def fastest(
    work: Callable[[], None], before: Callable[[], None] = lambda: None, rounds: int = ROUNDS
) -> float:
    """Return the least seconds of several rounds: all above it is what else the machine did."""
    seconds = []
    for _ in range(rounds):
        before()
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def measure() -> dict[str, float]:
    seconds = {"plan": fastest(planner(), reset)}
    reset()
    return seconds | {
        "month": fastest(partial(show, Wanted(month=MONTH))),
        "year": fastest(partial(show, Wanted(year="2026"))),
        "year before": fastest(partial(show, Wanted(year="2025")), rounds=1),
    }


def main(command: str, *arguments: str) -> None:
    if command == "fill":
        fill(int(*arguments))
    print(json.dumps(measure() if command == "measure" else {}))


if __name__ == "__main__":
    main(*sys.argv[1:])
