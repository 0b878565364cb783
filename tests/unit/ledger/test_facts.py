"""What a deployment states of credits: read strictly, and never more than it says."""

from __future__ import annotations

import pytest

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.ledger.facts import DisclosureFacts, parse_facts
from airflow_provider_carbonmark.sandbox.world.projects import METHODOLOGIES
from tests.unit.reporting.sample import FACTS

STATED = parse_facts(
    """
methodologies:
  AMS-I.D.: {mechanism: reduction}
  AR-ACM0003: {mechanism: removal, sink: biogenic}
  DAC: {mechanism: removal, sink: technological}
  VM0033: {mechanism: both, sink: biogenic}
  SILENT: {}
projects:
  CMARK-3: {mechanism: removal, sink: technological}
standards:
""",
    "facts.yaml",
)


@pytest.mark.parametrize(
    ("methodologies", "mechanism", "sink"),
    [
        (["AMS-ID"], "reduction", None),  # the market drops punctuation
        (["AR-ACM0003"], "removal", "biogenic"),
        (["AMS-ID", "AR-ACM0003"], "both", "biogenic"),
        (["VM0033"], "both", "biogenic"),
        (["AR-ACM0003", "DAC"], "removal", None),
        (["AR-ACM0003", "SILENT"], None, None),
        (["AR-ACM0003", ""], None, None),
        ([], None, None),
    ],
)
def test_a_project_is_what_all_of_its_methodologies_say(
    methodologies: list[str], mechanism: str | None, sink: str | None
) -> None:
    assert STATED.mechanism_of("VCS-1", methodologies) == mechanism
    assert STATED.sink_of("VCS-1", methodologies) == sink
    # What is stated of the project itself comes first.
    assert STATED.mechanism_of("CMARK-3", methodologies) == "removal"
    assert STATED.sink_of("CMARK-3", methodologies) == "technological"


def test_the_example_covers_every_methodology_of_the_sandbox() -> None:
    facts = parse_facts(FACTS.read_text(), FACTS.name)
    ids = facts.methodologies.keys()
    assert ids == set(filter(None, METHODOLOGIES))
    assert all(facts.mechanism_of(None, [id]) for id in ids)


@pytest.mark.parametrize("text", ["", "# nothing\n", "company:\n  name:\n", "{}"])
def test_what_is_left_out_is_not_stated(text: str) -> None:
    assert parse_facts(text, "facts.yaml") == DisclosureFacts()
    assert parse_facts("{}", "facts.json") == DisclosureFacts()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("compny: {}", "compny is no key here .* write one of company, methodologies, standards, projects"),
        ("company: {nme: x}", r"company.nme is no key here \(got 'x'\).* name, lei, boundary, purpose"),
        ("company: Example Corp", "company has no keys .* Write below it name, lei"),
        ("projects: [VCS-191]", "projects has no keys .* ids, and below each mechanism"),
        ("company: {purpose: offset}", r"purpose is none of the words .*'offset'\).* 'compensation' or 'contribution'"),
        ("methodologies: {A: {mechanism: avoidance}}", "methodologies.A.mechanism is none .* 'reduction', 'removal' or 'both'"),
        ("methodologies: {A: {mechanism: reduction, sink: biogenic}}", "methodologies.A has a sink"),
        ("methodologies: {AMS-ID: {}, AMS-I.D.: {}}", "names one methodology twice, AMS-ID and AMS-I.D."),
        ("methodologies: {12: {mechanism: reduction}}", "methodologies.12 is not text .* in quotes"),
        ("standards: {VCS: {recognised: 'yes'}}", "standards.VCS.recognised is neither true nor false"),
        ("projects: {VCS-1: {corresponding_adjustment: maybe}}", "corresponding_adjustment is neither true nor false"),
        ("company: {lei: 529900T8BM49AURSDO56}", "company.lei is no LEI"),
        ("company: {name: ' '}", "company.name is empty"),
        ("company: {name: a}\ncompany: {name: b}", "can't be read .'company' is there twice"),
        ("company: {", "can't be read .*Write YAML, or JSON"),
        ("? [a]\n: b", "can't be read"),
        ("!!python/object/apply:os.system ['true']", "can't be read"),
    ],
)  # fmt: skip
def test_anything_that_is_not_known_is_refused_with_its_place_and_the_remedy(text: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=f"(?s)^facts.yaml.*{said}"):
        parse_facts(text, "facts.yaml")


def test_json_is_read_where_the_name_says_so() -> None:
    stated = parse_facts('{"company": {"lei": "529900T8BM49AURSDO55"}}', "facts.json")
    assert stated.company.lei == "529900T8BM49AURSDO55"
    for text in ('{"company": {}, "company": {}}', "company:"):
        with pytest.raises(InvalidInputError, match="facts.json can't be read"):
            parse_facts(text, "facts.json")
