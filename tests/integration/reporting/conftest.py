"""The report is made of ledgers in every database that the ledger is tested with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.conftest import LEDGER_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(params=LEDGER_KINDS)
def url(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> str:
    """The address of an empty database: the test runs with one of each kind."""
    return new_database(request.param)
