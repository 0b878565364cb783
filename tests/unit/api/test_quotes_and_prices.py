from __future__ import annotations

import json
import logging
from decimal import Decimal

import pytest

from airflow_provider_carbonmark.api.errors import UnreadableAnswerError
from tests.unit.api.conftest import Started, answer_with, make_calls


def quote(**changes):
    exchange = Started(
        make_calls().create_quote(asset_price_source_id="listing-137-0x79a4", quantity_tonnes="12.345")
    )
    answer = {
        "uuid": "u",
        "asset_price_source_id": "listing-137-0x79a4",
        "quantity_tonnes": 12.345,
        "cost_usdc": 46.6641,
    } | changes
    body = json.dumps({name: value for name, value in answer.items() if value != "absent"}).encode()
    with pytest.raises((StopIteration, UnreadableAnswerError)) as caught:
        answer_with(exchange, 200, body)
    return caught.value.value if isinstance(caught.value, StopIteration) else caught.value


@pytest.mark.parametrize("value", ["absent", None])
def test_a_quote_may_leave_out_what_was_asked(value):
    got = quote(asset_price_source_id=value, quantity_tonnes=value)
    assert (got.asset_price_source_id, got.quantity_tonnes) == ("listing-137-0x79a4", Decimal("12.345"))


@pytest.mark.parametrize(
    "changes", [{"quantity_tonnes": 12.346}, {"asset_price_source_id": "listing-137-0xother"}]
)
def test_a_quote_for_something_else_is_refused(changes):
    assert "not asked for" in str(quote(**changes))


@pytest.mark.parametrize(
    "changes", [{"cost_usdc": "absent"}, {"cost_usdc": -1}, {"cost_usdc": "?"}, {"uuid": "absent"}]
)
def test_a_quote_without_cost_or_id_is_unreadable(changes):
    assert "is not a quote" in str(quote(**changes))


def prices(payload):
    exchange = Started(make_calls().list_prices(None, None))
    with pytest.raises(StopIteration) as caught:
        answer_with(exchange, 200, json.dumps(payload).encode())
    return [listing.source_id for listing in caught.value.value]


def price(source_id="listing-1", **changes):
    details = {"creditId": {"projectId": "VCS-1", "vintage": 2019}, "token": {"isExAnte": False}}
    amounts = dict.fromkeys(("purchasePrice", "supply", "liquidSupply", "minFillAmount"), 1.5)
    return {"sourceId": source_id, "type": "listing", "listing": details, **amounts, **changes}


def test_entries_that_cannot_be_read_are_left_out_with_one_warning(caplog):
    entries = [price("a"), price("b", liquidSupply=None), 5, price("c", purchasePrice="?"), price("d")]
    assert prices(entries) == ["a", "d"]
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "3 of 5 entries" in record.getMessage()
    assert "liquidSupply" in record.getMessage()


def test_pools_that_are_laid_out_otherwise_are_left_out_silently(caplog):
    assert prices([price("a"), {"sourceId": "klima-1", "type": "klimaprotocol", "purchasePrice": 1}]) == ["a"]
    assert not caplog.records
