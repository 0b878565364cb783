from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.e2e.airflow_api import task_name
from tests.e2e.buyer import pay
from tests.e2e.stand import MONTHLY_OFFSET, Stand, sample

pytestmark = pytest.mark.e2e

Emitted = Callable[..., dict[str, Any]]


def tasks(stand: Stand, run_id: str, task_id: str) -> list[dict[str, Any]]:
    found = stand.airflow.api.task_instances(MONTHLY_OFFSET, run_id)
    return [task for task in found if task["task_id"] == task_id]


def link_of(stand: Stand, run_id: str, entity: str) -> tuple[int, dict[str, Any]]:
    """Return the map index and the link of an entity that has one."""
    ((index, link),) = [
        (index, link) for index, link in enumerate(stand.links(run_id)) if link["entity"] == entity
    ]
    return index, link


def test_each_link_and_its_cost_stand_under_required_actions_and_on_the_task_page(
    stand: Stand, october: str
) -> None:
    api = stand.airflow.api
    asked = {
        request["task_instance"]["map_index"]: request for request in api.requests(MONTHLY_OFFSET, october)
    }
    names = {task_name(task) for task in tasks(stand, october, "purchase.checkout")}

    for index, link in enumerate(stand.links(october)):
        url = link["checkout"]["pay_url"]
        subject = f"Pay for {link['quantity_tonnes']} t CO2e, {link['entity']}, 2026-10"
        assert asked[index]["subject"] == subject
        assert url in asked[index]["body"]
        assert f"{link['cost_usd']} USD" in asked[index]["body"]
        (named,) = [name for name in names if link["entity"] in name]
        assert f"{link['quantity_tonnes']} t for {link['cost_usd']} USD" in named
        buttons = api.links(MONTHLY_OFFSET, october, "purchase.checkout", map_index=index)
        assert buttons == {"Open checkout": url}


def test_each_entity_s_link_once_paid_ends_in_a_proven_retirement_with_a_certificate(
    october_retired: dict[str, dict[str, Any]],
) -> None:
    assert {entity: retirement["quantity_tonnes"] for entity, retirement in october_retired.items()} == {
        "(no Google Cloud project)": "0.001",
        "checkout-prod": "1.254",
        "search-prod": "0.261",
    }
    for entity, retirement in october_retired.items():
        assert retirement["beneficiary_name"] == f"Full run ({entity})"
        assert retirement["test_mode"] is True
        certificate = httpx.get(retirement["certificate_url"], trust_env=False)
        assert certificate.is_success
        assert f"Full run ({entity})" in certificate.text


def test_what_somebody_declines_holds_nobody_up_and_is_bought_by_the_next_run(
    stand: Stand, emitted: Emitted
) -> None:
    conf = emitted({"2026-10": {"declined": "0.03", "paid": "0.02"}})
    run_id = stand.start_month(conf)
    index, declined = link_of(stand, run_id, "declined")
    _, paid = link_of(stand, run_id, "paid")
    payment = (MONTHLY_OFFSET, run_id, "purchase.payment")
    api = stand.airflow.api
    stand.airflow.answer_parked(lambda: api.answer(*payment, "Decline", map_index=index), *payment, index)
    pay(paid["checkout"]["checkout_url"])
    stand.expect_success(MONTHLY_OFFSET, run_id)
    assert [bought["entity"] for bought in stand.retired(run_id)] == ["paid"]

    again = stand.start_month(conf)
    (link,) = stand.links(again)
    assert link["entity"] == "declined"
    assert link["checkout"]["checkout_url"] != declined["checkout"]["checkout_url"]
    pay(link["checkout"]["checkout_url"])
    stand.expect_success(MONTHLY_OFFSET, again)


def test_running_a_month_again_buys_nothing_and_a_restated_month_is_topped_up(
    stand: Stand, emitted: Emitted
) -> None:
    first = stand.start_month(emitted({"2026-10": {"restated": "0.05"}}))
    while_open = stand.run(MONTHLY_OFFSET, emitted({"2026-10": {"restated": "0.05"}}))
    assert stand.links(while_open) == []
    told = stand.airflow.api.log(MONTHLY_OFFSET, while_open, tasks(stand, while_open, "bought")[0])
    assert re.search(
        rf"0.05 t of restated, 2026-10 waits to be paid since .* in run '{re.escape(first)}'", told
    )
    pay(link_of(stand, first, "restated")[1]["checkout"]["checkout_url"])
    stand.expect_success(MONTHLY_OFFSET, first)
    assert stand.links(stand.run(MONTHLY_OFFSET, emitted({"2026-10": {"restated": "0.05"}}))) == []

    topped_up = stand.start_month(emitted({"2026-10": {"restated": "0.0704"}}))
    (link,) = stand.links(topped_up)
    assert link["quantity_tonnes"] == "0.021"
    pay(link["checkout"]["checkout_url"])
    stand.expect_success(MONTHLY_OFFSET, topped_up)
    assert len(stand.checkouts_for("Offset (restated)")) == 2


