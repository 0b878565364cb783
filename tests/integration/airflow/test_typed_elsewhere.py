"""An id that is typed under the wrong purchase, or given to a sensor, while Carbonmark can't say whose it is: no purchase is paid with it before."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_carbonmark.hooks import api_server
from airflow_provider_carbonmark.ledger.names import Source
from airflow_provider_carbonmark.operators.payment import PAID
from tests.integration.airflow.model import FAILING_CARD, GOOD_CARD, DagRun, answer, stated, states
from tests.integration.airflow.parts import sqlite_only
from tests.integration.conftest import NOWHERE

pytestmark = sqlite_only


@pytest.fixture
def october(dag_run, airflow, connect, sandbox, buyer, monkeypatch):
    """Return a function that pays September's link, and types the id under October while nobody can say whose it is: October's run."""
    monkeypatch.setattr(api_server, "tell_server", lambda *arguments: None)

    def october(message: str, trouble: str, card: str) -> tuple[DagRun, str]:
        october = DagRun(airflow, "second")
        for run, month in ((dag_run, "2026-09"), (october, "2026-10")):
            run.plan([stated("1.234", "web", month)], retirement_message=message)
            run.link()
        payment_id = buyer.pay(dag_run.result("checkout"), card, comes_back=False)
        october.park()
        if trouble == "away":
            connect(host=NOWHERE)
        else:
            sandbox.state.change_switches(bought_at="untold")
        assert october.run("payment", event=answer(PAID, payment_id)) == payment_id
        connect()
        sandbox.state.change_switches(bought_at="top")
        return october, payment_id

    return october


HOW = pytest.mark.parametrize(
    ("trouble", "card", "deferrable"),
    [("away", GOOD_CARD, True), ("untold", GOOD_CARD, False), ("untold", FAILING_CARD, True)],
)


@HOW
def test_what_fits_both_is_held_for_a_person(ledger, dag_run, october, trouble, card, deferrable):
    run, payment_id = october("The same", trouble, card)
    with pytest.raises(AirflowFailException, match="Say which one, by its reference after the id"):
        run.run("retirement", deferrable=deferrable)
    assert states(ledger) == ["link_made", "link_made"]
    run.park()
    september = ledger.purchase(dag_run.result("checkout")["purchase"])
    dag_run.park()
    assert dag_run.run("payment", event=answer(PAID, f"{payment_id} {september.reference}")) == payment_id
    assert states(ledger) == ["paid", "link_made"]


@HOW
def test_what_tells_its_message_is_brought_to_its_purchase(ledger, october, trouble, card, deferrable):
    run, payment_id = october("Ref. {reference}", trouble, card)
    with pytest.raises(
        AirflowFailException, match=r"it is the payment of purchase .*, and was brought there"
    ):
        run.run("retirement", deferrable=deferrable)
    assert [(line.month, line.state, line.payment_id) for line in ledger.lines()] == [
        ("2026-09", "paid", payment_id),
        ("2026-10", "link_made", None),
    ]
    run.park()


def test_an_id_that_a_sensor_is_given_is_noted_before_carbonmark_says_anything(
    ledger, dag_run, buyer, sandbox
):
    dag_run.plan()
    checkout = dag_run.link()
    payment_id = buyer.pay(checkout, GOOD_CARD, comes_back=False)
    sandbox.state.change_switches(faults=[{"kind": "error", "path": "/payments/", "status": 401}])
    with pytest.raises(AirflowFailException):
        dag_run.run("retirement", payment_id=payment_id, checkout=checkout)
    (noted,) = ledger.payments(checkout["purchase"])
    assert (noted.payment_id, noted.source, noted.verified_at) == (payment_id, Source.WATCHED, None)
    sandbox.state.change_switches(faults=[])
    dag_run.run("retirement", payment_id=payment_id, checkout=checkout)
    assert states(ledger) == ["paid"]
