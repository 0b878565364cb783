"""Everything that can be said of a purchase, in every state that it can be in, on each database."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count

import pytest

from airflow_provider_carbonmark.ledger import Ledger, LedgerError
from airflow_provider_carbonmark.ledger.names import HandledElsewhereError, HasLinkError, State
from airflow_provider_carbonmark.ledger.purchase import Link, Purchase
from tests.integration.ledger.parts import (
    FIRST,
    LATER,
    NOW,
    SECOND,
    ask,
    become,
    bring,
    buying,
    checkout_task,
    line,
    link,
    page,
    payment_id,
    plan,
    request,
    retirement,
)

_numbers = count()


def link_made(ledger: Ledger, of: Purchase, now: datetime) -> Purchase:
    """Store an answer for what was asked; the purchase as it is now tells what that was."""
    asked = ledger.purchase(of.id).link or UNASKED
    return ledger.link_made(of.id, FIRST, asked, url=page(of), now=now)


SAY: dict[str, Callable[[Ledger, Purchase, datetime], object]] = {
    "quote": lambda ledger, of, now: ledger.quoted(of.id, FIRST, Decimal("99.123456789")),
    "ask": lambda ledger, of, now: ask(ledger, of),
    "link": link_made,
    "decline": lambda ledger, of, now: ledger.declined(of.id, FIRST, "too dear", now=now),
    "give up": lambda ledger, of, now: ledger.failed(of.id, "no listing", now=now, run=FIRST),
    "fail": lambda ledger, of, now: ledger.failed(of.id, "refunded", now=now),
    "type": lambda ledger, of, now: bring(ledger, of, "pay-typed", verified=False),
    "pay": lambda ledger, of, now: ledger.paid(of.id, payment_id(of), now=now),
    "announce": lambda ledger, of, now: ledger.announced(of.id),
    "retire": lambda ledger, of, now: ledger.retired(of.id, retirement(of), now=now),
}
UNASKED = Link(
    number=1,
    url=None,
    request={},
    idempotency_key="",
    conn_id="",
    made_by=checkout_task(),
    asked_at=NOW,
)

# What a purchase becomes; "same" when it was said before, "-" when it is refused.
BECOMES = """
                     | quote   | ask     | link      | decline  | give up | fail   | type      | pay  | announce | retire
