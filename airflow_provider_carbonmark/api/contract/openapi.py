"""An OpenAPI document, 3.0 or 3.1, as values: its calls, and what its schemas say, with references followed and alternatives laid together."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from airflow_provider_carbonmark.api.errors import TransportError, UnreadableAnswerError, shorten

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_LIMITS = (
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
)
_TIMEOUT = 30.0


@dataclass(frozen=True)
class Schema:
    """
    What a schema says, with its parts and alternatives laid together. null is left out.

    :param types: JSON types; none where it doesn't say.
    :param properties: each property's schema, as it is written.
    :param required: the properties that every alternative requires.
    :param further: what it says of other properties: a schema, True, False, or None for nothing.
    :param words: its enum.
    :param limits: bounds, format and pattern, by their keywords.
    :param about: title and description.
    """

    types: frozenset[str] = frozenset()
    properties: Mapping[str, Any] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    further: Any = None
    items: Any = None
    words: tuple[str, ...] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""

    @property
    def is_told(self) -> bool:
        return bool(self.types or self.properties or self.words)

    def __str__(self) -> str:
        kinds = " or ".join(sorted(self.types)) or "of any type"
        return ", ".join((kinds, *(f"{name} {value}" for name, value in self.limits.items())))

    def narrowed_by(self, other: Schema) -> Schema:
        return Schema(
            self.types & other.types if self.types and other.types else self.types | other.types,
            _joined(self.properties, other.properties, "allOf"),
            self.required | other.required,
            False if False in (self.further, other.further) else self.further or other.further,
            other.items if self.items is None else self.items,
            self.words or other.words,
            {**self.limits, **other.limits},
            f"{self.about} {other.about}".strip(),
        )

    def or_else(self, other: Schema) -> Schema:
        return Schema(
            self.types | other.types if self.types and other.types else frozenset(),
            _joined(self.properties, other.properties, "anyOf"),
            self.required & other.required,
            self.further or other.further if self.further != other.further else self.further,
            other.items if self.items is None else self.items,
            tuple(dict.fromkeys(self.words + other.words)),
            {name: value for name, value in self.limits.items() if other.limits.get(name) == value},
            f"{self.about} {other.about}".strip(),
        )


@dataclass(frozen=True)
class Operation:
    """
    A call of a document.

    :param method: in capitals.
    :param path: with the path of the server in front.
    :param content: what is written of it, its path's parameters included.
    """

    method: str
    path: str
    content: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def is_for(self, request: httpx.Request) -> bool:
        pattern = "[^/]+".join(map(re.escape, re.split(r"\{[^{}]*\}", self.path)))
        return request.method == self.method and re.fullmatch(pattern, request.url.path) is not None


@dataclass(frozen=True)
class Document:
    """A document."""

    content: Mapping[str, Any]

    @cached_property
    def servers(self) -> list[str]:
        return [str(each["url"]) for each in _dicts(self.content.get("servers")) if "url" in each]

    @cached_property
    def operations(self) -> list[Operation]:
        before = {_path(url) for url in self.servers} or {""}
        prefix = "" if "" in before else min(before)
        return [
            Operation(method.upper(), prefix + path, self._with_parameters(item, item[method]))
            for path, item in (
                (str(path), self.resolve(item)) for path, item in self.section("paths").items()
            )
            for method in _METHODS
            if isinstance(item.get(method), dict)
        ]

    def section(self, *names: str) -> Mapping[str, Any]:
        """Return a part of the document; an empty one where it isn't there."""
        return reduce(lambda part, name: _dict(part.get(name)), names, self.content)

    def _with_parameters(self, item: Mapping[str, Any], operation: Mapping[str, Any]) -> dict[str, Any]:
        both = _dicts(item.get("parameters")) + _dicts(operation.get("parameters"))
        return {**operation, "parameters": [self.resolve(each) for each in both]}

    def resolve(self, node: Any) -> Mapping[str, Any]:
        """Follow a reference to wherever it ends; what can't be followed says nothing."""
        for _ in range(20):
            if not isinstance(node, dict) or "$ref" not in node:
                return _dict(node)
            node = self._at(node["$ref"])
        return {}

    def _at(self, reference: object) -> Any:
        place: Any = self.content
        if not isinstance(reference, str) or not reference.startswith("#"):
            return None
        for part in reference.split("/")[1:]:
            name = unquote(part).replace("~1", "/").replace("~0", "~")
            place = place.get(name) if isinstance(place, dict) else None
        return place

    def schema(self, node: Any, seen: tuple[int, ...] = ()) -> Schema:
        """Lay a schema's parts and alternatives together; one that holds itself is read once."""
        if not isinstance(node, dict) or id(node) in seen:
            return Schema()
        seen = (*seen, id(node))
        found = _own(node)
        parts = [self._at(node["$ref"])] if "$ref" in node else []
        for part in parts + _dicts(node.get("allOf")):
            found = found.narrowed_by(self.schema(part, seen))
        for several in ("oneOf", "anyOf"):
            ways = [self.schema(way, seen) for way in _dicts(node.get(several)) if way.get("type") != "null"]
            if ways:
                found = found.narrowed_by(reduce(Schema.or_else, ways))
        # What says "null" and nothing else says no more than what says nothing.
        return replace(found, types=found.types - {"null"})

    def of_content(self, message: Any) -> Schema | None:
        """Return the schema of a request's or an answer's JSON; None where it is another kind of content."""
        content = _dict(self.resolve(message).get("content"))
        for kind, told in content.items():
            if "json" in kind or kind == "*/*":
                return self.schema(_dict(told).get("schema"))
        return None if content else Schema()

    def answer(self, operation: Operation) -> Schema:
        found = [told for status, told in self._answers(operation) if status.startswith("2")]
        return (self.of_content(found[0]) if found else None) or Schema()

    def errors(self, operation: Operation) -> list[Schema]:
        told = [
            self.of_content(told)
            for status, told in self._answers(operation)
            if status[0] in "45" or status == "default"
        ]
        return [schema for schema in told if schema and schema.is_told]

    def _answers(self, operation: Operation) -> list[tuple[str, Any]]:
        answers = _dict(operation.content.get("responses"))
        return [(str(status), answers[status]) for status in sorted(answers, key=str) if status]

    def at(self, schema: Schema, place: tuple[str, ...]) -> Schema | None:
        """Return the schema of a property below another; None where that isn't told of."""
        for name in place:
            if name not in schema.properties:
                return None
            schema = self.schema(schema.properties[name])
        return schema

    def leaves(self, schema: Schema, depth: int = 3) -> Iterator[tuple[str, ...]]:
        """Yield the places of all values that a schema tells of."""
        for name, node in schema.properties.items():
            inner = self.schema(node)
            if inner.properties and depth > 1:
                yield from ((name, *place) for place in self.leaves(inner, depth - 1))
            else:
                yield (name,)

    def texts(self, node: Any, seen: set[int] | None = None) -> Iterator[str]:
        """Yield everything that is written in a part of the document and in what it refers to."""
        seen = set() if seen is None else seen
        if isinstance(node, str):
            yield node
        elif isinstance(node, (list, dict)) and id(node) not in seen:
            seen.add(id(node))
            for name, part in node.items() if isinstance(node, dict) else enumerate(node):
                yield from (str(name), *self.texts(self._at(part) if name == "$ref" else part, seen))


