"""Never two live links for one purchase: retries, clears, a crash or another try at every point, and input that changes."""

from __future__ import annotations

from contextlib import suppress
from itertools import count

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_carbonmark.api.errors import CarbonmarkError, NotFoundError, TransportError
from airflow_provider_carbonmark.hooks.checkout import checkout_of
from airflow_provider_carbonmark.ledger.names import State
from airflow_provider_carbonmark.links import CheckoutLink
from tests.integration.airflow.model import FAILING_CARD, GOOD_CARD
from tests.integration.airflow.parts import asked, ledger_and_keys, make_context
from tests.integration.airflow.points import KillAt, Killed, OvertakeAt, watching

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


@pytest.fixture
def tells_payments(sandbox):
    """A service that tells the payment id of a link, so that it can be asked whether that is paid."""
    sandbox.state.change_switches(checkout_layout="rich")


def live(sandbox):
    return list(sandbox.state.checkouts.values())


def sent(sandbox):
    return asked(sandbox, "/checkout")


def test_a_retry_and_a_clear_get_the_same_link_paid_or_not(run, airflow, sandbox, logged):
    first = run()
    logged()
    assert run() == first
    assert first["pay_url"] in logged()
    airflow.come_back(first, "pay_1")
    assert run() == first
    assert "It is paid: pay_1" in logged()
    assert len(sent(sandbox)) == len(live(sandbox)) == 1


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


def test_after_a_lost_answer_a_mended_return_url_is_asked_for_with_a_key_of_its_own(run, sandbox, clock):
    # In all attempts of the call. The same key with another body is what a service that honours keys refuses for ever.
    fault = {"kind": "drop", "path": "/checkout", "after_work": True, "next": 4}
    sandbox.state.change_switches(faults=[fault])
    with pytest.raises(TransportError):
        run()
    assert run(success_url="https://mended.example.com/paid")["checkout_url"].endswith(live(sandbox)[-1].id)
    assert len({each["idempotency_key"] for each in sent(sandbox)}) == 2


def test_a_refused_request_can_be_mended(run, sandbox, listing):
    supply, listing.liquid_supply = listing.liquid_supply, listing.min_fill_amount
    with pytest.raises(AirflowFailException):
        run()
    listing.liquid_supply = supply
    run()
    assert len(live(sandbox)) == 1


# --- changed input


def test_changed_input_is_refused_where_nobody_can_tell_whether_the_old_link_is_paid(run, sandbox):
    old = run()
    with pytest.raises(AirflowFailException) as refused:
        run(quantity_tonnes="2")
    message = str(refused.value)
    for told in (old["checkout_url"], "quantity_tonnes from '1.234' to '2'", "payment id", "start a new run"):
        assert told in message
    assert run() == old
    assert len(live(sandbox)) == 1


@pytest.mark.usefixtures("tells_payments")
@pytest.mark.parametrize(
    ("changes", "told", "expired"),
    [
        ({"beneficiary_name": "Beta AG"}, "beneficiary_name from 'Acme GmbH' to 'Beta AG'", False),
        ({"metadata": {"cost_center": "4711"}}, "metadata from", True),
    ],
)
def test_changed_input_makes_a_new_link_while_the_old_one_is_unpaid_and_says_so(
    run, airflow, ledger, sandbox, caplog, changes, told, expired
):
    sandbox.state.change_switches(checkout_seconds=60)
    old = run()
    if expired:
        sandbox.state.advance_clock(61)
    caplog.clear()
    new = run(**changes)
    assert new["checkout_url"] != old["checkout_url"]
    (warning,) = (each.getMessage() for each in caplog.records if each.levelname == "WARNING")
    assert old["checkout_url"] in warning
    assert told in warning
    assert run(**changes) == new
    # Should somebody pay it all the same, it is recorded.
    assert ledger.purchase(old["purchase"]).state is State.DECLINED
    airflow.come_back(old, "pay_1")
    assert ledger.purchase(old["purchase"]).state is State.PAID


