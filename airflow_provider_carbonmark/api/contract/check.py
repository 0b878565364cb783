"""
Compares the service's OpenAPI document with what this package sends and reads: ``python -m airflow_provider_carbonmark.api.contract``.

Whether a difference in an answer matters is asked of the code that reads it.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from importlib import metadata as distributions
from typing import Any

from airflow_provider_carbonmark.api.contract.assumptions import (
    AssumedCall,
    AssumedField,
    Place,
    assumed_calls,
    is_one_of,
    read_of_error,
)
from airflow_provider_carbonmark.api.contract.openapi import Document, Operation, Schema, read_document
from airflow_provider_carbonmark.api.errors import CarbonmarkError, shorten
from airflow_provider_carbonmark.api.models import Checkout, Listing, Payment
from airflow_provider_carbonmark.api.retirement import (
    DEFAULT_FAILED_STATES,
    DEFAULT_SUCCESS_STATES,
    UNDER_WAY_STATES,
    UNPAID_STATES,
)

#: assumed (strong): where the service's document is.
DOCUMENT_URL = "https://checkout.carbonmark.com/openapi.json"

# Words that code needn't know, since they only keep a wait going. doc (Stripe): a payment's; doc and seen: an order's.
_WAITED_ON = {
    "payment_status": ("PAID", "NO_PAYMENT_REQUIRED", *UNPAID_STATES, *UNDER_WAY_STATES),
    "retirement_status": ("SUBMITTED", "COMMITTED", *UNDER_WAY_STATES),
}
_BOUNDS: Mapping[str, Callable[[Fraction, Fraction], bool]] = {
    "minimum": lambda number, bound: number < bound,
    "exclusiveMinimum": lambda number, bound: number <= bound,
    "maximum": lambda number, bound: number > bound,
    "exclusiveMaximum": lambda number, bound: number >= bound,
    "multipleOf": lambda number, bound: bound > 0 and number % bound != 0,
}
_WISHES = {
    "a list of payments or checkouts": r"GET \S*/(payments|checkouts?|sessions)",
    "a look-up of a checkout": r"GET \S*/(checkouts?|sessions)/\{.*",
    "cancelling or expiring a checkout": r"DELETE \S*|P\w+ \S*(cancel|expire)\S*",
    "webhooks": r"\w+ \S*(web_?-?hooks?|events?|callbacks?)\b.*",
    "limits of a purchase (GET /info)": r"GET \S*/info",
}


class Told(StrEnum):
    """What a document says of a fact."""

    AS_ASSUMED = "as assumed"
    OTHERWISE = "otherwise"
    NOT_TOLD = "not told"
    NEWS = "news"


@dataclass(frozen=True)
class Finding:
    """
    A fact that this package relies on, and what the document says of it.

    :param sureness: how surely it was known: doc, seen, assumed.
    :param counts: whether this package would fail, or do the wrong thing, if it were otherwise.
    """

    where: str
    what: str
    sureness: str
    told: Told
    says: str = ""
    counts: bool = False

    @property
    def matters(self) -> bool:
        return self.told is Told.OTHERWISE and self.counts

    def __str__(self) -> str:
        sureness = f" ({self.sureness})" if self.sureness else ""
        says = f": {_plain(self.says)}" if self.says else ""
        return f"{'!' if self.matters else ' '} {self.told:<10}  {self.what}{sureness}{says}"


def compare(document: Document) -> list[Finding]:
    """
    Compare a document with what this package sends and reads.

    :param document: the Checkout Service's, or the market API's.
    """
    found = {
        call: next((each for each in document.operations if each.is_for(call.request)), None)
        for call in assumed_calls(DOCUMENT_URL.rpartition("/")[0])
    }
    has = {call.model for call, operation in found.items() if operation}
    is_markets = Listing in has and not has & {Checkout, Payment}
    findings: list[Finding] = []
    for call, operation in found.items():
        if operation:
            told, says = Told.AS_ASSUMED, str(operation)
        elif call.is_markets is not is_markets:
            told, says = Told.NOT_TOLD, "a call of the other service, which has a document of its own"
        else:
            alike = [each for each in document.operations if call.word in each.path.lower()]
            told, says = Told.OTHERWISE, f"it has {', '.join(map(str, alike)) or 'nothing like it'}"
            same = [each for each in alike if each.method == call.request.method]
            # The only one is most likely its successor, so the rest is told of that.
            found[call] = same[0] if len(same) == 1 else None
        findings.append(Finding(str(call), "method and path", "doc", told, says, call.is_needed))
        if compared := found[call]:
            findings += _Comparison(document, call, compared).findings()
    return [*findings, *_news(document, [str(each) for each in found.values() if each])]


def _news(document: Document, used: list[str]) -> Iterator[Finding]:
    """Tell which of the calls that we wished for there are, and which others."""
    others = [str(each) for each in document.operations if str(each) not in used]
    for wish, pattern in _WISHES.items():
        found = [each for each in others if re.fullmatch(pattern, each, re.IGNORECASE)]
        if wish == "webhooks":
            found += document.section("webhooks")
        told = Told.NEWS if found else Told.NOT_TOLD
        yield Finding("Beyond", wish, "", told, ", ".join(found))
    if others:
        yield Finding("Beyond", "calls that we don't make", "", Told.NEWS, ", ".join(others))


@dataclass(frozen=True)
class _Comparison:
    """One of our calls, and the document's."""

    document: Document
    call: AssumedCall
    operation: Operation

    def findings(self) -> Iterator[Finding]:
        yield from self._parameters()
        yield from self._sent()
        yield self._access()
        if "idempotency-key" in self.call.request.headers:
            yield self._idempotency()
            yield self._bounds()
        yield from self._read()
        yield self._errors()

    def _finding(
        self, what: str, sureness: str, told: Told | bool, says: str = "", *, counts: bool = True
    ) -> Finding:
        """Make a finding of this call; True is as assumed, False is otherwise."""
        if isinstance(told, bool):
            told = Told.AS_ASSUMED if told else Told.OTHERWISE
        return Finding(str(self.call), what, sureness, told, says, counts)

    def _parameters(self) -> Iterator[Finding]:
        sent = {"header": self.call.request.headers, "query": self.call.request.url.params}
        told = [
            (str(each.get("in")), str(each.get("name")), each.get("required") is True)
            for each in self.operation.content["parameters"]
            if each.get("in") != "path"
        ]
        lacking = [
            f"{way} {name}" for way, name, required in told if required and name not in sent.get(way, ())
        ]
        if lacking:
            yield self._finding("sends what is required", "doc", False, f"also requires {', '.join(lacking)}")
        names = [name for way, name, _ in told if way == "query"]
        for name in dict.fromkeys(sent["query"]):
            is_told = name in names if names else Told.NOT_TOLD
            says = f"it has {', '.join(names)}" if names and not is_told else ""
            # What a filter lets through is filtered again.
            yield self._finding(f"asks with {name}", "seen", is_told, says, counts=False)

    def _sent(self) -> Iterator[Finding]:
        body = self.document.of_content(self.operation.content.get("requestBody"))
        if self.call.sent and body is None:
            yield self._finding("sends JSON", "doc", False, "it takes another kind of content")
        elif body and self.call.sent:
            yield from self._object("", self.call.sent, body)

    def _object(self, place: str, sent: Mapping[str, Any], schema: Schema) -> Iterator[Finding]:
        lacking = sorted(schema.required - sent.keys())
        says = f"also requires {', '.join(f'{place}{name}' for name in lacking)}" if lacking else ""
        told = not lacking if schema.is_told else Told.NOT_TOLD
        yield self._finding(f"sends what {place.rstrip('.') or 'the body'} requires", "doc", told, says)
        for name, value in sent.items():
            what = f"sends {place}{name}"
            node = schema.properties.get(name, schema.further)
            if node is False or (node is None and schema.properties):
                says = f"not among {', '.join(schema.properties)}"
                yield self._finding(what, "doc", False, says)
                continue
            field = self.document.schema(node)
            refusal = _refusal(field, value)
            told = Told.NOT_TOLD if not field.is_told else not refusal
            yield self._finding(what, "doc", told, f"{field}{refusal}" if field.is_told else "")
            if isinstance(value, dict):
                yield from self._object(f"{place}{name}.", value, field)

    def _access(self) -> Finding:
        sent = self.call.request.headers.get("authorization", "").partition(" ")[0]
        what, sureness = (f"Authorization: {sent}", "assumed") if sent else ("needs no key", "seen")
        told = self.operation.content.get("security", self.document.content.get("security"))
        if not isinstance(told, list):
            return self._finding(what, sureness, Told.NOT_TOLD)
        schemes = self.document.section("components", "securitySchemes")
        ways = [
            [self.document.resolve(schemes.get(name)) for name in way]
            for way in told
            if isinstance(way, dict)
        ]
        fits = not ways or any(all(sent and _is_ours(scheme, sent) for scheme in way) for way in ways)
        says = " or ".join(" and ".join(map(_show_scheme, way)) or "none" for way in ways) or "none"
        return self._finding(what, sureness, fits, says)

    def _idempotency(self) -> Finding:
        texts = self._texts(".*idempoten")
        told = any(text.lower() == "idempotency-key" for text in texts) if texts else Told.NOT_TOLD
        return self._finding("Idempotency-Key", "assumed", told, "; ".join(texts[:3]), counts=False)

    def _bounds(self) -> Finding:
        # Not the keywords themselves: they are told with their fields.
        texts = self._texts(
            r"(?!(min|max)imum$)(.*\b(min|max)(imum|imal|purchase|amount|_)|.*\bat (least|most)\b)"
        )
        told = Told.NEWS if texts else Told.NOT_TOLD
        return self._finding("a least or most that can be bought", "assumed", told, "; ".join(texts[:5]))

    def _texts(self, pattern: str) -> list[str]:
        texts = self.document.texts(self.operation.content)
        return [text for text in texts if re.match(pattern, text, re.IGNORECASE)]

    def _read(self) -> Iterator[Finding]:
        answer = self.document.answer(self.operation)
        if self.call.is_list:
            entries = self.document.at(answer, ("items",)) or answer
            answer = self.document.schema(entries.items)
        is_told = bool(answer.properties or answer.types - {"object"})
        values: dict[Place, object] = {}
        for field in self.call.fields:
            said = ((place, self.document.at(answer, place)) for place in field.places)
            place, schema = next(((place, schema) for place, schema in said if schema), ((), None))
            if schema:
                value = field.value(schema.types) if schema.types else field.value()
                values |= {} if value is None else {place: value}
                yield self._field(field, value is not None, f"{'.'.join(place)}, {schema}")
                if field.name == "cost_usd":
                    yield self._unit(place, schema)
                if schema.words and field.name in _WAITED_ON:
                    yield self._words(field.name, schema.words)
            else:
                says = f"not at {', '.join('.'.join(place) for place in field.places)}" if is_told else ""
                told = False if is_told and field.name in self.call.needed else Told.NOT_TOLD
                yield self._field(field, told, says)
        if is_told:
            made = "retirement" if self.call.model is Payment else self.call.model.__name__.lower()
            problem = self.call.problem_with(values)
            yield self._finding(f"what it tells makes a {made}", "", problem is None, problem or "")
            read = {place for field in self.call.fields for place in field.places}
            others = [".".join(place) for place in self.document.leaves(answer) if place not in read]
            if others:
                yield self._finding("also tells", "", Told.NEWS, ", ".join(others))

    def _field(self, field: AssumedField, told: Told | bool, says: str) -> Finding:
        # Of an answer to a checkout, all but its address is a guess.
        sureness = "seen" if self.call.model is Checkout and field.name == "url" else self.call.sureness
        counts = field.name in self.call.needed
        return self._finding(f"reads {field.name}", sureness, told, says, counts=counts)

    def _unit(self, place: Place, schema: Schema) -> Finding:
        about = f"{place[-1]} {schema.about}".replace("_", " ").lower()
        in_cents = re.search(r"\bcents?\b", about) or schema.types == {"integer"}
        told = not in_cents if in_cents or "usd" in about else Told.NOT_TOLD
        return self._finding(
            "the cost is in USD, not in cents", "assumed", told, f"{about.strip()}, {schema}"
        )

    def _words(self, name: str, words: tuple[str, ...]) -> Finding:
        kinds = {
            "success": DEFAULT_SUCCESS_STATES,
            "failure": DEFAULT_FAILED_STATES,
            "waited on": _WAITED_ON[name],
        }
        of = {kind: [word for word in words if is_one_of(word, ours)] for kind, ours in kinds.items()}
        of["unknown, so waited on"] = [
            word for word in words if not any(word in known for known in of.values())
        ]
        ours = (*DEFAULT_SUCCESS_STATES, *DEFAULT_FAILED_STATES)
        of["of ours not in it"] = [word for word in ours if not is_one_of(word, words)]
        # Only a word that we know ends a wait. That it ends well, a payment's never says.
        ends = of["success"] if name == "retirement_status" else True
        told = not of["unknown, so waited on"] and bool(ends)
        counts = not ends or not of["failure"]
        says = "; ".join(f"{kind}: {', '.join(found) or 'none'}" for kind, found in of.items())
        return self._finding(f"words of the {name.replace('_', ' ')}", "assumed", told, says, counts=counts)

    def _errors(self) -> Finding:
        told = [schema.properties for schema in self.document.errors(self.operation) if schema.properties]
        read = [read_of_error(names) for names in told]
        is_read = all(read) if told else Told.NOT_TOLD
        says = "; ".join(
            each or f"no message in {', '.join(names)}" for each, names in zip(read, told, strict=True)
        )
        return self._finding("layout of errors", "seen", is_read, says, counts=False)


