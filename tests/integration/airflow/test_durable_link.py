"""Never two live links for one purchase: retries, clears, and a crash after every step (Airflow 3.3)."""

from __future__ import annotations

import json
import uuid

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow_provider_carbonmark.web.link import paid_key

from airflow_provider_carbonmark.api.errors import CarbonmarkError, NotFoundError, TransportError
from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook
from airflow_provider_carbonmark.links import CheckoutLink
from tests.integration.airflow.conftest import KEY
from tests.integration.airflow.parts import make_context, needs_state_store

pytestmark = needs_state_store


class Killed(BaseException):
    """The worker is gone, and nothing catches that."""


@pytest.fixture
def run(checkout_operator, supervisor):
    """Return a function that runs one try of the task, always the same task instance unless told otherwise."""
    ti_id = uuid.uuid4()

    def run(*, ti_id: uuid.UUID = ti_id, map_index: int = -1, **changes):
        operator = checkout_operator(**changes)
        checkout = operator.execute(make_context(ti_id=ti_id, map_index=map_index))
        assert CheckoutLink().get_link(operator, ti_key=None) == checkout["checkout_url"]
        return checkout

    return run


def live(sandbox) -> list:
    return list(sandbox.state.checkouts.values())


def keys_sent(sandbox) -> list[str]:
    return [each["idempotency_key"] for each in sandbox.state.requests if each["path"] == "/checkout"]


def kill_at_set(supervisor, when) -> None:
    """Kill the worker at the first write to the state store that fits."""

    def before_set(value):
        if when(value):
            supervisor.before_set = lambda value: None
            raise Killed

    supervisor.before_set = before_set


def test_a_retry_and_a_clear_get_the_same_link(run, sandbox):
    first = run()
    assert [run(), run()] == [first, first]
    assert len(live(sandbox)) == 1
    assert len(keys_sent(sandbox)) == 1


def test_what_is_kept_never_expires_and_holds_no_key(run, supervisor):
    run()
    assert supervisor.expiries == [None, None]
    (text,) = supervisor.stored.values()
    assert KEY not in text
    assert "cm_api" not in text


def test_mapped_tasks_have_links_of_their_own(run, sandbox):
    first = run(ti_id=uuid.uuid4(), map_index=0)
    second = run(ti_id=uuid.uuid4(), map_index=1)
    assert first["checkout_url"] != second["checkout_url"]
    assert (first["map_index"], second["map_index"]) == (0, 1)
    assert len(live(sandbox)) == 2


def test_the_same_purchase_written_differently_is_the_same(run, sandbox):
    first = run(quantity_tonnes="1.50", metadata={7: "x"})
    assert run(quantity_tonnes=1.5, metadata={"7": "x"}, beneficiary_name=" Acme GmbH ") == first
    assert len(live(sandbox)) == 1


def test_another_return_url_does_not_make_another_link(run, sandbox):
    first = run()
    assert run(success_url="https://elsewhere.example.com/paid") == first
    assert len(live(sandbox)) == 1


def test_the_link_made_before_is_said_in_the_log(run, logged):
    url = run()["checkout_url"]
    logged()
    run()
    assert f"This task made its link before: {url}" in logged()


# --- a crash after every step


def test_killed_before_the_intent_is_written(run, sandbox, supervisor):
    kill_at_set(supervisor, lambda value: True)
    with pytest.raises(Killed):
        run()
    assert keys_sent(sandbox) == []
    run()
    assert len(live(sandbox)) == 1


def test_killed_between_intent_and_request(run, sandbox, monkeypatch):
    keys = []

    def killed(self, *, idempotency_key, **order):
        keys.append(idempotency_key)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(CarbonmarkHook, "create_checkout", killed)
        with pytest.raises(Killed):
            run()
    result = run()
    assert keys_sent(sandbox) == keys
    assert result == run()
    assert len(live(sandbox)) == 1


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
    # Where the key isn't honoured, the orphans were seen by nobody: the task that made them didn't succeed.
    assert len(live(sandbox)) == (1 if honoured else 5)
    assert run() == delivered
    assert delivered["checkout_url"].endswith(live(sandbox)[-1].id)


