"""What the market tells of retirements: what was told first stays, what was not told is filled in."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from airflow_provider_carbonmark.ledger.retirements import RetirementFacts
from tests.integration.ledger.parts import LATER, NOW, Rival, become, buying, line, on_commit, plan

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from airflow_provider_carbonmark.ledger import Ledger
    from airflow_provider_carbonmark.ledger.purchase import Purchase


def retire(ledger: Ledger, entity: str = "web", *, test_mode: bool = False) -> Purchase:
    planned = plan(ledger, buying(line(entity)), test_mode=test_mode)
    return become(ledger, planned[-1], "retired")


def told(of: Purchase) -> RetirementFacts:
    return RetirementFacts(
        purchase=of.id,
        retirement_id=f"137-{of.transaction_hash}-0",
        retired_at=LATER,
        retiring_name="Carbonmark, ß",
        serial_numbers=("1-2-VCS", "7-9-VCS"),
        bridge="TOUCAN",
        read_at=LATER,
        certificate_sha256="a" * 64,
    )


def test_what_is_told_first_stays_and_the_rest_is_filled_in(ledger: Ledger) -> None:
    full = told(retire(ledger))
    first = RetirementFacts(purchase=full.purchase, retirement_id=full.retirement_id.upper(), read_at=NOW)
    assert ledger.retirements([full.purchase]) == []
    assert ledger.keep_retirements([first]) == [first]
    assert ledger.keep_retirements([replace(first, read_at=LATER)]) == [first]
    known = replace(full, retirement_id=first.retirement_id)
    assert ledger.keep_retirements([full]) == [known]
    other = {"retired_at": NOW, "serial_numbers": ("3-4-VCS",), "certificate_sha256": "b" * 64}
    assert ledger.keep_retirements([replace(full, **other, read_at=NOW)]) == [known]
    assert ledger.retirements([full.purchase, 7]) == [known]


def test_nothing_of_another_retirement_is_filled_in(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    full = told(retire(ledger))
    first = RetirementFacts(purchase=full.purchase, retirement_id=full.retirement_id, read_at=NOW)
    ledger.keep_retirements([first])
    assert ledger.keep_retirements([replace(full, retirement_id=f"{full.retirement_id}1")]) == [first]
    assert "what is told of that is left out" in caplog.text


def test_missing_are_retired_purchases_but_no_rehearsals_and_for_a_while_those_without_serial_numbers(
    ledger: Ledger,
) -> None:
    unknown, without, whole = (retire(ledger, entity) for entity in ("a", "b", "c"))
    retire(ledger, "d", test_mode=True)
    plan(ledger, buying(line("e")))
    full = told(whole)
    ledger.keep_retirements([full, replace(told(without), serial_numbers=())])
    retired_at = without.retired_at
    assert retired_at is not None
    assert ledger.missing_retirements(since=retired_at) == sorted([unknown.id, without.id])
    assert ledger.missing_retirements(since=retired_at + timedelta(seconds=1)) == [unknown.id]


@pytest.mark.parametrize("is_known", [False, True])
def test_of_two_that_keep_at_once_the_first_stays(
    ledger: Ledger, engine: Engine, rival: Rival, is_known: bool
) -> None:
    ours = told(retire(ledger))
    theirs = replace(ours, serial_numbers=("3-4-VCS",), certificate_sha256=None)
    if is_known:
        ledger.keep_retirements([replace(theirs, serial_numbers=(), bridge=None)])
    # In MariaDB, whoever asks for a row waits for it, although it is not committed.
    sees_nothing = engine.dialect.name == "postgresql" and not is_known
    until = "INSERT INTO carbonmark_retirements" if sees_nothing else "FOR UPDATE"
    on_commit(engine, lambda: rival.start(lambda ledger: ledger.keep_retirements([theirs]), until=until))
    ledger.keep_retirements([ours])
    assert rival.result() == ledger.retirements([ours.purchase]) == [ours]
