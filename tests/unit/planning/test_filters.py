"""Which projects a filter wants, by what is known of them; and what is said of that."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from airflow_provider_carbonmark.ledger.projects import Methodology, Project
from airflow_provider_carbonmark.planning import ListingFilter
from airflow_provider_carbonmark.planning.filters import ProjectFacts
from airflow_provider_carbonmark.planning.market import Market, projects_to_know
from tests.unit.planning.market import NOW, listing

HYDRO = Methodology("ACM0002", "Renewable Energy")
SOIL, TREES = Methodology("VM0042", "Agriculture"), Methodology("AR-ACM0003", "Forestry")
UNTOLD = Methodology()
UNKNOWN = "where nothing is known of the project's"


def facts(
    country: str | None = "Brazil", *methodologies: Methodology, mechanism: str | None = None
) -> ProjectFacts:
    project = Project(project_id="VCS-191", country=country, methodologies=methodologies, read_at=NOW)
    return ProjectFacts({"VCS-191": project}, {"VCS-191": mechanism} if mechanism else {})


def failure(known: ProjectFacts, **filters) -> str:
    """Give what a listing of VCS-191 is counted for where nothing fits; empty where it fits."""
    market = Market([listing("a")], ListingFilter(**filters), known, now=NOW)
    if market.offers:
        return ""
    why = market.why_nothing_fits("1 t", 1000, {})
    return why.partition("on the market, 1 ")[2].partition(". ")[0]


@pytest.mark.parametrize(
    ("known", "filters", "expected"),
    [
        # However it is written.
        (facts("Türkiye"), {"countries": ["Chad", " tu\u0308RKIYE"]}, ""),
        (facts(), {"excluded_countries": ["BRAZIL "]}, "in an excluded country"),
        (
            facts("Brazil", Methodology("AMS-ID")),
            {"excluded_methodologies": ["AMS-I.D."]},
            "of an excluded methodology",
        ),
        (facts("Brazil", HYDRO), {"categories": ["renewable energy"], "methodologies": ["acm 0002"]}, ""),
        (facts(), {"countries": ["Chad"]}, "in another country"),
        (facts(), {"excluded_countries": ["Chad"]}, ""),
        # One that is wanted is enough, one that is excluded is too much.
        (facts("Brazil", SOIL, TREES), {"categories": ["Forestry"], "methodologies": ["VM0042"]}, ""),
        (facts("Brazil", SOIL, TREES), {"excluded_categories": ["Forestry"]}, "of an excluded category"),
        (facts("Brazil", SOIL), {"categories": ["Forestry"]}, "of another category"),
        (facts("Brazil", SOIL), {"methodologies": ["AR-ACM0003"]}, "of another methodology"),
        # What is not told can be anything.
        (facts(None), {"countries": ["Brazil"]}, f"{UNKNOWN} country"),
        (facts(None), {"excluded_countries": ["Chad"]}, f"{UNKNOWN} country"),
        (ProjectFacts(), {"excluded_countries": ["Chad"]}, f"{UNKNOWN} country"),
        (facts(), {"excluded_categories": ["Forestry"]}, f"{UNKNOWN} category"),
        (facts("Brazil", SOIL, UNTOLD), {"categories": ["Agriculture"], "methodologies": ["VM0042"]}, ""),
        (
            facts("Brazil", SOIL, UNTOLD),
            {"categories": ["Agriculture"], "excluded_categories": ["Forestry"]},
            f"{UNKNOWN} category",
        ),
        (
            facts("Brazil", SOIL, UNTOLD),
            {"methodologies": ["ACM0002"]},
            f"{UNKNOWN} methodology",
        ),
        (facts("Brazil", HYDRO), {"mechanism": "reduction"}, f"{UNKNOWN} mechanism"),
        (ProjectFacts({}, {"VCS-191": "removal"}), {"mechanism": "removal"}, ""),
        (facts(mechanism="removal"), {"mechanism": "reduction"}, "of another mechanism"),
        # What does both is neither.
        (facts(mechanism="both"), {"mechanism": "removal"}, "of another mechanism"),
    ],
)
def test_a_project_is_wanted_if_it_can_be_shown_to_be_and_counts_for_what_it_is_not(known, filters, expected):
    assert failure(known, **filters) == expected


def test_what_came_closest_is_named_with_what_it_is():
    known = facts("Brazil", HYDRO, mechanism="reduction")
    market = Market(
        [listing("a"), listing("b", purchase_price=Decimal(2)), listing("c", project_id="VCS-7")],
        ListingFilter(mechanism="removal"),
        known,
        now=NOW,
    )
    assert market.why_nothing_fits("1 t", 1000, {}) == (
        "No listing for 1 t; of 3 on the market, 2 of another mechanism, 1 where nothing is known of the project's mechanism. "
        "Cheapest that fits otherwise, of another mechanism: b (VCS-191, 2019, ACM0002) at 2 USD per tonne. Cheapest that fits otherwise, "
        "where nothing is known of the project's mechanism: c (VCS-7, 2019) at 3.78 USD per tonne. Say in the file of "
        "[carbonmark] disclosure_facts which mechanism a methodology has. Ask for another quantity, or loosen the filters"
    )


def test_only_projects_of_listings_that_pass_all_else_have_to_be_known():
    listings = [
        listing("a"),
        listing("sold out", project_id="VCS-1", liquid_supply=Decimal(0)),
        listing("old", project_id="VCS-2", vintage=2018),
        listing("dear", project_id="VCS-3", purchase_price=Decimal(9)),
    ]
    filters = ListingFilter(vintage_from=2019, max_price_usd=Decimal(5), countries=["Chad"])
    assert projects_to_know(listings, filters, now=NOW, link_lifetime=timedelta(0)) == {"VCS-191"}
