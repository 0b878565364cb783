"""
The measured process of the ledger: `python -m tests.benchmarks.ledger_process fill <rows>|measure|report <folder>`.

The environment says where the ledger is, as it does for a task.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Index, Table, delete, insert, literal, select

from airflow_provider_carbonmark.hooks.ledger import open_ledger
from airflow_provider_carbonmark.ledger.names import Run, State
from airflow_provider_carbonmark.ledger.questions.coverage import Scope
from airflow_provider_carbonmark.ledger.tables.rows import new_ids, run_values
from airflow_provider_carbonmark.ledger.tables.schema import allocations, links, purchases
from airflow_provider_carbonmark.planning import plan_purchases
from airflow_provider_carbonmark.reporting import make_report, read_records
from airflow_provider_carbonmark.web import pages, views
from airflow_provider_carbonmark.web.views import Wanted
from tests.benchmarks.planning_process import DEDICATIONS, MONTH, NOW, emissions_of, market_of

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.values import Coverage, Plan

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

#: Numbers that are kept for what the runs of a month plan; those of one run follow each other.
IDS = 2 * BLOCK * len(DAGS)

#: Whatever is written of a purchase, in the order in which it can be.
_TABLES = (purchases, allocations, links)
_NOTHING: dict[Table, dict[str, Any]] = {
    table: {column.name: None for column in table.columns if column.server_default is None}
    for table in _TABLES
}
_PURCHASE = {
    "asset_price_source_id": f"listing-137-0x{0x79A4:040x}",
    "project_id": "VCS-191",
    "registry": "VCS",
    "vintage": 2019,
    "unit_price_usd": Decimal("3.78"),
    "beneficiary_name": "Example Corp, entity-00001",
    "retirement_message": "Emissions of entity-00001 in 2026-10: 12.345 t CO2e",
}
_RETURN = f"https://airflow.example.com/carbonmark/return/{0x79A4:0128x}"
_LINK = {
    "url": f"https://checkout.carbonmark.com/pay/{0x79A4:032x}",
    "request": {
        "asset_price_source_id": _PURCHASE["asset_price_source_id"],
        "quantity_tonnes": "12.345",
        "metadata": {name: _PURCHASE[name] for name in ("beneficiary_name", "retirement_message")},
        "success_url": _RETURN,
        "cancel_url": _RETURN,
    },
    "idempotency_key": f"{0x79A4:036x}",
    "conn_id": "carbonmark_default",
    "task_id": "buy.checkout",
    "map_index": 0,
    "asked_at": NOW,
    "made_at": NOW,
}
_PROVEN = {
    "retired_at": NOW,
    "certificate_url": f"https://app.carbonmark.com/retirements/id/137-0x{0x79A4:064x}-0",
    "transaction_hash": f"0x{0x79A4:064x}",
    "explorer_url": f"https://polygonscan.com/tx/0x{0x79A4:064x}",
}


Rows = dict[Table, dict[str, Any]]


class Block:
    """The rows of a month, whose purchases have numbers as plans give them."""

    def __init__(self) -> None:
        self.first = new_ids(IDS)[0]
        self._next = {dag_id: count(self.first + 2 * BLOCK * place) for place, dag_id in enumerate(DAGS)}

    def row(self, number: int, state: State, run: Run, **changes: Any) -> Rows:
        """Return what is written of the entity with a number, about as long as real rows are."""
        emitted = Decimal(f"{number % 50 + 1}.{number % 1000:03}")
        share = {
            "entity": f"entity-{number:05}",
            "month": MONTH,
            "test_mode": False,
            "line": 1,
            "emitted_tonnes": emitted,
            "quantity_tonnes": emitted,
            "stated_at": NOW,
            **run_values(run),
            **changes,
        }
        if state is State.RESTATED:
            share |= {"purchase_id": None, "quantity_tonnes": Decimal(0)}
            return {allocations: _whole(allocations, share)}
        id = next(self._next[run.dag_id])
        share |= {"purchase_id": id, "to_catch_up": state in (State.FAILED, State.DECLINED)}
        written = {
            purchases: _whole(purchases, _purchase(id, number, state, run, share)),
            allocations: _whole(allocations, share),
        }
        if state is not State.PLANNED:
            made = _LINK | run_values(run) | {"purchase_id": id, "number": 1, "current_of": id}
            written[links] = _whole(links, made)
        return written


def _whole(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    """Give a value to every column, so that many rows are written by one statement."""
    # The number of an allocation is the database's to give.
    return {
        name: value for name, value in (_NOTHING[table] | row).items() if (table, name) != (allocations, "id")
    }


def _purchase(id: int, number: int, state: State, run: Run, share: dict[str, Any]) -> dict[str, Any]:
    row = _PURCHASE | {
        "id": id,
        "test_mode": share["test_mode"],
        "quantity_tonnes": share["quantity_tonnes"],
        "cost_usd": share["quantity_tonnes"] * _PURCHASE["unit_price_usd"],
        "state": state,
        "reason": "Declined by alice: not this month" if state in (State.FAILED, State.DECLINED) else None,
        "planned_at": NOW,
        **run_values(run),
        **run_values(run, "handler_"),
        "handled_since": NOW,
    }
    if state in (State.PAID, State.RETIRED):
        row |= {"payment_id": f"pay_{share['month']}_{number:05}_{share['test_mode']:d}", "paid_at": NOW}
    return row | _PROVEN if state is State.RETIRED else row


def past_block(block: Block, month: str, bought: State = State.RETIRED) -> Iterator[Rows]:
    """Make up the rows of a month that is behind: every twelfth entity needed a second line."""
    for entity in range(BLOCK * 12 // 13 + 1):
        run = Run(DAGS[entity % len(DAGS)], f"scheduled__{month}")
        first = (State.FAILED, State.DECLINED, bought)[entity // 12 % 3] if entity % 12 == 0 else bought
        yield block.row(entity, first, run, month=month)
        if entity % 12 == 0:
            yield block.row(entity, State.RESTATED if first is bought else bought, run, month=month, line=2)


def planned_block() -> Iterator[Rows]:
    """
    Make up the rows of the month that is planned.

    Of a thousand entities, seven hundred are offset, a hundred were left without a link by a run that is over and a hundred with
    one, and a hundred were never seen. The rest are other DAGs', in all states.
    """
    block = Block()
    seen = emissions_of(ENTITIES, "seen")[: ENTITIES * 9 // 10]
    for number, one in enumerate(seen):
        state = {7: State.PLANNED, 8: State.LINK_MADE}.get(number * 10 // ENTITIES, State.RETIRED)
        run = DONE_RUN if state is State.RETIRED else DEAD_RUN
        amounts = {"emitted_tonnes": one.emitted_tonnes, "quantity_tonnes": one.offset_tonnes}
        yield block.row(number, state, run, entity=one.entity, **amounts)
    states = [State.RETIRED] * 6 + [state for state in State if state is not State.PAID_NOT_RETIRED]
    for number in range(ENTITIES, ENTITIES + BLOCK - len(seen)):
        yield block.row(number, states[number % len(states)], Run(DAGS[1 + number % 4], RUN.run_id))


def fill(rows: int) -> None:
    """
    Make a ledger of so many rows; most are copies of a month that the database makes.

    Whatever their size, ledgers have the same rows of 2026. The years before it have what is left: more entities in each month,
    which are gone since, and come first in all that is sorted by name.
    """
    with open_ledger() as ledger:
        ledger.upgrade()
    copies = [(month, "") for month in OLD_MONTHS[1:] + PAID_MONTHS]
    for number in range(rows // BLOCK - len(OLD_MONTHS) - len(PAID_MONTHS) - len(UNPAID_MONTHS) - 1):
        times, place = divmod(number, len(OLD_MONTHS))
        copies.append((OLD_MONTHS[place], f"closed-{times:02}-"))
    first = Block()
    rehearsals = [
        Block().row(number, State.RETIRED, RUN, month=OLD_MONTHS[0], test_mode=True) for number in range(50)
    ]
    with _connected() as connection, _without_indexes(connection):
        _write(connection, past_block(first, OLD_MONTHS[0]))
        for number, (month, prefix) in enumerate(copies):
            _copy_first_block(connection, first, number, month, prefix)
        for month in UNPAID_MONTHS:
            _write(connection, past_block(Block(), month, State.LINK_MADE))
        _write(connection, [*planned_block(), *rehearsals])


def _write(connection: Connection, rows: Iterable[Rows]) -> None:
    rows = list(rows)
    for table in _TABLES:
        connection.execute(insert(table), [row[table] for row in rows if table in row])


@contextmanager
def _connected() -> Iterator[Connection]:
    with open_ledger() as ledger, ledger.reading() as connection:
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
    indexes: list[Index] = [*purchases.indexes, *allocations.indexes]
    for index in indexes:
        index.drop(connection)
    yield
    for index in indexes:
        index.create(connection)
    connection.commit()
    if is_sqlite:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    else:
        # It would come to this by itself, but in the middle of the measurement.
        connection.execution_options(isolation_level="AUTOCOMMIT")
        for statement in ("VACUUM ANALYZE", "CHECKPOINT"):
            connection.exec_driver_sql(statement)


def _copy_first_block(connection: Connection, first: Block, number: int, month: str, prefix: str) -> None:
    """Copy the rows that were written first, for purchases with numbers of their own."""
    onward = new_ids(IDS)[0] - first.first
    run_id = literal(f"scheduled__{month}")
    changes: dict[Table, dict[str, Any]] = {
        purchases: {
            "id": purchases.c.id + onward,
            "payment_id": purchases.c.payment_id.concat(f"-{number}"),
            "run_id": run_id,
            "handler_run_id": run_id,
        },
        allocations: {
            "purchase_id": allocations.c.purchase_id + onward,
            "entity": literal(prefix).concat(allocations.c.entity),
            "month": literal(month),
            "run_id": run_id,
        },
        links: {
            "purchase_id": links.c.purchase_id + onward,
            "current_of": links.c.current_of + onward,
            "run_id": run_id,
        },
    }
    own = first.first, first.first + IDS - 1
    is_first = {
        purchases: purchases.c.id.between(*own),
        allocations: allocations.c.id <= BLOCK,
        links: links.c.purchase_id.between(*own),
    }
    for table in _TABLES:
        names = [name for name in _NOTHING[table] if (table, name) != (allocations, "id")]
        originals = select(*(changes[table].get(name, table.c[name]) for name in names)).where(
            is_first[table]
        )
        connection.execute(insert(table).from_select(names, originals))


def reset() -> None:
    """Take back what planning changed, and no more: each row that goes leaves PostgreSQL one to step over."""
    touched = {RUN.run_id, DEAD_RUN.run_id}
    left_behind = [row for row in planned_block() if row[allocations]["run_id"] == DEAD_RUN.run_id]
    with _connected() as connection:
        of_runs = purchases.c.dag_id == RUN.dag_id, purchases.c.run_id.in_(touched)
        ids = select(purchases.c.id).where(*of_runs)
        for column in (links.c.purchase_id, allocations.c.purchase_id, purchases.c.id):
            connection.execute(delete(column.table).where(column.in_(ids)))
        _write(connection, left_behind)
        connection.commit()


def planner() -> Callable[[], None]:
    """Return what plans the month, the emissions and the market being there."""
    emissions = emissions_of(ENTITIES, "seen")
    market = market_of("stocked", LISTINGS, sum((one.offset_tonnes for one in emissions), Decimal(0)))

    def make(coverage: Coverage) -> Plan:
        return plan_purchases(emissions, coverage, market, dedication=DEDICATIONS["apart"], now=NOW)

    def plan() -> None:
        with open_ledger() as ledger:
            scope = Scope(run=RUN, months=[MONTH], test_mode=False, is_over=_is_over, now=NOW)
            lines = ledger.plan(make, scope)
        planned = {share.entity for line in lines if line.run == RUN for share in line.allocations}
        if (len(planned), sum(line.run == DEAD_RUN for line in lines)) != (ENTITIES // 5, ENTITIES // 10):
            raise RuntimeError(f"Of {len(lines)} lines, those of {len(planned)} entities are new")

    return plan


def _is_over(run: Run, since: datetime) -> bool:
    return run == DEAD_RUN


def show(wanted: Wanted) -> None:
    """Do what the page's app does for somebody who may read every DAG."""
    with open_ledger() as ledger, ledger.reading() as connection:
        html = pages.ledger(views.view(connection, wanted, DAGS), "", b"a key of 32 bytes to sign with 12")
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
    # The first round, as the first plan after it was declined, looks at all that was. Those after it are what each month's is.
    seconds = {"plan": fastest(planner(), reset)}
    reset()
    return seconds | {
        "month": fastest(partial(show, Wanted(month=MONTH))),
        "year": fastest(partial(show, Wanted(year="2026"))),
        "year before": fastest(partial(show, Wanted(year="2025")), rounds=1),
    }


def report(folder: str) -> dict[str, float]:
    """Write the report on 2026, in which all of the ledger's purchases were retired, whenever what they are for was emitted."""
    started = time.perf_counter()
    with open_ledger() as ledger:
        records = read_records(ledger, "2026")
    make_report(records).write(Path(folder) / "report")
    seconds = time.perf_counter() - started
    # Linux counts in KiB.
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"purchases": len(records.cancelled), "seconds": seconds, "megabytes": megabytes}


def main(command: str, *arguments: str) -> None:
    if command == "fill":
        fill(int(*arguments))
    measured = {"measure": measure, "report": partial(report, *arguments)}
    print(json.dumps(measured[command]() if command in measured else {}))


if __name__ == "__main__":
    main(*sys.argv[1:])
