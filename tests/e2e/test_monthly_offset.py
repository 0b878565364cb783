from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.airflow_api import task_name
from tests.e2e.buyer import pay
from tests.e2e.stand import MONTHLY_OFFSET, Stand, sample

pytestmark = pytest.mark.e2e


def tasks(stand: Stand, run_id: str, task_id: str) -> list[dict[str, Any]]:
    found = stand.airflow.api.task_instances(MONTHLY_OFFSET, run_id)
    return [task for task in found if task["task_id"] == task_id]


def test_a_month_gets_one_link_per_entity_that_has_something_to_offset(stand: Stand, october: str) -> None:
    links = stand.links(october)

    assert {link["entity"]: link["quantity_tonnes"] for link in links} == {
        "(no project)": "0.001",
        "checkout-prod": "1.254",
        "search-prod": "0.261",
    }
    assert len({link["checkout"]["checkout_url"] for link in links}) == 3
    assert all(link["checkout"]["test_mode"] is True for link in links)
    assert {link["checkout"]["run_id"] for link in links} == {october}


def test_each_link_and_its_cost_stand_under_required_actions_and_on_the_task_page(
    stand: Stand, october: str
) -> None:
    api = stand.airflow.api
    asked = {
        request["task_instance"]["map_index"]: request for request in api.requests(MONTHLY_OFFSET, october)
    }
    names = {task_name(task) for task in tasks(stand, october, "purchase.checkout")}

    for index, link in enumerate(stand.links(october)):
        url = link["checkout"]["checkout_url"]
        subject = f"Pay for {link['quantity_tonnes']} t CO2e, {link['entity']}, 2026-10"
        assert asked[index]["subject"] == subject
        assert url in asked[index]["body"]
        assert f"{link['cost_usd']} USD" in asked[index]["body"]
        (named,) = [name for name in names if link["entity"] in name]
        assert f"{link['quantity_tonnes']} t for {link['cost_usd']} USD" in named
        buttons = api.links(MONTHLY_OFFSET, october, "purchase.checkout", map_index=index)
        assert buttons == {"Open checkout": url}


def test_every_paid_link_ends_in_a_proven_retirement_with_a_certificate(
    stand: Stand, october: str, october_retired: dict[str, dict[str, Any]]
) -> None:
    links = {link["entity"]: link for link in stand.links(october)}
    assert october_retired.keys() == links.keys()

    for entity, retirement in october_retired.items():
        assert retirement["beneficiary_name"] == f"Full run ({entity})"
        assert Decimal(retirement["quantity_tonnes"]) == Decimal(links[entity]["quantity_tonnes"])
        assert retirement["test_mode"] is True
        certificate = httpx.get(retirement["certificate_url"], trust_env=False)
        assert certificate.is_success
        assert f"Full run ({entity})" in certificate.text


def test_an_entity_over_its_limit_gets_no_link_and_the_others_go_their_own_way(stand: Stand) -> None:
    api = stand.airflow.api
    conf = {
        "emissions_file": sample("gcp-carbon-footprint.csv"),
        "emissions_format": "google_cloud",
        "month": "2026-10",
        "beneficiary": "Limited ({entity})",
        "max_price_usd": 10,
        "registries": ["ICR"],
        "max_cost_usd": 1,
    }
    run_id = stand.start_month(conf)
    entities = [bought["entity"] for bought in api.xcom(MONTHLY_OFFSET, run_id, "choose_listings")]
    asked = [request["task_instance"]["map_index"] for request in api.requests(MONTHLY_OFFSET, run_id)]
    offered = {entities[index]: index for index in asked}
    # 1.254 t cost 4.74 USD, 0.261 t cost 0.99 USD.
    assert offered.keys() == {"search-prod", "(no project)"}

    declined = offered["(no project)"]
    payment = (MONTHLY_OFFSET, run_id, "purchase.payment")
    stand.airflow.answer_parked(
        lambda: api.answer(*payment, "Decline", map_index=declined), *payment, declined
    )
    made = api.xcom(MONTHLY_OFFSET, run_id, "purchase.checkout", map_index=offered["search-prod"])
    pay(made["checkout_url"])
    stand.expect_failure(MONTHLY_OFFSET, run_id)

    log = api.log(MONTHLY_OFFSET, run_id, tasks(stand, run_id, "list_retired")[0])
    assert "Not retired for checkout-prod: " in log
    assert re.search(r"\(no project\) .* declined", log)
    assert re.search(r"search-prod .*/retirements/", log)
    assert all(task["try_number"] == 1 for task in tasks(stand, run_id, "purchase.quote"))


def test_a_missing_emissions_file_fails_the_run_and_the_log_says_so(stand: Stand) -> None:
    conf = {"emissions_file": sample("no-such-file.csv"), "month": "2026-10"}
    run_id = stand.airflow.api.trigger(MONTHLY_OFFSET, conf)

    assert stand.airflow.api.wait_for_run(MONTHLY_OFFSET, run_id) == "failed"
    log = stand.airflow.api.log(MONTHLY_OFFSET, run_id, tasks(stand, run_id, "read_emissions")[0])
    assert "no-such-file.csv: there is no such file" in log
    end = stand.airflow.api.log(MONTHLY_OFFSET, run_id, tasks(stand, run_id, "list_retired")[0])
    assert "Nothing could be bought: see the tasks before" in end


def test_a_month_that_emitted_nothing_ends_well_and_lists_nothing(stand: Stand, tmp_path: Path) -> None:
    emissions = tmp_path / "emissions.csv"
    emissions.write_text("timestamp,project_name,emissions\n2026-10-01T00:00:00,idle,0\n")
    conf = {"emissions_file": emissions.as_uri(), "emissions_format": "codecarbon", "month": "2026-10"}
    run_id = stand.run(MONTHLY_OFFSET, conf)

    assert stand.retired(run_id) == []


def test_a_backfill_goes_by_the_month_of_each_data_interval(stand: Stand) -> None:
    api = stand.airflow.api
    before = {run["dag_run_id"] for run in api.runs(MONTHLY_OFFSET)}
    conf = {"emissions_file": sample("gcp-carbon-footprint.csv"), "emissions_format": "google_cloud"}
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
        months = {link["month"] for link in stand.links(run["dag_run_id"])}
        assert months == {run["data_interval_start"][:7]}
