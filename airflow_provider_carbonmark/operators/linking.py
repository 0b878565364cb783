"""The link of a purchase, in the ledger before anybody sees it: never two live links for one purchase."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import pendulum
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_carbonmark.api.errors import NotFoundError
from airflow_provider_carbonmark.api.retirement import is_unpaid
from airflow_provider_carbonmark.hooks.checkout import as_made
from airflow_provider_carbonmark.hooks.runs import task_of
from airflow_provider_carbonmark.ledger.names import HasLinkError
from airflow_provider_carbonmark.ledger.purchase import with_reference

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook
    from airflow_provider_carbonmark.ledger.book import Ledger
    from airflow_provider_carbonmark.ledger.purchase import Order, Purchase
    from airflow_provider_carbonmark.operators.terms import LinkTerms

log = logging.getLogger(__name__)


def ordered(context: Context, ledger: Ledger, order: Order, terms: LinkTerms) -> Purchase:
    """Return the purchase of a task that buys without a plan; another one than before where its input changed and nobody paid."""
    task, test_mode = task_of(context), terms.hook.test_mode
    known = ledger.purchase_of(task)
    if known:
        is_the_same = not _changes(known, order, terms)
        if is_the_same and known.has_link:
            return known
        # Also before what was ordered instead gets its link, in a later try perhaps: what was made before may be paid by now.
        if made := [each for each in (*ledger.given_up(task), known) if each.has_link]:
            changed = ", ".join(_changes(made[-1], order, terms)) or "it was another in between"
            _refuse_unless_unpaid(ledger, made, terms.hook, changed)
        if is_the_same:
            return known
    return ledger.order(task, order, test_mode=test_mode, now=pendulum.now("UTC"), instead_of=known)


def _changes(known: Purchase, order: Order, terms: LinkTerms) -> list[str]:
    """Return what a task is given otherwise than when it ordered, in words."""
    message = with_reference(order.retirement_message, known.id)
    before = vars(known.order) | {"test_mode": known.test_mode}
    after = vars(order) | {"retirement_message": message, "test_mode": terms.hook.test_mode}
    # How the link was asked for counts once it is made: what was only asked can be asked anew.
    if known.has_link and known.link:
        before |= {"carbonmark_conn_id": known.link.conn_id, "metadata": known.link.request.get("metadata")}
        after |= {"carbonmark_conn_id": terms.hook.carbonmark_conn_id, "metadata": terms.metadata_of(known)}
    return [
        f"{name} from {_shown(before[name])} to {_shown(value)}"
        for name, value in after.items()
        if before[name] != value
    ]


def _shown(value: object) -> str:
    return repr(f"{value:f}" if isinstance(value, Decimal) else value)


def make_link(context: Context, ledger: Ledger, purchase: Purchase, terms: LinkTerms) -> Purchase:
    """
    Return the purchase with its link: the one that it has, whoever made it, else one that is made now.

    What is about to be asked is written down first. A try that was cut off before it stored the answer is followed by one that asks
    the same with the same key; what Carbonmark made for it besides has been seen by nobody.
    """
    task, conn_id = task_of(context), terms.hook.carbonmark_conn_id
    if purchase.has_link:
        return purchase
    try:
        # By every try: what was asked an hour ago is no price any more.
        limits = terms.check_price(context, ledger, purchase)
        asked = ledger.ask_link(
            purchase.id,
            task,
            lambda number: terms.request(ledger, purchase, number),
            conn_id=conn_id,
            limits=limits,
            now=pendulum.now("UTC"),
        )
    except HasLinkError as overtaken:
        # By a worker that was taken for dead, say.
        log.info("%s", overtaken)
        return ledger.purchase(purchase.id)
    page = terms.hook.create_checkout(**asked.request, idempotency_key=asked.idempotency_key)
    return ledger.link_made(purchase.id, task.run, asked, **as_made(page, pendulum.now("UTC")))


def _refuse_unless_unpaid(
    ledger: Ledger, made: Sequence[Purchase], hook: CarbonmarkHook, changed: str
) -> None:
    """
    Allow a task one more link only while Carbonmark says that those made before are unpaid, and nobody brought a payment for them.

    :raises AirflowFailException: when something of it is paid, or nobody can tell.
    """
    for purchase in made:
        if doubt := _why_not_unpaid(ledger, purchase, hook):
            raise AirflowFailException(
                f"This task made the link {_url(purchase)} before, and since then its input changed: {changed}. A new link could buy "
                f"twice, because {doubt}. To buy with the new input as well, start a new run."
            )
    log.warning(
        "The input changed (%s) and what was made before is unpaid, so a new link is made. Don't pay the old one: %s",
        *(changed, ", ".join(map(_url, made))),
    )


def _url(purchase: Purchase) -> str:
    return str(purchase.link and purchase.link.url)


def _why_not_unpaid(ledger: Ledger, purchase: Purchase, hook: CarbonmarkHook) -> str:
    """Return why the purchase may have been paid; empty when Carbonmark says that it hasn't."""
    told = purchase.link.payment_id if purchase.link else None
    if purchase.payment_id:
        return f"it is {purchase.state} with payment {purchase.payment_id!r}"
    if brought := ledger.payments(purchase.id):
        return f"somebody brought payment {brought[0].payment_id!r} for it"
    if not told:
        return "Carbonmark didn't tell the payment id of the old link, so nobody can ask whether it is paid"
    try:
        payment = hook.get_payment(told)
    except NotFoundError as error:
        return f"Carbonmark doesn't know its payment {told!r} ({error})"
    if is_unpaid(payment):
        return ""
    return (
        f"payment {told!r} of the old link has the status {payment.payment_status!r}, its retirement "
        f"{payment.retirement_status!r}"
    )