def test_the_link_of_a_run_that_was_ended_is_taken_up_by_the_next_and_its_buyer_wakes_that(
    stand: Stand, emitted: Emitted
) -> None:
    conf = emitted({"2026-10": {"taken-up": "0.04"}})
    ended = stand.start_month(conf)
    _, before = link_of(stand, ended, "taken-up")
    stand.airflow.api.end_run(MONTHLY_OFFSET, ended)
    stand.expect_failure(MONTHLY_OFFSET, ended)

    run_id = stand.start_month(conf)
    _, link = link_of(stand, run_id, "taken-up")
    assert link["checkout"] == before["checkout"]
    pay(link["checkout"]["checkout_url"])
    stand.expect_success(MONTHLY_OFFSET, run_id)
    assert [bought["quantity_tonnes"] for bought in stand.retired(run_id)] == ["0.04"]
    assert len(stand.checkouts_for("Offset (taken-up)")) == 1


def test_a_preview_says_what_would_be_bought_and_plans_nothing(stand: Stand, emitted: Emitted) -> None:
    conf = emitted({"2026-10": {"previewed": "0.06"}}, preview=True)
    run_id = stand.run(MONTHLY_OFFSET, conf)

    assert stand.links(run_id) == []
    (line,) = stand.airflow.api.xcom(MONTHLY_OFFSET, run_id, "plan", key="preview")["purchases"]
    assert (line["shares"][0]["entity"], line["quantity_tonnes"]) == ("previewed", "0.06")


def test_clearing_everything_of_a_paid_month_buys_nothing_again(stand: Stand, emitted: Emitted) -> None:
    run_id = stand.start_month(emitted({"2026-10": {"cleared": "0.08"}}))
    pay(link_of(stand, run_id, "cleared")[1]["checkout"]["checkout_url"])
    stand.expect_success(MONTHLY_OFFSET, run_id)
    stand.airflow.api.clear(MONTHLY_OFFSET, run_id, "plan", downstream=True)
    stand.expect_success(MONTHLY_OFFSET, run_id)

    assert [bought["quantity_tonnes"] for bought in stand.retired(run_id)] == ["0.08"]
    assert len(stand.checkouts_for("Offset (cleared)")) == 1


def test_each_retirement_updates_the_asset(
    stand: Stand, october: str, october_retired: dict[str, dict[str, Any]]
) -> None:
    found = stand.airflow.api.get("assets/events", source_run_id=october)["asset_events"]

    assert {event["extra"]["allocations"][0]["entity"]: event["extra"]["payment_id"] for event in found} == {
        entity: retirement["payment_id"] for entity, retirement in october_retired.items()
    }
    assert {(event["name"], *event["extra"]["months"]) for event in found} == {
        ("carbonmark_retirements", "2026-10")
    }


def test_a_missing_emissions_file_fails_the_run_and_the_log_says_so(stand: Stand) -> None:
    conf = {"emissions_file": sample("no-such-file.csv"), "month": "2026-10"}
    run_id = stand.airflow.api.trigger(MONTHLY_OFFSET, conf)

    assert stand.airflow.api.wait_for_run(MONTHLY_OFFSET, run_id) == "failed"
    log = stand.airflow.api.log(MONTHLY_OFFSET, run_id, tasks(stand, run_id, "plan")[0])
    assert "no-such-file.csv: there is no such file" in log
    end = stand.airflow.api.log(MONTHLY_OFFSET, run_id, tasks(stand, run_id, "bought")[0])
    assert "Nothing was planned, so nothing is bought: see the task of the plan" in end


def test_a_backfill_goes_by_the_month_of_each_data_interval(stand: Stand, emitted: Emitted) -> None:
    api = stand.airflow.api
    before = {run["dag_run_id"] for run in api.runs(MONTHLY_OFFSET)}
    conf = emitted({"2026-09": {"backfilled": "0.01"}, "2026-10": {"backfilled": "0.02"}})
    del conf["month"]
    # Airflow refuses to make backfills by REST on SQLite.
    with stand.airflow.database_to_oneself():
        stand.airflow.cli(
            *("backfill", "create", "--dag-id", MONTHLY_OFFSET, "--dag-run-conf", json.dumps(conf)),
            *("--from-date", "2026-09-21", "--to-date", "2026-10-22"),
        )
    made = [run for run in api.runs(MONTHLY_OFFSET) if run["dag_run_id"] not in before]

    assert {run["data_interval_start"][:10] for run in made} == {"2026-09-21", "2026-10-21"}
    for run in made:
        stand.wait_for_links(run["dag_run_id"])
        months = {month for link in stand.links(run["dag_run_id"]) for month in link["months"]}
        assert months == {run["data_interval_start"][:7]}
