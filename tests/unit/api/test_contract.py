"""What the contract check finds in documents: one that says all that is assumed, changed ones, and the market API's of 2024."""

from __future__ import annotations

import copy
import json
import random
from itertools import cycle

import pytest

from airflow_provider_carbonmark.api.contract.check import compare, main
from airflow_provider_carbonmark.api.contract.openapi import Document
from tests.unit.api.documents import NUMBER, TEXT, Told, an_object, everything, json_of, words

QUOTE, CHECKOUT, PAYMENT, PRICES = "POST /quotes", "POST /checkout", "GET /payments/{id}", "GET /prices"
RETIREMENT = "GET /retirements/{id}"


@pytest.fixture
def told():
    # Written and read, so that no two parts are one.
    return Told(json.loads(json.dumps(everything())))


def rename(part, old, new):
    part[new] = part.pop(old)


def rename_field(schema, old, new):
    rename(schema["properties"], old, new)
    schema["required"] = list(schema["properties"])


def put(schema, **properties):
    schema["properties"] |= properties


def test_a_document_that_says_all_that_is_assumed_is_as_assumed(told):
    findings = [each for (where, _), each in told.findings().items() if where != "Beyond"]
    assert {each.told for each in findings} == {"as assumed", "not told"}
    assert sum(each.told == "as assumed" for each in findings) > 40


MATTERS = {
    "the page's address has another name": (
        CHECKOUT,
        "reads url",
        lambda t: rename_field(t.answer("/checkout"), "url", "link"),
    ),
    "the beneficiary has another name": (
        PAYMENT,
        "reads beneficiary_name",
        lambda t: rename_field(t.retirement, "beneficiary_name", "name"),
    ),
    "the retirement's status is elsewhere": (
        PAYMENT,
        "reads retirement_status",
        lambda t: rename_field(t.answer("/payments/{paymentId}"), "retirement", "offset"),
    ),
    "no proof": (
        PAYMENT,
        "what it tells makes a retirement",
        lambda t: t.retirement["properties"].pop("view_retirement_url"),
    ),
    "a quantity is an object": (
        PAYMENT,
        "reads quantity_tonnes",
        lambda t: put(t.retirement, quantity_tonnes=an_object(value=NUMBER)),
    ),
    "a price has no supply": (
        PRICES,
        "reads liquid_supply",
        lambda t: rename_field(t.answer("/prices")["items"], "liquidSupply", "liquid"),
    ),
    "a new required field": (
        CHECKOUT,
        "sends what the body requires",
        lambda t: t.body()["required"].append("currency"),
    ),
    "a new required field within": (
        CHECKOUT,
        "sends what metadata requires",
        lambda t: t.metadata["required"].append("email"),
    ),
    "a new required field in a part": (
        CHECKOUT,
        "sends what the body requires",
        lambda t: t.body().update(allOf=[{"required": ["currency"]}]),
    ),
    "a new required field of what may be null": (
        CHECKOUT,
        "sends what metadata requires",
        lambda t: put(t.body(), metadata={"oneOf": [an_object(email=TEXT), {"type": "null"}]}),
    ),
    "a new required header": (
        QUOTE,
        "sends what is required",
        lambda t: t.of("/quotes").update(parameters=[{"in": "header", "name": "X-Team", "required": True}]),
    ),
    "a sent field has another name": (
        CHECKOUT,
        "sends success_url",
        lambda t: rename(t.body()["properties"], "success_url", "return_url"),
    ),
    "what is sent besides is refused": (
        CHECKOUT,
        "sends metadata.beneficiary_name",
        lambda t: put(t.body(), metadata={"type": "object", "additionalProperties": False}),
    ),
    "a quantity as text": (CHECKOUT, "sends quantity_tonnes", lambda t: put(t.body(), quantity_tonnes=TEXT)),
    "whole tonnes only": (
        CHECKOUT,
        "sends quantity_tonnes",
        lambda t: put(t.body(), quantity_tonnes={"type": "number", "multipleOf": 1}),
    ),
    "more than a kilogram": (
        QUOTE,
        "sends quantity_tonnes",
        lambda t: t.body("/quotes")["properties"]["quantity_tonnes"].update(exclusiveMinimum=True),
    ),
    "a shorter message": (
        CHECKOUT,
        "sends metadata.retirement_message",
        lambda t: put(t.metadata, retirement_message={"maxLength": 499, "type": "string"}),
    ),
    "a form instead of JSON": (
        CHECKOUT,
        "sends JSON",
        lambda t: t.of("/checkout").update(requestBody={"content": {"multipart/form-data": {}}}),
    ),
    "another path": (CHECKOUT, "method and path", lambda t: rename(t["paths"], "/checkout", "/v2/checkouts")),
    "another method": (QUOTE, "method and path", lambda t: rename(t["paths"]["/quotes"], "post", "put")),
    "a server with a path": (
        PAYMENT,
        "method and path",
        lambda t: t.update(servers=[{"url": "https://checkout.carbonmark.com/v2"}]),
    ),
    "another key": (
        CHECKOUT,
        "Authorization: Bearer",
        lambda t: t["components"]["securitySchemes"].update(
            key={"type": "apiKey", "in": "header", "name": "X-Api-Key"}
        ),
    ),
    "prices need a key": (PRICES, "needs no key", lambda t: t.of("/prices").pop("security")),
    "no word of a retirement is a success": (
        PAYMENT,
        "words of the retirement status",
        lambda t: put(t.retirement, status=words("BURNED", "FAILED")),
    ),
    "no word of a retirement is a failure": (
        PAYMENT,
        "words of the retirement status",
        lambda t: put(t.retirement, status=words("Completed", "BROKEN")),
    ),
    "a cost in cents": (
        QUOTE,
        "the cost is in USD, not in cents",
        lambda t: put(t.answer("/quotes"), cost_usdc={"type": "integer"}),
    ),
}
HARMLESS = {
    "a word more": (
        PAYMENT,
        "words of the retirement status",
        lambda t: t.retirement["properties"]["status"]["enum"].append("QUEUED"),
    ),
    "errors laid out otherwise": (
        QUOTE,
        "layout of errors",
        lambda t: t.of("/quotes")["responses"].update({"4XX": json_of(an_object(detail=TEXT))}),
    ),
    "idempotency by a field": (
        CHECKOUT,
        "Idempotency-Key",
        lambda t: (t["paths"]["/checkout"].pop("parameters"), put(t.body(), idempotency_token=TEXT)),
    ),
    "other filters": (PRICES, "asks with minSupply", lambda t: t.of("/prices")["parameters"].pop()),
}
OF_ALL_CALLS = ("a server with a path", "another key")


