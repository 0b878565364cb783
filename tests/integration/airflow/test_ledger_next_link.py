"""The link after one that has expired: whoever makes it dies or is overtaken at any point, and there is one current link, which all are shown."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest

from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook
from airflow_provider_carbonmark.hooks.checkout import checkout_of
from airflow_provider_carbonmark.hooks.next_link import make_next_link
from airflow_provider_carbonmark.ledger.names import NoNextLinkError, Source, State
from airflow_provider_carbonmark.operators.payment import NEW_LINK, PARKING
from tests.integration.airflow.model import answer, body, stated
from tests.integration.airflow.parts import asked, each_database
from tests.integration.airflow.points import KillAt, Killed, OvertakeAt, watching
from tests.integration.ledger.parts import expire

EACH, MANY = "0.01", 100

Make = Callable[..., str]


def settings_of(conn_id: str) -> Any:
    return CarbonmarkHook(conn_id).connection.settings


def url_of(ledger, id: int) -> str:
    url: str = ledger.purchase(id).link.url
    return url


#: Who makes it, and whether the service honours keys. What the form does besides is the same with any database.
HOW = pytest.mark.parametrize(
    ("url", "make", "honoured"),
    [
        ("sqlite", "pay address", True),
        ("postgresql", "pay address", False),
        ("sqlite", "form", False),
    ],
    indirect=["url", "make"],
)


@pytest.fixture
def make(request, dag_run, ledger) -> Make:
    """Return a function that makes the next link of a purchase, and returns the one that is then shown."""

    def by_form(index: int, reach=lambda point: None) -> str:
        dag_run.reach = reach
        try:
            with pytest.raises(PARKING):
                dag_run.run("payment", index, answer(NEW_LINK))
        finally:
            dag_run.reach = lambda point: None
        id = dag_run.result("checkout", index)["purchase"]
        shown = body(dag_run, index)
        assert f"{ledger.purchase(id).link.expires_at:%Y-%m-%d %H:%M} UTC" in shown
        return url_of(ledger, id)

    def by_pay_address(index: int, reach=lambda point: None) -> str:
        id = dag_run.result("checkout", index)["purchase"]
        with watching(reach):
            purchase = make_next_link(ledger, id, 1, settings_of, "ada")
            reach("done")
        return str(purchase.link.url)

    return by_form if request.param == "form" else by_pay_address


@pytest.fixture
def expired(dag_run, ledger, sandbox) -> Callable[[int], int]:
    """Return a function that gives the purchase of an index, whose link has expired while its task is parked."""
    dag_run.plan([stated(EACH, f"e{number:03}") for number in range(MANY)])

    def expired(index: int) -> int:
        # What is counted is of this purchase alone.
        sandbox.state.checkouts.clear()
        sandbox.state.requests.clear()
        checkout = dag_run.link(index)
        dag_run.park(index)
        expire(ledger, checkout["purchase"])
        id: int = checkout["purchase"]
        return id

    return expired


def expect_one(ledger, sandbox, id: int, shown: set[str], *, honoured: bool) -> None:
    """Check that a purchase has one current link, its second, that no other was shown, and that all asked for it in the same words."""
    first, second = ledger.links(id)
    assert shown == {second.url} == {url_of(ledger, id)}
    assert (first.outcome, first.unpaid_said_by, second.outcome) == ("unpaid", "ada", None)
    assert second.url.rpartition("/")[2] in sandbox.state.checkouts
    sent = asked(sandbox, "/checkout")
    assert len({(each["idempotency_key"], each["body"]) for each in sent}) == 2
    assert len(sandbox.state.checkouts) == (2 if honoured else len(sent))


@HOW
def test_wherever_its_maker_dies_the_next_makes_one(expired, make, ledger, sandbox, honoured):
    sandbox.state.change_switches(honour_idempotency_key=honoured)
    for number in count():
        id = expired(number)
        shown = set()
        kill = KillAt(number)
        with suppress(Killed):
            shown.add(make(number, kill))
        # Whoever looks meanwhile sees a link that is the current one.
        assert checkout_of(ledger, ledger.purchase(id))["checkout_url"] == url_of(ledger, id)
        shown |= {make(number), make(number)}
        expect_one(ledger, sandbox, id, shown, honoured=honoured)
        if kill.point is None:
            break
    assert 10 < number < MANY - 1


@HOW
def test_wherever_one_overtakes_another_both_show_one(expired, make, ledger, sandbox, honoured):
    sandbox.state.change_switches(honour_idempotency_key=honoured)
    for number in count():
        id = expired(number)
        shown: set[str] = set()
        overtake = OvertakeAt(number, lambda number=number, shown=shown: shown.add(make(number)))
        shown.add(make(number, overtake))
        expect_one(ledger, sandbox, id, shown, honoured=honoured)
        if overtake.point is None:
            break
    assert 6 < number < MANY - 1


@each_database
@pytest.mark.parametrize("ending", ["paid", "declined"])
def test_wherever_it_is_paid_or_declined_meanwhile_nobody_is_shown_another_link(
    expired, dag_run, ledger, sandbox, ending
):
    for number in count():
        id = expired(number)

        def end(id=id) -> None:
            now = datetime.now(UTC)
            if ending == "paid":
                about = {"source": Source.RETURNED, "verified": True, "now": now}
                ledger.bring(id, 1, f"pay_{id}", **about)
            else:
                ledger.declined(id, ledger.purchase(id).handler, "no", now=now)

        overtake, shown = OvertakeAt(number, end), ""
        with watching(overtake), suppress(NoNextLinkError):
            shown = str(make_next_link(ledger, id, 1, settings_of, "ada").link.url)
        purchase = ledger.purchase(id)
        assert shown in ("", purchase.link.url)
        if overtake.point is None:
            break
        assert purchase.state is State(ending)
        assert purchase.payment_id == (f"pay_{id}" if ending == "paid" else None)
    assert 6 < number < MANY - 1
