"""The pay address: what it shows, where it leads, and the next link, of which there is one at most however often it is asked for."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from airflow_provider_carbonmark.ledger.names import Run, Source, State
from airflow_provider_carbonmark.planning import Limits
from tests.integration.ledger import version_1
from tests.integration.ledger.parts import NOW
from tests.integration.web.buyers.parts import (
    DAG_ID,
    RUN_ID,
    Link,
    WaitingTask,
    errors,
    everything,
    id_of,
)
from tests.integration.web.readers.parts import token_of
from tests.integration.web.serving import title

TO_PAY, IS_IT_PAID, NOTED = "Pay for carbon credits", "Has anybody paid?", "A payment is being checked"
NOTHING_YET, CLOSED = "There is nothing to pay yet", "This is not to be paid any more"
PAID, RETIRED = "It is paid", "The credits are retired"
PAID_NOT_RETIRED = "It is paid, but nothing is retired yet"
RUN = Run(DAG_ID, RUN_ID)
SOMEBODY = "somebody who had the pay address"


def made(sandbox) -> int:
    return len(sandbox.state.checkouts)


# --- what it shows


def test_it_shows_what_is_bought_for_whom_and_until_when(follow, buyer):
    link = follow()
    page = buyer.look(link)
    assert (page.status_code, title(page)) == (200, TO_PAY)
    ends = link.purchase.link.expires_at
    for said in (
        *("1.234 t CO₂e", "VCS-191, vintage 2020, registry VCS", "Example Corp", "Emissions of October"),
        *(f"{link.purchase.cost_usd:f} USD", link.purchase.reference, f"{ends:%B %-d, %Y, %-I:%M}"),
    ):
        assert said in page.text
    assert "test" not in page.text.partition("</style>")[2]


def noted(link):
    link.ledger.bring(link.number, 1, "pay_1", source=Source.ENTERED, verified=False, now=NOW)


def paid(link):
    link.ledger.bring(link.number, 1, "pay_1", source=Source.RETURNED, verified=True, now=NOW)


def retired(link):
    certificate = "https://app.carbonmark.com/retirements/id/137-0xabc-0"
    retirement = {"payment_id": "pay_1", "quantity_tonnes": "1.234", "test_mode": False}
    link.ledger.retired(link.number, retirement | {"certificate_url": certificate}, now=datetime.now(UTC))


def paid_not_retired(link):
    paid(link)
    link.ledger.failed(link.number, "sold out", now=datetime.now(UTC))


def declined(link):
    link.ledger.declined(link.number, RUN, "too dear for us", now=datetime.now(UTC))


@pytest.mark.parametrize(
    ("become", "heading", "says"),
    [
        (lambda link: None, TO_PAY, "Go to the payment page"),
        (Link.expired, IS_IT_PAID, "Nobody has paid: make a new payment page"),
        (noted, NOTED, "Please don’t pay a second time"),
        (paid, PAID, "Nobody has to pay any more"),
        (retired, RETIRED, "https://app.carbonmark.com/retirements/id/137-0xabc-0"),
        (paid_not_retired, PAID_NOT_RETIRED, "look into it"),
        (declined, CLOSED, "Please don’t pay"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_shows_where_the_purchase_stands_and_looking_changes_nothing(
    link, buyer, sandbox, become, heading, says
):
    become(link)
    before, asked = everything(link.ledger), len(sandbox.state.requests)
    for _ in range(2):
        page = buyer.look(link)
        assert (page.status_code, title(page)) == (200, heading)
        assert says in page.text
        # Why somebody declined, or which payment it was, is not for whoever has the address.
        assert not {"too dear", "sold out", "pay_1"} & set(re.findall("too dear|sold out|pay_1", page.text))
    assert everything(link.ledger) == before
    assert len(sandbox.state.requests) == asked


def test_what_has_no_link_yet_or_can_not_be_bought_says_so(planned, buyer):
    assert title(buyer.look(planned)) == NOTHING_YET
    planned.ledger.failed(planned.number, "sold out", now=datetime.now(UTC), run=RUN)
    assert title(buyer.look(planned)) == CLOSED


def test_a_rehearsal_says_that_it_is_one(make_link, buyer, connect):
    connect(key="cm_api_sandbox_rehearsal", environment="test")
    assert "This is a test: nothing is retired." in buyer.look(make_link()).text


def test_it_is_good_as_long_as_the_purchase_is_open_and_then_as_a_link_would_be(link, buyer, caplog):
    link.was_asked_for(timedelta(days=1000))
    assert title(buyer.look(link)) == TO_PAY
    link.ledger.declined(link.number, RUN, "no", now=datetime.now(UTC) - timedelta(days=61))
    page = buyer.look(link)
    assert (page.status_code, title(page)) == (404, "This link is unknown")
    assert "return_token_days" in caplog.text
    paid(link)
    assert title(buyer.look(link)) == PAID


# --- paying


def test_the_button_leads_to_the_payment_page(link, buyer, sandbox):
    before = everything(link.ledger)
    led = buyer.say(link, "pay")
    assert (led.status_code, led.headers["location"], led.text) == (303, link.current, "")
    # The way there tells the payment page nothing.
    assert (led.headers["referrer-policy"], led.headers["cache-control"]) == ("same-origin", "no-store")
    assert everything(link.ledger) == before
    assert title(buyer.go(buyer.pay(link, led.headers["location"]))).startswith("Thank you")
    assert title(buyer.look(link)) == PAID
    assert (buyer.say(link, "pay").status_code, made(sandbox)) == (200, 1)


def test_once_the_link_has_expired_the_page_asks_instead_of_leading_there(link, buyer, sandbox):
    link.expired()
    page = buyer.say(link, "pay")
    assert (page.status_code, title(page)) == (200, IS_IT_PAID)
    assert 'name="link" value="1"' in page.text
    assert made(sandbox) == 1


def test_a_link_of_a_kind_that_never_expires_is_never_followed(link, buyer, sandbox):
    link.ends_at(None)
    page = buyer.nobody_paid(link)
    assert title(page) == TO_PAY
    assert "can be used at any time" in page.text
    assert "can be used until" not in buyer.look(link).text
    assert made(sandbox) == 1


# --- nobody has paid


def test_nobody_has_makes_the_next_link_and_leads_there(link, buyer, sandbox):
    link.expired()
    led = buyer.nobody_paid(link)
    first, second = link.ledger.links(link.number)
    assert (led.status_code, led.headers["location"]) == (303, second.url)
    assert (link.current, second.number, made(sandbox)) == (second.url, 2, 2)
    assert (first.outcome, first.unpaid_said_by) == ("unpaid", SOMEBODY)
    assert abs(first.unpaid_said_at - datetime.now(UTC)) < timedelta(minutes=5)
    assert second.expires_at > datetime.now(UTC)
    # Its buyer comes back to an address of its own.
    url = buyer.pay(link, second.url)
    assert title(buyer.go(url)).startswith("Thank you")
    assert [(each.link, each.source) for each in link.ledger.payments(link.number)] == [(2, Source.RETURNED)]


def test_a_link_of_version_1_is_followed_by_one_of_today(
    make_link, ledger, listing, buyer, connect, tmp_path, engines
):
    row = next(each for each in version_1.rows() if each["entity"] == "linked")
    asked = row["link_request"] | {"asset_price_source_id": listing.source_id}
    engine = engines(f"sqlite:///{tmp_path}/ledger.db")
    version_1.make(engine, held=[row | {"asset_price_source_id": listing.source_id, "link_request": asked}])
    connect(conn_id=asked["carbonmark_conn_id"])
    link = Link({"purchase": row["id"]}, ledger).expired()
    assert buyer.nobody_paid(link).headers["location"] == link.current
    url = buyer.pay(link, link.current)
    assert title(buyer.go(url)).startswith("Thank you")
    assert link.paid_with == id_of(url)


@pytest.mark.parametrize("name", ["Ada", None])
def test_who_is_signed_in_is_who_said_so_and_a_sign_in_that_does_not_hold_is_nobody_s(link, buyer, name):
    buyer.browser.cookies.set("_token", token_of(name) if name else "x.y.z")
    assert buyer.nobody_paid(link.expired()).status_code == 303
    assert link.ledger.links(link.number)[0].unpaid_said_by == (name or SOMEBODY)


def test_while_the_link_can_be_paid_nobody_has_makes_none(link, buyer, sandbox):
    before = everything(link.ledger)
    page = buyer.nobody_paid(link)
    assert (page.status_code, title(page)) == (200, TO_PAY)
    assert "so there is no other" in page.text
    assert (everything(link.ledger), made(sandbox)) == (before, 1)


def test_pressed_again_it_leads_to_the_same_link(link, buyer, sandbox):
    link.expired()
    led = {buyer.nobody_paid(link).headers["location"] for _ in range(3)}
    assert led == {link.current}
    assert made(sandbox) == 2


@pytest.mark.parametrize("honoured", [True, False])
def test_pressed_in_many_browsers_at_once_there_is_one_link_and_nobody_is_led_to_another(
    link, buyer, sandbox, honoured
):
    sandbox.state.change_switches(honour_idempotency_key=honoured, latency=0.05)
    link.expired()
    with ThreadPoolExecutor(18) as people:
        led = [people.submit(buyer.nobody_paid, link) for _ in range(12)]
        looked = [people.submit(buyer.say, link, "pay") for _ in range(6)]
    assert {page.result().headers["location"] for page in led} == {link.current}
    assert {page.result().headers.get("location", link.current) for page in looked} == {link.current}
    assert len(link.ledger.links(link.number)) == 2
    # They all wait for the same visit.
    assert made(sandbox) == 2


def test_a_stale_page_makes_no_link_after_the_next(link, buyer, sandbox):
    buyer.nobody_paid(link.expired())
    link.expired()
    # The page in this browser still speaks of the first.
    page = buyer.nobody_paid(link, 1)
    assert title(page) == IS_IT_PAID
    assert made(sandbox) == 2


# --- what it costs by now


def test_the_next_link_costs_what_it_costs_now(make_link, buyer, sandbox, listing):
    link = make_link(max_cost="100000")
    listing.purchase_price *= 2
    buyer.nobody_paid(link.expired())
    first, second = link.ledger.links(link.number)
    assert second.cost_usd == link.purchase.cost_usd == 2 * first.cost_usd
    assert f"{second.cost_usd:f} USD" in buyer.look(link).text


@pytest.mark.parametrize("limit", ["max_cost", "max_cost_per_run_usd", "max_cost_per_entity_usd"])
def test_over_a_limit_it_says_so_and_makes_nothing(follow, buyer, sandbox, listing, limit):
    price = listing.purchase_price
    most = price * Decimal("1.234") * Decimal("1.5")
    link = follow(**({limit: most} if limit == "max_cost" else {"limits": Limits(**{limit: most})}))
    cost = link.purchase.cost_usd
    listing.purchase_price *= 2
    page = buyer.nobody_paid(link.expired())
    assert title(page) == IS_IT_PAID
    assert re.search("It would cost [0-9.]+ USD now", page.text)
    assert ("the most that it may cost is" in page.text) is (limit == "max_cost")
    assert (link.purchase.cost_usd, made(sandbox)) == (cost, 1)
    assert len(link.ledger.links(link.number)) == 1
    # Cheap again, it goes on.
    listing.purchase_price = price
    assert buyer.nobody_paid(link).status_code == 303


def test_it_speaks_its_reader_s_language_also_when_it_refuses(make_link, buyer, sandbox, listing):
    link = make_link(max_cost="12.5")
    listing.purchase_price *= 10
    buyer.browser.headers["accept-language"] = "de-AT,de;q=0.9,en;q=0.8"
    page = buyer.nobody_paid(link.expired())
    assert title(page) == "Hat schon jemand bezahlt?"
    assert re.search("würde jetzt [0-9]+,[0-9]+ USD kosten. Er darf höchstens 12,50 USD kosten", page.text)
    assert (page.headers["content-language"], page.headers["vary"]) == ("de", "Accept-Language")


@pytest.mark.parametrize(
    ("trouble", "says"), [("sold out", "not for sale any more"), ("too cheap", "less than can be paid")]
)
def test_what_can_not_be_bought_any_more_fails_and_wakes_who_waits(
    follow, buyer, sandbox, listing, monkeypatch, trouble, says
):
    link = follow()
    waiting = WaitingTask(link).ask().park()
    if trouble == "sold out":
        listing.liquid_supply = Decimal(0)
    else:
        monkeypatch.setenv("AIRFLOW__CARBONMARK__MINIMUM_PAYMENT_USD", "5000")
    page = buyer.nobody_paid(link.expired())
    assert title(page) == CLOSED
    assert says in page.text
    assert (link.purchase.state, made(sandbox)) == (State.FAILED, 1)
    assert waiting.answer.form == {"payment_id": None}


# --- late money


def test_a_payment_for_an_earlier_link_counts_and_a_second_is_an_error_with_both(link, buyer, caplog):
    waiting = WaitingTask(link).ask().park()
    late = buyer.pay(link)
    led = buyer.nobody_paid(link.expired())
    again = buyer.pay(link, led.headers["location"])
    assert title(buyer.go(late)).startswith("Thank you")
    assert (link.paid_with, waiting.answered_with) == (id_of(late), id_of(late))
    assert errors(caplog) == []
    assert title(buyer.go(again)) == "A payment is already recorded"
    assert link.paid_with == id_of(late)
    (error,) = errors(caplog)
    first, second = link.ledger.links(link.number)
    assert f"{id_of(late)} ({first.url}) counts, and {id_of(again)} ({second.url}) came besides" in error


def test_who_paid_the_old_link_is_led_nowhere_once_that_is_known(link, buyer, sandbox):
    late = buyer.pay(link)
    link.expired()
    buyer.go(late)
    page = buyer.nobody_paid(link)
    assert title(page) == PAID
    assert "A payment has arrived" in page.text
    assert made(sandbox) == 1
