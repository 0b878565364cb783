"""The triggerer's half of a wait for a retirement."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_carbonmark.api.errors import (
    AccessDeniedError,
    CarbonmarkError,
    InvalidInputError,
    TransportError,
)
from airflow_provider_carbonmark.api.retirement import Outcome, Verdict
from airflow_provider_carbonmark.api.waiting import (
    WaitTerms,
    asked_to_pause,
    next_pause,
    retirement_result,
    weigh,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from airflow_provider_carbonmark.api.models import Payment
    from airflow_provider_carbonmark.hooks.shared_client import SharedClient

#: The outcome of an event when the deadline passed first.
TIMEOUT = "timeout"


class CarbonmarkRetirementTrigger(BaseTrigger):
    """
    Poll a payment until its retirement is proven, has failed, or the deadline has passed, then fire one event.

    The event is ``{"outcome": "retired", "retirement": {…}}``, or ``{"outcome": "failed" | "not_as_asked" | "untold" | "timeout",
    "reason": "…"}``.
    All waits on one connection share one client, and a restarted triggerer takes a wait up where it was.

    :param carbonmark_conn_id: the Airflow connection; the key is never among the arguments, which Airflow stores.
    :param terms: what is waited for, as :meth:`WaitTerms.to_json` writes it.
    :param started_at: when the first poll was made, ISO 8601.
    :param deadline: when the wait ends, ISO 8601.
    :param poke_interval: the first pause between polls, seconds.
    :param max_wait: the longest pause between polls, seconds.
    :param not_before: when the next poll may be made, ISO 8601; at once when not given.
    """

    def __init__(
        self,
        *,
        carbonmark_conn_id: str,
        terms: Mapping[str, Any],
        started_at: str,
        deadline: str,
        poke_interval: float,
        max_wait: float,
        not_before: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.carbonmark_conn_id = carbonmark_conn_id
        self.terms = WaitTerms.from_json(terms)
        self.started_at = datetime.fromisoformat(started_at)
        self.deadline = datetime.fromisoformat(deadline)
        self.poke_interval = poke_interval
        self.max_wait = max_wait
        self.not_before = datetime.fromisoformat(not_before or started_at)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the trigger as Airflow stores it."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "carbonmark_conn_id": self.carbonmark_conn_id,
                "terms": self.terms.to_json(),
                "started_at": self.started_at.isoformat(),
                "deadline": self.deadline.isoformat(),
                "poke_interval": self.poke_interval,
                "max_wait": self.max_wait,
                "not_before": self.not_before.isoformat(),
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire the one event."""
        yield TriggerEvent(await self._wait())  # type: ignore[no-untyped-call]

    async def _wait(self) -> dict[str, Any]:
        # Only the triggerer needs aiohttp and a client, not the worker that defers.
        from airflow_provider_carbonmark.hooks.shared_client import forget, shared_client

        # No longer than it was to be, though the worker's clock may be ahead.
        pause = min(self.not_before - datetime.now(UTC), self.not_before - self.started_at)
        await asyncio.sleep(max(0.0, pause.total_seconds()))
        begun = datetime.now(UTC)
        refused = None
        while True:
            try:
                async with shared_client(self.carbonmark_conn_id) as shared:
                    try:
                        return await self._watch(shared, begun)
                    except AccessDeniedError as error:
                        # The key may have been replaced since the connection was read, so it is read again once.
                        if shared.connection == refused:
                            return _event(Verdict(Outcome.UNTOLD, str(error)))
                        refused = shared.connection
                        forget(shared)
            except InvalidInputError as error:
                return _event(Verdict(Outcome.UNTOLD, str(error)))

    async def _watch(self, shared: SharedClient, begun: datetime) -> dict[str, Any]:
        """
        Poll until something final is known, and return the event that says so.

        :param begun: when this triggerer polled first: a worker's clock that is behind must not use up the time for what isn't there yet.
        """
        said = ""
        while True:
            answer = await self._poll(shared)
            here = (datetime.now(UTC) - begun).total_seconds()
            verdict = weigh(answer, self.terms, test_mode=shared.connection.test_mode, waited=here)
            if not isinstance(answer, CarbonmarkError) and verdict.outcome is Outcome.RETIRED:
                self.log.info("%s", verdict.reason)
                return {
                    "outcome": Outcome.RETIRED.value,
                    "retirement": retirement_result(
                        answer, self.terms, test_mode=shared.connection.test_mode
                    ),
                }
            if verdict.outcome is not Outcome.WAITING:
                return _event(verdict)
            if verdict.reason != said:
                self.log.info("%s", verdict.reason)
                said = verdict.reason
            left = self._left()
            if left <= 0:
                return {"outcome": TIMEOUT, "reason": verdict.reason}
            waited = (datetime.now(UTC) - self.started_at).total_seconds()
            pause = next_pause(waited, self.poke_interval, self.max_wait)
            pause = min(max(pause, asked_to_pause(answer)), left)
            # What waits hold on to while they sleep, the garbage collector walks through again and again.
            del answer, verdict
            await asyncio.sleep(pause)

    def _left(self) -> float:
        return (self.deadline - datetime.now(UTC)).total_seconds()

    async def _poll(self, shared: SharedClient) -> Payment | CarbonmarkError:
        # The last poll has its whole time. Where all of them hang, more waits queue for their turn than would get it by then.
        longest = max(0.0, self._left()) + shared.connection.settings.timeout
        try:
            async with asyncio.timeout(longest):
                return await shared.get_payment(self.terms.payment_id)
        except TimeoutError:
            return TransportError(
                f"Payment {self.terms.payment_id!r} was not asked for: polls of connection {self.carbonmark_conn_id!r} before it took too long"
            )
        except AccessDeniedError:
            raise
        except CarbonmarkError as error:
            return error


def _event(verdict: Verdict) -> dict[str, Any]:
    return {"outcome": verdict.outcome.value, "reason": verdict.reason}