planned              | planned | planned | -         | -        | failed  | -      | -         | -    | same     | -
asked                | planned | same    | link_made | -        | failed  | -      | -         | -    | same     | -
linked               | -       | -       | same      | declined | -       | -      | same      | paid | same     | retired
paid                 | -       | -       | same      | -        | -       | paid_not_retired | same      | same | same     | retired
retired              | -       | -       | same      | -        | -       | -      | same      | same | same     | same
declined             | -       | -       | -         | same     | -       | -      | same      | paid | same     | retired
given up             | -       | -       | -         | -        | same    | same   | -         | -    | same     | -
failed               | -       | -       | -         | -        | same    | same   | same      | same | same     | retired
"""


def cells() -> Iterator[tuple[str, str, str]]:
    head, *rows = ([cell.strip() for cell in row.split("|")] for row in BECOMES.strip("\n").splitlines())
    for stage, *outcomes in rows:
        yield from ((stage, said, becomes) for said, becomes in zip(head[1:], outcomes, strict=True))


def new(books: Ledger, stage: str = "planned", *, test_mode: bool = False) -> Purchase:
    entity = f"entity {next(_numbers)}"
    planned = plan(books, buying(line(entity)), test_mode=test_mode)
    (made,) = (each for each in planned if each.allocations[0].entity == entity)
    return become(books, made, stage)


@pytest.mark.parametrize("stage", dict.fromkeys(stage for stage, _, _ in cells()))
def test_what_is_said_changes_the_purchase_once_or_is_refused(books: Ledger, stage: str) -> None:
    for said, becomes in ((said, becomes) for of, said, becomes in cells() if of == stage):
        before = new(books, stage)
        if becomes == "-":
            with pytest.raises(
                LedgerError, match=rf"purchase {before.id} .* (is {before.state}|was never asked)"
            ):
                SAY[said](books, before, LATER)
            assert books.purchase(before.id) == before
            continue
        SAY[said](books, before, LATER)
        after = books.purchase(before.id)
        if becomes == "same":
            assert after == before
            continue
        assert after != before
        assert after.state == becomes
        SAY[said](books, before, LATER.replace(day=30))
        assert books.purchase(before.id) == after


def test_every_state_and_everything_that_can_be_said_is_in_the_table() -> None:
    assert {said for _, said, _ in cells()} == set(SAY)
    assert {becomes for _, _, becomes in cells()} - {"same", "-"} == set(State) - {State.RESTATED}


def test_a_purchase_keeps_all_that_was_said_of_it(books: Ledger) -> None:
    made = new(books)
    books.quoted(made.id, FIRST, Decimal("31.000000001"))
    asked = ask(books, made)
    assert books.purchase(made.id).link == asked
    assert (asked.number, asked.url, asked.request, asked.asked_at) == (1, None, request(1), NOW)
    told = {"url": page(made), "payment_id": "pay-told", "expires_at": LATER}
    books.link_made(made.id, FIRST, asked, **told, now=LATER)
    books.paid(made.id, payment_id(made), now=LATER)
    books.retired(made.id, retirement(made), now=LATER)
    kept = books.purchase(made.id)
    assert kept.link == replace(asked, **told, made_at=LATER, outcome="paid")
    assert kept.cost_usd == Decimal("31.000000001")
    assert (kept.planned_at, kept.paid_at) == (NOW, LATER)
    assert (kept.retired_at, kept.retired_at_told) == (datetime(2026, 11, 24, 7, tzinfo=UTC), True)
    assert kept.certificate_url == retirement(made)["certificate_url"]
    assert kept.transaction_hash == retirement(made)["transaction_hash"]
    assert (kept.run, kept.handler) == (FIRST, FIRST)
    (row,) = (each for each in books.lines() if each.purchase == made.id)
    assert (row.checkout_url, row.link_made_at, row.state) == (page(made), LATER, State.RETIRED)


@pytest.mark.parametrize(
    "decide",
    [
        lambda ledger, of: ledger.quoted(of.id, SECOND, Decimal(99)),
        lambda ledger, of: ask(ledger, of, SECOND),
        lambda ledger, of: ledger.link_made(of.id, SECOND, of.link, url="https://second", now=NOW),
        lambda ledger, of: ledger.declined(of.id, SECOND, "no", now=NOW),
        lambda ledger, of: ledger.failed(of.id, "no", now=NOW, run=SECOND),
    ],
    ids=["quote", "ask", "link", "decline", "give up"],
)
def test_only_the_run_that_handles_a_purchase_decides_about_it(
    books: Ledger, decide: Callable[[Ledger, Purchase], object]
) -> None:
    before = new(books, "asked")
    with pytest.raises(HandledElsewhereError, match=r"handled by run 'run-1' .* not by run 'run-2'"):
        decide(books, before)
    assert books.purchase(before.id) == before


def test_whoever_makes_a_second_link_gets_the_first(books: Ledger) -> None:
    made = new(books, "linked")
    for run in (FIRST, SECOND):
        assert books.link_made(made.id, run, made.link, url="https://again", now=LATER) == made
    with pytest.raises(HasLinkError):
        ask(books, made)


def test_a_retirement_nobody_saw_paid_was_paid(books: Ledger) -> None:
    made = new(books, "linked")
    after = books.retired(made.id, retirement(made, retired_at=None), now=LATER)
    assert (after.payment_id, after.paid_at) == (payment_id(made), LATER)
    assert (after.retired_at, after.retired_at_told) == (LATER, False)


@pytest.mark.parametrize(
    "tell",
    [
        lambda ledger, of, payment: ledger.paid(of.id, payment, now=LATER),
        lambda ledger, of, payment: ledger.retired(of.id, retirement(of, payment_id=payment), now=LATER),
    ],
    ids=["pay", "retire"],
)
def test_one_payment_buys_one_purchase_a_second_never_replaces_it_and_either_is_logged(
    books: Ledger, tell: Callable[[Ledger, Purchase, str], object], caplog: pytest.LogCaptureFixture
) -> None:
    paid = new(books, "paid")
    for stage in ("linked", "paid", "retired", "failed"):
        before = new(books, stage)
        payment, message = payment_id(paid), rf"{before.id} .* can't have .* that of purchase {paid.id}"
        if stage != "linked":
            payment, message = "pay-other", rf"{payment_id(before)}.*pay-other"
        caplog.clear()
        with pytest.raises(LedgerError, match=message):
            tell(books, before, payment)
        assert books.purchase(before.id) == before
        assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"quantity_tonnes": "12.344"}, r"asks for 12\.345 t, but payment 'pay-\d+' retired 12\.344 t"),
        ({"quantity_tonnes": None}, r"an untold number of t"),
        ({"test_mode": True}, r"planned in production, its retirement is of test mode"),
    ],
    ids=["quantity", "no quantity", "mode"],
)
def test_a_retirement_of_something_else_is_refused(
    books: Ledger, other: dict[str, object], message: str
) -> None:
    before = new(books, "paid")
    with pytest.raises(LedgerError, match=message):
        books.retired(before.id, retirement(before, **other), now=LATER)
    assert books.purchase(before.id) == before


def test_a_rehearsal_ends_with_the_retirement_that_all_rehearsals_share(books: Ledger) -> None:
    made = new(books, "paid", test_mode=True)
    after = books.retired(made.id, retirement(made, quantity_tonnes="1"), now=LATER)
    assert (after.state, after.test_mode, after.quantity_tonnes) == (State.RETIRED, True, Decimal("12.345"))
    refused = new(books, "paid", test_mode=True)
    with pytest.raises(LedgerError, match="planned in test mode, its retirement is of production"):
        books.retired(refused.id, retirement(refused, test_mode=False), now=LATER)


@pytest.mark.parametrize("cost", ["-0.01", "NaN", "Infinity"])
def test_a_cost_that_is_no_amount_is_refused(books: Ledger, cost: str) -> None:
    before = new(books)
    with pytest.raises(LedgerError, match="USD|amount"):
        books.quoted(before.id, FIRST, Decimal(cost))
    assert books.purchase(before.id) == before


def test_a_cost_finer_than_the_ledger_is_rounded_up_and_quoted_again_changes_nothing(books: Ledger) -> None:
    made = new(books)
    quoted = books.quoted(made.id, FIRST, Decimal("5.8794404599999986"))
    assert quoted.cost_usd == Decimal("5.879440460")
    link(books, made)
    assert books.quoted(made.id, FIRST, Decimal("5.8794404599999986")).cost_usd == quoted.cost_usd


def test_a_purchase_that_is_not_there_is_named_with_the_ledger_that_was_asked(books: Ledger) -> None:
    new(books)
    for act in (
        lambda: books.purchase(999999),
        lambda: books.paid(999999, "pay-1", now=NOW),
        lambda: books.awaits(999999, checkout_task(), now=NOW),
    ):
        with pytest.raises(LedgerError, match="has no purchase 999999.*must share one") as refusal:
            act()
        assert books.place in str(refusal.value)


def test_a_retirement_is_to_be_announced_until_somebody_was_told(books: Ledger) -> None:
    made = new(books, "paid")
    assert books.retired(made.id, retirement(made), now=LATER, announcing=True).to_announce
    # Said again by a try that came later, or by somebody who announces nothing.
    assert books.retired(made.id, retirement(made), now=LATER).to_announce
    assert not books.announced(made.id).to_announce
    assert not books.retired(made.id, retirement(made), now=LATER, announcing=True).to_announce
