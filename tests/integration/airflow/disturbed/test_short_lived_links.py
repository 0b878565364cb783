"""Links that live for seconds, and people who pay, forget, are mistaken and change their minds: nothing is stuck, or paid twice unseen."""

from __future__ import annotations

import random
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
import time_machine
from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook
from airflow_provider_carbonmark.hooks.next_link import make_next_link
from airflow_provider_carbonmark.hooks.payment_check import take_payment
from airflow_provider_carbonmark.ledger.names import NoNextLinkError, Source, State
from airflow_provider_carbonmark.ledger.purchase import Payment
from airflow_provider_carbonmark.operators.payment import DECLINE, NEW_LINK, PAID, PARKING
from tests.integration.airflow.model import DagRun, answer, charge, stated
from tests.integration.airflow.parts import START

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger import Ledger

OPERATIONS = 200
SECONDS = 5
ENTITIES = 6


class People:
    """
    What people do about the purchases of a run, by chance.

    :ivar paid: the payments that were really made, by purchase.
    """

    def __init__(self, run: DagRun, ledger: Ledger, clock: Any, seed: int) -> None:
        self.run = run
        self.ledger = ledger
        self.clock = clock
        self.chance = random.Random(seed)
        self.ids = [each["purchase"] for each in run.plan([stated("2", f"e{n}") for n in range(ENTITIES)])]
        for index in range(len(self.ids)):
            run.link(index)
            run.park(index)
        self.paid: dict[int, list[str]] = {id: [] for id in self.ids}

    def act(self) -> None:
        index = self.chance.randrange(len(self.ids))
        act: Any = self.chance.choice(
            [self.wait, self.wait, self.pay, self.follow, self.ask, self.enter, self.clear]
        )
        if self.chance.random() < 0.02:
            act = self.decline
        act(index)

    def wait(self, index: int) -> None:
        self.clock.shift(self.chance.uniform(0, SECONDS))

    def pay(self, index: int) -> None:
        """Pay at one of the links, the current one mostly; and come back, or not."""
        links = [link for link in self.ledger.links(self.ids[index]) if link.made_at]
        link = links[-1] if self.chance.random() < 0.8 else self.chance.choice(links)
        page = charge(link.url or "")
        if page.status_code != 303:
            return
        payment = page.headers["location"].rpartition("/")[2]
        if payment not in self.paid[self.ids[index]]:
            self.paid[self.ids[index]].append(payment)
        if self.chance.random() < 0.5:
            self.come_back(index, payment, link.number)

    def come_back(self, index: int, payment: str, number: int) -> None:
        brought = Payment(
            payment_id=payment,
            link=number,
            source=Source.RETURNED,
            brought_by=None,
            brought_at=datetime.now(START.tzinfo),
        )
        take_payment(self.ledger, self.ledger.purchase(self.ids[index]), brought, self.settings())

    def follow(self, index: int) -> None:
        """Say at the pay address that nobody paid, true or not."""
        purchase = self.ledger.purchase(self.ids[index])
        before = purchase.link.number if purchase.link else 0
        try:
            made = make_next_link(self.ledger, purchase.id, before, lambda conn_id: self.settings(), "Ada")
        except NoNextLinkError:
            return
        assert made.link is not None
        assert (made.link.number, made.state) == (before + 1, State.LINK_MADE)

    def ask(self, index: int) -> None:
        self.task(index, answer(NEW_LINK))

    def enter(self, index: int) -> None:
        """Type the id of a payment that was made, for whatever purchase."""
        made = [payment for payments in self.paid.values() for payment in payments]
        if made:
            self.task(index, answer(PAID, self.chance.choice(made)))

    def decline(self, index: int) -> None:
        self.task(index, answer(DECLINE))

    def clear(self, index: int) -> None:
        self.task(index, None)

    def task(self, index: int, event: dict[str, Any] | None) -> None:
        """Run the task that awaits the payment, from its beginning or from an answer."""
        try:
            payment = self.run.run("payment", index, event)
        except PARKING:
            assert self.ledger.purchase(self.ids[index]).state is State.LINK_MADE
        except AirflowSkipException:
            assert self.ledger.purchase(self.ids[index]).state in (State.DECLINED, State.FAILED)
        else:
            assert payment in self.paid[self.ids[index]]

    @staticmethod
    def settings() -> Any:
        return CarbonmarkHook().connection.settings


def check(people: People) -> None:
    """Whatever happened: nobody was led to a link that is not the current one, and no payment counts for what it is not."""
    for id, paid in people.paid.items():
        purchase = people.ledger.purchase(id)
        assert purchase.link in people.ledger.links(id)
        assert purchase.payment_id in (None, *paid)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_purchase_ends_paid_declined_or_with_a_way_to_pay(dag_run, ledger, sandbox, seed):
    sandbox.state.change_switches(
        checkout_layout="expiry", checkout_seconds=SECONDS, late_payment_seconds=SECONDS
    )
    with time_machine.travel(START, tick=False) as clock:
        people = People(dag_run, ledger, clock, seed)
        for _ in range(OPERATIONS):
            people.act()
            check(people)
        for index, id in enumerate(people.ids):
            # Whoever paid and never came back types the number now; whoever never paid finds a way to.
            for payment in people.paid[id]:
                people.task(index, answer(PAID, payment))
            purchase = ledger.purchase(id)
            if purchase.state is State.LINK_MADE:
                assert people.paid[id] == []
                clock.shift(3 * SECONDS)
                people.follow(index)
                people.chance = random.Random(0)
                people.pay(index)
                people.task(index, answer(PAID, people.paid[id][0]))
        check(people)
        states = {id: ledger.purchase(id).state for id in people.ids}
        # What failed had sold out; a plan buys it elsewhere.
        assert set(states.values()) <= {State.PAID, State.DECLINED, State.FAILED}
        assert not any(people.paid[id] for id, state in states.items() if state is not State.PAID)
        # A payment besides the one that counts is known for what it is, if anybody ever told of it.
        twice = {(each.purchase, each.second) for each in ledger.second_payments()}
        told = {
            (id, each.payment_id)
            for id in people.ids
            for each in ledger.payments(id)
            if each.payment_id in people.paid[id]
        }
        counting = {(id, ledger.purchase(id).payment_id) for id in people.ids}
        assert told - counting <= twice
