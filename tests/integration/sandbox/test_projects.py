"""GET /carbonProjects and GET /carbonProjects/{key}."""

from __future__ import annotations

import pytest

CATEGORIES = {
    *("Agriculture", "Biochar", "Blue Carbon", "Energy Efficiency", "Forestry", "Industrial Processing"),
    *("Other", "Renewable Energy", "Waste Disposal"),
}


def projects(shopper, **query):
    answer = shopper.http.get("/carbonProjects", params={"limit": 100, **query})
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


def keys(shopper, **query):
    return [each["key"] for each in projects(shopper, **query)]


def test_there_are_facts_of_every_project_on_the_market(shopper):
    sold = {
        entry[kind]["creditId"]["projectId"]
        for kind in ("listing", "klimaprotocol")
        for entry in shopper.http.get("/prices", params={"assetPriceType": kind}).json()
    }
    assert set(keys(shopper)) == sold
    assert all(shopper.http.get(f"/carbonProjects/{key}").status_code == 200 for key in sold)
    unknown = shopper.http.get("/carbonProjects/VCS-1")
    assert (unknown.status_code, unknown.json()["name"]) == (404, "NotFoundError")


def test_a_project_has_every_documented_field(shopper):
    methodology = "Grid connected renewable electricity generation"
    assert shopper.http.get("/carbonProjects/ICR-112").json() == {
        "key": "ICR-112",
        "projectID": "112",
        "name": "Lake District Biogas Network",
        "country": "Vietnam",
        "region": "Asia",
        "registry": "ICR",
        "methodologies": [{"id": "AMS-ID", "category": "Renewable Energy", "name": methodology}],
        "vintages": ["2013", "2019"],
        "price": "3.78",
        "hasSupply": True,
        "stats": {"totalBridged": 100_000, "totalRetired": 93_289.639, "totalSupply": 6_710.361},
        "url": "https://registry.example/icr/112",
        "sustainableDevelopmentGoals": ["7", "13"],
        "description": "Household digesters feed a small power station.",
        "location": {"type": "Feature", "geometry": {"type": "Point", "coordinates": [105.8, 21.03]}},
    }


def test_what_may_be_null_or_missing_is_so_somewhere(shopper):
    found = projects(shopper)
    methodologies = [each for project in found for each in project["methodologies"]]
    told = [each for each in methodologies if each]

    assert None in methodologies
    assert all(any(each[field] is None for each in told) for field in ("id", "category", "name"))
    assert {each["category"] for each in told} - {None} == CATEGORIES
    assert all(any(each[field] is None for each in found) for field in ("country", "region", "url"))
    assert any(each["sustainableDevelopmentGoals"] == [] for each in found)
    assert {type(each.get("description")) for each in found} == {str, list, type(None)}
    assert any("location" not in each for each in found)


def test_a_page_ends_silently_at_its_limit_and_but_as_an_array_tells_how_many_there_are(shopper):
    everything = keys(shopper)
    first = shopper.http.get("/carbonProjects").json()
    rest = shopper.http.get("/carbonProjects", params={"offset": 20}).json()

    assert [each["key"] for each in first["items"] + rest["items"]] == everything
    assert (len(first["items"]), first["itemsCount"], rest["itemsCount"]) == (20, 27, 27)
    assert shopper.http.get("/carbonProjects", params={"limit": 0}).status_code == 400
    shopper.switch(projects_layout="array")
    assert shopper.http.get("/carbonProjects").json() == first["items"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"country": "India"}, ["VCS-1529", "VCS-1577", "VCS-2087"]),
        ({"category": "Blue Carbon"}, ["ECO-58", "VCS-2502"]),
        ({"category": "Forestry", "registry": "ECO"}, ["ECO-58"]),
        ({"vintage": "2025"}, ["PUR-4411", "VCS-674"]),
        ({"search": "cookstove"}, ["VCS-1764", "VCS-2410"]),
        ({"search": "fishing families"}, ["ECO-58"]),
        ({"registry": "TVER"}, ["TVER-102", "TVER-210", "TVER-333"]),
        ({"minSupply": 20_000}, ["VCS-191", "VCS-981"]),
        ({"assetPriceType": "klimaprotocol"}, ["TVER-102", "VCS-191", "VCS-1764"]),
        ({"keys": ["ICR-88", "VCS-844", "VCS-1"]}, ["ICR-88", "VCS-844"]),
        ({"country": "Atlantis"}, []),
    ],
)
def test_projects_are_asked_for_by_what_they_are(shopper, query, found):
    assert keys(shopper, **query) == found
