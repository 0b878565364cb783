"""
What a task orders without a plan, what purchases cost, and their links: never two live ones.

Each function is what the ledger's method of its name does within its transaction.

A link that can't be paid any more stays the current one until the next is made. That one is asked for under the next number, which nobody
sees; when it is made, it takes the place of the other in one transaction.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Connection, and_, insert, select, update

from airflow_provider_carbonmark.ledger.changes import transitions
from airflow_provider_carbonmark.ledger.limits import Limits, limits_passed
from airflow_provider_carbonmark.ledger.names import LedgerError, LimitsPassedError, Run, State, Task
from airflow_provider_carbonmark.ledger.purchase import Link, Order, Purchase, with_reference
from airflow_provider_carbonmark.ledger.questions.coverage import is_run, run_costs
from airflow_provider_carbonmark.ledger.tables.database import outrun_if_taken
from airflow_provider_carbonmark.ledger.tables.rows import (
    change_purchase,
    find_purchase,
    lock_purchase,
    new_ids,
    read_links,
    read_payments,
    read_purchases,
    run_values,
    task_values,
)
from airflow_provider_carbonmark.ledger.tables.schema import links, purchases

#: doc (Stripe): a page can be paid for half an hour at least. By then, what the same key gets may be one that has expired.
KEY_LIFETIME: Final = timedelta(minutes=30)


def purchase_of(connection: Connection, task: Task) -> Purchase | None:
    found = read_purchases(connection, purchases.c.ordered_by == task.key)
    return found[0] if found else None


def given_up(connection: Connection, task: Task) -> list[Purchase]:
    is_task = (purchases.c[name] == value for name, value in task_values(task).items())
    found = read_purchases(connection, and_(purchases.c.ordered_by.is_(None), *is_task))
    return sorted(found, key=lambda purchase: purchase.planned_at)


def order(
    connection: Connection,
    task: Task,
    wanted: Order,
    test_mode: bool,
    now: datetime,
    instead_of: Purchase | None,
) -> Purchase:
    known = purchase_of(connection, task)
    if known is not None:
        if instead_of is None or known.id != instead_of.id:
            return known
        _give_up(connection, lock_purchase(connection, known.id), task.run, wanted, now)
        replaced = update(purchases).where(purchases.c.id == known.id).values(ordered_by=None)
        connection.execute(replaced)
    (id,) = new_ids(1)
    values = {
        "id": id,
        "test_mode": test_mode,
        **asdict(wanted),
        "retirement_message": with_reference(wanted.retirement_message, id),
        "state": State.PLANNED,
        "planned_at": now,
        **task_values(task),
        "ordered_by": task.key,
        **run_values(task.run, "handler_"),
        "handled_since": now,
    }
    with outrun_if_taken("Another try of the task ordered first"):
        connection.execute(insert(purchases).values(values))
    return find_purchase(connection, id)


def _give_up(connection: Connection, purchase: Purchase, run: Run, wanted: Order, now: datetime) -> None:
    reason = f"Its task was given other input: {wanted}"
    brought = [payment.payment_id for payment in read_payments(connection, purchase.id)]
    if paid := purchase.payment_id or next(iter(brought), None):
        raise LedgerError(
            f"{purchase} is {purchase.state}, and somebody brought payment {paid!r} for it meanwhile, so its task can't buy something "
            "else instead: start a new run"
        )
    if purchase.state is State.PLANNED:
        change_purchase(connection, purchase, transitions.failed(purchase, reason, now, run))
    elif purchase.state is State.LINK_MADE:
        change_purchase(connection, purchase, transitions.declined(purchase, run, reason, now))


def write_cost(
    connection: Connection,
    id: int,
    rule: Callable[[Purchase], transitions.Changes],
    limits: Limits | None,
) -> Purchase:
    """Write down what a purchase costs now, by a rule. :raises LimitsPassedError: when with that its run would pass a limit."""
    if limits:
        # All that the run buys, so that of two that together pass a limit one sees the other. In the order of all who lock several.
        of_run = select(purchases.c.id).where(is_run(find_purchase(connection, id).run))
        in_order = of_run.order_by(purchases.c.planned_at, purchases.c.id)
        connection.execute(in_order.with_for_update()).all()
    known = lock_purchase(connection, id)
    purchase = change_purchase(connection, known, rule(known))
    if limits:
        cost, by_entity = run_costs(connection, purchase.run, purchase.test_mode)
        entities = {share.entity for share in purchase.allocations}
        its_own = {entity: cost for entity, cost in by_entity.items() if entity in entities}
        if passed := limits_passed(limits, cost, its_own):
            raise LimitsPassedError(passed)
    return purchase


def ask_link(
    connection: Connection,
    id: int,
    task: Task,
    request_of: Callable[[int], Mapping[str, Any]],
    conn_id: str,
    limits: Mapping[str, Any] | None,
    now: datetime,
) -> Link:
    purchase = lock_purchase(connection, id)
    transitions.link_asked(purchase, task.run)
    known = purchase.link
    number = known.number if known else 1
    asked = Link(
        number=number,
        url=None,
        request=dict(request_of(number)),
        idempotency_key=str(uuid.uuid4()),
        conn_id=conn_id,
        made_by=task,
        asked_at=now,
        cost_usd=purchase.cost_usd,
        limits=limits,
    )
    return _ask(connection, id, known, asked, current_of=id)


def say_unpaid(connection: Connection, id: int, number: int, said_by: str, now: datetime) -> Purchase:
    purchase = lock_purchase(connection, id)
    transitions.next_link_asked(purchase, number, now)
    is_news = links.c.current_of == id, links.c.unpaid_said_at.is_(None)
    said = {"unpaid_said_by": said_by, "unpaid_said_at": now}
    connection.execute(update(links).where(*is_news).values(said))
    return find_purchase(connection, id)


def ask_next_link(
    connection: Connection,
    id: int,
    after: int,
    request_of: Callable[[Link, int], Mapping[str, Any]],
    cost_usd: Decimal,
    now: datetime,
) -> Link:
    purchase = lock_purchase(connection, id)
    current = transitions.next_link_asked(purchase, after, now)
    if current.unpaid_said_at is None:
        raise AssertionError(f"Nobody said that link {after} of {purchase} is unpaid")
    known = next((link for link in read_links(connection, id) if link.number == after + 1), None)
    asked = Link(
        number=after + 1,
        url=None,
        request=dict(request_of(current, after + 1)),
        idempotency_key=str(uuid.uuid4()),
        conn_id=current.conn_id,
        made_by=current.made_by,
        asked_at=now,
        cost_usd=cost_usd,
        limits=current.limits,
    )
    return _ask(connection, id, known, asked, current_of=None)


def _ask(connection: Connection, id: int, known: Link | None, asked: Link, current_of: int | None) -> Link:
    """Write down what is asked; what was asked a moment ago in the same words keeps its key, and who asked it when."""
    is_it = links.c.purchase_id == id, links.c.number == asked.number
    if known is None:
        place = {"purchase_id": id, "number": asked.number, "current_of": current_of}
        connection.execute(insert(links).values(place | _as_asked(asked)))
        return asked
    is_fresh = asked.asked_at - known.asked_at < KEY_LIFETIME
    if is_fresh and (known.request, known.conn_id) == (asked.request, asked.conn_id):
        asked = replace(known, cost_usd=asked.cost_usd, limits=asked.limits)
    connection.execute(update(links).where(*is_it).values(_as_asked(asked)))
    return asked


def link_made(connection: Connection, id: int, run: Run, asked: Link, answer: Mapping[str, Any]) -> Purchase:
    purchase = lock_purchase(connection, id)
    changes = transitions.link_made(purchase, run)
    if not changes:
        return purchase
    # As it was asked for: another try may have asked otherwise since, and its answer comes too late.
    is_it = links.c.current_of == id, links.c.number == asked.number
    stored = connection.execute(update(links).where(*is_it).values({**_as_asked(asked), **answer}))
    if not stored.rowcount:
        raise LedgerError(f"{purchase} was never asked for link {asked.number}: ask for it before it is made")
    return change_purchase(connection, purchase, changes)


def next_link_made(connection: Connection, id: int, asked: Link, answer: Mapping[str, Any]) -> Purchase:
    purchase = lock_purchase(connection, id)
    current = purchase.link
    is_asked = links.c.purchase_id == id, links.c.number == asked.number
    if current is None or current.number >= asked.number:
        return purchase
    if purchase.state is not State.LINK_MADE:
        # Paid or declined while it was made: nobody ever sees it.
        connection.execute(update(links).where(*is_asked).values({**answer, "outcome": "unpaid"}))
        return purchase
    # First the one goes, then the other takes its place: the database lets no two be current.
    given_up = update(links).where(links.c.current_of == id)
    connection.execute(given_up.values(current_of=None, outcome="unpaid"))
    made = {**_as_asked(asked), **answer, "current_of": id}
    connection.execute(update(links).where(*is_asked).values(made))
    return change_purchase(connection, purchase, {"cost_usd": asked.cost_usd})


def _as_asked(link: Link) -> dict[str, Any]:
    names = ("request", "idempotency_key", "conn_id", "asked_at", "cost_usd", "limits")
    return {name: getattr(link, name) for name in names} | task_values(link.made_by)
