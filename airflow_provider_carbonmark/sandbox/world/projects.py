"""The projects behind the market, as GET /carbonProjects shows them. What is said of them is made up."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from airflow_provider_carbonmark.sandbox.world.market import Listing, plain

# So that what was retired grows as the supply goes down.
BRIDGED_TONNES = 100_000


def _rows(name: str) -> list[dict[str, str | None]]:
    with Path(__file__).with_name(name).open(encoding="utf-8", newline="") as file:
        return [{column: value or None for column, value in row.items()} for row in csv.DictReader(file)]


METHODOLOGIES = {row["id"]: row for row in _rows("methodologies.csv")}
PROJECTS = {str(row["key"]): row for row in _rows("projects.csv")}


def as_project(key: str, market: Iterable[Listing]) -> dict[str, Any]:
    """
    Return the entry of GET /carbonProjects (doc: its fields; seen, v6: what `stats` holds, and nulls in many places).

    :param key: registry and number, such as ``VCS-191``; one of ``PROJECTS``.
    """
    facts = PROJECTS[key]
    listings = [listing for listing in market if listing.project_id == key]
    supply = sum((listing.supply for listing in listings), Decimal())
    prices = [listing.purchase_price for listing in listings if listing.liquid_supply]
    registry, _, number = key.partition("-")
    entry = {
        "key": key,
        "projectID": number,
        "name": facts["name"],
        "country": facts["country"],
        "region": facts["region"],
        "registry": registry,
        # "none" is no methodology's id and becomes null; an empty one is that without an id.
        "methodologies": [
            METHODOLOGIES.get(each or None) for each in (facts["methodologies"] or "").split(";")
        ],
        "vintages": sorted({str(listing.vintage) for listing in listings}),
        "price": plain(min(prices, default=Decimal())),
        "hasSupply": bool(prices),
        "stats": {
            "totalBridged": BRIDGED_TONNES,
            "totalRetired": BRIDGED_TONNES - supply,
            "totalSupply": supply,
        },
        "url": None if registry == "CMARK" else f"https://registry.example/{registry.lower()}/{number}",
        "sustainableDevelopmentGoals": facts["goals"].split(";") if facts["goals"] else [],
    }
    if facts["description"]:
        paragraphs = facts["description"].split("|")
        entry["description"] = paragraphs if len(paragraphs) > 1 else paragraphs[0]
    if facts["longitude"] and facts["latitude"]:
        point = [float(facts["longitude"]), float(facts["latitude"])]
        entry["location"] = {"type": "Feature", "geometry": {"type": "Point", "coordinates": point}}
    return entry


def fits(project: Mapping[str, Any], wanted: Mapping[str, str | None]) -> bool:
    """
    Return whether a project is among those asked for.

    :param project: an entry of GET /carbonProjects.
    :param wanted: ``country``, ``category``, ``vintage``, ``registry`` and ``search``, where they are asked for.
    """
    has = {
        "country": {project["country"]},
        "registry": {project["registry"]},
        "vintage": set(project["vintages"]),
        "category": {each["category"] for each in project["methodologies"] if each},
    }
    text = f"{project['key']} {project['name']} {project.get('description', '')}".lower()
    return (wanted["search"] or "").lower() in text and all(
        wanted[name] is None or wanted[name] in values for name, values in has.items()
    )
