"""The databases that the ledger's tests run with."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.conftest import LEDGER_KINDS


@pytest.fixture(params=LEDGER_KINDS)
def url(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> str:
    """The address of an empty database: the test runs with one of each kind."""
    return new_database(request.param)


@pytest.fixture(params=[kind for kind in LEDGER_KINDS if kind != "sqlite"])
def server_url(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> str:
    """The same, of those that let two write at once."""
    return new_database(request.param)
