"""What ``airflow carbonmark …`` does; each function is a command of :mod:`~airflow_provider_carbonmark.cli.definition`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_carbonmark.api.errors import CarbonmarkError
from airflow_provider_carbonmark.hooks.ledger import open_ledger
from airflow_provider_carbonmark.ledger.names import LedgerError, LedgerUnreachableError, State
from airflow_provider_carbonmark.ledger.questions import queries
from airflow_provider_carbonmark.ledger.values import Origin

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_provider_carbonmark.ledger import Ledger
    from airflow_provider_carbonmark.ledger.purchase import Purchase, PurchaseLine

# What fits a terminal, and no address at which somebody could pay.
_SHOWN = ("entity", "month", "line", "state", "quantity_tonnes", "cost_usd", "payment_id")


@contextmanager
def _ledger() -> Iterator[Ledger]:
    """Give the ledger; what it or the configuration refuses ends the command with its reason."""
    try:
        with open_ledger() as ledger:
            yield ledger
    except (LedgerError, LedgerUnreachableError, AirflowNotFoundException, CarbonmarkError) as refused:
        raise SystemExit(f"{refused}") from refused


def show(args: Namespace) -> None:
    """List the ledger's rows: purchases by entity and month, figures that were stated anew, and the last 1,000 that no plan made."""
    from airflow.cli.simple_table import AirflowConsole

    wanted = {state.value: state for state in State}
    if args.state and args.state not in wanted:
        raise SystemExit(f"--state is {args.state!r}, which is no state. Say one of {', '.join(wanted)}")
    states = [wanted[args.state]] if args.state else None
    with _ledger() as ledger:
        rows = [
            _shown(line, line.purchase)
            for line in ledger.lines(month=args.month, test_mode=args.test_mode, states=states)
        ]
        # These are for no month.
        alone = [] if args.month else _without_plan(ledger, args.test_mode)
        rows += [_shown(each, each.id) for each in alone if not states or each.state in states]
    AirflowConsole().print_as(data=rows, output=args.output)


def _without_plan(ledger: Ledger, test_mode: bool) -> list[Purchase]:
    with ledger.reading() as connection:
        return queries.without_plan(connection, None, test_mode=test_mode, most=1000) if connection else []


def _shown(row: PurchaseLine | Purchase, purchase: int | None) -> dict[str, str]:
    values = {"purchase": purchase} | {name: getattr(row, name, None) for name in _SHOWN}
    return {name: "" if value is None else _plain(value) for name, value in values.items()}


def export(args: Namespace) -> None:
    """
    Write every row of every table, a JSON object for each, with its table's name; tonnes and USD as decimal strings, times in UTC.

    It has the links at which somebody could pay, and all that the ledger knows of people. The signing key is left out: whoever has that
    can make pay addresses.
    """
    with _ledger() as ledger:
        if args.file == "-":
            count = _write(ledger, sys.stdout)
        else:
            # As it is read: the file may hold more than the memory does.
            with Path(args.file).open("w", encoding="utf-8") as stream:
                count = _write(ledger, stream)
    print(f"{count} rows are written", file=sys.stderr)


def _write(ledger: Ledger, stream: Any) -> int:
    count = 0
    for table, row in ledger.rows():
        stream.write(json.dumps({"table": table, **row}, default=_plain, ensure_ascii=False) + "\n")
        count += 1
    return count


def check(args: Namespace) -> None:
    """Name the rows that break what holds of every ledger; exit code 1 where there are any."""
    with _ledger() as ledger:
        broken = ledger.broken()
        print(f"Checked {ledger.place}")
    for each in broken:
        print(each)
    if broken:
        raise SystemExit(
            f"{len(broken)} rows break what holds of every ledger. Was the ledger changed by hand, or restored from a backup? If not, it is a "
            "mistake of this package's: please tell us"
        )
    print("All that holds of every ledger holds of this one")


def upgrade(args: Namespace) -> None:
    """Bring the tables up to date, or make them; without effect where they are."""
    with _ledger() as ledger:
        version = ledger.upgrade()
        print(f"The tables in {ledger.place} are of version {version}")


def report(args: Namespace) -> None:
    """Write the report on a period, with what the deployment states; certificates are left to the sample DAG, which asks Carbonmark for them."""
    from airflow.sdk import ObjectStoragePath

    from airflow_provider_carbonmark.hooks.facts.disclosure import disclosure_facts
    from airflow_provider_carbonmark.hooks.return_url import pay_url
    from airflow_provider_carbonmark.reporting import make_report, read_records

    folder = args.folder if "://" in args.folder else Path(args.folder).absolute().as_uri()
    with _ledger() as ledger:
        made = make_report(read_records(ledger, args.period, facts=disclosure_facts(), pay_url=pay_url))
    for path in made.write(ObjectStoragePath(folder)):
        print(path)


def sandbox(args: Namespace) -> None:
    """Serve the sandbox until interrupted; ``python -m airflow_provider_carbonmark.sandbox`` knows more options."""
    from airflow_provider_carbonmark.sandbox.__main__ import main

    raise SystemExit(main(["--port", str(args.port), "--host", args.host]))


def contract(args: Namespace) -> None:
    """Compare the service's OpenAPI document with what this package sends and reads; exit code 1 on a difference that matters."""
    from airflow_provider_carbonmark.api.contract.check import main

    raise SystemExit(main([args.document] if args.document else []))


def _plain(value: Any) -> Any:
    if isinstance(value, Origin):
        return asdict(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if isinstance(value, datetime) else str(value)
