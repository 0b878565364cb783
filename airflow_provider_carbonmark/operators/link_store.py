"""
The link that a task made, kept where a retry and a clear can't lose it: never two live links for one purchase.

Every write is thought through for a crash right after it. An intent without a link means that Carbonmark may or may not have
made one: the next try asks again with the same idempotency key. A link that Carbonmark made and we didn't store has been seen by
nobody, because a task that didn't succeed delivers nothing.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_carbonmark.api.retirement import is_unpaid

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook

log = logging.getLogger(__name__)

STATE_KEY = "carbonmark_checkout"


@dataclass(frozen=True)
class KeptLink:
    """What a task wanted to buy, the idempotency key it asked with, and the checkout once it had one."""

    purchase: dict[str, Any]
    idempotency_key: str
    checkout: dict[str, Any] | None


class LinkStore:
    """Airflow's task state store (3.3 and later), which survives retries and clears; before 3.3 nothing is kept."""

    def __init__(self, store: Any) -> None:
        self._store = store

    @classmethod
    def of(cls, context: Context) -> LinkStore:
        store = context.get("task_state_store")
        if store is None:
            log.warning(
                "This Airflow has no task state store (it came with 3.3): if this task is tried again or cleared, it makes a new link, "
                "and the old one must not be paid."
            )
        return cls(store)

    def read(self) -> KeptLink | None:
        kept = None if self._store is None else self._store.get(STATE_KEY)
        return None if kept is None else KeptLink(**kept)

    def intend(self, purchase: dict[str, Any], kept: KeptLink | None) -> str:
        """
        Return the idempotency key to ask with, written down before the request leaves.

        :param purchase: what is about to be bought.
        :param kept: what an earlier try left; its key is taken up when it asked for the same and never saw an answer.
        """
        if kept is not None and kept.checkout is None and kept.purchase == purchase:
            return kept.idempotency_key
        key = str(uuid.uuid4())
        self._write(KeptLink(purchase, key, None))
        return key

    def keep(self, purchase: dict[str, Any], key: str, checkout: dict[str, Any]) -> None:
        self._write(KeptLink(purchase, key, checkout))

    def _write(self, kept: KeptLink) -> None:
        if self._store is not None:
            # Airflow 3.3 exports it; its type stub forgot it, and older versions lack it.
            from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]

            self._store.set(STATE_KEY, asdict(kept), retention=NEVER_EXPIRE)


def refuse_unless_unpaid(kept: KeptLink, purchase: dict[str, Any], hook: CarbonmarkHook) -> None:
    """
    Allow a new link in place of the kept one only while Carbonmark says that the kept one is unpaid.

    :param kept: a link for something else than what is to be bought now.
    :param purchase: what is to be bought now.
    :param hook: asks Carbonmark.
    :raises AirflowFailException: when the old link is paid, or nobody can tell.
    """
    old = kept.checkout or {}
    changed = ", ".join(
        f"{name} from {kept.purchase.get(name)!r} to {value!r}"
        for name, value in purchase.items()
        if kept.purchase.get(name) != value
    )
    doubt = _why_not_unpaid(old.get("payment_id"), hook)
    if doubt:
        raise AirflowFailException(
            f"This task made the link {old.get('checkout_url')} before, and since then its input changed: {changed}. A new link could "
            f"buy twice, because {doubt}. To buy with the new input as well, start a new run."
        )
    log.warning(
        "The input changed (%s) and the link made before is unpaid, so a new one is made. Don't pay the old one: %s",
        changed,
        old.get("checkout_url"),
    )


def _why_not_unpaid(payment_id: str | None, hook: CarbonmarkHook) -> str:
    """Return why the payment may have been made; empty when Carbonmark says that it hasn't."""
    if not payment_id:
        return "Carbonmark didn't tell the payment id of the old link, so nobody can ask whether it is paid"
    payment = hook.get_payment(payment_id)
    if is_unpaid(payment):
        return ""
    return (
        f"payment {payment_id!r} of the old link has the status {payment.payment_status!r}, "
        f"its retirement {payment.retirement_status!r}"
    )
