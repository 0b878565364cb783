"""
The links that a task made, kept where a retry and a clear can't lose them: never two live links for one purchase.

Every write is thought through for a crash right after it. An intent without a link means that Carbonmark may or may not have
made one: the next try asks again with the same idempotency key. A link that Carbonmark made and we didn't store has been seen by
nobody, because a task that didn't succeed delivers nothing.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_carbonmark.api.errors import NotFoundError
from airflow_provider_carbonmark.api.retirement import is_unpaid
from airflow_provider_carbonmark.web.link import RECORD_KEY, PaymentRecord

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook

log = logging.getLogger(__name__)

STATE_KEY = "carbonmark_checkout"


@dataclass(frozen=True)
class MadeLink:
    """A link that Carbonmark made: what it buys, and the checkout that the task delivers."""

    purchase: dict[str, Any]
    checkout: dict[str, Any]


@dataclass(frozen=True)
class KeptLinks:
    """
    What a task remembers.

    :param made: the links it made, the latest last. More than one only when its input changed in between.
    :param request: what it asked for last without having stored an answer; None when it has.
    :param idempotency_key: the key it asked with.
    """

    made: tuple[MadeLink, ...] = ()
    request: dict[str, Any] | None = None
    idempotency_key: str | None = None

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> KeptLinks:
        return cls(**kept | {"made": tuple(MadeLink(**link) for link in kept["made"])})

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"made": [asdict(link) for link in self.made]}


class LinkStore:
    """Airflow's task state store (3.3 and later), which survives retries and clears; before 3.3 nothing is kept."""

    def __init__(self, store: Any) -> None:
        self._store = store
        kept = None if store is None else store.get(STATE_KEY)
        self._kept = KeptLinks() if kept is None else KeptLinks.from_json(kept)

    @classmethod
    def of(cls, context: Context) -> LinkStore:
        store = context.get("task_state_store")
        if store is None:
            log.warning(
                "This Airflow has no task state store (it came with 3.3): if this task is tried again or cleared, it makes a new link, "
                "and the old one must not be paid."
            )
        return cls(store)

    @property
    def made(self) -> tuple[MadeLink, ...]:
        """The links that this task made, the latest last."""
        return self._kept.made

    @property
    def request(self) -> dict[str, Any]:
        """What was asked for last without an answer having been stored."""
        return self._kept.request or {}

    @property
    def payment(self) -> PaymentRecord | None:
        """What the return URL recorded: the payment that buyers of this task's links came back with."""
        kept = None if self._store is None else self._store.get(RECORD_KEY)
        return None if kept is None else PaymentRecord.from_json(kept)

    def intend(self, request: dict[str, Any]) -> str:
        """
        Return the idempotency key to ask with, written down before the request leaves.

        :param request: what is about to be sent. The key of an earlier try is taken up when that sent the same and never saw an
            answer; with another request, a service that honours the key would refuse it.
        """
        if self._kept.idempotency_key and self._kept.request == request:
            return self._kept.idempotency_key
        key = str(uuid.uuid4())
        self._write(replace(self._kept, request=request, idempotency_key=key))
        return key

    def keep(self, link: MadeLink) -> None:
        """Write down the answer to what was intended."""
        self._write(KeptLinks(made=(*self.made, link)))

    def _write(self, kept: KeptLinks) -> None:
        self._kept = kept
        if self._store is not None:
            # Airflow 3.3 exports it; its type stub forgot it, and older versions lack it.
            from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]

            self._store.set(STATE_KEY, kept.to_json(), retention=NEVER_EXPIRE)


def refuse_unless_unpaid(links: LinkStore, purchase: dict[str, Any], hook: CarbonmarkHook) -> None:
    """
    Allow one more link only while Carbonmark says that those made before are unpaid, and no buyer came back from one.

    :param links: the links made before, the latest for something else than what is to be bought now.
    :param purchase: what is to be bought now.
    :param hook: asks Carbonmark.
    :raises AirflowFailException: when an old link is paid, or nobody can tell.
    """
    made, recorded = links.made, links.payment
    before = made[-1].purchase
    changed = ", ".join(
        f"{name} from {before.get(name)!r} to {value!r}"
        for name, value in purchase.items()
        if before.get(name) != value
    )
    urls = [link.checkout["checkout_url"] for link in made]
    for link, url in zip(made, urls, strict=True):
        doubt = f"its buyer came back with payment {recorded.payment_id!r}" if recorded else None
        if doubt := doubt or _why_not_unpaid(link.checkout["payment_id"], hook):
            raise AirflowFailException(
                f"This task made the link {url} before, and since then its input changed: {changed}. A new link could buy twice, "
                f"because {doubt}. To buy with the new input as well, start a new run."
            )
    log.warning(
        "The input changed (%s) and what was made before is unpaid, so a new link is made. Don't pay the old one: %s",
        changed,
        ", ".join(urls),
    )


def _why_not_unpaid(payment_id: str | None, hook: CarbonmarkHook) -> str:
    """Return why the payment may have been made; empty when Carbonmark says that it hasn't."""
    if not payment_id:
        return "Carbonmark didn't tell the payment id of the old link, so nobody can ask whether it is paid"
    try:
        payment = hook.get_payment(payment_id)
    except NotFoundError as error:
        return f"Carbonmark doesn't know its payment {payment_id!r} ({error})"
    if is_unpaid(payment):
        return ""
    return (
        f"payment {payment_id!r} of the old link has the status {payment.payment_status!r}, "
        f"its retirement {payment.retirement_status!r}"
    )
