"""The report's rows, for spreadsheets and programs: what a row says, and how it is written."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_carbonmark.ledger.names import State
from airflow_provider_carbonmark.reporting.credits import Credit

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.figures import Figures
    from airflow_provider_carbonmark.ledger.purchase import PurchaseLine
    from airflow_provider_carbonmark.ledger.values import Origin
    from airflow_provider_carbonmark.reporting.content import Content

# Where a formula may start in a spreadsheet, as OWASP lists it: where a cell does. One that separates cells by semicolon or tab, as its
# locale may be, sees them start within a text as well, on new lines too: for it, the quotes around the text are not at a cell's edge.
_FORMULA_START = re.compile(
    r'(?:^|(?<=[;\t]))(?="*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])|(?<=[\r\n])(?="*[=+\-@\uff1d\uff0b\uff0d\uff20])'
)
#: What a row in test mode says for retired.
REHEARSED: Final = "rehearsed"

#: The columns of ``credits.csv``, and the keys of a credit in ``report.json``: the fields of a :class:`Credit`.
CREDIT_COLUMNS: Final = tuple(field.name for field in fields(Credit))

#: The columns of ``report.csv``, and the keys of a row in ``report.json``. All but the ``counted_`` ones are the ledger's own.
#: The link to pay and what belongs to it is left out: reports are passed on, and whoever has the link can pay.
COLUMNS: Final = (
    "id",
    "purchase",
    "entity",
    "month",
    "line",
    "test_mode",
    "state",
    "reason",
    "emitted_tonnes",
    "source",
    "model_version",
    "scopes",
    "method",
    "quantity_tonnes",
    "rounding_tonnes",
    "cost_usd",
    "counted_emitted_tonnes",
    "counted_retired_tonnes",
    "counted_cost_usd",
    "asset_price_source_id",
    "project_id",
    "registry",
    "vintage",
    "unit_price_usd",
    "base_unit_price_usd",
    "beneficiary_name",
    "retirement_message",
    "payment_id",
    "certificate_url",
    "transaction_hash",
    "explorer_url",
    "planned_at",
    "link_made_at",
    "paid_at",
    "retired_at",
    "retired_at_told",
    "failed_at",
    "declined_at",
    "deployment",
    "dag_id",
    "run_id",
    "handler_deployment",
    "handler_dag_id",
    "handler_run_id",
)


def line_rows(content: Content, lines: Iterable[PurchaseLine]) -> Iterator[dict[str, Any]]:
    """
    Give the ledger's rows by :data:`COLUMNS`.

    The ``counted_`` columns are what a row adds to the report's totals, so they can be added up: 0 in test mode, for what is not
    retired, and for emissions that were stated anew since.
    """
    last_ids = {(line.entity, line.month): line.id for line in content.lines}
    for line in lines:
        is_last = last_ids.get((line.entity, line.month)) == line.id
        is_retired = line.state is State.RETIRED and not line.test_mode
        derived = {
            "state": state_of(line),
            "counted_emitted_tonnes": line.emitted_tonnes if is_last else Decimal(0),
            "counted_retired_tonnes": line.quantity_tonnes if is_retired else Decimal(0),
            "counted_cost_usd": line.cost_usd if is_retired else Decimal(0),
            **_origin(line.origin),
            **vars(line.run),
            **{f"handler_{name}": value for name, value in vars(line.handler).items()},
        }
        yield {name: derived[name] if name in derived else getattr(line, name) for name in COLUMNS}


def state_of(line: PurchaseLine) -> str:
    """Name what became of a row. Nothing is retired in test mode, so no row there says so."""
    return REHEARSED if line.test_mode and line.state is State.RETIRED else line.state.value


def credit_rows(content: Content) -> Iterator[dict[str, Any]]:
    """Give the credits by :data:`CREDIT_COLUMNS`."""
    for each in content.credits:
        yield {name: getattr(each, name) for name in CREDIT_COLUMNS}


def emitted_rows(content: Content) -> Iterator[dict[str, Any]]:
    """Give what each entity emitted in each month, with what the figure is made of."""
    for each in content.emitted:
        told = _origin(each.origin)
        yield {
            "entity": each.entity,
            "month": each.month,
            "emitted_tonnes": each.emitted_tonnes,
            "source": told["source"],
            "model_version": told["model_version"],
            "parts": [
                {name: value or None if name != "tonnes" else value for name, value in asdict(part).items()}
                for part in (each.origin.parts if each.origin else ())
            ],
        }


def file_rows(content: Content) -> Iterator[dict[str, Any]]:
    for file in content.files:
        names = ("month", "path", "row_count", "sha256", "read_at")
        yield {name: getattr(file, name) for name in names} | vars(file.run)


def restatement_rows(content: Content) -> Iterator[dict[str, Any]]:
    for old, new in content.restatements:
        yield {
            "entity": new.entity,
            "month": new.month,
            "old_tonnes": old.emitted_tonnes,
            "new_tonnes": new.emitted_tonnes,
            "old_model_version": _origin(old.origin)["model_version"],
            "new_model_version": _origin(new.origin)["model_version"],
            "stated_at": new.planned_at,
            **vars(new.run),
        }


def figures_row(figures: Figures) -> dict[str, Any]:
    """Give figures with what is worked out of them."""
    derived = ("coverage_percent", "price_per_tonne_usd")
    return asdict(figures) | {name: getattr(figures, name) for name in derived}


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """
    Write rows as RFC 4180 has it, with a header, by the row.

    What a spreadsheet would take for a formula has an apostrophe in front, also within a text after a semicolon, a tab or the end of
    a line.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in columns])
        yield text.getvalue()
        text.seek(0)
        text.truncate()
    yield text.getvalue()


def json_text(content: Mapping[str, Any]) -> Iterator[str]:
    """Write an object as JSON: a line for each key, and for each item of an iterator; tonnes, USD and per cent as decimal strings."""
    for number, (key, value) in enumerate(content.items()):
        yield f"{',' if number else '{'}\n{json.dumps(key)}: "
        if isinstance(value, Iterator):
            is_first = True
            for item in value:
                yield f"{'[' if is_first else ','}\n {_json(item)}"
                is_first = False
            yield "[]" if is_first else "\n]"
        else:
            yield _json(value)
    yield "\n}\n"


def _json(value: Any) -> str:
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _origin(origin: Origin | None) -> dict[str, str | None]:
    """Say where a row's emitted figure is from; None for what is not stated."""
    parts = origin.parts if origin else ()
    said = {
        "source": [origin.source if origin else ""],
        "model_version": [origin.version if origin else ""],
        "scopes": [part.scopes for part in parts],
        "method": [part.method for part in parts],
    }
    return {name: ", ".join(dict.fromkeys(filter(None, texts))) or None for name, texts in said.items()}


def _plain(value: Decimal | datetime) -> str:
    return value.isoformat() if isinstance(value, datetime) else f"{value:f}"


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (Decimal, datetime)):
        return _plain(value)
    return _FORMULA_START.sub("'", value) if isinstance(value, str) else value
