"""Two at once, with the interleaving forced at a seam: a planner's own callbacks, or a statement that is about to be sent."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from threading import Barrier

import pytest
from sqlalchemy import Engine, insert, select, text, update

from airflow_provider_carbonmark.ledger import Ledger, LedgerError
from airflow_provider_carbonmark.ledger.changes.bringing import Meaning
from airflow_provider_carbonmark.ledger.names import HandledElsewhereError, Run, State
from airflow_provider_carbonmark.ledger.purchase import Purchase, PurchaseLine
from airflow_provider_carbonmark.ledger.tables.schema import allocations, purchases, versions
from airflow_provider_carbonmark.ledger.tables.versions import LATEST
from airflow_provider_carbonmark.ledger.values import Coverage, Plan
from tests.integration.ledger.parts import (
    FIRST,
    LATER,
    MONTH,
    NOW,
    ORDER,
    PATIENCE,
    SECOND,
    THIRD,
    Buyer,
    Rival,
    become,
    bring,
    buying,
    checkout_task,
    entity,
    everybody,
    line,
    link,
    links,
    on_commit,
    on_statement,
    only,
    order,
    page,
    payment_id,
    plan,
    stating,
)

EMITTED = {"web": "12.345", "api": "1", "db": "0.5"}

Engines = Callable[[str], Engine]


class Meeting(Buyer):
    """A buyer who does something, once, between being told what is covered and saying what to buy."""

    def __init__(self, do: Callable[[], object]) -> None:
        super().__init__(EMITTED)
        self._do = do

    def __call__(self, coverage: Coverage) -> Plan:
        made = super().__call__(coverage)
        if len(self.told) == 1:
            self._do()
        return made


def tonnes(found: list[Purchase]) -> dict[str, Decimal]:
    assert len({entity(each) for each in found}) == len(found)
    return {entity(each): each.quantity_tonnes for each in found}


def all_tonnes(ledger: Ledger) -> list[tuple[str, Decimal]]:
    return sorted((each.entity, each.quantity_tonnes) for each in ledger.lines())


WANTED = {name: Decimal(amount) for name, amount in EMITTED.items()}


def test_of_two_planners_that_read_the_same_one_is_turned_away_and_finds_it_covered(
    server_url: str, engines: Engines, threads: ThreadPoolExecutor
) -> None:
    # SQLite's write lock doesn't let this come about: see the next test.
    ledgers = [Ledger(engines(server_url)) for _ in range(2)]
    plan(ledgers[0], buying())
    both_have_read = Barrier(2)
    buyers = [Meeting(lambda: both_have_read.wait(PATIENCE)) for _ in range(2)]
    one, other = threads.map(plan, ledgers, buyers, [FIRST, SECOND])
    assert tonnes(one + other) == dict(all_tonnes(ledgers[0])) == WANTED
    assert len(ledgers[0].lines()) == 3
    assert not (one and other)
    loser, winner = buyers if other else reversed(buyers)
    assert [len(told.covered) for told in winner.told] == [0]
    assert [len(told.covered) for told in loser.told] == [0, 3]


def test_a_planner_that_begins_while_another_plans_the_same_doubles_nothing(
    ledger: Ledger, rival: Rival
) -> None:
    plan(ledger, buying())
    late = Buyer(EMITTED)
    early = Meeting(lambda: rival.start(lambda ledger: plan(ledger, late, SECOND), until="INSERT"))
    assert tonnes(plan(ledger, early) + rival.result()) == WANTED
    assert all_tonnes(ledger) == sorted(WANTED.items())


def test_a_planner_is_turned_away_until_nobody_is_faster_any_more(server_url: str, engines: Engines) -> None:
    ledger, other = (Ledger(engines(server_url)) for _ in range(2))
    times: list[Coverage] = []

    def outrun_thrice(coverage: Coverage) -> Plan:
        times.append(coverage)
        if len(times) <= 3:
            plan(other, stating("web", str(len(times))), SECOND)
        return Plan((line("web"), line("api")))

    assert tonnes(plan(ledger, outrun_thrice)) == {"web": Decimal("12.345"), "api": Decimal("12.345")}
    figures = [known.emitted_tonnes for told in times for known in told.covered.values()]
    assert figures == [1, 2, 3]
    assert [each.line for each in ledger.lines() if each.entity == "web"] == [1, 2, 3, 4]


def test_a_planner_that_is_outrun_for_ever_gives_up_and_leaves_nothing(
    server_url: str, engines: Engines
) -> None:
    ledger, other = (Ledger(engines(server_url)) for _ in range(2))

    def always_outrun(coverage: Coverage) -> Plan:
        plan(other, stating("web", "1"), SECOND)
        return Plan((line("api"), line("web")))

    with pytest.raises(LedgerError, match=r"Planning 2026-10 for run 'run-1': others were faster 20 times"):
        plan(ledger, always_outrun)
    assert {(each.entity, each.state) for each in ledger.lines()} == {("web", State.RESTATED)}


def test_abandoned_lines_are_closed_and_planned_anew_by_one_of_two(ledger: Ledger, rival: Rival) -> None:
    plan(ledger, Buyer(EMITTED), THIRD)
    plan(ledger, Buyer({"old": "7"}, "2026-09"), THIRD, months=["2026-09"])
    late = Buyer(EMITTED)
    third_is_over = only(THIRD)

    # But on SQLite, the early one holds the rows that it closed when the late one wants to close them.
    early = Meeting(
        lambda: rival.start(
            lambda ledger: plan(ledger, late, SECOND, is_over=third_is_over), until="FOR UPDATE"
        )
    )
    made = plan(ledger, early, is_over=third_is_over) + rival.result()
    assert tonnes(made) == WANTED | {"old": Decimal(7)}
    assert {need.entity for told in early.told + late.told for need in told.abandoned} == {*EMITTED, "old"}
    states = [each.state for each in ledger.lines()]
    assert (states.count(State.FAILED), states.count(State.PLANNED)) == (4, 4)


def test_a_planner_whose_transaction_is_ended_for_a_deadlock_plans_anew(
    server_url: str, engines: Engines, threads: ThreadPoolExecutor
) -> None:
    ledger = Ledger(engines(server_url))
    (left,) = plan(ledger, buying(line("left")), THIRD)
    with engines(server_url).connect() as rival:
        if rival.dialect.name == "postgresql":
            # Whoever looks for a deadlock first is ended; MariaDB ends whoever changed less.
            rival.execute(text("SET deadlock_timeout = '1h'"))
        copied = dict(rival.execute(select(allocations)).mappings().one()) | {"line": 1}
        # Of no purchase: that of another would have to wait for whoever changes it.
        copied |= {"purchase_id": None, "quantity_tonnes": Decimal(0)}
        del copied["id"]
        doing: list[Future[None]] = []

        def wait_for_each_other() -> None:
            names = ["web", *(f"other-{number}" for number in range(50))]
            rival.execute(insert(allocations), [copied | {"entity": name} for name in names])
            doing.append(threads.submit(change_what_the_planner_holds))

        def change_what_the_planner_holds() -> None:
            rival.execute(update(purchases).where(purchases.c.id == left.id).values(reason="mine"))
            rival.rollback()

        buyer = Meeting(wait_for_each_other)
        made = plan(ledger, buyer, is_over=everybody)
        doing[0].result(PATIENCE)
    assert len(buyer.told) == 2
    # What is closed is planned anew, though nobody states it.
    assert tonnes(made) == WANTED | {"left": left.quantity_tonnes}
    assert ledger.purchase(left.id).state is State.FAILED


def test_open_links_are_taken_up_by_exactly_one_of_two_runs(ledger: Ledger) -> None:
    (old,) = links(ledger, "web", run=THIRD)
    taken: list[Purchase] = []

    def is_over_but_another_run_is_faster(run: Run, since: datetime) -> bool:
        taken.extend(plan(ledger, buying(), FIRST, is_over=everybody))
        return True

    assert plan(ledger, buying(), SECOND, is_over=is_over_but_another_run_is_faster) == []
    assert [(each.id, each.handler) for each in taken] == [(old.id, FIRST)]
    assert ledger.purchase(old.id).handler == FIRST


def test_open_links_are_taken_up_once_when_two_runs_try_at_the_same_moment(
    ledger: Ledger, engine: Engine, rival: Rival
) -> None:
    (old,) = links(ledger, "web", run=THIRD)

    def take_up(ledger: Ledger) -> list[Purchase]:
        return plan(ledger, buying(), SECOND, is_over=only(THIRD))

    # The first commit is that of the plan, the second that of taking up.
    on_commit(engine, lambda: rival.start(take_up, until="FOR UPDATE"), number=2)
    taken = plan(ledger, buying(), FIRST, is_over=everybody)
    assert [each.id for each in taken] == [old.id]
    assert rival.result() == []
    assert ledger.purchase(old.id).handler == FIRST


def take_up(ledger: Ledger, of: Purchase) -> object:
    """Plan in another run, which takes over what is linked and closes what isn't."""
    return plan(ledger, Buyer({"web": "1"}), SECOND, is_over=everybody)