def read_document(where: str) -> Document:
    """
    Read a document.

    :param where: its address, or its file.
    :raises TransportError: no answer came, or an error.
    :raises UnreadableAnswerError: there is no such file, or it is no such document.
    """
    try:
        if where.lower().startswith(("http://", "https://")):
            answer = httpx.get(where, follow_redirects=True, timeout=_TIMEOUT)
            if not answer.is_success:
                raise TransportError(f"{where} answers {answer.status_code} {answer.reason_phrase}")
            text = answer.text
        else:
            text = Path(where).read_text(encoding="utf-8-sig")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise TransportError(
            f"{where} can't be reached: {shorten(str(error)) or type(error).__name__}"
        ) from None
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise UnreadableAnswerError(f"{where} can't be read: {shorten(problem)}") from None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableAnswerError(f"{where} is not JSON: {shorten(str(error))}") from None
    if not str(_dict(content).get("openapi", "")).startswith("3."):
        raise UnreadableAnswerError(f"{where} is JSON, but no OpenAPI document of version 3")
    return Document(content)


def _own(node: Mapping[str, Any]) -> Schema:
    kinds = node.get("type")
    words = node.get("enum", [node["const"]] if "const" in node else [])
    return Schema(
        frozenset(kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if isinstance(kind, str)),
        _dict(node.get("properties")),
        frozenset(name for name in _list(node.get("required")) if isinstance(name, str)),
        node.get("additionalProperties"),
        node.get("items"),
        tuple(str(word) for word in _list(words) if word is not None),
        _limits(node),
        " ".join(node[name] for name in ("title", "description") if isinstance(node.get(name), str)),
    )


def _limits(node: Mapping[str, Any]) -> dict[str, Any]:
    limits = {
        name: node[name] for name in _LIMITS if type(node.get(name)) in (int, float) and isfinite(node[name])
    }
    for name in ("Minimum", "Maximum"):
        # OpenAPI 3.0 says by a flag that a bound itself is out.
        if node.get(f"exclusive{name}") is True and name.lower() in limits:
            limits[f"exclusive{name}"] = limits.pop(name.lower())
    return limits | {name: node[name] for name in ("format", "pattern") if isinstance(node.get(name), str)}


def _joined(first: Mapping[str, Any], second: Mapping[str, Any], how: str) -> dict[str, Any]:
    both = {name: {how: [first[name], second[name]]} for name in first.keys() & second.keys()}
    return {**first, **second, **both}


def _path(url: str) -> str:
    try:
        return urlsplit(url).path.rstrip("/")
    except ValueError:
        return ""


def _dict(node: Any) -> dict[str, Any]:
    return node if isinstance(node, dict) else {}


def _list(node: Any) -> list[Any]:
    return node if isinstance(node, list) else []


def _dicts(node: Any) -> list[dict[str, Any]]:
    return [each for each in _list(node) if isinstance(each, dict)]
