"""
What a month or a year emitted, what was retired (cancelled) in it and for it, what is still open, what it cost, and where the proof is.

Every figure comes from the ledger's rows and adds up to them exactly. Rows in test mode are shown apart and never count. Credits stand
beside emissions and are never taken off them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.reporting.content import PACKAGE, Content
from airflow_provider_carbonmark.reporting.files import encoded, write
from airflow_provider_carbonmark.reporting.tables import (
    COLUMNS,
    CREDIT_COLUMNS,
    credit_rows,
    csv_text,
    emitted_rows,
    figures_row,
    file_rows,
    json_text,
    line_rows,
    restatement_rows,
)

if TYPE_CHECKING:
    from airflow_provider_carbonmark.reporting.files import Folder
    from airflow_provider_carbonmark.reporting.records import Records

#: Of ``report.json``: raised whenever a key goes, or means something else. ``report.schema.json`` describes it.
SCHEMA_VERSION: Final = 1


class Report(Content):
    """The report on a month or a year, for people, programs and the books."""

    def to_html(self) -> str:
        """Return the operator's page: one file that loads nothing from elsewhere, for any screen and for paper."""
        from airflow_provider_carbonmark.reporting.page import page  # late: only pages need jinja2

        return page(self)

    def to_public_html(self) -> str:
        """Return the page that may be published: without what is for the operator, as what needs a person and what is being bought."""
        from airflow_provider_carbonmark.reporting.page import page  # late: only pages need jinja2

        return page(self, is_public=True)

    def to_json(self) -> str:
        """Return the report for programs, as ``report.schema.json`` describes it; times are ISO 8601 in UTC."""
        return "".join(self._json())

    def to_csv(self) -> str:
        """Return the rows for the books (:data:`~airflow_provider_carbonmark.reporting.tables.COLUMNS`), a line for each row of the ledger."""
        return "".join(self._csv())

    def to_credits_csv(self) -> str:
        """Return what was cancelled, a line for each purchase, by the fields of a :class:`Credit`."""
        return "".join(self._credits_csv())

    def write(self, folder: Folder) -> list[Any]:
        """
        Write ``credits.csv``, ``report.csv``, ``report.json``, ``public.html``, ``index.json`` and, last, ``index.html``.

        Each takes the place of that of an earlier report at once. ``index.json`` has the SHA-256 of each file, those of certificates too.

        :param folder: a ``pathlib.Path``, an ``ObjectStoragePath``, or anything like them; made where it is missing.
        :return: their paths, in this order.
        """
        if isinstance(folder, str):
            raise InvalidInputError(
                "folder",
                "is text",
                value=folder,
                remedy="Give a path, such as pathlib.Path or ObjectStoragePath",
            )
        folder.mkdir(parents=True, exist_ok=True)
        page, public = self.to_html(), self.to_public_html()
        written = {
            "credits.csv": write(folder / "credits.csv", self._credits_csv()),
            "report.csv": write(folder / "report.csv", self._csv()),
            "report.json": write(folder / "report.json", self._json()),
            "public.html": write(folder / "public.html", [public]),
            "index.html": hashlib.sha256(encoded(page)).hexdigest(),
        }
        write(folder / "index.json", json_text(self._index(written)))
        write(folder / "index.html", [page])
        return [folder / name for name in (*list(written)[:-1], "index.json", "index.html")]

    def _csv(self) -> Iterator[str]:
        return csv_text(COLUMNS, line_rows(self, [*self.lines, *self.test_lines]))

    def _credits_csv(self) -> Iterator[str]:
        return csv_text(CREDIT_COLUMNS, credit_rows(self))

    def _json(self) -> Iterator[str]:
        before = self.records.before
        return json_text(
            self._head()
            | {
                "unit": "tCO2e",
                "currency": "USD",
                "company": self.records.facts.company.model_dump(),
                "cancelled": asdict(self.cancelled),
                "cancelled_before": asdict(before.cancelled),
                "totals": figures_row(self.totals),
                "totals_before": figures_row(before.totals) if before.totals else None,
                "esrs_e1_7": asdict(self.esrs_e1_7),
                "ab_1305": asdict(self.ab_1305),
                "retired_where": self.retired_where,
                "months": ({"month": month} | figures_row(each) for month, each in self.months.items()),
                "entities": ({"entity": name} | figures_row(each) for name, each in self.entities.items()),
                "credits": credit_rows(self),
                "emissions": emitted_rows(self),
                "files": file_rows(self),
                "restatements": restatement_rows(self),
                "problems": (asdict(problem) for problem in self.problems),
                "lines": line_rows(self, self.lines),
                "test_lines": line_rows(self, self.test_lines),
            }
        )

    def _index(self, written: dict[str, str]) -> dict[str, Any]:
        certificates = {
            each.certificate_file: each.certificate_sha256
            for each in self.credits
            if each.certificate_file and each.certificate_sha256
        }
        files = sorted((written | certificates).items())
        return self._head() | {"files": ({"name": name, "sha256": sha256} for name, sha256 in files)}

    def _head(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "period": self.period.text,
            "period_before": self.period.before.text,
            "as_of": self.as_of,
            "ledger_schema_version": self.records.ledger_version,
            "package": {"name": PACKAGE, "version": self.package_version},
        }


def make_report(records: Records) -> Report:
    """
    Make the report; the same records give the same report, to the byte.

    :param records: what :func:`~airflow_provider_carbonmark.reporting.read_records` reads of a ledger.
    """
    return Report(records)