Say = Callable[[Ledger, Purchase], object]
DECLINE: Say = lambda ledger, of: ledger.declined(of.id, FIRST, "no", now=LATER)
#: What is said of a purchase at a stage, and what is said first by somebody whom that hasn't seen; the error, and what it then is.
TOO_LATE: dict[str, tuple[str, Say, Say, str, State]] = {
    "declined, but paid": (
        "linked",
        DECLINE,
        lambda ledger, of: ledger.paid(of.id, payment_id(of), now=NOW),
        "is paid and can't be declined",
        State.PAID,
    ),
    "declined, but taken up": ("linked", DECLINE, take_up, "handled by run 'run-2'", State.LINK_MADE),
    "given up, but linked": (
        "planned",
        lambda ledger, of: ledger.failed(of.id, "sold out", now=LATER, run=FIRST),
        link,
        "is link_made and can't be given up",
        State.LINK_MADE,
    ),
    "linked, but closed": (
        "asked",
        lambda ledger, of: ledger.link_made(of.id, FIRST, of.link, url=page(of), now=LATER),
        take_up,
        "is failed and can't get a link",
        State.FAILED,
    ),
}


@pytest.mark.parametrize("case", TOO_LATE)
def test_what_is_said_first_stops_a_decision_that_had_not_seen_it(
    server_url: str, engines: Engines, case: str
) -> None:
    stage, decide, meanwhile, error, becomes = TOO_LATE[case]
    deciding = engines(server_url)
    ledger, other = Ledger(deciding), Ledger(engines(server_url))
    (made,) = plan(ledger, Buyer({"web": "1"}))
    made = become(ledger, made, stage)
    said_first: list[Purchase] = []

    def say_first() -> None:
        meanwhile(other, made)
        said_first.append(other.purchase(made.id))

    on_statement(deciding, "UPDATE", do=say_first)
    with pytest.raises(LedgerError, match=error) as raised:
        decide(ledger, made)
    assert isinstance(raised.value, HandledElsewhereError) is ("handled" in error)
    assert [ledger.purchase(made.id)] == said_first
    assert (said_first[0].state, said_first[0].has_link) == (becomes, becomes is not State.FAILED)


