"""A ledger of version 1 becomes one of today, whole, whoever is killed on the way; and says the same as before."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, inspect, text, update

from airflow_provider_carbonmark.emissions import GOOGLE_CLOUD
from airflow_provider_carbonmark.ledger import Ledger
from airflow_provider_carbonmark.ledger.names import Run, Source, State, Task
from airflow_provider_carbonmark.ledger.purchase import PurchaseLine
from airflow_provider_carbonmark.ledger.questions.coverage import Scope
from airflow_provider_carbonmark.ledger.tables.schema import metadata
from airflow_provider_carbonmark.ledger.tables.versions import LATEST
from airflow_provider_carbonmark.ledger.values import Coverage, Plan
from tests.integration.ledger import version_1
from tests.integration.ledger.parts import LATER, NOW, Buyer, Rival, buying, line, nobody, on_commit, plan

if TYPE_CHECKING:
    from tests.integration.ledger.conftest import Kill

DEPLOYMENT = "us"


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    version_1.make(engine)
    return Ledger(engine, DEPLOYMENT)


def shown_state(row: dict[str, Any]) -> State:
    """Give what is shown for a row today: version 1 had no word for what failed after it was paid."""
    is_paid_for_nothing = row["state"] is State.FAILED and row["payment_id"]
    return State.PAID_NOT_RETIRED if is_paid_for_nothing else row["state"]


def expected_line(row: dict[str, Any]) -> PurchaseLine:
    names = set(PurchaseLine.__dataclass_fields__) & set(row)
    return PurchaseLine(
        purchase=None if row["state"] is State.RESTATED else row["id"],
        run=Run(row["dag_id"], row["run_id"], DEPLOYMENT),
        handler=Run(row["handler_dag_id"], row["handler_run_id"], DEPLOYMENT),
        **{name: row[name] for name in names} | {"id": 0, "state": shown_state(row)},
    )


def as_sent_today(request: dict[str, Any]) -> dict[str, Any]:
    """Give what was asked for as it is sent today; addresses with a token of version 1 lead nowhere."""
    texts = {name: request[name] for name in ("beneficiary_name", "retirement_message")}
    named = {name: request[name] for name in ("asset_price_source_id", "quantity_tonnes")}
    return named | {"metadata": request["metadata"] | texts}


def in_order(lines: list[PurchaseLine]) -> list[PurchaseLine]:
    """Return rows without their own numbers, which are new."""
    numberless = [replace(each, id=0) for each in lines]
    return sorted(numberless, key=lambda each: (each.month, each.entity, each.test_mode, each.line))


def check_rows(ledger: Ledger) -> None:
    """Compare all that is kept with what version 1 had."""
    rows = version_1.rows()
    assert in_order(ledger.lines()) == in_order([expected_line(row) for row in rows])
    for row in rows:
        if row["state"] is State.RESTATED:
            continue
        kept = ledger.purchase(row["id"])
        names = set(vars(kept)) & set(row)
        expected = {name: row[name] for name in names} | {"state": shown_state(row)}
        assert {name: getattr(kept, name) for name in names} == expected
        assert kept.ledger == ledger.id
        assert [(each.entity, each.line) for each in kept.allocations] == [(row["entity"], row["line"])]
        asked = row["idempotency_key"] or row["checkout"]
        assert kept.has_link is bool(row["checkout"])
        assert (kept.link and kept.link.request) == (as_sent_today(row["link_request"]) if asked else None)
        brought = {row["claimed_payment_id"]: None} | {row["payment_id"]: row["paid_at"]}
        brought.pop(None, None)
        assert {each.payment_id: each.verified_at for each in ledger.payments(kept.id)} == brought


def test_version_1_has_rows_in_every_state() -> None:
    rows = version_1.rows()
    assert {shown_state(row) for row in rows} == set(State)
    modes = Counter((row["test_mode"], row["to_announce"]) for row in rows)
    assert all(modes[mode, announce] for mode in (True, False) for announce in (True, False))
    always = {column.name for column in version_1.purchases.columns if not column.nullable}
    for name in rows[0].keys() - always:
        assert {row[name] is None for row in rows} == {True, False}, name


def test_every_row_is_carried_over_once(ledger: Ledger, engine: Engine) -> None:
    check_rows(ledger)
    check_rows(Ledger(engine, "another"))
    assert ledger.broken() == []
    with engine.connect() as connection:
        # What version 1 looks at first, and refuses.
        told = connection.scalars(text("SELECT version FROM carbonmark_ledger_version")).all()
        kept = connection.scalar(text("SELECT count(*) FROM carbonmark_ledger_1"))
    assert (told, kept) == ([LATEST], len(version_1.rows()))


def test_what_a_source_of_ours_calls_otherwise_today_is_not_bought_again(engine: Engine) -> None:
    version_1.make(engine)
    with engine.begin() as connection:
        row = update(version_1.purchases).where(version_1.purchases.c.entity == "retired, unseen")
        connection.execute(row.values(entity="(no project)"))
    ledger = Ledger(engine, DEPLOYMENT)
    assert GOOGLE_CLOUD.no_entity in {line.entity for line in ledger.lines()}
    wanted = Buyer({GOOGLE_CLOUD.no_entity: Decimal("12.345")})
    assert plan(ledger, wanted, Run("offset", "run-8", DEPLOYMENT)) == []


def test_links_and_payments_are_what_they_were(ledger: Ledger) -> None:
    found = {
        each.entity: ledger.purchase(each.purchase)
        for each in ledger.lines(test_mode=False)
        if each.purchase and each.line == 1 and each.month == "2026-10"
    }
    asked, linked, told = (found[name].link for name in ("planned, asked", "linked", "linked, told"))
    key, page = f"key-{found['planned, asked'].id}", f"https://pay.example/{found['linked'].id}"
    assert (asked.url, asked.idempotency_key, asked.conn_id) == (None, key, "carbonmark_eu")
    assert (linked.url, linked.conn_id, linked.outcome) == (page, "carbonmark_eu", None)
    its_task = Task(Run("offset", "run-1", DEPLOYMENT), "buy.checkout", found["linked"].id % 7)
    assert (linked.made_by, linked.asked_at, linked.number) == (its_task, linked.made_at, 1)
    assert (linked.payment_id, told.payment_id) == (None, "pay-told-1")
    outcomes = {name: each.link.outcome for name, each in found.items() if each.link}
    paid = dict.fromkeys(("paid", "retired", "failed, paid", "declined, paid"), "paid")
    assert outcomes.items() >= (paid | {"declined": "declined", "failed, asked": "failed"}).items()
    (claimed,) = ledger.payments(found["linked, claimed"].id)
    assert (claimed.payment_id, claimed.source, claimed.verified_at) == ("pay-typed-2", Source.ENTERED, None)


def test_planners_are_told_the_same_and_buy_nothing_again(ledger: Ledger) -> None:
    for said in version_1.SAID["planners"]:
        # Whether whole tonnes are among what covers is asked no more.
        covered = [known[:4] for known in said["covered"]]
        # And what is needed is not rounded up any more.
        abandoned = [[*known[:3], min(known[2:], key=Decimal)] for known in said["abandoned"]]
        now_said = {"covered": covered, "abandoned": abandoned, "taken": None, "closed": None}
        assert preview_as(ledger, said) == said | now_said
    before = ledger.lines()
    covered = {entity: Decimal(tonnes) for entity, _, tonnes, *_ in version_1.SAID["planners"][0]["covered"]}
    assert plan(ledger, Buyer(covered), Run("offset", "run-8", DEPLOYMENT)) == []
    assert ledger.lines() == before
    # Each of another DAG or mode.
    for said in version_1.SAID["planners"][2:]:
        run = Run(said["dag_id"], "run-9", DEPLOYMENT)
        about = {"months": said["months"], "test_mode": said["test_mode"], "now": LATER}
        taken = plan(ledger, buying(), run, is_over=lambda run, since: True, **about)
        assert [each.id for each in taken] == said["taken"]
    closed = [each.purchase for each in ledger.lines() if "'run-9' planned anew" in (each.reason or "")]
    assert sorted(filter(None, closed)) == sorted(
        id for said in version_1.SAID["planners"][2:] for id in said["closed"]
    )


def preview_as(ledger: Ledger, said: dict[str, Any]) -> dict[str, Any]:
    """Return what a planner is told, in the words of what version 1 told it."""
    told: list[Coverage] = []
    holders: list[str] = []

    def make(coverage: Coverage) -> Plan:
        told.append(coverage)
        return Plan()

    def is_over(run: Run, since: datetime) -> bool:
        assert run.deployment == DEPLOYMENT
        holders.append(run.run_id)
        return bool(said["over"])

    run = Run(said["dag_id"], "run-9", DEPLOYMENT)
    about: dict[str, Any] = {name: said[name] for name in ("months", "test_mode")}
    ledger.preview(make, Scope(run=run, is_over=is_over, now=NOW, **about))
    (coverage,) = told
    return said | {
        "holders": holders,
        "covered": [
            [*key, f"{known.covered_tonnes:f}", f"{known.emitted_tonnes:f}"]
            for key, known in sorted(coverage.covered.items())
        ],
        "abandoned": [
            [need.entity, need.month, f"{need.emitted_tonnes:f}", f"{need.offset_tonnes:f}"]
            for need in coverage.abandoned
            if need.month not in said["months"]  # version 1 told nothing of these
        ],
        "promised": {listing: f"{tonnes:f}" for listing, tonnes in coverage.promised.items()},
        "own": sorted(map(list, coverage.own)),
        "taken": None,
        "closed": None,
    }


def test_whoever_is_killed_on_the_way_leaves_it_to_the_next(ledger: Ledger, kill: Kill) -> None:
    for point in (
        "ALTER TABLE carbonmark_ledger_version",
        "ALTER TABLE carbonmark_purchases",
        "CREATE TABLE carbonmark_purchases",
        "CREATE INDEX carbonmark_allocation_by_run",
        "CREATE TABLE carbonmark_links",
        "INSERT INTO carbonmark_purchases",
        "INSERT INTO carbonmark_payments",
        "UPDATE carbonmark_ledger_version",
    ):
        kill(f"before {point}")
    check_rows(ledger)


def test_of_two_at_once_one_carries_over_and_the_other_finds_it(
    ledger: Ledger, engine: Engine, rival: Rival
) -> None:
    # PostgreSQL lets nobody read the version while it may change.
    until = "FROM carbonmark_ledger_version"
    on_commit(engine, lambda: rival.start(lambda ledger: ledger.lines(), until=until))
    lines = ledger.lines()
    assert rival.result() == lines
    assert (rival.ledger.id, rival.ledger.signing_key()) == (ledger.id, ledger.signing_key())
    check_rows(ledger)


def test_a_version_1_that_was_cut_off_before_it_was_there_is_made_as_today(engine: Engine) -> None:
    version_1.make(engine, finished=False)
    ledger = Ledger(engine)
    assert ledger.lines() == []
    (made,) = plan(ledger, buying(line()), is_over=nobody)
    assert ledger.purchase(made.id) == made
    assert set(inspect(engine).get_table_names()) == {*metadata.tables, "carbonmark_ledger_1"}
