"""
What the ledger calls things: what can become of a purchase, who does what to it, and what is refused.

Every DAG file loads this and nothing else of the ledger, so it costs next to nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.words import Words

#: The longest name of a deployment: four of these names make a key that MySQL still takes.
LONGEST_DEPLOYMENT: Final = 100


class LedgerError(Exception):
    """The ledger refuses; the message names the purchase, its state and the remedy."""


class LedgerUnreachableError(Exception):
    """The ledger's database can't be opened; the message says which and why. Another try may help."""


class HandledElsewhereError(LedgerError):
    """A decision about a purchase by a run that doesn't handle it, or not any more."""


class HasLinkError(LedgerError):
    """A purchase is to get a link, and has got one meanwhile: deliver that."""


class NoNextLinkError(LedgerError):
    """
    A purchase gets no other link now.

    :param words: why, for people who know nothing of the ledger.
    """

    def __init__(self, words: Words) -> None:
        super().__init__(words)
        self.words = words


class LimitsPassedError(LedgerError):
    """With what a purchase costs now, its run would pass a limit; says which. Nothing was written."""


class State(StrEnum):
    """
    What became of a purchase.

    The last two are no states of the database's. ``paid_not_retired`` is shown for what failed although it is paid, whatever Carbonmark
    called it: it sold out in between, for example. ``restated`` is shown for a figure that was stated anew and buys nothing.
    """

    PLANNED = "planned"
    LINK_MADE = "link_made"
    PAID = "paid"
    RETIRED = "retired"
    FAILED = "failed"
    DECLINED = "declined"
    PAID_NOT_RETIRED = "paid_not_retired"
    RESTATED = "restated"


#: The states that are shown, and not kept.
SHOWN_ONLY: Final = frozenset({State.PAID_NOT_RETIRED, State.RESTATED})
#: The states in which tonnes count as covered: nobody buys them again.
COVERING: Final = frozenset({State.PLANNED, State.LINK_MADE, State.PAID, State.RETIRED})
#: The states in which a purchase still has to come to an end.
OPEN: Final = frozenset({State.PLANNED, State.LINK_MADE, State.PAID})


@dataclass(frozen=True)
class Run:
    """A run of a DAG, with the deployment that it is of: several Airflows may share a ledger."""

    dag_id: str
    run_id: str
    deployment: str = ""


@dataclass(frozen=True)
class Task:
    """A task instance of a run; its tries are the same task."""

    run: Run
    task_id: str
    map_index: int

    @property
    def key(self) -> str:
        """A short name of it that no other task has."""
        names = json.dumps([*astuple(self.run), self.task_id, self.map_index])
        return hashlib.sha256(names.encode()).hexdigest()


class Source(StrEnum):
    """How a payment id came to the ledger."""

    RETURNED = "returned"  # in the address that a buyer's browser came back to
    ENTERED = "entered"  # by a person, in a form
    WATCHED = "watched"  # by a task that follows the payment
