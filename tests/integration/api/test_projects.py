"""What the market says of projects, with both clients."""

from __future__ import annotations

import pytest

from airflow_provider_carbonmark.api import calls
from airflow_provider_carbonmark.sandbox.projects import PROJECTS


@pytest.mark.parametrize("layout", ["items", "array"])
@pytest.mark.parametrize("at_once", [50, 3])
def test_projects_are_read_by_their_keys_however_many_a_page_holds(
    call, sandbox, monkeypatch, layout, at_once
):
    sandbox.state.change_switches(projects_layout=layout)
    monkeypatch.setattr(calls, "_PROJECTS_AT_ONCE", at_once)
    wanted = sorted(PROJECTS)[:10]
    told = {project.key: project for project in call("list_projects", [*wanted, "VCS-0"])}
    assert sorted(told) == wanted
    for key, project in told.items():
        theirs = PROJECTS[key]
        assert (project.name, project.country, project.region) == (
            theirs["name"],
            theirs["country"],
            theirs["region"],
        )
        assert project.registry == key.partition("-")[0]
        ids = [each.id for each in project.methodologies if each]
        # The market's row without an id is what it gives for a project that has none.
        assert ids == [each or None for each in (theirs["methodologies"] or "").split(";") if each != "none"]
    assert not any(each["has_key"] for each in sandbox.state.requests)


def test_a_project_with_nothing_but_its_key_is_read(call, sandbox, monkeypatch):
    monkeypatch.setitem(
        PROJECTS, "VCS-191", dict.fromkeys(PROJECTS["VCS-191"]) | {"methodologies": "none", "goals": ""}
    )
    (project,) = call("list_projects", ["VCS-191"])
    assert (project.name, project.country, project.methodologies) == (None, None, [None])
