"""Hundreds of things that runs do and say at random, against a model that keeps the books in a dict."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

import pytest

from airflow_provider_carbonmark.ledger import Ledger, LedgerError
from airflow_provider_carbonmark.ledger.names import COVERING, Run, State
from airflow_provider_carbonmark.ledger.values import Coverage, Plan, Restated
from tests.integration.ledger.parts import NOW, Buyer, line as bought_for, link, payment_id, plan, retirement

STEPS = 300
ENTITIES = ("api", "db", "web")
MONTHS = ("2026-09", "2026-10")
LINKED = (State.LINK_MADE, State.PAID)
FAILED = (State.FAILED, State.PAID_NOT_RETIRED)

Key = tuple[str, str]


class SplittingBuyer(Buyer):
    """Buys what is missing in two parts, and states anew what needs no purchase."""

    def __call__(self, coverage: Coverage) -> Plan:
        shares = [share for each in super().__call__(coverage).purchases for share in each.shares]
        parts = []
        for each in shares:
            first = (each.quantity_tonnes / 2).quantize(Decimal("0.001"))
            for tonnes in (first, each.quantity_tonnes - first):
                if tonnes:
                    parts.append(
                        bought_for(each.entity, tonnes, each.month, emitted_tonnes=each.emitted_tonnes)
                    )
        bought = {(each.entity, each.month) for each in shares}
        known = {key: covered.emitted_tonnes for key, covered in coverage.covered.items()}
        restated = [
            Restated(*key, figure)
            for key, figure in self.emitted.items()
            if key not in bought and known.get(key) != figure
        ]
        return Plan(tuple(parts), tuple(restated))


@dataclass
class Line:
    """A purchase line as far as the model knows it."""

    key: Key
    tonnes: Decimal
    handler: Run
    state: State = State.PLANNED
    has_link: bool = False
    is_paid: bool = False

    def hear(self, said: str, by: Run) -> bool:
        """Change as what is said asks for, and tell whether it may be said."""
        state = self.state
        if said in ("link", "decline", "give up") and by != self.handler:
            return False
        if said == "link":
            made = self._become(State.LINK_MADE, state is State.PLANNED)
            self.has_link = self.has_link or made
            return made
        if said == "decline":
            return state is State.DECLINED or self._become(State.DECLINED, state is State.LINK_MADE)
        if said == "give up":
            return state in FAILED or self._become(State.FAILED, state is State.PLANNED)
        if said == "fail":
            return state in FAILED or self._become(State.PAID_NOT_RETIRED, state is State.PAID)
        if said == "pay":
            allowed = self.is_paid or self._become(State.PAID, self.has_link)
        else:
            allowed = self._become(State.RETIRED, self.has_link)
        self.is_paid = self.is_paid or allowed
        return allowed

    def _become(self, state: State, allowed: bool) -> bool:
        if allowed:
            self.state = state
        return allowed


SAY: dict[str, Callable[[Ledger, int, Run], object]] = {
    "link": lambda ledger, id, run: link(ledger, ledger.purchase(id), run),
    "decline": lambda ledger, id, run: ledger.declined(id, run, "no", now=NOW),
    "give up": lambda ledger, id, run: ledger.failed(id, "no", now=NOW, run=run),
    "fail": lambda ledger, id, run: ledger.failed(id, "refunded", now=NOW),
    "pay": lambda ledger, id, run: ledger.paid(id, payment_id(ledger.purchase(id)), now=NOW),
    "retire": lambda ledger, id, run: ledger.retired(id, retirement(ledger.purchase(id)), now=NOW),
}


@dataclass
class Books:
    """The model: what was stated last, the lines by id, and the runs under way."""

    stated: dict[Key, Decimal] = field(default_factory=dict)
    lines: dict[int, Line] = field(default_factory=dict)
    under_way: list[Run] = field(default_factory=list)

    def is_over(self, run: Run, since: datetime) -> bool:
        return run not in self.under_way

    def covered(self, key: Key) -> Decimal:
        return added_up((each.key, each.tonnes) for each in self.lines.values() if each.state in COVERING)[
            key
        ]

    def missing(self, stated: dict[Key, Decimal], month: str) -> dict[Key, Decimal]:
        """Close what dead runs abandoned, and return what is then to buy."""
        abandoned = [
            each
            for each in self.lines.values()
            if self.is_over(each.handler, NOW) and each.state is State.PLANNED
        ]
        for each in abandoned:
            each.state = State.FAILED
        self.stated |= stated
        missing = {key: tonnes - self.covered(key) for key, tonnes in stated.items()}
        for key, tonnes in added_up((each.key, each.tonnes) for each in abandoned).items():
            if key not in stated:
                missing[key] = min(tonnes, self.stated[key] - self.covered(key))
        # Whatever else is missing of an earlier month, whether it failed or was declined.
        for key in {each.key for each in self.lines.values()} - stated.keys():
            if key[1] < month:
                missing[key] = self.stated[key] - self.covered(key)
        return {key: tonnes for key, tonnes in missing.items() if tonnes > 0}


def added_up(amounts: object) -> Counter[Key]:
    sums: Counter[Key] = Counter()
    for key, tonnes in amounts:
        sums[key] += tonnes
    return sums


def plan_at_random(ledger: Ledger, books: Books, chance: random.Random) -> None:
    if books.under_way and chance.random() < 0.4:
        books.under_way.remove(chance.choice(books.under_way))
    if not books.under_way or chance.random() < 0.5:
        books.under_way.append(Run("offset", f"run-{chance.random()}"))
    run, month = chance.choice(books.under_way), chance.choice(MONTHS)
    stated = {
        entity: Decimal(chance.randrange(1, 30_000)) / 1000 for entity in ENTITIES if chance.random() < 0.7
    }
    missing = books.missing({(entity, month): tonnes for entity, tonnes in stated.items()}, month)

    made = plan(ledger, SplittingBuyer(stated, month), run, months=[month], is_over=books.is_over)

    new = [each for each in made if each.id not in books.lines]
    keys = {each.id: (share.entity, share.month) for each in new for share in each.allocations}
    assert added_up((keys[each.id], each.quantity_tonnes) for each in new) == missing
    for each in new:
        books.lines[each.id] = Line(keys[each.id], each.quantity_tonnes, run)
    for line in books.lines.values():
        if books.is_over(line.handler, NOW) and line.state in LINKED:
            line.handler = run
    held = {id for id, line in books.lines.items() if line.handler == run}
    assert held <= {each.id for each in made}


def say_at_random(ledger: Ledger, books: Books, chance: random.Random) -> None:
    id = chance.choice([*books.lines][-12:])
    said = chance.choices(list(SAY), weights=(6, 1, 1, 1, 3, 2))[0]
    line = books.lines[id]
    by = line.handler if chance.random() < 0.8 else Run("offset", "another")
    if line.hear(said, by):
        SAY[said](ledger, id, by)
    else:
        with pytest.raises(LedgerError):
            SAY[said](ledger, id, by)
    assert ledger.purchase(id).state is line.state


def compare(ledger: Ledger, books: Books) -> None:
    kept = ledger.lines()
    bought = {each.purchase: each for each in kept if each.purchase is not None}
    assert {id: (each.state, each.handler, each.quantity_tonnes) for id, each in bought.items()} == {
        id: (line.state, line.handler, line.tonnes) for id, line in books.lines.items()
    }
    for key in {(each.entity, each.month) for each in kept}:
        lines = [each for each in kept if (each.entity, each.month) == key]
        assert [each.line for each in lines] == list(range(1, len(lines) + 1))
        assert lines[-1].emitted_tonnes == books.stated[key]


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_runs_do_no_line_is_lost_or_doubled(ledger: Ledger, seed: int) -> None:
    chance, books = random.Random(seed), Books()
    seen: set[State] = set()
    for _ in range(STEPS):
        if not books.lines or chance.random() < 0.12:
            plan_at_random(ledger, books, chance)
            compare(ledger, books)
        else:
            say_at_random(ledger, books, chance)
        seen |= {line.state for line in books.lines.values()}
    compare(ledger, books)
    assert ledger.broken() == []
    # Else it would have shown less than it says.
    kept = ledger.lines()
    assert seen | {each.state for each in kept} == set(State)
    assert any(each.handler != each.run for each in kept)
    assert any("Its run ended" in (each.reason or "") for each in kept)