def test_a_payment_that_comes_in_while_a_line_is_declined_is_kept(server_url: str, engines: Engines) -> None:
    paying = engines(server_url)
    ledger, other = Ledger(paying), Ledger(engines(server_url))
    (made,) = links(ledger, "web")
    on_statement(paying, "UPDATE", do=lambda: other.declined(made.id, FIRST, "no", now=NOW))
    after = ledger.paid(made.id, payment_id(made), now=LATER)
    assert (after.state, after.declined_at, after.paid_at) == (State.PAID, NOW, LATER)


def test_one_payment_that_is_recorded_for_two_purchases_at_once_counts_for_one(
    ledger: Ledger, engine: Engine, rival: Rival
) -> None:
    one, other = links(ledger, "api", "web")
    # The rival has seen that nobody has the payment, where the database lets it go on: SQLite doesn't.
    on_commit(engine, lambda: rival.start(lambda ledger: bring(ledger, other, "pay-x"), until="SET cost_usd"))
    assert bring(ledger, one, "pay-x").meaning is Meaning.FIRST
    refused = rival.result()
    assert (refused.meaning, refused.other) == (Meaning.ANOTHERS, one.id)
    assert [each.payment_id for each in ledger.lines()] == ["pay-x", None]
    # That somebody brought it is kept, and that it isn't for this.
    assert [(each.payment_id, each.verified_at) for each in ledger.payments(other.id)] == [("pay-x", None)]