@pytest.mark.parametrize("honoured", [True, False])
def test_killed_between_answer_and_keeping_it(run, sandbox, supervisor, honoured):
    sandbox.state.change_switches(honour_idempotency_key=honoured)
    kill_at_set(supervisor, lambda value: value["made"])
    with pytest.raises(Killed):
        run()
    assert len(live(sandbox)) == 1
    delivered = run()
    assert len(set(keys_sent(sandbox))) == 1
    assert len(live(sandbox)) == (1 if honoured else 2)
    assert delivered["checkout_url"].endswith(live(sandbox)[-1].id)
    assert [run(), run()] == [delivered, delivered]


def test_killed_after_keeping_it(run, sandbox, monkeypatch):
    from airflow_provider_carbonmark.operators.link_store import LinkStore

    keep = LinkStore.keep

    def killed(self, link):
        keep(self, link)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(LinkStore, "keep", killed)
        with pytest.raises(Killed):
            run()
    assert run()["checkout_url"].endswith(live(sandbox)[0].id)
    assert len(live(sandbox)) == 1


def test_after_a_lost_answer_a_mended_return_url_is_asked_for_with_a_key_of_its_own(run, sandbox, clock):
    # The same key with another body is what a service that honours keys refuses for ever.
    sandbox.state.change_switches(
        faults=[{"kind": "drop", "path": "/checkout", "after_work": True, "next": 4}]
    )
    with pytest.raises(TransportError):
        run()
    assert run(success_url="https://mended.example.com/paid")["checkout_url"].endswith(live(sandbox)[-1].id)
    assert len(set(keys_sent(sandbox))) == 2


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
    assert old["checkout_url"] in message
    assert "quantity_tonnes from '1.234' to '2'" in message
    assert "payment id" in message
    assert "start a new run" in message
    assert len(live(sandbox)) == 1
    assert run() == old


def test_changed_input_makes_a_new_link_while_the_old_one_is_unpaid_and_says_so(run, sandbox, caplog):
    sandbox.state.change_switches(checkout_layout="rich")
    old = run()
    caplog.clear()
    new = run(beneficiary_name="Beta AG")
    assert new["checkout_url"] != old["checkout_url"]
    assert new["beneficiary_name"] == "Beta AG"
    (warning,) = (each for each in caplog.records if each.levelname == "WARNING")
    assert old["checkout_url"] in warning.getMessage()
    assert "beneficiary_name from 'Acme GmbH' to 'Beta AG'" in warning.getMessage()
    assert run(beneficiary_name="Beta AG") == new


@pytest.mark.parametrize("card", ["4242424242424242", "4000000000001018", "4000000000001026"])
def test_changed_input_is_refused_once_the_old_link_is_paid(run, sandbox, pay, card):
    sandbox.state.change_switches(checkout_layout="rich")
    old = run()
    payment_id = pay(old["checkout_url"], card)
    with pytest.raises(
        AirflowFailException, match=f"'{payment_id}' of the old link has the status 'PAID'.*start a new run"
    ):
        run(quantity_tonnes="2")
    assert len(live(sandbox)) == 1


def test_an_expired_link_makes_way_for_changed_input(run, sandbox):
    sandbox.state.change_switches(checkout_layout="rich", checkout_seconds=60)
    old = run()
    sandbox.state.advance_clock(61)
    assert run(quantity_tonnes="2")["checkout_url"] != old["checkout_url"]


def test_a_word_that_leaves_doubt_is_not_unpaid(run, sandbox):
    sandbox.state.change_switches(checkout_layout="rich", status_words={"AWAITING_PAYMENT": "PROCESSING"})
    run()
    with pytest.raises(AirflowFailException, match="PROCESSING"):
        run(quantity_tonnes="2")


def test_an_old_link_of_another_account_is_in_doubt(run, sandbox, monkeypatch):
    sandbox.state.change_switches(checkout_layout="rich")
    old = run()
    sandbox.state._checkout_of_payment.clear()
    with pytest.raises(
        AirflowFailException, match=f"doesn't know its payment '{old['payment_id']}'.*start a new run"
    ):
        run(quantity_tonnes="2")


