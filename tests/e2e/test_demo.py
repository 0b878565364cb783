"""The README's first command: everything is bought and reported once, and nothing a second time."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.e2e.conftest import ROOT

pytestmark = pytest.mark.e2e


def demo(folder: Path) -> str:
    """Run the demo over a folder to its good end, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.demo", "--folder", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return what the demo's ledger holds."""
    with closing(sqlite3.connect(folder / "ledger.db")) as ledger:
        ledger.row_factory = sqlite3.Row
        return [
            dict(row) for row in ledger.execute("SELECT * FROM carbonmark_purchases ORDER BY planned_at, id")
        ]


def reports(said: str) -> list[Path]:
    """Return where the demo says that the reports are."""
    return [
        Path(unquote(urlsplit(page).path)) for page in re.findall(r"^Report: +(\S+)$", said, re.MULTILINE)
    ]


def test_the_demo_retires_and_reports_everything_and_a_second_one_buys_nothing(tmp_path: Path) -> None:
    said = demo(tmp_path)
    assert "2 of 2 purchases are retired" in said
    assert "has expired unpaid: asking its pay address for another" in said
    assert (
        "0.003 t of api are carried over: 0.00378 USD is below the least that can be paid, 0.50 USD" in said
    )
    assert [(row["state"], Decimal(row["quantity_tonnes"]).scaleb(-9)) for row in rows(tmp_path)] == [
        ("retired", Decimal("8.25")),
        ("retired", Decimal("13.378")),
    ]
    assert reports(said) == [tmp_path / "reports" / "2026" / "index.html"]
    assert all("Rehearsals" in page.read_text(encoding="utf-8") for page in reports(said))

    bought = rows(tmp_path)
    said = demo(tmp_path)
    assert "Nothing was bought" in said
    assert rows(tmp_path) == bought
    assert all(page.exists() for page in reports(said))
