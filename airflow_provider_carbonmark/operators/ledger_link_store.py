"""The link of a purchase line, kept in the ledger before anybody sees it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_carbonmark.hooks.purchase_line import run_of
from airflow_provider_carbonmark.operators.link_store import LinkStore, MadeLink

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_carbonmark.ledger import Ledger, LedgerError
    from airflow_provider_carbonmark.ledger.schema import PurchaseLine


class LedgerLinkStore(LinkStore):
    """
    The link of a line that has none yet: into the ledger first, then into the task state store, where the return URL looks for it.

    So it survives on Airflow 3.2 as well, and the runs that come after.

    :raises HasLinkError: here or in any method, when the line got its link from another try since it was read.
    :raises AirflowFailException: when the task made another line's link: buyers of both would come back to the same task, and nobody
        could tell whose payment that is.
    """

    def __init__(self, context: Context, ledger: Ledger, line: PurchaseLine) -> None:
        super().__init__(context.get("task_state_store"))
        self._ledger = ledger
        self._line = line
        self._run = run_of(context)
        if self.made:
            # A link is in the ledger before it is in this store, but the line was read before this store was.
            if ledger.line(line.id).checkout is not None:
                raise _overtaken(line)
            url = self.made[-1].checkout["checkout_url"]
            raise AirflowFailException(
                f"This task made the link {url} before, and {line} has none: a task makes the link of one line only. A new run of "
                "the DAG plans the line anew."
            )
        if line.idempotency_key:
            self._kept = replace(self._kept, request=line.link_request, idempotency_key=line.idempotency_key)

    def intend(self, request: dict[str, Any]) -> str:
        key = super().intend(request)
        self._ledger.intend_link(self._line.id, self._run, request, key)
        return key

    def keep(self, link: MadeLink) -> None:
        line = self._ledger.link_made(self._line.id, self._run, link.checkout, now=pendulum.now("UTC"))
        if line.checkout != link.checkout:
            raise _overtaken(line)
        super().keep(link)


def _overtaken(line: PurchaseLine) -> LedgerError:
    # Imported late: a DAG file needs none of SQLAlchemy.
    from airflow_provider_carbonmark.ledger.schema import HasLinkError

    return HasLinkError(f"{line} got its link from another try meanwhile: deliver that")
