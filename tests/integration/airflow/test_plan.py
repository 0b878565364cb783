"""The plan operator: what it reads, writes, refuses and takes up."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from decimal import Decimal

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
)
from sqlalchemy import create_engine, inspect

from airflow_provider_carbonmark.emissions import EmissionsColumns, Scope, emissions_of_month
from airflow_provider_carbonmark.ledger.names import State
from airflow_provider_carbonmark.ledger.values import Origin, Part
from airflow_provider_carbonmark.planning import Limits, ListingFilter
from tests.integration.airflow.model import DAG_ID, MONTH, declined, stated
from tests.integration.airflow.parts import asked, each_database

BOTH = [stated("1.234", "api"), stated("0.5", "web")]


def bought(ledger):
    return [(line.entity, f"{line.quantity_tonnes:f}", line.state.value) for line in ledger.lines()]


def tables(url):
    engine = create_engine(url)
    names = inspect(engine).get_table_names()
    engine.dispose()
    return names


# --- what it plans


@each_database
def test_what_is_planned_is_returned_as_plain_json_and_planned_once(dag_run, second, ledger):
    first = dag_run.plan(BOTH)
    assert [line["entity"] for line in first] == ["api", "web"]
    assert [ledger.purchase(each["purchase"]).to_json() for each in first] == first
    assert dag_run.plan(BOTH) == first
    assert second.plan(BOTH) == []
    assert bought(ledger) == [("api", "1.234", "planned"), ("web", "0.5", "planned")]


@each_database
def test_a_month_restated_upwards_is_topped_up_and_downwards_reported(dag_run, second, ledger, logged):
    dag_run.plan("1.234")
    (top_up,) = second.plan("2.2")
    assert top_up["quantity_tonnes"] == "0.966"
    logged()
    assert second.plan("1") == [top_up]
    assert f"web has more than it needs for {MONTH}: 1 t emitted, 2.2 t covered" in logged()
    assert [(line.state.value, f"{line.emitted_tonnes:f}") for line in ledger.lines()] == [
        ("planned", "1.234"),
        ("planned", "2.2"),
        ("restated", "1"),
    ]


@pytest.mark.parametrize("preview", [False, True])
def test_an_entity_that_is_not_stated_any_more_is_told_and_left_as_it_is(
    dag_run, second, ledger, logged, preview
):
    dag_run.plan(BOTH)
    before = bought(ledger)
    logged()
    assert second.plan("0.5", preview=preview) == []
    told = logged()
    assert f"api was planned for {MONTH} before and is not among its emissions now" in told
    assert "1.234 t emitted and 1.234 t covered. State it with 0 tonnes if it is gone" in told
    assert bought(ledger) == [*before[:1], *([] if preview else [("api", "0", "restated")]), *before[1:]]
    # The other run, which goes on, buys it: this one was not to.
    dag_run.link(1)
    assert preview or second.run("bought") == []


@each_database
def test_emissions_may_come_from_a_function_and_where_they_are_from_ends_in_the_ledger(
    dag_run, second, ledger, tmp_path
):
    columns = EmissionsColumns(
        period="month",
        entity="site",
        amounts={"direct": Scope("1"), "power": Scope("2", "market-based")},
        unit="kg",
        version_column="model",
        version="newest",
        name="Meters",
    )
    file = tmp_path / "meters.csv"
    file.write_text(f"month,site,direct,power,model\n{MONTH},web,1000,234.5,v2\n{MONTH},web,1,1,v1\n")

    def emissions(context):
        assert context["ti"].dag_id == DAG_ID
        yield from emissions_of_month(file, columns, MONTH)

    for run in (dag_run, second):
        run.plan(emissions)
    (line,) = ledger.lines()
    parts = Part("direct", "1", "", Decimal(1)), Part("power", "2", "market-based", Decimal("0.2345"))
    assert (line.emitted_tonnes, line.origin) == (Decimal("1.2345"), Origin("Meters", "v2", parts))
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    kept = [(each.path, each.row_count, each.sha256, each.month) for each in ledger.files()]
    assert kept == [(str(file), 2, sha256, MONTH)] * 2


def test_a_number_means_what_it_says(dag_run, ledger):
    (line,) = dag_run.plan([stated("1") | {"emitted_tonnes": 0.1}])
    (share,) = ledger.purchase(line["purchase"]).allocations
    assert share.emitted_tonnes == share.quantity_tonnes == Decimal(line["quantity_tonnes"]) == Decimal("0.1")


@pytest.mark.parametrize(
    ("emissions", "problem"),
    [
        (None, "the emissions are None"),
        ({"entity": "web"}, "the emissions are {"),
        (["web"], "entry 1 of the emissions is 'web'"),
        ([stated("1"), {"entity": "api", "month": MONTH}], "entry 2 of the emissions lacks emitted_tonnes"),
        ([stated("1", " ")], "has the entity ' '"),
        ([stated("1", month="2026-13")], "has the month '2026-13'"),
        ([stated("1") | {"month": 202610}], "has the month 202610"),
        *(
            ([stated("1") | {"emitted_tonnes": tonnes}], f"has the emitted_tonnes {tonnes!r}")
            for tonnes in ("nan", "1_0", float("inf"), True, None)
        ),
        ([stated("1"), stated("2")], "have an entity and month twice"),
        ([stated("1", "x" * 256)], "has 270 characters"),
    ],
)
def test_emissions_that_leave_a_doubt_fail_without_a_retry_and_plan_nothing(
    dag_run, ledger, emissions, problem
):
    with pytest.raises(AirflowFailException, match=problem):
        dag_run.run("plan", emissions=emissions)
    assert ledger.lines() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("beneficiary_name", "{nobody}"),
        ("beneficiary_name", ""),
        ("retirement_message", "x" * 501),
        ("preview", "perhaps"),
    ],
)
def test_other_bad_input_fails_without_a_retry_and_plans_nothing(dag_run, ledger, field, value):
    with pytest.raises(AirflowFailException, match=field):
        dag_run.plan(**{field: value})
    assert ledger.lines() == []


# --- what it may cost


def test_limits_stop_the_plan_with_figures_and_write_nothing(dag_run, ledger):
    limits = Limits(max_cost_per_entity_usd=Decimal("0.1"), max_cost_per_run_usd=Decimal("0.17"))
    figures = (
        "api 0.1234 USD, where max_cost_per_entity_usd is 0.1 USD; "
        "all together 0.1734 USD, where max_cost_per_run_usd is 0.17 USD"
    )
    for given in (limits, lambda context: limits):
        with pytest.raises(AirflowFailException, match=figures):
            dag_run.plan(BOTH, limits=given)
    assert ledger.lines() == []


@pytest.mark.parametrize("preview", [False, True])
def test_more_purchases_than_airflow_maps_fail_before_anything_is_written(
    dag_run, second, ledger, monkeypatch, preview
):
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "1")
    with pytest.raises(
        AirflowFailException, match=r"would have 2 purchases, .* 1\..*\[core\] max_map_length"
    ):
        dag_run.plan(BOTH, preview=preview)
    assert ledger.lines() == []
    assert len(second.plan(BOTH[:1])) == 1


def test_filters_choose_what_is_bought_and_none_that_fits_is_named(dag_run, ledger):
    with pytest.raises(AirflowFailException, match="web.*2026-10"):
        dag_run.plan(filters=ListingFilter(registries=["NONE"]))
    assert ledger.lines() == []
    (line,) = dag_run.plan(filters=lambda context: ListingFilter(vintage_from=2020))
    assert line["vintage"] >= 2020


@pytest.mark.parametrize(("link_hours", "is_left_out"), [("", True), ("22", False)])
def test_a_listing_that_expires_before_a_link_would_is_left_out(
    dag_run, ledger, sandbox, monkeypatch, link_hours, is_left_out
):
    monkeypatch.setenv("AIRFLOW__CARBONMARK__LINK_HOURS", link_hours)
    for each in sandbox.state.listings.values():
        each.expires_after = int((sandbox.state.now() + timedelta(hours=23)).timestamp())
    if is_left_out:
        with pytest.raises(AirflowFailException, match=r"\d+ expiring before a link made now would"):
            dag_run.plan()
    else:
        assert len(dag_run.plan()) == 1


def test_by_default_nothing_is_planned_that_no_card_can_pay(dag_run, airflow, monkeypatch, logged):
    monkeypatch.delenv("AIRFLOW__CARBONMARK__MINIMUM_PAYMENT_USD")
    for preview, planned in ((False, [("web", "1.89")]), (True, [])):
        made = dag_run.plan([stated("1.5"), stated("0.003", "api")], preview=preview)
        assert [(each["entity"], each["cost_usd"]) for each in made] == planned
    (left,) = airflow.pull(dag_run.task("plan"), "preview")["carried_over"]
    assert logged().count(f"{left['entity']}, 2026-10 are not bought now, {left['reason']}") == 2


def test_the_supply_margin_holds_for_what_several_runs_buy_of_a_listing(dag_run, second, ledger, sandbox):
    margin = ListingFilter(supply_margin=Decimal(4))
    (first,) = dag_run.plan("0.5", filters=margin)
    cheapest = sandbox.state.listings[first["asset_price_source_id"]]
    assert cheapest.liquid_supply == Decimal("3.2")
    topped_up = {
        each["asset_price_source_id"]: each["quantity_tonnes"] for each in second.plan("1.5", filters=margin)
    }
    assert topped_up.pop(cheapest.source_id) == "0.3"
    assert list(topped_up.values()) == ["0.7"]


@pytest.mark.parametrize("hours", ["0", "a day", "8761"])
def test_a_link_s_lifetime_that_is_none_fails_the_plan(dag_run, ledger, monkeypatch, hours):
    monkeypatch.setenv("AIRFLOW__CARBONMARK__LINK_HOURS", hours)
    with pytest.raises(AirflowFailException, match=r"\[carbonmark\] link_hours is no number of hours"):
        dag_run.plan()
    assert ledger.lines() == []


# --- preview


@pytest.mark.parametrize("preview", [True, " true "])
def test_a_preview_says_what_would_be_planned_and_writes_nothing(
    dag_run, ledger, airflow, url, logged, preview
):
    assert dag_run.plan(BOTH, preview=preview) == []
    assert tables(url) == []
    shown = airflow.pull(dag_run.task("plan"), "preview")["purchases"]
    shares = [(share["entity"], share["quantity_tonnes"]) for line in shown for share in line.pop("shares")]
    assert shares == [("api", "1.234"), ("web", "0.5")]
    assert "2 purchases for 0.1734 USD in all" in logged()
    planned = dag_run.plan(BOTH, preview="False")
    for line, told in zip(planned, shown, strict=True):
        assert told.items() <= line.items()
    assert dag_run.plan(BOTH, preview=preview) == []
    assert airflow.pull(dag_run.task("plan"), "preview") == {"purchases": [], "carried_over": []}
    assert {line.state for line in ledger.lines()} == {State.PLANNED}


# --- other runs


@pytest.mark.parametrize(("catch_up", "months"), [(True, ["2026-09", MONTH]), (" false ", [MONTH])])
def test_what_an_earlier_month_lacks_is_planned_unless_told_otherwise(dag_run, second, catch_up, months):
    dag_run.plan([stated("1", month="2026-09")])
    dag_run.link()
    dag_run.park()
    with pytest.raises(AirflowSkipException):
        dag_run.run("payment", event=declined)
    planned = second.plan("2", catch_up=catch_up)
    assert sorted(month for each in planned for month in each["months"]) == months


@pytest.mark.parametrize("planned_in_test_mode", [True, False])
def test_a_purchase_is_not_made_in_the_other_mode(dag_run, ledger, connect, sandbox, planned_in_test_mode):
    in_test_mode = {"key": "cm_api_sandbox_1", "environment": None}
    connect(**(in_test_mode if planned_in_test_mode else {}))
    dag_run.plan()
    connect(**({} if planned_in_test_mode else in_test_mode))
    with pytest.raises(AirflowFailException, match=r"works in .*was planned in .*start a new run"):
        dag_run.link()
    assert sandbox.state.checkouts == {}
    assert [line.state for line in ledger.lines()] == [State.PLANNED]


# --- what the market says of projects


def test_what_the_market_says_of_the_projects_is_kept_and_stands_in_no_plans_way(dag_run, ledger, sandbox):
    sandbox.state.change_switches(faults=[{"kind": "error", "path": "/carbonProjects"}])
    (first,) = dag_run.plan()
    assert ledger.missing_projects() == [first["project_id"]]
    sandbox.state.change_switches(faults=[])
    dag_run.plan()
    (project,) = ledger.projects([first["project_id"]])
    assert (project.project_id, project.registry) == (first["project_id"], first["registry"])
    assert project.methodologies


def test_a_filter_of_projects_asks_the_market_once_and_the_ledger_from_then_on(
    dag_run, second, ledger, sandbox, logged
):
    filters = ListingFilter(countries=["india"], excluded_categories=["Energy Efficiency"])
    assert dag_run.plan(filters=filters, preview=True) == []
    told = logged()
    assert len(asked(sandbox, "/carbonProjects")) == 1
    (line,) = dag_run.plan(filters=filters)
    (project,) = ledger.projects([line["project_id"]])
    assert (project.country, project.methodologies[0].category) == ("India", "Renewable Energy")
    assert len(asked(sandbox, "/carbonProjects")) == 2
    sandbox.state.change_switches(faults=[{"kind": "error", "path": "/carbonProjects"}])
    assert len(second.plan("2.5", filters=filters)) == 1
    assert (
        "Of 11 listings that could be bought, the filter excludes 8: 8 in another country. With them, the same tonnes would cost "
        "1.43144 USD less, 0.1234 USD"
    ) in told


def test_a_market_that_says_nothing_of_projects_fails_the_plan_that_asks_for_it(
    dag_run, ledger, sandbox, clock
):
    sandbox.state.change_switches(faults=[{"kind": "error", "path": "/carbonProjects"}])
    with pytest.raises(
        AirflowException, match=r"The filter asks for countries: .*Try again later, or plan without countries"
    ) as caught:
        dag_run.plan(filters=ListingFilter(countries=["India"]))
    assert not isinstance(caught.value, AirflowFailException)
    assert ledger.lines() == []


def test_a_mechanism_and_a_country_are_what_the_deployment_says_of_them(
    dag_run, ledger, monkeypatch, tmp_path
):
    with pytest.raises(AirflowFailException, match="11 where nothing is known of the project's mechanism"):
        dag_run.plan(filters=ListingFilter(mechanism="removal"))

    facts = tmp_path / "facts.yaml"
    facts.write_text("methodologies: {VM0033: {mechanism: removal}}\nprojects: {VCS-2502: {country: Mexiko}}")
    monkeypatch.setenv("AIRFLOW__CARBONMARK__DISCLOSURE_FACTS", str(facts))
    (line,) = dag_run.plan(filters=ListingFilter(mechanism="removal", countries=["Mexiko"]))
    assert line["project_id"] == "VCS-2502"