@pytest.mark.parametrize("name", [*MATTERS, *HARMLESS])
def test_a_changed_document_is_otherwise_where_it_was_changed(told, name):
    where, what, change = {**MATTERS, **HARMLESS}[name]
    change(told)
    findings = told.findings()
    assert (findings[where, what].told, findings[where, what].matters) == ("otherwise", name in MATTERS)
    assert {each.where for each in findings.values() if each.told == "otherwise"} == {
        where
    } or name in OF_ALL_CALLS
    assert any(each.matters for each in findings.values()) is (name in MATTERS)


SAME = {
    "one alternative of several": lambda schema: {"oneOf": [schema, {"type": "null"}]},
    "parts": lambda schema: {"allOf": [{"type": "object"}, {"properties": schema["properties"]}]},
    "3.1's null": lambda schema: {**schema, "type": ["object", "null"]},
    "two layouts": lambda schema: {"anyOf": [schema, an_object(pending={"type": "boolean"})]},
}


@pytest.mark.parametrize("written", SAME.values(), ids=SAME)
def test_a_schema_can_be_written_in_several_ways(told, written):
    before = {fact: each.told for fact, each in told.findings().items()}
    told["components"]["schemas"]["Retirement"] = written(told.retirement)
    put(told.body(), metadata=written(told.metadata))
    after = {fact: each.told for fact, each in told.findings().items()}
    assert before.items() <= after.items()


def test_the_rest_is_told_of_what_seems_to_be_a_calls_successor(told):
    before = told.findings().keys()
    rename(told["paths"], "/checkout", "/v2/checkouts")
    assert told.findings().keys() == before


def test_what_says_nothing_is_not_told(told):
    told["paths"]["/checkout"] = {"post": {"responses": {"200": json_of({"type": ["object", "null"]})}}}
    findings = {what: each.told for (where, what), each in told.findings().items() if where == CHECKOUT}
    assert findings.pop("method and path") == findings.pop("Authorization: Bearer") == "as assumed"
    assert set(findings.values()) == {"not told"}
    assert len(findings) > 10


