"""The API key is in the connection and nowhere else: the whole database and every log is searched for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from cryptography.fernet import Fernet, InvalidToken

from tests.e2e.airflow_stack import COMPONENTS
from tests.e2e.buyer import STUCK_CARD
from tests.e2e.conftest import API_KEY, Bought
from tests.e2e.stand import CHECKOUT_LINK, CONFIRM_RETIREMENT, Stand

pytestmark = pytest.mark.e2e


def stored(stand: Stand) -> Iterator[tuple[str, str]]:
    """Yield every value in Airflow's database and in the ledger with its place, decrypted where Airflow encrypted it."""
    for name in ("airflow.db", "carbonmark-ledger.db"):
        yield from stored_in(stand, name)


def stored_in(stand: Stand, name: str) -> Iterator[tuple[str, str]]:
    fernet = Fernet(stand.airflow.env["AIRFLOW__CORE__FERNET_KEY"])
    database = f"file:{stand.airflow.home / name}?mode=ro"
    with closing(sqlite3.connect(database, uri=True, timeout=30)) as connection:
        connection.text_factory = lambda data: data.decode(errors="replace")
        tables = [
            name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")
        ]
        for table in tables:
            cursor = connection.execute(f'select * from "{table}"')
            columns = [column[0] for column in cursor.description]
            for row in cursor:
                for column, value in zip(columns, row, strict=True):
                    yield f"{table}.{column}", plain(value, fernet)


def plain(value: Any, fernet: Fernet) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    try:
        return fernet.decrypt(text.encode()).decode(errors="replace")
    except (InvalidToken, ValueError):
        return text


def logged(stand: Stand) -> Iterator[tuple[str, str]]:
    """Yield every log line of the tasks and of Airflow's processes, with its file."""
    for folder in ("logs", "processes"):
        for path in sorted((stand.airflow.home / folder).rglob("*")):
            if path.is_file():
                name = str(path.relative_to(stand.airflow.home))
                for line in path.read_text(errors="replace").splitlines():
                    yield name, line


def places(values: Iterator[tuple[str, str]], wanted: str) -> set[str]:
    return {place for place, text in values if wanted in text}


def test_the_key_is_nowhere_after_a_full_run(
    stand: Stand,
    october: str,
    october_retired: dict[str, Any],
    link_conf: Callable[..., dict[str, Any]],
    buy: Callable[[str], Bought],
) -> None:
    # A marker goes the same ways as everything a task is given, to prove that the search looks there.
    marker = "Searched for e2e-marker"
    run_id = stand.run(CHECKOUT_LINK, link_conf(beneficiary_name=marker))
    waiting = buy(STUCK_CARD)
    checkout = waiting.checkout | {"beneficiary_name": marker}
    confirmation = stand.start_confirmation(waiting.payment_id, checkout)
    stand.airflow.api.wait_for_task(CONFIRM_RETIREMENT, confirmation, "retirement", state="deferred")

    marked = places(stored(stand), marker)
    assert {
        "dag_run.conf",
        "rendered_task_instance_fields.rendered_fields",
        "trigger.kwargs",
        "xcom.value",
    } <= marked
    assert "carbonmark_purchases.beneficiary_name" in places(stored(stand), "Full run (search-prod)")
    assert any(f"run_id={run_id}" in name for name in places(logged(stand), marker))
    assert {f"processes/{name}.log" for name in COMPONENTS} <= {name for name, _ in logged(stand)}

    assert places(stored(stand), API_KEY) == set()
    assert places(logged(stand), API_KEY) == set()
