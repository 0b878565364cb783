"""
What a month or a year emitted, what was retired for it, what is still open, what it cost, and where the proof is.

Every figure comes from the ledger's rows and adds up to them exactly. Rows in test mode are shown apart and never count.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.ledger.figures import Figures
from airflow_provider_carbonmark.ledger.purchase import PurchaseLine, State
from airflow_provider_carbonmark.ledger.values import Origin
from airflow_provider_carbonmark.reporting.figures import (
    Content,
    Problem,
    figures_of,
    paid_twice,
    problems_of,
)

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.open_ends import SecondPayment

_PERIOD = re.compile(r"[0-9]{4}(-(0[1-9]|1[0-2]))?")
# Where a formula may start in a spreadsheet, as OWASP lists it: where a cell does. One that separates cells by semicolon or tab, as its
# locale may be, sees them start within a text as well, on new lines too: for it, the quotes around the text are not at a cell's edge.
_FORMULA_START = re.compile(
    r'(?:^|(?<=[;\t]))(?="*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])|(?<=[\r\n])(?="*[=+\-@\uff1d\uff0b\uff0d\uff20])'
)

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
    "failed_at",
    "declined_at",
    "deployment",
    "dag_id",
    "run_id",
    "handler_deployment",
    "handler_dag_id",
    "handler_run_id",
)


class Folder(Protocol):
    """What :meth:`Report.write` asks of a path."""

    def open(self, mode: str) -> Any: ...

    def mkdir(self, *, parents: bool, exist_ok: bool) -> None: ...

    def __truediv__(self, name: str) -> Any: ...


class Report(Content):
    """The report on a month or a year, for people, programs and the books."""

    def to_html(self) -> str:
        """Return the page for people: one file that loads nothing from elsewhere, for any screen and for paper."""
        from airflow_provider_carbonmark.reporting.page import page  # late: only pages need jinja2

        return page(self)

    def to_json(self) -> str:
        """
        Return the report for programs; tonnes, USD and per cent are decimal strings, times ISO 8601 in UTC.

        Keys: ``period``; ``totals``, ``months`` and ``entities`` with their figures (:class:`Figures`, ``coverage_percent``,
        ``price_per_tonne_usd``); ``problems`` (:class:`Problem`); ``lines`` and ``test_lines``, the rows (:data:`COLUMNS`).
        """
        content = {
            "period": self.period,
            "totals": _figures(self.totals),
            "months": [{"month": month} | _figures(figures) for month, figures in self.months.items()],
            "entities": [{"entity": entity} | _figures(figures) for entity, figures in self.entities.items()],
            "problems": [asdict(problem) for problem in self.problems],
            "lines": list(self._rows(self.lines)),
            "test_lines": list(self._rows(self.test_lines)),
        }
        return json.dumps(content, default=_plain, ensure_ascii=False, indent=1) + "\n"

    def to_csv(self) -> str:
        """
        Return the rows for the books: RFC 4180 with a header (:data:`COLUMNS`), a line for each row of the ledger.

        The ``counted_`` columns are what a row adds to the report's totals, so they can be added up: 0 in test mode, for what is
        not retired, and for emissions that were stated anew since. What a spreadsheet would take for a formula has an
        apostrophe in front, also within a text after a semicolon, a tab or the end of a line.
        """
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\r\n")
        writer.writeheader()
        for row in self._rows((*self.lines, *self.test_lines)):
            writer.writerow({name: _cell(value) for name, value in row.items()})
        return text.getvalue()

    def _rows(self, lines: Iterable[PurchaseLine]) -> Iterator[dict[str, Any]]:
        last_ids = {(line.entity, line.month): line.id for line in self.lines}
        for line in lines:
            is_last = last_ids.get((line.entity, line.month)) == line.id
            is_retired = line.state is State.RETIRED and not line.test_mode
            derived = {
                "counted_emitted_tonnes": line.emitted_tonnes if is_last else Decimal(0),
                "counted_retired_tonnes": line.quantity_tonnes if is_retired else Decimal(0),
                "counted_cost_usd": line.cost_usd if is_retired else Decimal(0),
                **_origin(line),
                **vars(line.run),
                **{f"handler_{name}": value for name, value in vars(line.handler).items()},
            }
            yield {name: derived[name] if name in derived else getattr(line, name) for name in COLUMNS}

    def write(self, folder: Folder) -> list[Any]:
        """
        Write ``report.csv``, ``report.json`` and, last, ``index.html`` in place of those of an earlier report.

        On a local disk a reader finds the old file or the new one, whole. Object stores show a file once it is complete; other
        file systems, such as SFTP, may show a part of it while it is being written.

        :param folder: a ``pathlib.Path``, an ``ObjectStoragePath``, or anything like them; made where it is missing.
        :return: the paths of the three.
        """
        if isinstance(folder, str):
            raise InvalidInputError(
                "folder",
                "is text",
                value=folder,
                remedy="Give a path, such as pathlib.Path or ObjectStoragePath",
            )
        contents = {"report.csv": self.to_csv(), "report.json": self.to_json(), "index.html": self.to_html()}
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / name for name in contents]
        for path, content in zip(paths, contents.values(), strict=True):
            _write(path, content.encode("utf-8", "replace"))
        return paths


def make_report(
    lines: Iterable[PurchaseLine],
    period: str,
    second_payments: Iterable[SecondPayment] = (),
    pay_urls: Mapping[int, str] | None = None,
) -> Report:
    """
    Work out a report; the same rows give the same report, to the byte.

    :param lines: rows as ``Ledger.lines`` gives them; those of other months are left out.
    :param period: ``YYYY-MM`` or ``YYYY``.
    :param second_payments: as ``Ledger.second_payments`` gives them.
    :param pay_urls: where purchases that wait can be paid, by number, for the page: whoever has it can pay. Left out where none is given.
    :raises InvalidInputError: when it is neither.
    """
    if not isinstance(period, str) or not _PERIOD.fullmatch(period):
        raise InvalidInputError(
            "period", "is neither a month nor a year", value=period, remedy='Write "2026-10" or "2026"'
        )
    wanted = sorted(
        (line for line in lines if period in (line.month, line.month[:4])),
        key=lambda line: (line.month, line.entity, line.line),
    )
    real = tuple(line for line in wanted if not line.test_mode)
    grouped: dict[tuple[str, str], list[PurchaseLine]] = defaultdict(list)
    for line in real:
        grouped[line.month, line.entity].append(line)
    months: dict[str, Figures] = defaultdict(Figures)
    entities: dict[str, Figures] = defaultdict(Figures)
    problems: list[Problem] = []
    for (month, entity), group in grouped.items():
        figures = figures_of(group)
        months[month] += figures
        entities[entity] += figures
        problems += problems_of(group)
    problems += paid_twice(real, second_payments)
    return Report(
        period=period,
        totals=sum(months.values(), Figures()),
        months=dict(months),
        entities=dict(sorted(entities.items())),
        problems=tuple(sorted(problems, key=lambda problem: problem.urgency)),
        lines=real,
        test_lines=tuple(line for line in wanted if line.test_mode),
        pay_urls=dict(pay_urls or {}),
    )


def _origin(line: PurchaseLine) -> dict[str, str | None]:
    """Say where a row's emitted figure is from; None for what is not stated."""
    origin = line.origin or Origin("", "", ())
    said = {
        "source": [origin.source],
        "model_version": [origin.version],
        "scopes": [part.scopes for part in origin.parts],
        "method": [part.method for part in origin.parts],
    }
    return {name: ", ".join(dict.fromkeys(filter(None, texts))) or None for name, texts in said.items()}


def _figures(figures: Figures) -> dict[str, Any]:
    derived = ("coverage_percent", "price_per_tonne_usd")
    return asdict(figures) | {name: getattr(figures, name) for name in derived}


def _plain(value: Decimal | datetime) -> str:
    return value.isoformat() if isinstance(value, datetime) else f"{value:f}"


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (Decimal, datetime)):
        return _plain(value)
    return _FORMULA_START.sub("'", value) if isinstance(value, str) else value


def _write(path: Any, content: bytes) -> None:
    local = _on_local_disk(path)
    if local is None:
        with path.open("wb") as stream:
            stream.write(content)
        return
    # Beside its place, because only within a file system is a file moved at once.
    unfinished = local.with_name(f".{local.name}.{uuid.uuid4().hex}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(local)
    finally:
        unfinished.unlink(missing_ok=True)


def _on_local_disk(path: Any) -> Path | None:
    """Return where on this machine's disk a path is; older paths of object storage are ``os.PathLike`` wherever they lead."""
    protocol = getattr(path, "protocol", None)
    if protocol is None:
        return Path(path) if isinstance(path, os.PathLike) else None
    return Path(path.path) if protocol in ("", "file") else None