def test_calls_that_were_wished_for_are_news_and_never_a_difference(told, capsys, tmp_path):
    told["paths"] |= {
        "/payments": {"get": {}},
        "/checkout/{id}": {"get": {}, "delete": {}},
        "/info": {"get": {"description": "MAX_USDC"}},
    }
    told["webhooks"] = {"paymentSucceeded": {}}
    told.of("/checkout")["description"] = "MinPurchaseRequired:\x1b[31m at least 0.50 USD"
    assert main([write(told, tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    for news in (
        "a list of payments or checkouts: GET /payments",
        "a look-up of a checkout: GET /checkout/{id}",
        "cancelling or expiring a checkout: DELETE /checkout/{id}",
        "webhooks: paymentSucceeded",
        "limits of a purchase (GET /info): GET /info",
        "a least or most that can be bought (assumed): MinPurchaseRequired: [31m at least 0.50 USD",
    ):
        assert f"\n  news        {news}\n" in printed


def test_the_market_has_a_document_of_its_own(told):
    markets = [path for path in told["paths"] if path.startswith(("/prices", "/carbon", "/retirements"))]
    told["paths"] = {path: told["paths"][path] for path in markets}
    calls = {where: each.told for (where, what), each in told.findings().items() if what == "method and path"}
    assert [call for call, said in calls.items() if said == "not told"] == [QUOTE, CHECKOUT, PAYMENT]
    assert [call for call, said in calls.items() if said == "as assumed"] == [
        PRICES,
        "GET /carbonProjects",
        "GET /retirements",
        *(f"GET /retirements/{{id}}{below}" for below in ("", "/provenance", "/certificate")),
    ]
    told["paths"] = {"/prices": told["paths"]["/prices"]}
    assert not [finding for finding in told.findings().values() if finding.matters]


def test_of_the_market_apis_document_of_2024_only_the_retirement_is_what_we_call(tmp_path, capsys):
    # By the route schemas of KlimaDAO/klimadao (MIT) at carbonmark-api/v6.2.3, in short: its document was made when it ran.
    retirement = an_object(amount=NUMBER, hash=TEXT, beneficiaryAddress=TEXT, timestamp=NUMBER)
    retirement["properties"] |= {"beneficiaryName": TEXT, "retirementMessage": TEXT}
    network = {"anyOf": [words("polygon"), words("mumbai")], "default": "polygon"}
    user = an_object(handle={"type": "string", "minLength": 3}, username=TEXT, wallet=TEXT, description=TEXT)
    v6 = {
        "openapi": "3.0.3",
        "info": {"title": "Carbonmark REST API", "version": "6.2.3"},
        "servers": [{"url": "https://v6.2.3.api.carbonmark.com"}],
        "components": {"schemas": {"def-0": network}},
        "paths": {
            "/retirements/{id}": {
                "get": {
                    "parameters": [
                        {"in": "query", "name": "network", "schema": {"$ref": "#/components/schemas/def-0"}}
                    ],
                    "responses": {"200": json_of(retirement)},
                }
            },
            "/users": {
                "post": {"requestBody": json_of(user), "responses": {"403": json_of(an_object(error=TEXT))}}
            },
        },
    }
    assert main([write(v6, tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert printed.count("! otherwise   method and path (doc): it has nothing like it") == 3
    assert "calls that we don't make: POST /users\n" in printed
    read = {what: each.told for (where, what), each in Told(v6).findings().items() if where == RETIREMENT}
    wanted = ("quantity_tonnes", "transaction_hash", "beneficiary_name", "retired_at")
    assert {read[f"reads {name}"] for name in wanted} == {"as assumed"}
    assert read["what it tells makes a retirement"] == "as assumed"
    # Its retirement, if payments told it so.
    v6["paths"] = {"/payments/{id}": v6["paths"]["/retirements/{id}"]}
    other = Told(v6).findings()
    assert other[PAYMENT, "reads beneficiary_name"].matters
    assert "beneficiaryName" in other[PAYMENT, "also tells"].says


def places(node, path=()):
    for key, each in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*path, key)
        if isinstance(each, (dict, list)):
            yield from places(each, (*path, key))


def test_junk_in_any_place_of_a_document_is_no_crash(told):
    junk = cycle([None, [], "x", 7, True, {}, {"$ref": "#/paths"}, [{"$ref": "#"}], [None, 7, {"type": []}]])
    # A tenth of a second each.
    for *parents, last in random.Random(13).sample(list(places(everything())), 60):
        broken = part = copy.deepcopy(dict(told))
        for key in parents:
            part = part[key]
        part[last] = next(junk)
        if last != "openapi":
            assert list(map(str, compare(Document(broken))))


def write(document, folder):
    path = folder / "openapi.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(path)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is JSON, but no OpenAPI document of version 3"),
        ('{"swagger": "2.0"}', "is JSON, but no OpenAPI document of version 3"),
        (None, "can't be read: No such file or directory"),
    ],
)
def test_what_is_no_document_is_one_sentence(tmp_path, capsys, document, says):
    path = f"{tmp_path}/none.json" if document is None else write(document, tmp_path)
    assert main([path]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"{path} {says}")
    assert printed.err.count("\n") == 1
