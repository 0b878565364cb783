"""
What the market tells of retirements once they are proven: serial numbers and the like, read after the proof and kept.

The functions are what the ledger's methods on retirements do within a transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, false, insert, or_, select, update

from airflow_provider_carbonmark.ledger.names import State
from airflow_provider_carbonmark.ledger.tables.database import outrun_if_taken
from airflow_provider_carbonmark.ledger.tables.rows import in_batches
from airflow_provider_carbonmark.ledger.tables.schema import purchases, retirements

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = logging.getLogger(__name__)

_c = retirements.c
#: What may be told later than the rest.
_TOLD: Final = ("retired_at", "retiring_name", "serial_numbers", "bridge", "certificate_sha256")


@dataclass(frozen=True, kw_only=True)
class RetirementFacts:
    """
    What the market tells of a purchase's retirement; what it didn't tell is None or empty.

    :param retirement_id: the market's name of it, ``{chainId}-{transaction hash}-{index}``.
    :param retiring_name: who retired it.
    :param serial_numbers: those that the issuing registry gave to the batch which the credits are a part of, often a larger one.
    :param bridge: which bridge brought the credits on chain.
    :param read_at: when it was told, or something of it that was not told before.
    :param certificate_sha256: of the certificate's bytes as they came, in hexadecimal digits; None while nobody has stored it.
    """

    purchase: int
    retirement_id: str
    retired_at: datetime | None = None
    retiring_name: str | None = None
    serial_numbers: tuple[str, ...] = ()
    bridge: str | None = None
    read_at: datetime
    certificate_sha256: str | None = None


def missing(connection: Connection, since: datetime) -> list[int]:
    all_rows = purchases.outerjoin(retirements, purchases.c.id == _c.purchase_id)
    query = (
        select(purchases.c.id)
        .select_from(all_rows)
        .where(
            purchases.c.state == State.RETIRED,
            # In test mode every order shows the same retirement, which is nobody's (seen).
            purchases.c.test_mode == false(),
            or_(
                _c.purchase_id.is_(None),
                and_(purchases.c.retired_at >= since, _c.serial_numbers == _as_kept(())),
            ),
        )
    )
    return sorted(connection.scalars(query))


def keep(connection: Connection, told: Iterable[RetirementFacts]) -> list[RetirementFacts]:
    by_purchase = {each.purchase: each for each in told}
    known = {each.purchase: each for each in _read(connection, by_purchase, is_locked=True)}
    new = [_row(each) for purchase, each in sorted(by_purchase.items()) if purchase not in known]
    if new:
        with outrun_if_taken("Another process kept what is told of the same retirements first"):
            connection.execute(insert(retirements), new)
    for purchase, before in known.items():
        if changes := _news(before, by_purchase[purchase]):
            connection.execute(update(retirements).where(_c.purchase_id == purchase).values(changes))
    return read(connection, by_purchase)


def read(connection: Connection, ids: Collection[int]) -> list[RetirementFacts]:
    return _read(connection, ids, is_locked=False)


def _read(connection: Connection, ids: Collection[int], *, is_locked: bool) -> list[RetirementFacts]:
    found: list[RetirementFacts] = []
    for some in in_batches(sorted(ids)):
        # In the same order by all, so that no two processes wait for each other.
        query = select(retirements).where(_c.purchase_id.in_(some)).order_by(_c.purchase_id)
        query = query.with_for_update() if is_locked else query
        found += [_facts(row) for row in connection.execute(query).mappings()]
    return found


def _news(known: RetirementFacts, told: RetirementFacts) -> dict[str, Any]:
    """Return the columns that are told and were not known."""
    if known.retirement_id.lower() != told.retirement_id.lower():
        log.warning(
            "The retirement of purchase %d is known as %s, and now %s is told: what is told of that is left out",
            *(known.purchase, known.retirement_id, told.retirement_id),
        )
        return {}
    row = _row(told)
    news = {name: row[name] for name in _TOLD if getattr(told, name) and not getattr(known, name)}
    return news | {"read_at": max(known.read_at, told.read_at)} if news else news


def _as_kept(serial_numbers: tuple[str, ...]) -> dict[str, Any]:
    return {"serial_numbers": list(serial_numbers)}


def _row(facts: RetirementFacts) -> dict[str, Any]:
    columns = {name: value for name, value in vars(facts).items() if name != "purchase"}
    return columns | {"purchase_id": facts.purchase, "serial_numbers": _as_kept(facts.serial_numbers)}


def _facts(row: Any) -> RetirementFacts:
    columns = {name: value for name, value in row.items() if name != "purchase_id"}
    serials = tuple(row["serial_numbers"]["serial_numbers"])
    return RetirementFacts(**columns | {"purchase": row["purchase_id"], "serial_numbers": serials})
