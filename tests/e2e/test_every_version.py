"""
What the README promises of links, payments and months, on each supported Airflow.

In a real browser, with PostgreSQL and two API servers: people use the first, buyers come back to the second. All purchases of the test
DAG are started at once, since most of their time is waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_carbonmark.ledger.names import Source, State
from tests.e2e.airflow_api import PARKED
from tests.e2e.browser import heading, pay_with
from tests.e2e.buyer import ALREADY, THANKS, open_page, pay
from tests.e2e.processes import wait_until
from tests.e2e.stand import MONTHLY_OFFSET

if TYPE_CHECKING:
    from playwright.sync_api import Route

    from tests.e2e.browser import Person
    from tests.e2e.purchase import Purchase
    from tests.e2e.stand import Stand

pytestmark = pytest.mark.e2e

GAPS = ("before", "look 1", "notifier", "look 2")

Started = dict[str, "Purchase"]


@pytest.fixture(scope="module")
def started(stand: Stand, purchase: Callable[..., Purchase]) -> Started:
    stand.sandbox.control("PUT", "switches", {"retirement_seconds": 0})
    return {
        **{moment: purchase(pays=moment) for moment in GAPS},
        "broken": purchase(breaks=True),
        "late": purchase("await_payment_briefly"),
        "declined": purchase("await_payment_or_fail"),
        **{
            name: purchase()
            for name in ("usual", "form", "skipped", "cleared", "deleted", "many", "queued", "other")
        },
    }


@pytest.mark.parametrize("moment", GAPS)
def test_a_buyer_who_comes_back_before_the_task_parks_is_found(started: Started, moment: str) -> None:
    bought = started[moment]
    bought.expect_certificate()

    if moment == "before":
        # Nobody is asked for what is paid already.
        assert bought.stand.airflow.api.requests(bought.dag_id, bought.run_id) == []


def test_a_buyer_pays_from_required_actions_and_comes_back_while_the_task_is_parked(
    started: Started, person: Person
) -> None:
    bought = started["usual"].wait_until_parked()
    person.open_request(bought.subject)
    page = person.open_payment_page()
    pay_with(page)

    assert page.url.startswith(f"{bought.stand.airflow.return_url}/carbonmark/return/")
    assert heading(page) == THANKS
    assert bought.expect_certificate() in page.content()
    page.reload()
    assert heading(page) == ALREADY


def test_a_whole_run_cleared_after_the_payment_ends_with_the_same_link_and_payment(started: Started) -> None:
    bought = started["notifier"]
    payment_id, link = bought.expect_certificate(), bought.link
    bought.clear_all()
    bought.wait_for_try("payment", 2)

    assert (bought.expect_certificate(), bought.link) == (payment_id, link)


def test_a_try_that_broke_after_it_made_the_link_is_followed_by_one_that_delivers_it(
    started: Started,
) -> None:
    bought = started["broken"].wait_until_parked()
    assert bought.task("checkout")["try_number"] == 2
    pay(bought.link)

    bought.expect_certificate()


def test_a_link_and_a_wait_that_are_cleared_before_the_payment_stay_the_same(started: Started) -> None:
    bought = started["cleared"].wait_until_parked()
    link = bought.link
    bought.clear("payment")
    bought.wait_for_try("payment", 2)
    bought.wait_until_parked()
    bought.clear("checkout")
    bought.wait_for_try("payment", 3)
    bought.wait_until_parked()
    assert bought.link == link

    assert pay(link).title == THANKS
    bought.expect_certificate()


def test_a_buyer_who_comes_back_while_a_cleared_task_waits_for_its_turn_is_found(started: Started) -> None:
    bought = started["queued"].wait_until_parked()
    link = bought.link
    bought.stand.airflow.processes["scheduler"].kill()
    bought.clear("payment")

    assert pay(link).title == THANKS
    bought.stand.airflow.restart("scheduler")
    bought.expect_certificate()


def test_the_payment_of_one_link_is_never_taken_for_another_s(started: Started) -> None:
    paid = started["look 1"].expect_certificate()
    waiting = started["other"].wait_until_parked()
    returned = pay(waiting.link, come_back=False)
    # The right token with the payment of somebody else's link.
    stranger = open_page(f"{returned.url.rpartition('/')[0]}/{paid}")

    assert (stranger.status_code, "This link is unknown" in stranger.text) == (404, True)
    assert waiting.task("payment")["state"] in PARKED
    assert THANKS in open_page(returned.url).text
    assert waiting.expect_certificate() == returned.payment_id != paid


def test_a_buyer_who_comes_back_after_the_wait_timed_out_is_found_when_it_is_cleared(
    started: Started,
) -> None:
    bought = started["late"]
    bought.expect_failure()
    assert "Nobody paid or declined within 0:00:04" in bought.log("payment")

    assert pay(bought.link).title == THANKS
    bought.clear("payment")
    bought.expect_certificate()


def test_a_buyer_who_comes_back_after_somebody_declined_is_found_when_the_task_is_cleared(
    started: Started,
) -> None:
    bought = started["declined"].wait_until_parked()
    bought.answer_parked(lambda: bought.answer("Decline"))
    bought.expect_failure()
    assert bought.recorded.state is State.DECLINED

    assert pay(bought.link).title == THANKS
    bought.clear("payment")
    bought.expect_certificate()


def test_declining_in_the_form_skips_the_rest(started: Started, person: Person) -> None:
    bought = started["skipped"].wait_until_parked()

    def decline() -> None:
        person.open_request(bought.subject)
        person.answer("Decline")

    bought.answer_parked(decline)
    bought.stand.expect_success(bought.dag_id, bought.run_id)

    assert "Anonymous declined to pay for 0.5 t CO2e" in bought.log("payment")
    assert bought.task("payment")["state"] == bought.task("retirement")["state"] == "skipped"


def test_an_id_entered_in_the_form_does_where_the_browser_can_not_open_page(
    started: Started, person: Person
) -> None:
    bought = started["form"].wait_until_parked()
    person.open_request(bought.subject)
    page = person.open_payment_page()
    page.route("**/pay/*", pay_and_be_cut_off)
    pay_with(page)
    (payment_id,) = bought.payments()
    assert bought.task("payment")["state"] in PARKED

    def enter() -> None:
        person.open_request(bought.subject)
        person.answer("I have paid", payment_id=f" {payment_id}")

    bought.answer_parked(enter)

    assert bought.expect_certificate(Source.ENTERED) == payment_id


def test_browsers_that_come_back_at_once_to_both_api_servers_leave_one_record(started: Started) -> None:
    bought = started["many"].wait_until_parked()
    paid = pay(bought.link, come_back=False)
    airflow = bought.stand.airflow
    addresses = [paid.url.replace(airflow.return_url, url) for url in airflow.urls]
    with ThreadPoolExecutor(8) as browsers:
        answers = list(browsers.map(open_page, addresses * 4))

    assert {answer.status_code for answer in answers} == {200}
    assert sum(THANKS in answer.text for answer in answers) >= 1
    assert bought.expect_certificate() == paid.payment_id


def test_a_buyer_whose_run_is_deleted_is_thanked_and_recorded(started: Started, person: Person) -> None:
    bought = started["deleted"].wait_until_parked()
    person.open_request(bought.subject)
    page = person.open_payment_page()
    recorded = bought.recorded
    bought.stand.airflow.api.delete_run(bought.dag_id, bought.run_id)
    pay_with(page)

    assert heading(page) == THANKS
    after = bought.stand.ledger.purchase(recorded.id)
    assert (after.state, [after.payment_id]) == (State.PAID, bought.payments())


def test_a_month_whose_run_is_deleted_is_carried_on_by_the_next_run_and_told_to_whoever_waits_for_retirements(
    stand: Stand, emitted: Callable[..., dict[str, Any]], person: Person
) -> None:
    conf = emitted({"2026-10": {"every-version": "0.02"}})
    deleted = stand.start_month(conf)
    (link,) = stand.links(deleted)
    stand.airflow.api.delete_run(MONTHLY_OFFSET, deleted)
    paid = pay(link["checkout"]["checkout_url"])
    assert paid.title == THANKS

    run_id = stand.run(MONTHLY_OFFSET, conf | {"allow_test_mode": True})
    (bought,) = stand.retired(run_id)
    assert (bought["purchase"], bought["payment_id"]) == (link["purchase"], paid.payment_id)
    assert len(stand.checkouts_for("Offset (every-version)")) == 1
    events = stand.airflow.api.get("assets/events", source_dag_id=MONTHLY_OFFSET, source_run_id=run_id)
    assert [event["extra"]["payment_id"] for event in events["asset_events"]] == [paid.payment_id]
    # The worker says so once Airflow has the task's success.
    wait_until(
        lambda: not stand.ledger.purchase(bought["purchase"]).to_announce, what="the announcement", timeout=60
    )
    page = person.open_offsets()
    page.goto(f"{page.url}?month=2026-10&test=1")
    row = page.locator("tbody", has=page.get_by_text("every-version", exact=True))
    assert "Retired, as a rehearsal" in row.inner_text()


def pay_and_be_cut_off(route: Route) -> None:
    """Let the payment through, and fail where the browser is sent next."""
    route.fetch(max_redirects=0)
    route.abort("addressunreachable")
