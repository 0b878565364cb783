"""What became of the tonnes that a run was to buy, by the ledger's lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from airflow_provider_carbonmark.ledger.names import COVERING, Run, State
from airflow_provider_carbonmark.ledger.values import CARRIED_OVER, UNSTATED, total

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.purchase import PurchaseLine

Key = tuple[str, str]  # entity and month


@dataclass
class Outcome:
    """
    What became of the tonnes that a run was to buy.

    :param waiting: links that wait to be paid, with since when and in which run.
    :param carried_over: what was too little to be paid, with the reason, in words.
    :param missing: what is none of it, likewise.
    """

    retired: list[PurchaseLine] = field(default_factory=list)
    declined: list[PurchaseLine] = field(default_factory=list)
    waiting: list[PurchaseLine] = field(default_factory=list)
    carried_over: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def told(self, addresses: Mapping[int, str]) -> Iterable[str]:
        """
        Give what a person may want to know, one line each.

        :param addresses: where purchases can be paid, by number, as far as that is known.
        """
        yield f"{_tonnes(self.retired)} t are retired."
        for line in self.declined:
            yield f"{_named(line)} is declined: {line.reason}"
        yield from self.carried_over
        for line in self.waiting:
            yield (
                f"{_named(line)} waits to be paid since {line.link_made_at:%Y-%m-%d %H:%M} UTC in run {line.handler.run_id!r} of "
                f"{line.handler.dag_id!r}: {addresses.get(line.purchase or 0, line.checkout_url)}"
            )


def outcome_of(
    lines: Iterable[PurchaseLine],
    run: Run,
    purchases: Iterable[int],
    is_over: Callable[[Run, datetime], bool],
) -> Outcome:
    """
    Work out what became of a run's tonnes.

    :param lines: all lines of its months, and of those it bought for.
    :param purchases: those that it carries on, and those that covered its tonnes when it planned.
    """
    by_key: dict[Key, list[PurchaseLine]] = defaultdict(list)
    for line in lines:
        by_key[line.entity, line.month].append(line)
    wanted = {*purchases}
    outcome = Outcome()
    for of_key in by_key.values():
        # What a run found stated no more it was not to buy.
        if any(line.purchase in wanted or (line.run == run and line.reason != UNSTATED) for line in of_key):
            _add_covering(outcome, of_key, run, is_over)
            _add_lacking(outcome, of_key, wanted)
    return outcome


def _add_covering(
    outcome: Outcome, of_key: list[PurchaseLine], run: Run, is_over: Callable[[Run, datetime], bool]
) -> None:
    """Add what became of an entity's and month's tonnes as far as they are covered."""
    covering = [line for line in of_key if line.state in COVERING]
    outcome.retired += [line for line in covering if line.state is State.RETIRED]
    for line in covering:
        if line.state is State.RETIRED:
            continue
        # Where nobody waits for it any more, its payment would not even be noticed.
        if (
            line.state is State.LINK_MADE
            and line.handler != run
            and not is_over(line.handler, line.planned_at)
        ):
            outcome.waiting.append(line)
        else:
            outcome.missing.append(f"{_named(line)}, which is {line.state} {_where(line, run)}")


def _add_lacking(outcome: Outcome, of_key: list[PurchaseLine], wanted: Collection[int]) -> None:
    # What ended last is what is missing now: what was declined before that was bought again, and failed.
    last, *before = sorted(of_key, key=lambda line: -line.line)
    covered = total(line.quantity_tonnes for line in of_key if line.state in COVERING)
    lacking = max(last.emitted_tonnes, Decimal(0)) - covered
    ended = [last, *before]
    left = last.reason if last.state is State.RESTATED else None
    if left:
        # What is not stated any more was to be bought only as far as the run carries it on.
        ended = [line for line in before if left == UNSTATED and line.purchase in wanted]
    for line in ended:
        if lacking <= 0:
            return
        if line.state is State.DECLINED:
            outcome.declined.append(line)
        elif line.state is State.FAILED and (line.reason or "").startswith(CARRIED_OVER):
            outcome.carried_over.append(f"{_named(line)} is not bought yet, {line.reason}")
        elif line.state is State.FAILED:
            outcome.missing.append(f"{_named(line)}, which failed: {line.reason}")
        elif line.state is State.PAID_NOT_RETIRED:
            outcome.missing.append(
                f"{_named(line)}, which is paid and not retired: {line.reason} {line.todo}".rstrip()
            )
        else:
            continue
        lacking -= line.quantity_tonnes
    if lacking > 0 and left:
        outcome.carried_over.append(f"{_named(last, lacking)} is not bought yet, {left}")
    elif lacking > 0:
        outcome.missing.append(f"{_named(last, lacking)}, which nobody planned")


def _where(line: PurchaseLine, run: Run) -> str:
    if line.handler == run:
        return f"though no task of this run carries it on: clear its tasks (purchase {line.purchase})"
    return (
        f"in run {line.handler.run_id!r} of {line.handler.dag_id!r}: clear its tasks there, or name the DAG in take_over_from if it "
        f"is gone (purchase {line.purchase})"
    )


def _named(line: PurchaseLine, tonnes: Decimal | None = None) -> str:
    return f"{line.quantity_tonnes if tonnes is None else tonnes:f} t of {line.entity}, {line.month}"


def _tonnes(lines: Iterable[PurchaseLine]) -> str:
    return f"{total(line.quantity_tonnes for line in lines):f}"