def test_while_carbonmark_cannot_be_asked_the_task_is_tried_again(run, sandbox, clock):
    sandbox.state.change_switches(checkout_layout="rich")
    run()
    sandbox.state.change_switches(faults=[{"kind": "error", "path": "/payments/", "next": 4}])
    with pytest.raises(CarbonmarkError) as failed:
        run(quantity_tonnes="2")
    assert not isinstance(failed.value, NotFoundError)
    run(quantity_tonnes="2")
    assert len(live(sandbox)) == 2


def test_a_link_is_not_forgotten_over_a_change_that_failed(run, sandbox, pay, clock):
    sandbox.state.change_switches(checkout_layout="rich")
    old = run()
    sandbox.state.change_switches(faults=[{"kind": "error", "path": "/checkout", "next": 4}])
    with pytest.raises(CarbonmarkError):
        run(quantity_tonnes="2")
    assert run() == old
    pay(old["checkout_url"])
    with pytest.raises(AirflowFailException, match="'PAID'"):
        run(quantity_tonnes="2")
    assert len(live(sandbox)) == 1


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


def test_a_switch_to_a_test_connection_is_a_change(run, connect, sandbox):
    run()
    connect("cm_api_sandbox_1", environment=None)
    with pytest.raises(AirflowFailException, match="test_mode from False to True"):
        run()
    assert len(live(sandbox)) == 1


def test_the_store_is_the_one_of_airflow(run, supervisor):
    run()
    ((_, key),) = supervisor.stored
    assert key == "carbonmark_checkout"


@pytest.fixture
def to_airflow(monkeypatch):
    """The arguments with which buyers come back to this Airflow."""
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com")
    return {"success_url": None, "cancel_url": None}


def record(supervisor, ti_id, **changes):
    """Do what the return URL does when a buyer comes back."""
    kept = {"payment_id": "pay_1", "verified": True, "other_payment_ids": []} | changes
    supervisor.stored[ti_id, "carbonmark_payment"] = json.dumps(kept)
    return kept


@pytest.mark.parametrize("verified", [True, False])
def test_the_payment_of_a_kept_link_is_told_again(checkout_operator, supervisor, to_airflow, verified):
    context = make_context(ti_id=(ti_id := uuid.uuid4()))
    first = checkout_operator(**to_airflow).execute(context)
    assert "payment_id" not in context["ti"].pushed
    kept = record(supervisor, ti_id, verified=verified)
    context = make_context(ti_id=ti_id)
    assert checkout_operator(**to_airflow).execute(context) == first
    told = {"payment_id": "pay_1", "carbonmark_payment": kept}
    # Only what Carbonmark confirmed is kept from counting for another link.
    assert context["ti"].pushed == told | ({paid_key("pay_1"): "pay_1"} if verified else {})


@pytest.mark.parametrize("verified", [True, False])
def test_changed_input_is_refused_once_a_buyer_came_back(run, supervisor, sandbox, to_airflow, verified):
    ti_id = uuid.uuid4()
    sandbox.state.change_switches(checkout_layout="rich")
    run(ti_id=ti_id, **to_airflow)
    record(supervisor, ti_id, verified=verified)
    with pytest.raises(AirflowFailException, match="its buyer came back with payment 'pay_1'"):
        run(ti_id=ti_id, quantity_tonnes="2", **to_airflow)
    assert len(live(sandbox)) == 1


def test_a_retry_after_a_lost_answer_asks_with_the_same_return_urls(
    run, sandbox, supervisor, to_airflow, clock
):
    kill_at_set(supervisor, lambda value: value["made"])
    with pytest.raises(Killed):
        run(**to_airflow)
    clock.advance(60)
    run(**to_airflow)
    first, second = (
        json.loads(each["body"]) for each in sandbox.state.requests if each["path"] == "/checkout"
    )
    assert first == second
    assert len(set(keys_sent(sandbox))) == 1
