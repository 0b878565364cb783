"""How a purchase ends otherwise than retired, and that its tonnes are bought once all the same."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_carbonmark.hooks.checkout import checkout_of
from airflow_provider_carbonmark.ledger.names import State
from airflow_provider_carbonmark.planning import Limits
from tests.integration.airflow.model import (
    FAILING_CARD,
    GOOD_CARD,
    SOLD_OUT_CARD,
    SOMETHING_ELSE_CARD,
    declined,
    stated,
    states,
)
from tests.integration.airflow.parts import stranger, wait


@pytest.mark.parametrize(
    ("on_declined", "error"), [("skip", AirflowSkipException), ("fail", AirflowFailException)]
)
def test_a_declined_purchase_is_left_alone_and_its_tonnes_are_planned_anew(
    dag_run, parked, ledger, on_declined, error
):
    with pytest.raises(error, match="ada declined to pay") as ended:
        dag_run.run("payment", event=declined, on_declined=on_declined)
    (line,) = ledger.lines()
    # Why a task failed is told to whatever listens.
    assert (line.checkout_url in str(ended.value)) is (on_declined == "skip")
    assert (line.state, line.payment_id) == (State.DECLINED, None)
    assert "ada declined to pay for 1.234 t" in line.reason
    assert dag_run.link() == checkout_of(ledger, ledger.purchase(line.purchase))
    with pytest.raises(AirflowSkipException, match="is declined: ada declined"):
        dag_run.run("payment")
    first, second = dag_run.plan()
    assert (first["state"], second["state"]) == ("declined", "planned")
    assert second["quantity_tonnes"] == "1.234"


@pytest.mark.parametrize("carried_on_by", ["its own tasks, cleared", "the next run"])
def test_a_declined_link_that_is_paid_after_all_is_carried_on(
    dag_run, parked, second, ledger, buyer, carried_on_by
):
    with pytest.raises(AirflowSkipException):
        dag_run.run("payment", event=declined)
    payment_id = buyer.pay(parked)
    assert states(ledger) == ["paid"]
    run = dag_run
    if carried_on_by == "the next run":
        dag_run.end()
        run = second
        (taken,) = run.plan()
        assert (taken["state"], taken["payment_id"]) == ("paid", payment_id)
    assert run.link() == parked
    assert run.run("payment") == payment_id
    run.run("retirement")
    run.run("record")
    assert states(ledger) == ["retired"]


@pytest.mark.parametrize("word", ["FAILED", "Out Of Stock"])
def test_what_sells_out_between_payment_and_retirement_is_paid_and_not_retired_and_bought_elsewhere(
    dag_run, ledger, buyer, sandbox, word
):
    sandbox.state.change_switches(status_words={"FAILED": word})
    (planned,) = dag_run.plan()
    payment_id = buyer.pay(dag_run.link(), SOLD_OUT_CARD)
    told = f"'{word}', with the message 'Listing .* sold out before.*ask Carbonmark for the money back"
    for _ in range(2):
        # When its tasks are cleared, too.
        dag_run.run("payment")
        with pytest.raises(AirflowFailException, match=told) as failure:
            dag_run.run("retirement", failed_states=[word])
        assert dag_run.link() == dag_run.result("checkout")
    (line,) = ledger.lines()
    assert (line.state, line.payment_id, line.retired_at) == (State.PAID_NOT_RETIRED, payment_id, None)
    assert str(failure.value) == f"{line.reason} {line.todo}"
    assert f"Payment {payment_id} counts as taken" in line.todo
    _, anew = dag_run.plan()
    assert (anew["state"], anew["quantity_tonnes"]) == ("planned", "1.234")
    assert anew["asset_price_source_id"] != planned["asset_price_source_id"]
    buyer.buy(dag_run, 1)
    assert states(ledger) == ["paid_not_retired", "retired"]


def test_what_fails_at_carbonmark_is_recorded_whoever_awaited_the_payment(dag_run, ledger, buyer):
    dag_run.plan()
    payment_id = buyer.pay(dag_run.link(), FAILING_CARD, comes_back=False)
    with pytest.raises(AirflowFailException, match="status of the retirement is 'FAILED'"):
        dag_run.run("retirement", payment_id=payment_id)
    (line,) = ledger.lines()
    assert (line.state, line.payment_id) == (State.PAID_NOT_RETIRED, payment_id)


@pytest.mark.parametrize(
    ("mode", "card", "ends_as"),
    [
        ("poke", GOOD_CARD, "retired"),
        ("reschedule", FAILING_CARD, "paid_not_retired"),
        ("deferrable", FAILING_CARD, "paid_not_retired"),
        ("deferrable", SOMETHING_ELSE_CARD, "paid"),
    ],
)
def test_how_a_purchase_without_a_plan_ends_is_written_down_by_the_wait(
    ledger, sandbox, clock, buy, mode, card, ends_as
):
    sandbox.state.change_switches(retirement_seconds=60)
    checkout, payment_id = buy(card)
    seen = []
    clock.before_sleep = lambda: seen.append(ledger.purchase(checkout["purchase"]).state.value)
    with suppress(AirflowFailException):
        wait(mode, clock, payment_id=payment_id, checkout=checkout)
    made = ledger.purchase(checkout["purchase"])
    assert (set(seen), made.state, made.payment_id) == ({"paid"}, ends_as, payment_id)
    assert bool(made.certificate_url) == (ends_as == "retired")
    assert not made.to_announce


@pytest.mark.parametrize("trouble", ["a wrong key", "an unknown payment", "a broken connection"])
def test_what_nobody_can_tell_is_not_bought_twice(dag_run, ledger, buyer, connect, clock, sandbox, trouble):
    dag_run.plan()
    buyer.pay(dag_run.link())
    dag_run.run("payment")
    if trouble == "a wrong key":
        connect("wrong")
    elif trouble == "an unknown payment":
        sandbox.state._checkout_of_payment.clear()
    else:
        connect(host="ftp://example.com")
    with pytest.raises(AirflowFailException):
        dag_run.run("retirement")
    assert states(ledger) == ["paid"]
    connect()
    assert len(dag_run.plan()) == 1


@pytest.mark.parametrize("trouble", ["sold out", "gone"])
def test_a_listing_that_cannot_fill_the_purchase_any_more_fails_it(dag_run, ledger, sandbox, trouble):
    (planned,) = dag_run.plan()
    if trouble == "sold out":
        sandbox.state.listings[planned["asset_price_source_id"]].liquid_supply = Decimal(0)
    else:
        del sandbox.state.listings[planned["asset_price_source_id"]]
    with pytest.raises(AirflowFailException):
        dag_run.link()
    assert states(ledger) == ["failed"]
    with pytest.raises(AirflowSkipException, match="is failed"):
        dag_run.link()
    _, anew = dag_run.plan()
    assert anew["asset_price_source_id"] != planned["asset_price_source_id"]
    assert dag_run.link(1)


def test_a_stranger_who_knows_no_quotes_fails_no_purchase(dag_run, ledger, connect):
    dag_run.plan()
    with stranger(404) as url:
        connect(host=url)
        with pytest.raises(AirflowFailException, match="404"):
            dag_run.link()
    assert states(ledger) == ["planned"]
    connect()
    assert dag_run.link()


def test_a_quote_that_is_refused_late_fails_no_purchase_that_the_next_try_made_a_link_for(
    dag_run, second, ledger, sandbox
):
    (planned,) = dag_run.plan()
    overtaken = []

    def overtake(point):
        if point == "POST /quotes asked" and not overtaken:
            overtaken.append(point)
            dag_run.reach = lambda point: None
            dag_run.link()
            sandbox.state.listings[planned["asset_price_source_id"]].liquid_supply = Decimal(0)

    dag_run.reach = overtake
    with pytest.raises(AirflowFailException, match="is link_made and can't be given up"):
        dag_run.link()
    assert states(ledger) == ["link_made"]
    dag_run.end()
    (taken,) = second.plan()
    assert taken["state"] == "link_made"


def test_a_quote_below_the_least_that_can_be_paid_gets_no_link_and_is_left_to_a_later_plan(
    dag_run, ledger, monkeypatch
):
    dag_run.plan()
    monkeypatch.setenv("AIRFLOW__CARBONMARK__MINIMUM_PAYMENT_USD", "1000")
    with pytest.raises(AirflowSkipException, match="below the least that can be paid, 1000 USD"):
        dag_run.link()
    with pytest.raises(AirflowSkipException, match="is failed: carried over"):
        dag_run.link()
    monkeypatch.setenv("AIRFLOW__CARBONMARK__MINIMUM_PAYMENT_USD", "0.1")
    dag_run.plan()
    assert states(ledger) == ["failed", "planned"]


def test_every_try_asks_the_price_again_and_over_max_cost_the_purchase_stays_planned(
    dag_run, ledger, sandbox
):
    (planned,) = dag_run.plan()
    listing = sandbox.state.listings[planned["asset_price_source_id"]]

    def fail(point):
        if point == "POST /checkout asked":
            listing.purchase_price = Decimal(1000)
            raise SystemExit

    dag_run.reach = fail
    with pytest.raises(SystemExit):
        dag_run.run("checkout", max_cost="100")
    dag_run.reach = lambda point: None
    with pytest.raises(AirflowFailException, match="costs 1234 USD, more than max_cost, 100 USD"):
        dag_run.run("checkout", max_cost="100")
    assert (states(ledger), sandbox.state.checkouts) == (["planned"], {})
    listing.purchase_price = Decimal(7)
    dag_run.run("checkout", max_cost="100")
    # What it costs now is written down.
    assert ledger.lines()[0].cost_usd == Decimal("8.638")


@pytest.mark.parametrize("limit", ["max_cost_per_run_usd", "max_cost_per_entity_usd"])
def test_the_plan_s_limits_hold_for_all_links_of_the_run_together(dag_run, ledger, sandbox, limit):
    entity = "web" if limit == "max_cost_per_entity_usd" else "api"
    limits = Limits(**{limit: Decimal(12)})
    emissions = [stated("1"), stated("1", entity, "2026-11"), stated("1", entity, "2026-12")]
    _, second, _ = dag_run.plan(emissions, limits=limits)
    dag_run.run("checkout", 0, limits=limits)
    listing = sandbox.state.listings[second["asset_price_source_id"]]
    price, listing.purchase_price = listing.purchase_price, Decimal("11.95")
    with pytest.raises(AirflowFailException, match=f"{limit} is 12 USD.*Raise the limit"):
        dag_run.run("checkout", 1, limits=lambda context: limits)
    assert len(sandbox.state.checkouts) == 1
    # What was refused counts for nothing: the others go on.
    assert f"{ledger.purchase(second['purchase']).cost_usd:f}" == second["cost_usd"]
    listing.purchase_price = price
    dag_run.run("checkout", 2, limits=limits)
    assert len(sandbox.state.checkouts) == 2