def _refusal(field: Schema, value: object) -> str:
    """Return why a schema doesn't take what we send, as the end of a sentence; empty when it does."""
    kinds = {dict: {"object"}, str: {"string"}, int: {"integer", "number"}}.get(type(value), {"number"})
    if field.types and not field.types & kinds:
        return f" instead of {min(kinds)}"
    limits = field.limits
    if isinstance(value, str):
        if len(value) > limits.get("maxLength", len(value)):
            return f", and we send up to {len(value)} characters"
        return f", none of {', '.join(field.words)}" if field.words and value not in field.words else ""
    if isinstance(value, dict):
        return ""
    number = Fraction(str(value))
    for name, is_outside in _BOUNDS.items():
        if name in limits and is_outside(number, Fraction(str(limits[name]))):
            return f", and we send {value}"
    return ""


def _is_ours(scheme: Mapping[str, Any], sent: str) -> bool:
    kind, way = scheme.get("type"), (scheme.get("in"), str(scheme.get("name")).lower())
    is_http = kind == "http" and str(scheme.get("scheme")).lower() == sent.lower()
    return is_http or (kind == "apiKey" and way == ("header", "authorization"))


def _show_scheme(scheme: Mapping[str, Any]) -> str:
    return " ".join(str(scheme[name]) for name in ("type", "scheme", "in", "name") if name in scheme) or "any"


