"""Orders, links and the payments that are brought for them: what each means, and what is kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, func, select

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.ledger import Ledger, LedgerError
from airflow_provider_carbonmark.ledger.changes.bringing import Meaning
from airflow_provider_carbonmark.ledger.names import Run, Source, State, Task
from airflow_provider_carbonmark.ledger.purchase import MOST_UNVERIFIED
from airflow_provider_carbonmark.ledger.tables.schema import links
from tests.integration.ledger.parts import (
    FIRST,
    LATER,
    NOW,
    ORDER,
    SECOND,
    Rival,
    ask,
    become,
    bring,
    buying,
    checkout_task,
    everybody,
    line,
    link,
    nobody,
    on_commit,
    order,
    page,
    plan,
    request,
)

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.purchase import Purchase


@pytest.fixture
def linked(ledger: Ledger) -> Purchase:
    return link(ledger, order(ledger, checkout_task()))


def test_a_payment_is_for_what_has_its_listing_in_whichever_letters_and_its_tonnes(ledger: Ledger) -> None:
    made = plan(
        ledger, buying(*(line(each, asset_price_source_id=f"listing-137-0x{each}") for each in ("aB", "c")))
    )
    for purchase in made:
        link(ledger, purchase)
    for told, alike in (("listing-137-0xAb", made[:1]), ("listing-137-0xd", []), (None, made)):
        payment = {"quantity_tonnes": made[0].quantity_tonnes, "asset_price_source_id": told}
        found = ledger.payable_like(payment, test_mode=False)
        assert [each.id for each in found] == [each.id for each in alike]
    assert ledger.payable_like(payment | {"quantity_tonnes": Decimal(1)}, test_mode=False) == []


def test_a_payment_that_failed_is_none_when_it_is_brought_again_unless_it_has_come_since(
    ledger: Ledger, linked: Purchase
) -> None:
    bring(ledger, linked, "pay-1")
    ledger.payment_failed(linked.id, "pay-1")
    assert bring(ledger, linked, "pay-1", verified=False).meaning is Meaning.UNVERIFIED
    assert ledger.purchase(linked.id) == linked
    assert bring(ledger, linked, "pay-1").meaning is Meaning.FIRST


def test_a_payment_that_failed_is_not_one_of_two(ledger: Ledger, linked: Purchase) -> None:
    bring(ledger, linked, "pay-1")
    bring(ledger, linked, "pay-2")
    ledger.payment_failed(linked.id, "pay-1")
    # Nobody knows whether the other one was taken: it is asked about before anybody pays.
    assert [(each.payment_id, each.verified_at) for each in ledger.payments(linked.id)] == [("pay-2", None)]
    assert bring(ledger, linked, "pay-2").meaning is Meaning.FIRST
    assert ledger.second_payments() == []


@pytest.mark.parametrize("end", ["open", "declined"])
def test_a_payment_is_the_first_then_the_same_and_another_one_is_the_second(
    ledger: Ledger, linked: Purchase, end: str
) -> None:
    if end == "declined":
        ledger.declined(linked.id, FIRST, "no", now=NOW)
    unknown = bring(ledger, linked, "pay-1", verified=False)
    assert (unknown.meaning, unknown.is_news, unknown.is_its_own) == (Meaning.UNVERIFIED, True, False)
    assert ledger.purchase(linked.id).state is (State.DECLINED if end == "declined" else State.LINK_MADE)
    assert not bring(ledger, linked, "pay-1", verified=False).is_news
    first = bring(ledger, linked, "pay-1")
    assert (first.meaning, first.is_news, first.is_its_own) == (Meaning.FIRST, True, True)
    assert first.purchase == first.checked() == ledger.purchase(linked.id)
    assert (first.purchase.state, first.purchase.payment_id, first.purchase.paid_at) == (
        State.PAID,
        "pay-1",
        LATER,
    )
    assert first.purchase.link is not None
    assert first.purchase.link.outcome == "paid"
    for verified in (True, False):
        same = bring(ledger, linked, "pay-1", verified=verified)
        assert (same.meaning, same.is_news, same.is_its_own) == (Meaning.SAME, False, True)
    assert bring(ledger, linked, "pay-2", verified=False).meaning is Meaning.UNVERIFIED
    for verified in (True, False):
        second = bring(ledger, linked, "pay-2", verified=verified)
        assert (second.meaning, second.is_its_own) == (Meaning.SECOND, False)
        at = re.escape(page(linked))
        with pytest.raises(LedgerError, match=rf"Paid twice: pay-1 \({at}\) counts, and pay-2 \({at}\)"):
            second.checked()
    kept = ledger.payments(linked.id)
    assert [(each.payment_id, each.verified_at, each.source) for each in kept] == [
        ("pay-1", LATER, Source.RETURNED),
        ("pay-2", LATER, Source.RETURNED),
    ]


def test_what_failed_after_its_payment_knows_that_and_no_other(ledger: Ledger, linked: Purchase) -> None:
    bring(ledger, linked, "pay-failed")
    ledger.failed(linked.id, "refunded", now=NOW)
    assert bring(ledger, linked, "pay-failed").meaning is Meaning.SAME
    # Whoever follows it: the page and the report tell of it, too.
    with pytest.raises(LedgerError, match="Paid twice"):
        ledger.paid(linked.id, "pay-2", now=LATER)
    assert [each.second for each in ledger.second_payments()] == ["pay-2"]
    assert ledger.purchase(linked.id).state is State.PAID_NOT_RETIRED


def test_a_payment_of_another_purchase_is_kept_and_never_counts(ledger: Ledger, linked: Purchase) -> None:
    other = link(ledger, order(ledger, checkout_task(map_index=1)))
    bring(ledger, other, "pay-1")
    for verified in (True, False):
        brought = bring(ledger, linked, "pay-1", verified=verified)
        assert (brought.meaning, brought.other, brought.is_its_own) == (Meaning.ANOTHERS, other.id, False)
        with pytest.raises(LedgerError, match=f"it is that of purchase {other.id}"):
            brought.checked()
    (kept,) = ledger.payments(linked.id)
    assert (kept.payment_id, kept.verified_at) == ("pay-1", None)
    assert ledger.purchase(linked.id).state is State.LINK_MADE


def test_ids_that_nobody_confirms_are_kept_up_to_a_bound_and_a_confirmed_one_always_gets_in(
    ledger: Ledger, linked: Purchase
) -> None:
    for number in range(MOST_UNVERIFIED):
        source = (Source.RETURNED, Source.ENTERED)[number % 2]
        assert bring(ledger, linked, f"made-up-{number}", verified=False, source=source).is_news
    over = bring(ledger, linked, "pay-1", verified=False)
    assert (over.meaning, over.is_news, over.is_its_own) == (Meaning.TOO_MANY, False, False)
    assert len(ledger.payments(linked.id)) == MOST_UNVERIFIED
    # What is there already is still known.
    assert bring(ledger, linked, "made-up-0", verified=False).meaning is Meaning.UNVERIFIED
    assert bring(ledger, linked, "pay-1").meaning is Meaning.FIRST
    assert len(ledger.payments(linked.id)) == MOST_UNVERIFIED + 1
    # The bound is each link's.
    other = link(ledger, order(ledger, checkout_task(map_index=1)))
    assert bring(ledger, other, "pay-2", verified=False).is_news


def test_one_payment_that_two_bring_for_one_purchase_at_once_is_kept_once(
    ledger: Ledger, engine: Engine, rival: Rival
) -> None:
    (made,) = plan(ledger, buying(line("web")))
    link(ledger, made)
    on_commit(engine, lambda: rival.start(lambda ledger: bring(ledger, made, "pay-x"), until="UPDATE"))
    assert bring(ledger, made, "pay-x", verified=False).is_news
    assert rival.result().meaning is Meaning.FIRST
    assert len(ledger.payments(made.id)) == 1


def test_what_a_task_follows_is_confirmed_whoever_brought_it(ledger: Ledger, linked: Purchase) -> None:
    ledger.bring(linked.id, 1, "pay-1", source=Source.ENTERED, brought_by="alice", verified=False, now=NOW)
    assert ledger.paid(linked.id, "pay-1", now=LATER).state is State.PAID
    (kept,) = ledger.payments(linked.id)
    assert (kept.source, kept.brought_by, kept.brought_at, kept.verified_at) == (
        Source.ENTERED,
        "alice",
        NOW,
        LATER,
    )


@pytest.mark.parametrize("number", [0, 2])
def test_a_payment_for_a_link_that_never_was_is_refused(
    ledger: Ledger, linked: Purchase, number: int
) -> None:
    with pytest.raises(LedgerError, match=f"has no link {number}"):
        ledger.bring(linked.id, number, "pay-1", source=Source.RETURNED, verified=True, now=NOW)
    asked = order(ledger, checkout_task(map_index=1))
    ask(ledger, asked)
    with pytest.raises(LedgerError, match="never had a link"):
        bring(ledger, asked, "pay-1")
    assert ledger.payments(linked.id) == ledger.payments(asked.id) == []


def test_what_can_be_no_payment_id_is_refused(ledger: Ledger, linked: Purchase) -> None:
    for wrong in ("", "../x", "x" * 256):
        with pytest.raises(InvalidInputError, match="payment_id"):
            bring(ledger, linked, wrong, verified=False)
    assert ledger.payments(linked.id) == []


def test_a_task_orders_once_whatever_it_is_given_later(ledger: Ledger) -> None:
    task = checkout_task()
    assert ledger.purchase_of(task) is None
    made = order(ledger, task)
    assert (made.order, made.run, made.handler, made.state) == (ORDER, FIRST, FIRST, State.PLANNED)
    assert (made.task_id, made.map_index, made.allocations) == (task.task_id, task.map_index, ())
    other = replace(ORDER, beneficiary_name="Other Corp")
    assert order(ledger, task, other) == ledger.purchase_of(task) == made
    for stranger in (
        checkout_task(map_index=1),
        checkout_task(SECOND),
        replace(task, task_id="another"),
        checkout_task(replace(FIRST, deployment="eu")),
    ):
        assert order(ledger, stranger).id != made.id
    # No row for reports, and nothing that a plan carries on.
    assert ledger.lines() == []
    link(ledger, made)
    assert plan(ledger, buying(), SECOND, is_over=everybody) == []


@pytest.mark.parametrize("stage", ["planned", "asked", "linked", "declined"])
def test_an_unpaid_order_is_given_up_for_another(ledger: Ledger, stage: str) -> None:
    task, wanted = checkout_task(), replace(ORDER, beneficiary_name="Other Corp")
    known = order(ledger, task)
    become(ledger, known, stage)
    made = order(ledger, task, wanted, instead_of=known)
    assert made.order == wanted
    assert ledger.purchase_of(task) == made
    gone = ledger.purchase(known.id)
    assert gone.state is (State.DECLINED if stage in ("linked", "declined") else State.FAILED)
    # Said again by a try that died, it changes nothing; nor does a try that still sees the old one.
    assert order(ledger, task, wanted, instead_of=known) == made
    # Who pays the old one after all has paid that.
    if stage == "linked":
        assert bring(ledger, gone, "pay-1").meaning is Meaning.FIRST
        assert ledger.purchase(made.id).payment_id is None


def test_what_is_asked_otherwise_gets_another_key_and_stays_one_link(ledger: Ledger, engine: Engine) -> None:
    made, soon = order(ledger, checkout_task()), NOW + timedelta(minutes=1)
    asked = ask(ledger, made)
    assert ask(ledger, made, now=soon) == asked
    for other in ({"conn_id": "another"}, {"request_of": lambda number: {"number": number}}):
        again = ask(ledger, made, now=soon, **other)
        assert again.idempotency_key != asked.idempotency_key
        assert (again.number, again.asked_at) == (1, soon)
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(links)) == 1
    # The answer to the first comes late, and is the first that is stored: it is what it is by what was asked for it.
    stored = ledger.link_made(made.id, FIRST, asked, url=page(made), now=soon)
    assert stored.link == replace(asked, url=page(made), made_at=soon)
    assert ledger.link_made(made.id, FIRST, again, url="https://late", now=soon) == stored


def test_two_tries_that_ask_at_once_ask_the_same(ledger: Ledger, engine: Engine, rival: Rival) -> None:
    (made,) = plan(ledger, buying(line("web")))
    on_commit(engine, lambda: rival.start(lambda ledger: ask(ledger, made), until="UPDATE"))
    assert ask(ledger, made) == rival.result()


def test_a_request_that_cannot_be_made_leaves_nothing(ledger: Ledger) -> None:
    made = order(ledger, checkout_task())

    def refuse(number: int) -> dict[str, object]:
        # What a request needs of the ledger can be read meanwhile.
        assert ledger.signing_key()
        raise InvalidInputError("metadata", "is wrong", remedy="mend it")

    with pytest.raises(InvalidInputError):
        ask(ledger, made, request_of=refuse)
    assert ledger.purchase(made.id) == made
    assert ask(ledger, made).request == request(1)


def test_a_task_waits_once_whatever_its_tries(ledger: Ledger, linked: Purchase) -> None:
    tasks = [Task(FIRST, "pay", -1), Task(replace(SECOND, deployment="eu"), "pay", 0)]
    assert ledger.waiting(linked.id) == []
    for number in (0, 0, 1):
        ledger.awaits(linked.id, tasks[number], now=(NOW, LATER)[number])
    assert ledger.waiting(linked.id) == tasks


def test_what_a_task_waited_for_and_is_paid_or_has_ended_is_found(ledger: Ledger) -> None:
    waited = [link(ledger, order(ledger, checkout_task(map_index=number))) for number in range(5)]
    for purchase in waited[:4]:
        ledger.awaits(purchase.id, Task(FIRST, "await", -1), now=NOW)
    ledger.awaits(waited[4].id, Task(replace(FIRST, deployment="another"), "await", -1), now=NOW)
    assert ledger.settled_since(NOW) == []
    bring(ledger, waited[1], "pay-1")
    for purchase, when in ((waited[2], NOW), (waited[3], LATER), (waited[4], LATER)):
        ledger.declined(purchase.id, FIRST, "no", now=when)
    for time, settled in ((NOW, waited[1:4]), (LATER, waited[1:4:2])):
        assert {each.id for each in ledger.settled_since(time)} == {each.id for each in settled}


def test_what_was_typed_wrong_is_forgotten_unless_it_is_confirmed_or_a_browser_brought_it(
    ledger: Ledger, linked: Purchase
) -> None:
    for payment_id, source in (
        ("pay-1", Source.ENTERED),
        ("pay-2", Source.RETURNED),
        ("pay-3", Source.ENTERED),
    ):
        about = {"source": source, "verified": payment_id == "pay-3", "now": NOW}
        ledger.bring(linked.id, 1, payment_id, **about)
        ledger.forget_typed(linked.id, payment_id)
    assert [each.payment_id for each in ledger.payments(linked.id)] == ["pay-2", "pay-3"]


def test_a_run_of_another_deployment_is_neither_the_same_nor_taken_up(ledger: Ledger) -> None:
    there = replace(FIRST, deployment="eu")
    (theirs,) = plan(ledger, buying(line("web")), there)
    with pytest.raises(LedgerError, match="of deployment 'eu' since .*, not by run"):
        ask(ledger, theirs)
    link(ledger, theirs, there)
    asked: list[tuple[Run, datetime]] = []

    def note(run: Run, since: datetime) -> bool:
        asked.append((run, since))
        return run.deployment == ""

    # Not even by a run of the same name, which is another one.
    assert plan(ledger, buying(), FIRST, is_over=note) == []
    assert plan(ledger, buying(), SECOND, is_over=note) == []
    assert asked == [(there, NOW)] * 2
    assert ledger.purchase(theirs.id).handler == there
    (taken,) = plan(ledger, buying(), SECOND, is_over=everybody, now=LATER)
    assert (taken.run, taken.handler) == (there, SECOND)
    plan(ledger, buying(), FIRST, is_over=note)
    assert asked[-1] == (SECOND, LATER)
    assert [each.run.deployment for each in ledger.lines()] == ["eu"]


def test_numbers_of_purchases_are_no_other_ledger_s(
    engines: Callable[[str], Engine], new_database: Callable[[str], str]
) -> None:
    # One database is enough: Python makes them.
    ledgers = [Ledger(engines(new_database("sqlite"))) for _ in range(2)]
    ids = [{each.id for each in plan(ledger, buying(line(), line("api")))} for ledger in ledgers]
    assert len(ids[0] | ids[1]) == 4
    assert all(0 < id < 10**15 for id in ids[0] | ids[1])
    assert min(ids[0] | ids[1]) > 10**6
    with pytest.raises(LedgerError, match="planned in another ledger"):
        ledgers[0].purchase(min(ids[1]))
    assert ledgers[0].id != ledgers[1].id
    assert {each.ledger for each in plan(ledgers[0], buying(), is_over=nobody)} == {ledgers[0].id}
