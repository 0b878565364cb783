"""The contract check of the running sandbox's document, as it is and with what the sandbox really answers written into it."""

from __future__ import annotations

import httpx
import pytest

from airflow_provider_carbonmark.api.contract.check import compare, main
from airflow_provider_carbonmark.api.contract.openapi import Document, read_document

CALLS = {
    "/quotes": "POST",
    "/checkout": "POST",
    "/payments/{payment_id}": "GET",
    "/prices": "GET",
    "/carbonProjects": "GET",
    "/retirements": "GET",
    "/retirements/{retirement_id}": "GET",
    "/retirements/{retirement_id}/provenance": "GET",
}


def schema_of(value):
    if isinstance(value, dict):
        return {"type": "object", "properties": {name: schema_of(each) for name, each in value.items()}}
    if isinstance(value, list):
        return {"type": "array", "items": schema_of(value[-1]) if value else {}}
    names = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
    return {"type": names[type(value)]}


@pytest.fixture
def answered(sandbox, order):
    """Return a function that gives the sandbox's document, with its answers' layout as switches have it."""

    def answer(**switches):
        sandbox.state.change_switches(require_key=False, **switches)
        content = read_document(f"{sandbox.url}/openapi.json").content
        sent = {**order, "quantity_tonnes": 12.345}
        with httpx.Client(base_url=sandbox.url, trust_env=False) as http:
            payment_id = sandbox.pay(http.post("/checkout", json=sent).json()["url"])
            transaction = sandbox.state.checkout_of(payment_id).transaction
            names = {"payment_id": payment_id, "retirement_id": transaction.retirement_id}
            for path, method in CALLS.items():
                body = sent if method == "POST" else None
                filters = {"hash": transaction.hash} if path == "/retirements" else None
                answer = http.request(method, path.format(**names), json=body, params=filters)
                told = schema_of(answer.raise_for_status().json())
                (operation,) = content["paths"][path].values()
                operation["responses"]["200"] = {"content": {"application/json": {"schema": told}}}
        return compare(Document(content))

    return answer


def test_the_sandboxs_document_says_nothing_else(sandbox, capsys):
    assert main([f"{sandbox.url}/openapi.json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "  as assumed  sends quantity_tonnes (doc): number" in printed.out
    assert "0 otherwise" in printed.out


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"checkout_layout": "rich", "expiry_field": "expires_at", "prices_layout": "items"},
        {
            "payment_status_at": "payment.status",
            "retirement_status_at": "retirement_status",
            "proof_at": "top",
        },
        {"retirement_status_at": "order.status", "bought_at": "order"},
    ],
    ids=str,
)
def test_every_layout_that_the_sandbox_knows_is_as_assumed(answered, switches):
    findings = answered(**switches)
    assert [str(finding) for finding in findings if finding.told == "otherwise"] == []
    made = [finding.what for finding in findings if finding.what.startswith("what it tells makes a")]
    assert [what.rpartition(" ")[2] for what in made] == [
        "quote",
        "checkout",
        "retirement",
        "listing",
        "project",
        "retirement",
        "retirement",
        "provenancerecord",
    ]


def test_a_layout_that_nobody_reads_matters(answered):
    findings = answered(bought_at="untold", echo_metadata=False)
    assert {finding.what for finding in findings if finding.matters} == {
        "reads quantity_tonnes",
        "reads beneficiary_name",
        "what it tells makes a retirement",
    }


def test_an_address_that_answers_no_document_is_one_sentence(sandbox, tls_sandbox, capsys):
    for url, says in {
        f"{sandbox.url}/": "is not JSON",
        f"{sandbox.url}/none": "answers 404 Not Found",
        "http://127.0.0.1:9/openapi.json": "can't be reached",
        f"{tls_sandbox.url}/openapi.json": "CERTIFICATE_VERIFY_FAILED",
        "http://[/": "can't be",
    }.items():
        assert main([url]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert url in printed.err
        assert says in printed.err
        assert printed.err.count("\n") == 1