def _plain(text: str) -> str:
    """Make a text of the document fit for a line of a terminal."""
    return shorten(" ".join("".join(sign if sign.isprintable() else " " for sign in text).split()), 1000)


def _report(where: str, document: Document, findings: list[Finding]) -> Iterator[str]:
    yield f"airflow-provider-carbonmark {distributions.version('airflow-provider-carbonmark')}, checked against {where}"
    about = document.section("info")
    title = f"{about.get('title')} {about.get('version')}, OpenAPI {document.content['openapi']}"
    yield _plain(f"{title}; servers: {', '.join(document.servers) or 'not told'}")
    yield "How surely a fact was known: doc(umented), seen (reported by a user), assumed. A difference that matters has a !"
    group = None
    for finding in findings:
        if finding.where != group:
            group = finding.where
            yield f"\n{group}"
        yield str(finding)
    counts = (f"{sum(each.told is told for each in findings)} {told}" for told in Told)
    yield f"\n{len(findings)} facts: {', '.join(counts)}; {sum(each.matters for each in findings)} matter."


def main(argv: list[str] | None = None) -> int:
    """
    Print what a document says of each fact.

    :param argv: the command line, without the program's name.
    :return: the exit code: 0, 1 when something is otherwise that matters, 2 when there is no such document.
    """
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_carbonmark.api.contract",
        description="Compare the service's OpenAPI document with what this package sends and reads: exit code 1 when something is otherwise that matters.",
    )
    parser.add_argument(
        "document", nargs="?", default=DOCUMENT_URL, help="URL or file (default: %(default)s)"
    )
    where = parser.parse_args(argv).document
    # What our readers say of the answers that are made up here is none of a user's business.
    logging.getLogger("airflow_provider_carbonmark").addHandler(logging.NullHandler())
    try:
        document = read_document(where)
    except CarbonmarkError as error:
        print(error, file=sys.stderr)
        return 2
    findings = compare(document)
    print(*_report(where, document, findings), sep="\n")
    return int(any(finding.matters for finding in findings))
