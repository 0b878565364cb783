"""Never two live links for one purchase: retries, clears, a crash or another try at every point, and input that changes."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from itertools import count

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_carbonmark.api.errors import CarbonmarkError, NotFoundError, TransportError
from airflow_provider_carbonmark.hooks.checkout import checkout_of
from airflow_provider_carbonmark.ledger.purchase import Source, State
from airflow_provider_carbonmark.links import CheckoutLink
from tests.integration.airflow.parts import ledger_and_keys, make_context, sqlite_only
from tests.integration.airflow.points import KillAt, Killed, OvertakeAt, watching

NOW = datetime(2026, 8, 20, 9, tzinfo=UTC)
TO_AIRFLOW = {"success_url": None, "cancel_url": None}


@pytest.fixture
def run(ledger, checkout_operator):
    """Return a function that runs one try of the task, always the same task instance unless told otherwise."""

    def run(*, run_id="2026-07", map_index=-1, reach=lambda point: None, **changes):
        operator = checkout_operator(**changes)
        with watching(reach):
            checkout = operator.execute(make_context(run_id=run_id, map_index=map_index))
        assert CheckoutLink().get_link(operator, ti_key=None) == checkout["pay_url"]
        assert checkout == checkout_of(ledger, ledger.purchase(checkout["purchase"]))
        return checkout

    return run


def live(sandbox):
    return list(sandbox.state.checkouts.values())


def sent(sandbox):
    return [each for each in sandbox.state.requests if each["path"] == "/checkout"]


def keys_sent(sandbox):
    return [each["idempotency_key"] for each in sent(sandbox)]


def bring(ledger, checkout, payment_id="pay_1", *, verified):
    """Do what the return URL does when a buyer comes back."""
    return ledger.bring(
        checkout["purchase"], 1, payment_id, source=Source.RETURNED, verified=verified, now=NOW
    )


def test_a_retry_and_a_clear_get_the_same_link_paid_or_not(run, ledger, sandbox, logged):
    first = run()
    logged()
    assert run() == first
    assert first["pay_url"] in logged()
    bring(ledger, first, verified=True)
    assert run() == first
    assert "It is paid: pay_1" in logged()
    assert len(keys_sent(sandbox)) == len(live(sandbox)) == 1


@sqlite_only
def test_the_same_purchase_written_differently_is_the_same(run, sandbox):
    first = run(quantity_tonnes="1.50", metadata={7: "x"})
    differently = {"quantity_tonnes": 1.5, "metadata": {"7": "x"}, "beneficiary_name": " Acme GmbH "}
    assert run(**differently) == first
    assert run(**differently, success_url="https://elsewhere.example.com/paid") == first
    assert len(live(sandbox)) == 1


# --- a crash, or another try, at every point


@ledger_and_keys
def test_wherever_a_try_dies_the_next_asks_the_same_and_makes_one_link(run, ledger, sandbox, honoured):
    sandbox.state.change_switches(honour_idempotency_key=honoured)
    for number in count():
        sandbox.state.checkouts.clear()
        sandbox.state.requests.clear()
        kill = KillAt(number)
        with suppress(Killed):
            run(run_id=f"{number}", reach=kill, **TO_AIRFLOW)
        delivered = run(run_id=f"{number}", **TO_AIRFLOW)
        assert run(run_id=f"{number}", **TO_AIRFLOW) == delivered
        assert len({(each["idempotency_key"], each["body"]) for each in sent(sandbox)}) == 1, kill.point
        # What was made besides was seen by nobody: the try that asked for it didn't succeed.
        assert len(live(sandbox)) == (1 if honoured else len(sent(sandbox)))
        assert delivered["checkout_url"].endswith(live(sandbox)[-1].id)
        if kill.point is None:
            break
    assert number > 6


@ledger_and_keys
def test_wherever_another_try_overtakes_both_deliver_one_link(run, sandbox, honoured):
    sandbox.state.change_switches(honour_idempotency_key=honoured)
    for number in count():
        task = {"run_id": f"{number}", **TO_AIRFLOW}
        ends = []
        overtake = OvertakeAt(number, lambda task=task, ends=ends: ends.append(run(**task)))
        ends.append(run(reach=overtake, **task))
        assert all(end == ends[0] for end in ends), overtake.point
        if overtake.point is None:
            break
    assert number > 6


@sqlite_only
@pytest.mark.parametrize("honoured", [True, False])
def test_the_answer_is_lost_in_every_attempt(run, sandbox, clock, honoured):
    sandbox.state.change_switches(
        honour_idempotency_key=honoured,
        faults=[{"kind": "drop", "path": "/checkout", "after_work": True, "next": 4}],
    )
    with pytest.raises(TransportError):
        run()
    delivered = run()
    assert len(keys_sent(sandbox)) == 5
    assert len(set(keys_sent(sandbox))) == 1
    assert len(live(sandbox)) == (1 if honoured else 5)
    assert run() == delivered
    assert delivered["checkout_url"].endswith(live(sandbox)[-1].id)


@sqlite_only
def test_after_a_lost_answer_a_mended_return_url_is_asked_for_with_a_key_of_its_own(run, sandbox, clock):
    # The same key with another body is what a service that honours keys refuses for ever.
    sandbox.state.change_switches(
        faults=[{"kind": "drop", "path": "/checkout", "after_work": True, "next": 4}]
    )
    with pytest.raises(TransportError):
        run()
    assert run(success_url="https://mended.example.com/paid")["checkout_url"].endswith(live(sandbox)[-1].id)
    assert len(set(keys_sent(sandbox))) == 2


@sqlite_only
def test_a_refused_request_can_be_mended(run, sandbox, listing):
    supply, listing.liquid_supply = listing.liquid_supply, listing.min_fill_amount
    with pytest.raises(AirflowFailException):
        run()
    listing.liquid_supply = supply
    run()
    assert len(live(sandbox)) == 1


# --- changed input


@sqlite_only
def test_changed_input_is_refused_where_nobody_can_tell_whether_the_old_link_is_paid(run, sandbox):
    old = run()
    with pytest.raises(AirflowFailException) as refused:
        run(quantity_tonnes="2")
    message = str(refused.value)
    for told in (old["checkout_url"], "quantity_tonnes from '1.234' to '2'", "payment id", "start a new run"):
        assert told in message
    assert run() == old
    assert len(live(sandbox)) == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"beneficiary_name": "Beta AG"}, "beneficiary_name from 'Acme GmbH' to 'Beta AG'"),
        ({"metadata": {"cost_center": "4711"}}, "metadata from"),
    ],
)
def test_changed_input_makes_a_new_link_while_the_old_one_is_unpaid_and_says_so(
    run, ledger, sandbox, caplog, changes, told
):
    sandbox.state.change_switches(checkout_layout="rich")
    old = run()
    caplog.clear()
    new = run(**changes)
    assert new["checkout_url"] != old["checkout_url"]
    (warning,) = (each.getMessage() for each in caplog.records if each.levelname == "WARNING")
    assert old["checkout_url"] in warning
    assert told in warning
    assert run(**changes) == new
    # Should somebody pay it all the same, it is recorded.
    assert ledger.purchase(old["purchase"]).state is State.DECLINED
    assert bring(ledger, old, verified=True).purchase.state is State.PAID


@sqlite_only
@pytest.mark.parametrize("card", ["4242424242424242", "4000000000001018", "4000000000001026"])
def test_changed_input_is_refused_once_the_old_link_is_paid(run, sandbox, pay, card):
    sandbox.state.change_switches(checkout_layout="rich")
    payment_id = pay(run()["checkout_url"], card)
    with pytest.raises(
        AirflowFailException, match=f"'{payment_id}' of the old link has the status 'PAID'.*start a new run"
    ):
        run(quantity_tonnes="2")
    assert len(live(sandbox)) == 1


@pytest.mark.parametrize("verified", [True, False])
def test_changed_input_is_refused_once_a_buyer_came_back(run, ledger, sandbox, verified):
    sandbox.state.change_switches(checkout_layout="rich")
    bring(ledger, run(), verified=verified)
    with pytest.raises(
        AirflowFailException, match=r"because (it is paid with|somebody brought) payment 'pay_1'"
    ):
        run(quantity_tonnes="2")
    assert len(live(sandbox)) == 1


def test_changed_input_is_refused_when_a_buyer_comes_back_in_that_moment(run, ledger, sandbox):
    sandbox.state.change_switches(checkout_layout="rich")
    old = run()

    def come_back(point):
        if point.startswith("GET /payments/") and point.endswith("answered"):
            bring(ledger, old, verified=False)

    with pytest.raises(AirflowFailException, match="somebody brought payment 'pay_1' for it meanwhile"):
        run(quantity_tonnes="2", reach=come_back)
    assert run() == old


@sqlite_only
def test_an_expired_link_makes_way_for_changed_input(run, sandbox):
    sandbox.state.change_switches(checkout_layout="rich", checkout_seconds=60)
    old = run()
    sandbox.state.advance_clock(61)
    assert run(quantity_tonnes="2")["checkout_url"] != old["checkout_url"]


@sqlite_only
def test_a_word_that_leaves_doubt_is_not_unpaid(run, sandbox):
    sandbox.state.change_switches(checkout_layout="rich", status_words={"AWAITING_PAYMENT": "PROCESSING"})
    run()
    with pytest.raises(AirflowFailException, match="PROCESSING"):
        run(quantity_tonnes="2")


@sqlite_only
def test_an_old_link_of_another_account_is_in_doubt(run, sandbox):
    sandbox.state.change_switches(checkout_layout="rich")
    old = run()
    sandbox.state._checkout_of_payment.clear()
    with pytest.raises(
        AirflowFailException, match=f"doesn't know its payment '{old['payment_id']}'.*start a new run"
    ):
        run(quantity_tonnes="2")


@sqlite_only
def test_while_carbonmark_cannot_be_asked_the_task_is_tried_again(run, sandbox, clock):
    sandbox.state.change_switches(checkout_layout="rich")
    run()
    sandbox.state.change_switches(faults=[{"kind": "error", "path": "/payments/", "next": 4}])
    with pytest.raises(CarbonmarkError) as failed:
        run(quantity_tonnes="2")
    assert not isinstance(failed.value, NotFoundError)
    run(quantity_tonnes="2")
    assert len(live(sandbox)) == 2


@sqlite_only
def test_a_link_is_not_forgotten_over_a_change_that_failed(run, sandbox, pay, clock):
    sandbox.state.change_switches(checkout_layout="rich")
    old = run()
    sandbox.state.change_switches(faults=[{"kind": "error", "path": "/checkout", "next": 4}])
    with pytest.raises(CarbonmarkError):
        run(quantity_tonnes="2")
    pay(old["checkout_url"])
    for quantity in ("1.234", "2", "3"):
        # What was asked for last can be asked for again; whether it may, the old link says.
        with pytest.raises(AirflowFailException, match="'PAID'"):
            run(quantity_tonnes=quantity)
    assert len(live(sandbox)) == 1


@sqlite_only
def test_changing_back_and_forth_minds_every_link_made(run, sandbox, pay):
    sandbox.state.change_switches(checkout_layout="rich")
    first = run()
    second = run(quantity_tonnes="2")
    pay(first["checkout_url"])
    for quantity in ("1.234", "3"):
        with pytest.raises(AirflowFailException, match=f"{first['payment_id']}.*'PAID'"):
            run(quantity_tonnes=quantity)
    assert run(quantity_tonnes="2") == second
    assert len(live(sandbox)) == 2


@sqlite_only
def test_a_switch_to_a_test_connection_is_a_change(run, connect, sandbox):
    run()
    connect("cm_api_sandbox_1", environment=None)
    with pytest.raises(AirflowFailException, match="test_mode from False to True"):
        run()
    assert len(live(sandbox)) == 1


# --- which ledger


@pytest.mark.parametrize("is_empty", [True, False])
def test_what_is_planned_in_one_ledger_is_refused_by_another(
    dag_run, ledger, sandbox, monkeypatch, tmp_path, is_empty
):
    (planned,) = dag_run.plan()
    checkout = dag_run.link()
    monkeypatch.delenv("AIRFLOW__CARBONMARK__LEDGER_CONN_ID", raising=False)
    monkeypatch.setenv("AIRFLOW__CARBONMARK__LEDGER_PATH", str(other := tmp_path / "other.db"))
    if not is_empty:
        dag_run.plan()
    told = rf"Purchase {planned['purchase']} is in the ledger '{ledger.id}'.* in SQLite file {other}, is '(?!{ledger.id})[-\w]+'"
    for step, inputs in (("checkout", {"purchase": planned}), ("payment", {"checkout": checkout})):
        with pytest.raises(AirflowFailException, match=rf"{told}.*ledger_conn_id"):
            dag_run.run(step, **inputs)
    unnamed = {name: value for name, value in planned.items() if name != "ledger"}
    with pytest.raises(
        AirflowFailException,
        match=rf"The ledger in SQLite file {other} has no purchase {planned['purchase']}",
    ):
        dag_run.run("checkout", purchase=unnamed)
    assert len(live(sandbox)) == 1
