"""Every endpoint, as it should go, with both clients."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from airflow_provider_carbonmark.api import calls, errors
from airflow_provider_carbonmark.api.client import AsyncCarbonmarkClient, CarbonmarkClient
from airflow_provider_carbonmark.sandbox.world.projects import PROJECTS

LISTING = ("purchase_price", "liquid_supply", "min_fill_amount", "is_ex_ante", "project_id", "vintage")


@pytest.mark.parametrize("layout", ["array", "items"])
def test_the_market_is_read(call, sandbox, layout):
    sandbox.state.change_switches(prices_layout=layout)
    listings = {listing.source_id: listing for listing in call("list_prices")}
    theirs = {each.source_id: each for each in sandbox.state.listings.values() if each.type == "listing"}
    assert listings.keys() == theirs.keys()
    for source_id, listing in listings.items():
        for name in LISTING:
            assert getattr(listing, name) == getattr(theirs[source_id], name)
        assert listing.expires_at.timestamp() == theirs[source_id].expires_after
    assert sandbox.state.requests[-1]["has_key"] is False


@pytest.mark.parametrize(("layout", "at_once"), [("items", 50), ("items", 3), ("array", 3)])
def test_projects_are_read_by_their_keys_however_many_a_page_holds(
    call, sandbox, monkeypatch, layout, at_once
):
    sandbox.state.change_switches(projects_layout=layout)
    monkeypatch.setattr(calls, "_PROJECTS_AT_ONCE", at_once)
    monkeypatch.setitem(
        PROJECTS, "VCS-191", dict.fromkeys(PROJECTS["VCS-191"]) | {"methodologies": "none", "goals": ""}
    )
    wanted = ["VCS-191", *sorted(PROJECTS)[:9]]
    told = {project.key: project for project in call("list_projects", [*wanted, "VCS-0"])}
    assert sorted(told) == sorted(wanted)
    for key, project in told.items():
        theirs = PROJECTS[key]
        for name in ("name", "country", "region"):
            assert getattr(project, name) == theirs[name]
        assert project.registry == key.partition("-")[0]
        ids = [each.id for each in project.methodologies if each]
        # The market's row without an id is what it gives for a project that has none.
        assert ids == [each or None for each in (theirs["methodologies"] or "").split(";") if each != "none"]
    assert not any(each["has_key"] for each in sandbox.state.requests)


def test_a_project_that_a_list_of_other_keys_lacks_is_asked_for_by_its_own(call, sandbox, monkeypatch):
    monkeypatch.setattr(calls, "_MOST_PROJECTS", 1)
    monkeypatch.setattr(
        "airflow_provider_carbonmark.sandbox.api.fits", lambda project, wanted: project["key"] != "VCS-191"
    )
    (told,) = call("list_projects", ["VCS-191", "VCS-0"])
    assert (told.key, told.name) == ("VCS-191", PROJECTS["VCS-191"]["name"])


@pytest.mark.parametrize("layout", ["url", "rich"])
def test_a_checkout_is_made_and_paid_and_retired(call, sandbox, order, layout):
    sandbox.state.change_switches(checkout_layout=layout)
    checkout = call("create_checkout", **order)
    payment_id = sandbox.pay(checkout.url)
    assert checkout.payment_id == (payment_id if layout == "rich" else None)
    assert (checkout.expires_at is not None) == (layout == "rich")
    payment = call("get_payment", payment_id)
    assert payment.id == payment_id
    assert (payment.payment_status, payment.retirement_status) == ("PAID", "COMPLETED")
    assert payment.quantity_tonnes == Decimal("12.345")
    assert payment.beneficiary_name == "Acme GmbH"
    assert payment.retirement_message == "For October 2026"
    assert payment.asset_price_source_id == order["asset_price_source_id"]
    assert payment.retired_at.tzinfo is not None


def test_an_unknown_payment_is_not_found_and_both_sides_can_name_the_request(call, sandbox):
    with pytest.raises(errors.NotFoundError) as caught:
        call("get_payment", "pay_1")
    request = sandbox.state.requests[-1]
    assert caught.value.request_id == request["id"]
    assert f"{sandbox.url}/payments/pay_1" in str(caught.value)
    assert request["user_agent"].startswith("airflow-provider-carbonmark/")
    assert request["has_key"] is True


def test_one_client_keeps_its_connections(settings, sandbox):
    before = sandbox.state.connections
    with CarbonmarkClient(settings) as client:
        for _ in range(20):
            client.list_prices(project_ids=["VCS-1"])
    assert sandbox.state.connections == before + 1


async def test_many_waits_share_a_few_connections(settings, sandbox, order):
    before = sandbox.state.connections
    async with AsyncCarbonmarkClient(settings) as client:
        checkout = await client.create_checkout(**order)
        payment_id = await asyncio.to_thread(sandbox.pay, checkout.url)
        payments = await asyncio.gather(*(client.get_payment(payment_id) for _ in range(100)))
    assert {payment.retirement_status for payment in payments} == {"COMPLETED"}
    assert sandbox.state.connections - before <= 20


async def test_a_cancelled_call_leaves_the_client_usable(settings, sandbox):
    sandbox.state.change_switches(faults=[{"kind": "slow", "seconds": 60, "path": "/payments/slow"}])
    async with AsyncCarbonmarkClient(settings) as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.get_payment("slow"), timeout=0.2)
        with pytest.raises(errors.NotFoundError):
            await client.get_payment("pay_1")
