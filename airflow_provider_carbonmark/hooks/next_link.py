"""
The link after one that can't be paid any more: by the pay address, and by the form of the task that waits.

A link without a return is paid or not, and nobody can ask. So somebody has to say that nobody paid it; the ledger keeps who did.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_carbonmark.api.errors import CarbonmarkError
from airflow_provider_carbonmark.api.retries import NO_RETRIES, refuses_the_listing
from airflow_provider_carbonmark.hooks.checkout import as_made
from airflow_provider_carbonmark.hooks.ledger import minimum_payment_usd
from airflow_provider_carbonmark.hooks.payment_check import Finding, check_payment, take_checked
from airflow_provider_carbonmark.hooks.return_url import Token, next_urls
from airflow_provider_carbonmark.ledger.limits import limits_from_json
from airflow_provider_carbonmark.ledger.names import HasLinkError, LimitsPassedError, NoNextLinkError
from airflow_provider_carbonmark.ledger.values import too_little
from airflow_provider_carbonmark.ledger.words import Words

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.client import ClientSettings
    from airflow_provider_carbonmark.ledger.book import Ledger
    from airflow_provider_carbonmark.ledger.purchase import Link, Purchase

log = logging.getLogger(__name__)


def make_next_link(
    ledger: Ledger, id: int, after: int, settings_of: Callable[[str], ClientSettings], said_by: str
) -> Purchase:
    """
    Make a purchase's next link, because somebody says that nobody paid the current one.

    :param after: the number of that link.
    :param settings_of: how to reach Carbonmark by a connection's id.
    :return: the purchase with its current link, whoever made it.
    :raises NoNextLinkError: when there is none to be made; says why, in words for whoever wants to pay.
    :raises CarbonmarkError: when Carbonmark can't be asked.
    """
    try:
        purchase = ledger.say_unpaid(id, after, said_by=said_by, now=_now())
        link = purchase.link
        if link is None:
            raise AssertionError(f"{purchase} has no link that another could follow")
        log.info("%s says that nobody paid %s at %s", said_by, purchase, link.url)
        rule_out(ledger, purchase, settings_of)
        return _follow(ledger, purchase, link, settings_of(link.conn_id))
    except HasLinkError as overtaken:
        log.info("%s", overtaken)
        return ledger.purchase(id)


def _follow(ledger: Ledger, purchase: Purchase, link: Link, settings: ClientSettings) -> Purchase:
    # Imported late: a DAG file needs no client.
    from airflow_provider_carbonmark.api.client import CarbonmarkClient

    def request_of(current: Link, number: int) -> Mapping[str, Any]:
        token = Token(purchase.id, current.number, current.conn_id)
        return {**current.request, **next_urls(ledger, token, current.request)}

    # Whoever waits for it can ask again.
    with CarbonmarkClient(settings, retries=NO_RETRIES) as client:
        try:
            quote = client.create_quote(
                asset_price_source_id=purchase.asset_price_source_id,
                quantity_tonnes=purchase.quantity_tonnes,
            )
            _hold_against_limits(ledger, purchase, link, quote.cost_usd)
            cost, now = quote.cost_usd, _now()
            asked = ledger.ask_next_link(purchase.id, link.number, request_of, cost_usd=cost, now=now)
            page = client.create_checkout(**asked.request, idempotency_key=asked.idempotency_key)
        except CarbonmarkError as error:
            if not refuses_the_listing(error):
                _quote_as_before(ledger, purchase, link)
                raise
            _end(ledger, purchase, f"Nobody paid it, and it can't be bought any more: {error}")
            raise NoNextLinkError(Words("What was to be bought is not for sale any more.")) from error
    made = ledger.next_link_made(purchase.id, asked, **as_made(page, _now()))
    log.info("%s: pay at %s", made, made.link and made.link.url)
    return made


def rule_out(ledger: Ledger, purchase: Purchase, settings_of: Callable[[str], ClientSettings]) -> None:
    """
    Ask again about what was brought and could not be confirmed: with it in doubt, nobody knows whether it is paid.

    What is found to be the purchase's payment is taken.

    :raises NoNextLinkError: when one of them may be its payment; says why, in words for whoever wants to pay.
    """
    unconfirmed = [each for each in ledger.payments(purchase.id) if each.verified_at is None]
    links = ledger.links(purchase.id) if unconfirmed else []
    conn_ids = {link.number: link.conn_id for link in links}
    for brought in unconfirmed:
        settings = settings_of(conn_ids[brought.link])
        checked = check_payment(settings, brought.payment_id, purchase, links, brought.link)
        finding = take_checked(ledger, purchase, brought, checked).finding
        if finding is Finding.HELD:
            raise NoNextLinkError(
                Words(
                    "Payment %(payment_id)s was brought for it on %(time)s, which is for this or for another purchase. Bring it again, and "
                    "write the reference of the one that it is for after the number.",
                    payment_id=brought.payment_id,
                    time=brought.brought_at,
                )
            )
        if finding in (Finding.UNTOLD, Finding.OUT_OF_REACH):
            raise NoNextLinkError(
                Words(
                    "Payment %(payment_id)s was brought for it on %(time)s, and nobody can say yet whether it is for this. Ask Carbonmark "
                    "what it is for.",
                    payment_id=brought.payment_id,
                    time=brought.brought_at,
                )
            )


def _hold_against_limits(ledger: Ledger, purchase: Purchase, link: Link, cost: Decimal) -> None:
    if cost < (least := minimum_payment_usd()):
        _end(ledger, purchase, too_little(cost, least))
        raise NoNextLinkError(Words("It costs %(cost)s now, which is less than can be paid.", cost=cost))
    most, limits = limits_from_json(link.limits or {})
    if most is not None and cost > most:
        raise NoNextLinkError(
            Words(
                "It would cost %(cost)s now, and the most that it may cost is %(most)s.", cost=cost, most=most
            )
        )
    try:
        ledger.requoted(purchase.id, link.number, cost, limits)
    except LimitsPassedError as passed:
        log.warning("%s gets no other link: %s", purchase, passed)
        raise NoNextLinkError(
            Words(
                "It would cost %(cost)s now, and together with what else is bought that is more than may be spent.",
                cost=cost,
            )
        ) from None


def _quote_as_before(ledger: Ledger, purchase: Purchase, link: Link) -> None:
    """Let the purchase cost what its link does, as long as there is no other."""
    if link.cost_usd is not None:
        ledger.requoted(purchase.id, link.number, link.cost_usd)


def _end(ledger: Ledger, purchase: Purchase, reason: str) -> None:
    ended = ledger.ends_unpaid(purchase.id, reason, now=_now())
    log.warning("%s is %s: %s", ended, ended.state, reason)


def _now() -> datetime:
    return datetime.now(UTC)