def test_two_payments_that_are_recorded_for_one_purchase_at_once_pay_it_once(
    ledger: Ledger, engine: Engine, rival: Rival
) -> None:
    (made,) = links(ledger, "web")
    on_commit(engine, lambda: rival.start(lambda ledger: bring(ledger, made, "pay-y"), until="UPDATE"))
    assert bring(ledger, made, "pay-x").meaning is Meaning.FIRST
    assert rival.result().meaning is Meaning.SECOND
    assert ledger.purchase(made.id).payment_id == "pay-x"


def test_two_tries_that_order_at_once_order_once(ledger: Ledger, engine: Engine, rival: Rival) -> None:
    plan(ledger, buying())
    task = checkout_task()
    on_commit(engine, lambda: rival.start(lambda ledger: order(ledger, task), until="INSERT"))
    made = order(ledger, task)
    assert rival.result() == made == ledger.purchase_of(task)


def test_two_tries_that_order_something_else_at_once_order_it_once(
    ledger: Ledger, engine: Engine, rival: Rival
) -> None:
    task, wanted = checkout_task(), replace(ORDER, beneficiary_name="Other Corp")
    known = order(ledger, task)

    def again(ledger: Ledger) -> Purchase:
        return order(ledger, task, wanted, instead_of=known)

    on_commit(engine, lambda: rival.start(again, until="UPDATE"))
    made = again(ledger)
    assert rival.result() == made == ledger.purchase_of(task)
    assert (made.order, ledger.purchase(known.id).state) == (wanted, State.FAILED)


@pytest.mark.parametrize("verified", [True, False])
def test_what_is_paid_meanwhile_is_not_given_up_for_another_order(
    server_url: str, engines: Engines, verified: bool
) -> None:
    ordering = engines(server_url)
    ledger, other = Ledger(ordering), Ledger(engines(server_url))
    task = checkout_task()
    known = link(ledger, order(ledger, task))
    on_statement(ordering, "UPDATE", do=lambda: bring(other, known, "pay-x", verified=verified))
    with pytest.raises(LedgerError, match="somebody brought payment 'pay-x' for it meanwhile"):
        order(ledger, task, replace(ORDER, beneficiary_name="Other Corp"), instead_of=known)
    assert ledger.purchase_of(task) == ledger.purchase(known.id)
    assert ledger.purchase(known.id).state is (State.PAID if verified else State.LINK_MADE)


def test_of_a_task_that_waits_and_a_payment_that_comes_one_sees_the_other(
    ledger: Ledger, engine: Engine, rival: Rival
) -> None:
    (made,) = links(ledger, "web")
    task = checkout_task()

    def wait(ledger: Ledger) -> list[str]:
        ledger.awaits(made.id, task, now=NOW)
        return [each.payment_id for each in ledger.payments(made.id)]

    on_commit(engine, lambda: rival.start(wait, until="UPDATE"))
    bring(ledger, made, "pay-x")
    assert rival.result() == ["pay-x"]
    assert ledger.waiting(made.id) == [task]


def test_tables_that_two_make_at_once_are_made_once(ledger: Ledger, engine: Engine, rival: Rival) -> None:
    late = Buyer({"api": "1"})
    # The first commit is that of the tables.
    on_commit(engine, lambda: rival.start(lambda ledger: plan(ledger, late, SECOND), until="_lock("))
    assert tonnes(plan(ledger, Buyer({"web": "2"}))) == {"web": Decimal(2)}
    assert tonnes(rival.result()) == {"api": Decimal(1)}
    assert all_tonnes(ledger) == [("api", Decimal(1)), ("web", Decimal(2))]
    with engine.connect() as connection:
        assert connection.scalars(select(versions.c.version)).all() == [LATEST]
    assert (ledger.id, ledger.signing_key()) == (rival.ledger.id, rival.ledger.signing_key())


def test_readers_go_on_while_somebody_writes(ledger: Ledger, url: str, engines: Engines) -> None:
    plan(ledger, buying(line("api")))
    reader = Ledger(engines(url))
    seen: list[list[PurchaseLine]] = []
    plan(ledger, Meeting(lambda: seen.append(reader.lines(month=MONTH))))
    assert [[each.entity for each in lines] for lines in seen] == [["api"]]