@pytest.mark.usefixtures("tells_payments")
@pytest.mark.parametrize(
    ("found", "told"),
    [
        *((card, "'{}' of the old link has the status 'PAID'") for card in (GOOD_CARD, FAILING_CARD)),
        ("PROCESSING", "'{}' of the old link has the status 'PROCESSING'"),
        ("nothing", "doesn't know its payment '{}'"),
    ],
)
def test_changed_input_is_refused_while_the_old_link_is_paid_or_in_doubt(run, sandbox, found, told):
    old = run()
    if found == "nothing":
        # It is of another account.
        sandbox.state._checkout_of_payment.clear()
    elif found == "PROCESSING":
        sandbox.state.change_switches(status_words={"AWAITING_PAYMENT": found})
    else:
        sandbox.pay(old["checkout_url"], found)
    with pytest.raises(AirflowFailException, match=f"{told.format(old['payment_id'])}.*start a new run"):
        run(quantity_tonnes="2")
    assert len(live(sandbox)) == 1


@pytest.mark.usefixtures("tells_payments")
@pytest.mark.parametrize("verified", [True, False])
def test_changed_input_is_refused_once_a_buyer_came_back(run, airflow, sandbox, verified):
    airflow.come_back(run(), "pay_1", verified=verified)
    with pytest.raises(
        AirflowFailException, match=r"because (it is paid with|somebody brought) payment 'pay_1'"
    ):
        run(quantity_tonnes="2")
    assert len(live(sandbox)) == 1


@pytest.mark.usefixtures("tells_payments")
def test_changed_input_is_refused_when_a_buyer_comes_back_in_that_moment(run, airflow):
    old = run()

    def come_back(point):
        if point.startswith("GET /payments/") and point.endswith("answered"):
            airflow.come_back(old, "pay_1", verified=False)

    with pytest.raises(AirflowFailException, match="somebody brought payment 'pay_1' for it meanwhile"):
        run(quantity_tonnes="2", reach=come_back)
    assert run() == old


@pytest.mark.usefixtures("tells_payments")
def test_while_carbonmark_cannot_be_asked_the_task_is_tried_again(run, sandbox, clock):
    run()
    sandbox.state.change_switches(faults=[{"kind": "error", "path": "/payments/", "next": 4}])
    with pytest.raises(CarbonmarkError) as failed:
        run(quantity_tonnes="2")
    assert not isinstance(failed.value, NotFoundError)
    run(quantity_tonnes="2")
    assert len(live(sandbox)) == 2


@pytest.mark.usefixtures("tells_payments")
def test_a_link_is_not_forgotten_over_a_change_that_failed(run, sandbox, clock):
    old = run()
    sandbox.state.change_switches(faults=[{"kind": "error", "path": "/checkout", "next": 4}])
    with pytest.raises(CarbonmarkError):
        run(quantity_tonnes="2")
    sandbox.pay(old["checkout_url"])
    for quantity in ("1.234", "2", "3"):
        # What was asked for last can be asked for again; whether it may, the old link says.
        with pytest.raises(AirflowFailException, match="'PAID'"):
            run(quantity_tonnes=quantity)
    assert len(live(sandbox)) == 1


@pytest.mark.usefixtures("tells_payments")
def test_changing_back_and_forth_minds_every_link_made(run, sandbox):
    first = run()
    second = run(quantity_tonnes="2")
    sandbox.pay(first["checkout_url"])
    for quantity in ("1.234", "3"):
        with pytest.raises(AirflowFailException, match=f"{first['payment_id']}.*'PAID'"):
            run(quantity_tonnes=quantity)
    assert run(quantity_tonnes="2") == second
    assert len(live(sandbox)) == 2


def test_a_switch_to_a_test_connection_is_a_change(run, connect, sandbox):
    run()
    connect("cm_api_sandbox_1", environment=None)
    with pytest.raises(AirflowFailException, match="test_mode from False to True"):
        run()
    assert len(live(sandbox)) == 1
