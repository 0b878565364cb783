"""How a line ends otherwise than retired, what people get wrong, and that its tonnes are bought once all the same."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from unittest.mock import patch

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_carbonmark.ledger import Ledger
from airflow_provider_carbonmark.ledger.schema import State
from airflow_provider_carbonmark.operators.payment import PAID
from tests.integration.airflow.model import (
    FAILING_CARD,
    SOMETHING_ELSE_CARD,
    DagRun,
    answer,
    declined,
    paid,
    stated,
)

NOW = datetime(2026, 11, 23, 6, tzinfo=UTC)


def entering(payment_id):
    return answer(PAID, payment_id)


def states(ledger):
    return [line.state.value for line in ledger.lines()]


def pay_what_was_declined(dag_run, buyer):
    """Decline a line's link, and pay it after all; return its checkout and the payment's id."""
    dag_run.plan()
    checkout = dag_run.link()
    dag_run.park()
    with pytest.raises(AirflowSkipException):
        dag_run.run("payment", event=declined)
    return checkout, buyer.pay(checkout)


# --- what ends a line otherwise


@pytest.mark.parametrize(
    ("on_declined", "error"), [("skip", AirflowSkipException), ("fail", AirflowFailException)]
)
def test_a_declined_line_is_left_alone_and_its_tonnes_are_planned_anew(dag_run, ledger, on_declined, error):
    dag_run.plan()
    dag_run.link()
    dag_run.park()
    with pytest.raises(error, match="ada declined to pay"):
        dag_run.run("payment", event=declined, on_declined=on_declined)
    (line,) = ledger.lines()
    assert (line.state, line.payment_id) == (State.DECLINED, None)
    assert "ada declined to pay for 1.234 t" in line.reason
    assert dag_run.link() == line.checkout
    with pytest.raises(AirflowSkipException, match="is declined: ada declined"):
        dag_run.run("payment")
    first, second = dag_run.plan()
    assert (first["state"], second["state"]) == ("declined", "planned")
    assert second["quantity_tonnes"] == "1.234"


def test_a_declined_link_that_is_paid_after_all_is_recorded_when_its_tasks_are_cleared(
    dag_run, ledger, buyer
):
    checkout, payment_id = pay_what_was_declined(dag_run, buyer)
    assert states(ledger) == ["paid"]
    assert dag_run.link() == checkout
    assert dag_run.run("payment") == payment_id
    dag_run.run("retirement")
    dag_run.run("record")
    assert states(ledger) == ["retired"]


def test_a_declined_link_that_is_paid_after_all_is_carried_on_by_the_next_run(
    dag_run, airflow, ledger, buyer
):
    checkout, payment_id = pay_what_was_declined(dag_run, buyer)
    dag_run.end()
    second = DagRun(airflow, "second")
    (taken,) = second.plan()
    assert (taken["state"], taken["payment_id"]) == ("paid", payment_id)
    assert second.link() == checkout
    second.run("payment")
    second.run("retirement")
    second.run("record")
    assert states(ledger) == ["retired"]


def test_what_fails_at_carbonmark_is_planned_anew(dag_run, ledger, buyer):
    dag_run.plan()
    buyer.pay(dag_run.link(), FAILING_CARD)
    dag_run.run("payment")
    for _ in range(2):
        with pytest.raises(AirflowFailException, match="FAILED"):
            dag_run.run("retirement")
        assert states(ledger) == ["failed"]
        assert dag_run.link() == ledger.lines()[0].checkout
        dag_run.run("payment")
    first, second = dag_run.plan()
    assert (first["state"], second["state"], second["quantity_tonnes"]) == ("failed", "planned", "1.234")
    buyer.buy(dag_run, 1)
    assert states(ledger) == ["failed", "retired"]


def test_what_fails_at_carbonmark_is_recorded_whoever_awaited_the_payment(dag_run, ledger, buyer):
    dag_run.plan()
    payment_id = buyer.pay(dag_run.link(), FAILING_CARD)
    with pytest.raises(AirflowFailException, match="status of the retirement is 'FAILED'"):
        dag_run.run("retirement", payment_id=payment_id)
    (line,) = ledger.lines()
    assert (line.state, line.payment_id) == (State.FAILED, payment_id)


def test_a_retirement_of_something_else_leaves_the_line_paid_for_a_person(dag_run, ledger, buyer):
    dag_run.plan()
    buyer.pay(dag_run.link(), SOMETHING_ELSE_CARD)
    dag_run.run("payment")
    with pytest.raises(AirflowFailException, match="Something else was retired"):
        dag_run.run("retirement")
    assert states(ledger) == ["paid"]
    assert len(dag_run.plan()) == 1


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
def test_a_listing_that_cannot_fill_the_line_any_more_fails_it(dag_run, ledger, sandbox, trouble):
    (planned,) = dag_run.plan()
    if trouble == "sold out":
        sandbox.state.listings[planned["asset_price_source_id"]].liquid_supply = Decimal(0)
    else:
        del sandbox.state.listings[planned["asset_price_source_id"]]
    with pytest.raises(AirflowFailException):
        dag_run.run("quote")
    assert states(ledger) == ["failed"]
    for step in ("quote", "checkout"):
        with pytest.raises(AirflowSkipException, match="is failed"):
            dag_run.run(step)
    _, anew = dag_run.plan()
    assert anew["asset_price_source_id"] != planned["asset_price_source_id"]
    assert dag_run.run("quote", 1)


class Stranger(BaseHTTPRequestHandler):
    """Some other server, at which the connection's host points by mistake."""

    def do_POST(self):
        self.send_error(404)

    def log_message(self, *what):
        pass


