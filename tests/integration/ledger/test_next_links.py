"""A link that can't be paid any more is followed by another: one current link, none lost, none shown that isn't."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text

from airflow_provider_carbonmark.ledger import Ledger
from airflow_provider_carbonmark.ledger.changes.bringing import Meaning
from airflow_provider_carbonmark.ledger.changes.linking import KEY_LIFETIME
from airflow_provider_carbonmark.ledger.names import HasLinkError, NoNextLinkError, Source, State
from airflow_provider_carbonmark.ledger.purchase import MOST_LINKS, Link, Purchase
from airflow_provider_carbonmark.ledger.tables.schema import metadata
from tests.integration.ledger.parts import (
    CONN_ID,
    FIRST,
    NOW,
    SECOND,
    Rival,
    ask,
    bring,
    buying,
    everybody,
    line,
    on_commit,
    page,
    plan,
)

LIFETIME = timedelta(hours=24)
EXPIRED = NOW + LIFETIME
DEARER = Decimal("40.5")


@pytest.fixture
def linked(ledger: Ledger) -> Purchase:
    """A purchase whose link can be paid until it has expired."""
    (made,) = plan(ledger, buying(line()))
    asked = ask(ledger, made, limits={"max_cost": "50"})
    return ledger.link_made(made.id, FIRST, asked, url=page(made), expires_at=EXPIRED, now=NOW)


def next_request(link: Link, number: int) -> dict[str, Any]:
    return {**link.request, "success_url": f"https://airflow.example/{number}"}


def ask_next(ledger: Ledger, of: Purchase, after: int = 1, **other: Any) -> Link:
    now = other.setdefault("now", EXPIRED + (after - 1) * LIFETIME)
    ledger.say_unpaid(of.id, after, said_by="Ada", now=now)
    return ledger.ask_next_link(of.id, after, next_request, **{"cost_usd": DEARER} | other)


def follow(ledger: Ledger, of: Purchase, after: int = 1) -> Purchase:
    asked = ask_next(ledger, of, after)
    ends = EXPIRED + after * LIFETIME
    url = f"{page(of)}/{after + 1}"
    return ledger.next_link_made(of.id, asked, url=url, expires_at=ends, now=asked.asked_at)


def test_the_next_link_takes_the_place_of_one_that_has_expired(ledger: Ledger, linked: Purchase) -> None:
    followed = follow(ledger, linked)
    assert followed.state is State.LINK_MADE
    assert followed.cost_usd == DEARER
    first, second = ledger.links(linked.id)
    assert followed.link == second
    assert (first.outcome, first.unpaid_said_by, first.unpaid_said_at) == ("unpaid", "Ada", EXPIRED)
    assert (first.cost_usd, second.cost_usd) == (linked.cost_usd, DEARER)
    assert (second.conn_id, second.made_by, second.limits) == (CONN_ID, first.made_by, {"max_cost": "50"})
    assert second.request == {**first.request, "success_url": "https://airflow.example/2"}


def test_no_link_follows_one_that_can_be_paid_and_none_the_twentieth(
    ledger: Ledger, linked: Purchase
) -> None:
    for number in range(1, MOST_LINKS):
        ends = EXPIRED + (number - 1) * LIFETIME
        with pytest.raises(NoNextLinkError, match=f"can be used until {ends:%Y-%m-%d %H:%M} UTC"):
            ledger.say_unpaid(linked.id, number, said_by="Ada", now=ends - timedelta(microseconds=1))
        follow(ledger, linked, number)
    with pytest.raises(NoNextLinkError, match=f"There were {MOST_LINKS} payment pages"):
        follow(ledger, linked, MOST_LINKS)


def test_a_link_without_an_end_is_followed_by_none(ledger: Ledger) -> None:
    (made,) = plan(ledger, buying(line()))
    url = "https://buy.stripe.com/abc"
    ledger.link_made(made.id, FIRST, ask(ledger, made), url=url, expires_at=None, now=NOW)
    with pytest.raises(NoNextLinkError, match="can be used at any time"):
        ledger.say_unpaid(made.id, 1, said_by="Ada", now=NOW + 1000 * LIFETIME)


@pytest.mark.parametrize("ending", ["paid", "declined"])
def test_what_is_paid_or_declined_gets_no_next_link_not_even_one_that_is_made(
    ledger: Ledger, linked: Purchase, ending: str
) -> None:
    asked = ask_next(ledger, linked)
    if ending == "paid":
        bring(ledger, linked, "pay-1")
    else:
        ledger.declined(linked.id, FIRST, "no", now=EXPIRED)
    kept = ledger.next_link_made(linked.id, asked, url="https://pay.example/unseen", now=EXPIRED)
    assert (kept.state, kept.link.url) == (ending, page(linked))
    with pytest.raises(NoNextLinkError, match="payment has arrived|decided not to pay"):
        follow(ledger, linked)


def test_the_first_payment_counts_whichever_link_it_is_for_and_costs_what_that_link_said(
    ledger: Ledger, linked: Purchase
) -> None:
    follow(ledger, linked)
    first = ledger.bring(linked.id, 1, "pay-late", source=Source.RETURNED, verified=True, now=EXPIRED)
    assert first.meaning is Meaning.FIRST
    assert (first.purchase.payment_id, first.purchase.cost_usd) == ("pay-late", linked.cost_usd)
    second = ledger.bring(linked.id, 2, "pay-again", source=Source.RETURNED, verified=True, now=EXPIRED)
    assert second.meaning is Meaning.SECOND
    assert [link.outcome for link in ledger.links(linked.id)] == ["paid", None]


@pytest.mark.parametrize("end", [State.DECLINED, State.FAILED])
def test_what_had_ended_before_a_payment_that_failed_is_not_to_be_paid_again(
    ledger: Ledger, linked: Purchase, end: State
) -> None:
    if end is State.DECLINED:
        ledger.declined(linked.id, FIRST, "no", now=EXPIRED)
    else:
        ledger.say_unpaid(linked.id, 1, said_by="Ada", now=EXPIRED)
        ledger.ends_unpaid(linked.id, "sold out", now=EXPIRED)
    ended = ledger.purchase(linked.id)
    bring(ledger, linked, "pay-1")
    ledger.payment_failed(linked.id, "pay-1")
    assert ledger.purchase(linked.id) == ended


def test_of_two_who_ask_at_once_both_get_the_same_link(ledger: Ledger, linked: Purchase) -> None:
    one, other = ask_next(ledger, linked), ask_next(ledger, linked)
    assert one == other
    made = ledger.next_link_made(linked.id, one, url="https://pay.example/a", now=EXPIRED)
    again = ledger.next_link_made(linked.id, other, url="https://pay.example/b", now=EXPIRED)
    assert again == made
    with pytest.raises(HasLinkError):
        ask_next(ledger, linked)


def test_of_two_links_that_are_made_at_once_one_is_current(
    ledger: Ledger, engine: Engine, linked: Purchase, rival: Rival
) -> None:
    asked = ask_next(ledger, linked)

    def store(ledger: Ledger, url: str) -> Purchase:
        return ledger.next_link_made(linked.id, asked, url=url, now=EXPIRED)

    on_commit(
        engine, lambda: rival.start(lambda theirs: store(theirs, "https://pay.example/b"), until="UPDATE")
    )
    made = store(ledger, "https://pay.example/a")
    assert rival.result() == made
    assert made.link.url == "https://pay.example/a"


def test_whoever_dies_while_making_the_next_link_leaves_it_to_be_asked_for_in_the_same_words(
    ledger: Ledger, engine: Engine, linked: Purchase
) -> None:
    asked = ask_next(ledger, linked)
    later = EXPIRED + KEY_LIFETIME
    soon = ask_next(ledger, linked, now=later - timedelta(seconds=1))
    assert (soon.idempotency_key, soon.asked_at) == (asked.idempotency_key, EXPIRED)
    # What the same key gets by then may be a page that nobody can pay any more.
    assert ask_next(ledger, linked, now=later).idempotency_key != asked.idempotency_key
    assert ledger.purchase(linked.id).link == ledger.links(linked.id)[0]
    made = follow(ledger, linked)
    assert [link.number for link in ledger.links(linked.id)] == [1, 2]
    with engine.connect() as connection:
        current = text("SELECT number FROM carbonmark_links WHERE current_of IS NOT NULL")
        assert connection.scalars(current).all() == [made.link.number]


def test_links_that_can_not_be_paid_any_more_promise_nothing(ledger: Ledger, linked: Purchase) -> None:
    promised: list[dict[str, Decimal]] = []

    def make(coverage: Any) -> Any:
        promised.append(dict(coverage.promised))
        return buying()(coverage)

    for now in (EXPIRED - timedelta(seconds=1), EXPIRED):
        plan(ledger, make, SECOND, now=now)
    assert promised == [{linked.asset_price_source_id: linked.quantity_tonnes}, {}]


def test_what_is_out_of_stock_is_planned_anew_once_somebody_said_that_nobody_paid(
    ledger: Ledger, linked: Purchase
) -> None:
    with pytest.raises(NoNextLinkError, match="Nobody said"):
        ledger.ends_unpaid(linked.id, "sold out", now=EXPIRED)
    ledger.say_unpaid(linked.id, 1, said_by="Ada", now=EXPIRED)
    assert ledger.ends_unpaid(linked.id, "sold out", now=EXPIRED).state is State.FAILED
    anew = plan(ledger, lambda known: buying(*map(_of, known.abandoned))(known), SECOND, months=["2026-11"])
    (lacking,) = anew
    assert lacking.quantity_tonnes == linked.quantity_tonnes


def _of(need: Any) -> Any:
    return line(need.entity, need.offset_tonnes, need.month)


#: The tables of version 2 as the code of commit 0d20726 made them, by name, and their columns.
_RUN = "deployment dag_id run_id"
_TASK = f"{_RUN} task_id map_index"
VERSION_2 = {
    "purchases": "id revision test_mode asset_price_source_id project_id registry vintage quantity_tonnes unit_price_usd cost_usd "
    "beneficiary_name retirement_message state reason planned_at paid_at retired_at failed_at declined_at payment_id certificate_url "
    f"transaction_hash explorer_url to_announce {_TASK} ordered_by handler_deployment handler_dag_id handler_run_id handled_since",
    "allocations": f"id purchase_id entity month test_mode line emitted_tonnes quantity_tonnes stated_at {_RUN}",
    "links": "purchase_id number current_of url request idempotency_key conn_id asked_at made_at expires_at payment_id outcome "
    f"{_TASK}",
    "payments": "purchase_id link payment_id source brought_by brought_at verified_at",
    "waits": f"purchase_id task waits_since {_TASK}",
    "ledger_version": "only_row version ledger signing_key",
}


def test_a_ledger_of_version_2_becomes_one_of_today(ledger: Ledger, engine: Engine, linked: Purchase) -> None:
    links, lines = ledger.links(linked.id), ledger.lines()
    with engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            kept = VERSION_2.get(table.name.removeprefix("carbonmark_"), "").split()
            if not kept:
                table.drop(connection)
                continue
            for index in table.indexes:
                if not {*index.columns.keys()} <= {*kept}:
                    index.drop(connection)
            for name in {*table.columns.keys()} - {*kept}:
                connection.execute(text(f"ALTER TABLE {table.name} DROP COLUMN {name}"))
        connection.execute(text("UPDATE carbonmark_links SET expires_at = NULL"))
        connection.execute(text("UPDATE carbonmark_ledger_version SET version = 2"))
    today = Ledger(engine)
    assert (today.id, today.signing_key()) == (ledger.id, ledger.signing_key())
    assert today.lines() == lines
    (link,) = today.links(linked.id)
    assert link.limits is None
    assert [today.files(), *(each.origin for each in today.lines())] == [[], None]
    assert [link.cost_usd, link.expires_at] == [links[0].cost_usd, EXPIRED]
    assert today.purchase(linked.id).state is State.LINK_MADE
    assert follow(today, linked).link is not None
    assert plan(today, buying(), SECOND, is_over=everybody, now=EXPIRED)[0].id == linked.id
