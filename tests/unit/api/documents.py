"""An OpenAPI document that says all that the package assumes, to be changed by tests."""

from __future__ import annotations

from airflow_provider_carbonmark.api.contract.check import compare
from airflow_provider_carbonmark.api.contract.openapi import Document

TEXT, NUMBER = {"type": "string"}, {"type": "number"}


def an_object(**properties):
    return {"type": "object", "properties": properties, "required": list(properties)}


def json_of(schema):
    return {"content": {"application/json": {"schema": schema}}}


def call(answer, body=None, **more):
    error = an_object(statusCode={"type": "integer"}, error=TEXT, message=TEXT)
    sent = {"requestBody": json_of(body)} if body else {}
    return {"responses": {"200": json_of(answer), "4XX": json_of(error)}, **sent, **more}


def words(*enum):
    return {"type": "string", "enum": list(enum)}


def everything():
    order = {"asset_price_source_id": TEXT, "quantity_tonnes": {"type": "number", "minimum": 0.001}}
    metadata = an_object(beneficiary_name=TEXT, retirement_message={"type": "string", "maxLength": 500})
    retirement = an_object(
        status=words("SUBMITTED", "COMMITTED", "COMPLETED", "FAILED"),
        view_retirement_url={"type": "string", "nullable": True},
        quantity_tonnes=NUMBER,
        beneficiary_name=TEXT,
    )
    listing = an_object(
        creditId=an_object(projectId=TEXT, vintage={"type": "integer"}),
        token=an_object(isExAnte={"type": "boolean"}, symbol=TEXT),
        expiresAfter=NUMBER,
    )
    amounts = ("purchasePrice", "baseUnitPrice", "supply", "liquidSupply", "minFillAmount")
    price = an_object(sourceId=TEXT, type=TEXT, **dict.fromkeys(amounts, NUMBER), listing=listing)
    checkout = an_object(**order, metadata=metadata, success_url=TEXT, cancel_url=TEXT)
    page = an_object(url=TEXT, expires_at=TEXT, payment_id=TEXT)
    payment = an_object(
        id=TEXT,
        status=words("open", "complete", "paid", "failed"),
        retirement={"$ref": "#/components/schemas/def~10"},
    )
    filters = [{"in": "query", "name": name, "schema": TEXT} for name in ("projectIds", "minSupply")]
    paging = [{"in": "query", "name": name, "schema": TEXT} for name in ("keys", "limit", "offset")]
    names = ("key", "name", "country", "region", "registry", "url")
    project = an_object(**dict.fromkeys(names, TEXT), methodologies={"type": "array", "items": {}})
    projects = an_object(items={"type": "array", "items": project}, itemsCount=NUMBER)
    texts = ("id", "hash", "beneficiaryName", "retiringName")
    credit = an_object(bridgeProtocol=TEXT)
    told = an_object(**dict.fromkeys(texts, TEXT), amount=NUMBER, timestamp=NUMBER, credit=credit)
    told["properties"]["creditId"] = listing["properties"]["creditId"]
    record = an_object(transactionType=TEXT, registrySerialNumbers={"type": "array", "items": TEXT})
    by_hash = [{"in": "query", "name": "hash", "schema": TEXT}]
    document = {"responses": {"200": {"content": {"application/pdf": {}}}}, "security": []}
    key = [{"in": "header", "name": "idempotency-key", "schema": TEXT}]
    reference = {"allOf": [{"$ref": "#/components/schemas/Retirement"}]}
    return {
        "openapi": "3.0.3",
        "info": {"title": "All that is assumed", "version": "1"},
        "servers": [{"url": "https://checkout.carbonmark.com"}],
        "security": [{"key": []}],
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "Bearer"}},
            "schemas": {"Retirement": retirement, "def/0": reference},
        },
        "paths": {
            "/quotes": {"post": call(an_object(uuid=TEXT, cost_usdc=NUMBER), an_object(**order))},
            "/checkout": {"parameters": key, "post": call(page, checkout)},
            "/payments/{paymentId}": {"get": call(payment)},
            "/carbonProjects": {"get": call(projects, parameters=paging, security=[])},
            "/prices": {"get": call({"type": "array", "items": price}, parameters=filters, security=[])},
            "/retirements": {"get": call({"type": "array", "items": told}, parameters=by_hash, security=[])},
            "/retirements/{id}": {"get": call(told, security=[])},
            "/retirements/{id}/provenance": {"get": call({"type": "array", "items": record}, security=[])},
            "/retirements/{id}/certificate": {"get": document},
        },
    }


class Told(dict):
    """A document, with its parts at hand."""

    def of(self, path):
        return next(each for each in self["paths"][path].values() if isinstance(each, dict))

    def answer(self, path):
        return self.of(path)["responses"]["200"]["content"]["application/json"]["schema"]

    def body(self, path="/checkout"):
        return self.of(path)["requestBody"]["content"]["application/json"]["schema"]

    @property
    def metadata(self):
        return self.body()["properties"]["metadata"]

    @property
    def retirement(self):
        return self["components"]["schemas"]["Retirement"]

    def findings(self):
        return {(finding.where, finding.what): finding for finding in compare(Document(dict(self)))}