@pytest.fixture
def stranger():
    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_stranger_who_knows_no_quotes_fails_no_line(dag_run, ledger, connect, stranger):
    dag_run.plan()
    connect(host=stranger)
    with pytest.raises(AirflowFailException, match="404"):
        dag_run.run("quote")
    assert states(ledger) == ["planned"]
    connect()
    assert dag_run.link()


def test_a_quote_that_is_refused_late_fails_no_line_that_the_next_try_made_a_link_for(
    dag_run, airflow, ledger, sandbox
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
        dag_run.run("quote")
    assert states(ledger) == ["link_made"]
    dag_run.end()
    (taken,) = DagRun(airflow, "second").plan()
    assert taken["state"] == "link_made"


@pytest.mark.parametrize("step", ["intend_link", "link_made"])
def test_a_try_that_another_overtakes_delivers_the_link_of_that(dag_run, ledger, sandbox, step):
    sandbox.state.change_switches(honour_idempotency_key=False)
    dag_run.plan()
    dag_run.run("quote")
    real, links = getattr(Ledger, step), []

    def late(self, *arguments, **more):
        if not links:
            links.append(None)
            links.append(dag_run.run("checkout"))
        return real(self, *arguments, **more)

    with patch.object(Ledger, step, late):
        assert dag_run.run("checkout") == links[1] == ledger.lines()[0].checkout


def test_over_max_cost_the_line_stays_planned(dag_run, ledger):
    dag_run.plan()
    with pytest.raises(AirflowFailException, match="more than max_cost, 0.01 USD"):
        dag_run.run("quote", max_cost="0.01")
    assert states(ledger) == ["planned"]
    assert dag_run.run("quote", max_cost="100")


def test_a_quote_that_is_dearer_than_planned_is_written_down(dag_run, ledger, sandbox):
    (planned,) = dag_run.plan()
    sandbox.state.listings[planned["asset_price_source_id"]].purchase_price = Decimal(7)
    quote = dag_run.run("quote")
    (line,) = ledger.lines()
    assert line.cost_usd == Decimal(quote["cost_usd"]) == Decimal("8.638")
    dag_run.run("checkout")
    assert dag_run.run("quote") == quote | {"uuid": None}


# --- what people do


def test_an_id_that_was_typed_wrong_can_be_typed_again(dag_run, ledger, buyer, clock):
    dag_run.plan()
    payment_id = buyer.pay(dag_run.link(), comes_back=False)
    dag_run.park()
    assert dag_run.run("payment", event=entering("pay_typo")) == "pay_typo"
    with pytest.raises(AirflowFailException, match="still doesn't know payment 'pay_typo'"):
        dag_run.run("retirement")
    assert states(ledger) == ["link_made"]
    dag_run.park()
    dag_run.run("payment", event=entering(payment_id))
    dag_run.run("retirement")
    assert (states(ledger), ledger.lines()[0].payment_id) == (["paid"], payment_id)
    dag_run.run("record")
    assert states(ledger) == ["retired"]


def test_the_id_of_another_lines_payment_is_refused_and_harms_neither(dag_run, ledger, buyer):
    dag_run.plan([stated("1.234", "api"), stated("1", "web")])
    other = buyer.buy(dag_run, 1)["payment_id"]
    payment_id = buyer.pay(dag_run.link(), comes_back=False)
    dag_run.park()
    dag_run.park(event=entering(other))
    assert states(ledger) == ["link_made", "retired"]
    dag_run.run("payment", event=entering(payment_id))
    dag_run.run("retirement")
    dag_run.run("record")
    assert states(ledger) == ["retired", "retired"]


def test_a_payment_counts_once_though_two_lines_ask_for_just_the_same(dag_run, ledger, buyer):
    dag_run.plan([stated("1.234", "web", "2026-09"), stated("1.234", "web", "2026-10")])
    other = buyer.buy(dag_run, 0)["payment_id"]
    payment_id = buyer.pay(dag_run.link(1), comes_back=False)
    dag_run.park(1)
    dag_run.park(1, event=entering(other))
    # Nor does it stay in the way when the task is tried again.
    dag_run.park(1)
    assert dag_run.run("payment", 1, event=entering(payment_id)) == payment_id
    assert states(ledger) == ["retired", "paid"]


def test_the_id_of_another_lines_payment_that_could_not_be_checked_is_refused_by_the_sensor(
    dag_run, ledger, buyer, connect
):
    dag_run.plan([stated("1.234", "api"), stated("1", "web")])
    other = buyer.buy(dag_run, 1)["payment_id"]
    buyer.pay(dag_run.link(), comes_back=False)
    dag_run.park()
    connect(host="http://127.0.0.1:9")
    assert dag_run.run("payment", event=entering(other)) == other
    connect()
    with pytest.raises(AirflowFailException, match="Something else was retired"):
        dag_run.run("retirement")
    assert states(ledger) == ["link_made", "retired"]
    dag_run.park()


def test_an_id_that_was_entered_is_followed_by_the_next_run_if_its_own_died(
    dag_run, airflow, ledger, buyer, connect
):
    dag_run.plan()
    payment_id = buyer.pay(dag_run.link(), comes_back=False)
    dag_run.park()
    connect(host="http://127.0.0.1:9")
    assert dag_run.run("payment", event=entering(payment_id)) == payment_id
    dag_run.end()
    assert (states(ledger), ledger.lines()[0].claimed_payment_id) == (["link_made"], payment_id)
    # Nobody is asked to pay once more, whether Carbonmark can be asked by now or not.
    second = DagRun(airflow, "second")
    connect()
    second.plan()
    connect(host="http://127.0.0.1:9")
    second.link()
    assert second.run("payment") == payment_id
    connect()
    assert second.run("payment") == payment_id
    assert states(ledger) == ["paid"]
    second.run("retirement")
    second.run("record")
    assert states(ledger) == ["retired"]


def test_declining_does_not_lose_a_payment_whose_id_was_entered(dag_run, ledger, buyer, connect, sandbox):
    dag_run.plan()
    payment_id = buyer.pay(dag_run.link(), comes_back=False)
    sandbox.state.change_switches(bought_at="untold")
    dag_run.park()
    assert dag_run.run("payment", event=entering(payment_id)) == payment_id
    # Carbonmark doesn't say what that payment is for, so somebody may look at it once more, but not buy anew.
    dag_run.park()
    assert payment_id in dag_run.airflow.requests[dag_run.task("payment")]["body"].replace("\\", "")
    assert dag_run.run("payment", event=declined) == payment_id
    assert states(ledger) == ["link_made"]


def test_a_failed_payment_that_does_not_say_what_it_was_for_fails_no_line_but_its_own(
    dag_run, ledger, buyer, sandbox
):
    dag_run.plan()
    link = dag_run.link()
    payment_id = buyer.pay(link, FAILING_CARD, comes_back=False)
    sandbox.state.change_switches(bought_at="untold")
    dag_run.park()
    dag_run.run("payment", event=entering(payment_id))
    with pytest.raises(AirflowFailException, match="Nothing says that it is the payment of this purchase"):
        dag_run.run("retirement")
    assert states(ledger) == ["link_made"]
    ledger.paid(link["purchase_line"], payment_id, now=NOW)
    with pytest.raises(AirflowFailException, match="is 'FAILED'"):
        dag_run.run("retirement")
    assert states(ledger) == ["failed"]


def test_that_another_payment_failed_fails_no_line_whose_id_was_typed_wrong(dag_run, ledger, buyer, connect):
    dag_run.plan([stated("1.234", "api"), stated("1", "web")])
    failed = buyer.pay(dag_run.link(1), FAILING_CARD)
    buyer.pay(dag_run.link(), comes_back=False)
    dag_run.park()
    connect(host="http://127.0.0.1:9")
    dag_run.run("payment", event=entering(failed))
    connect()
    with pytest.raises(AirflowFailException, match="It is for something else"):
        dag_run.run("retirement")
    assert states(ledger) == ["link_made", "paid"]


@pytest.mark.parametrize("event", [declined, {"error": "late", "error_type": "timeout"}, paid])
def test_what_the_ledger_knows_to_be_paid_is_passed_on_whatever_the_form_says(dag_run, ledger, buyer, event):
    dag_run.plan()
    checkout = dag_run.link()
    dag_run.park()
    payment_id = buyer.pay(checkout, comes_back=False)
    ledger.paid(checkout["purchase_line"], payment_id, now=NOW)
    assert dag_run.run("payment", event=event) == payment_id
    assert states(ledger) == ["paid"]
