"""What a deployment says of credits and of itself, beside what the market tells; what it leaves out is not stated, and never guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import bare_methodology

#: Whether credits stand for emissions that were avoided or reduced, for carbon that was taken out of the air, or for either.
Mechanism: TypeAlias = Literal["reduction", "removal", "both"]
#: Where carbon that was taken out of the air is: in what grows, or in what was built.
Sink: TypeAlias = Literal["biogenic", "technological"]

_LEI = re.compile("[0-9A-Z]{18}[0-9]{2}")


def _check_lei(lei: str) -> str:
    # ISO 17442: letters count from 10, and the whole is 1 modulo 97.
    if not (_LEI.fullmatch(lei) and int("".join(str(int(sign, 36)) for sign in lei)) % 97 == 1):
        raise ValueError("is no LEI: 20 digits and capital letters, the last two of which check the rest")
    return lei


_Text: TypeAlias = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
_Lei: TypeAlias = Annotated[str, AfterValidator(_check_lei)]


class _Stated(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Kind(_Stated):
    mechanism: Mechanism | None = None
    sink: Sink | None = None

    @model_validator(mode="after")
    def _only_removals_have_a_sink(self) -> Self:
        if self.sink and self.mechanism == "reduction":
            raise ValueError("has a sink, and only what removes carbon has one: leave out sink")
        return self


class Company(_Stated):
    """
    Who reports.

    :param boundary: what of the company the emissions are of, in words.
    :param purpose: what the credits are bought for.
    :param verification: whether and by whom the company's data and claims are verified, in words.
    :param preparer: who made the report.
    :param seller: the business that sells the credits, where a project names no other.
    """

    name: _Text | None = None
    lei: _Lei | None = None
    boundary: _Text | None = None
    purpose: Literal["compensation", "contribution"] | None = None
    verification: _Text | None = None
    preparer: _Text | None = None
    seller: _Text | None = None


class StatedMethodology(_Kind):
    """What credits that a methodology works out stand for."""


class StatedStandard(_Stated):
    """A standard, and whether it is a recognised quality standard."""

    name: _Text | None = None
    recognised: bool | None = None


class StatedProject(_Kind):
    """
    What holds for a project, whatever its methodologies or the market say.

    :param corresponding_adjustment: whether its host country adjusts its own balance for the credits (Paris Agreement, Article 6).
    :param seller: the business that sells its credits.
    """

    corresponding_adjustment: bool | None = None
    seller: _Text | None = None
    country: _Text | None = None


class DisclosureFacts(_Stated):
    """
    All that a deployment states; what is None or missing is not stated.

    :param methodologies: by id, such as ``ACM0002``, with punctuation or, as the market has it, without.
    :param standards: by what project ids begin with, such as ``VCS``.
    :param projects: by id, such as ``VCS-191``.
    """

    company: Company = Company()
    methodologies: Mapping[str, StatedMethodology] = Field(default_factory=dict)
    standards: Mapping[str, StatedStandard] = Field(default_factory=dict)
    projects: Mapping[str, StatedProject] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _each_methodology_once(self) -> Self:
        seen: dict[str, str] = {}
        for id in self.methodologies:
            if (other := seen.setdefault(bare_methodology(id), id)) != id:
                raise ValueError(f"names one methodology twice, {other} and {id}: leave out one")
        return self

    @cached_property
    def _kinds(self) -> Mapping[str, StatedMethodology]:
        return {bare_methodology(id): kind for id, kind in self.methodologies.items()}

    def project(self, project_id: str | None) -> StatedProject:
        return self.projects.get(project_id or "") or StatedProject()

    def standard(self, registry: str | None) -> StatedStandard:
        return self.standards.get(registry or "") or StatedStandard()

    def mechanism_of(self, project_id: str | None, methodologies: Collection[str]) -> Mechanism | None:
        """Say what a project's credits stand for; None where that is not stated of each of its methodologies, by their ids."""
        if stated := self.project(project_id).mechanism:
            return stated
        kinds = {kind.mechanism for kind in self._of(methodologies)}
        if not kinds or None in kinds:
            return None
        return kinds.pop() if len(kinds) == 1 else "both"

    def sink_of(self, project_id: str | None, methodologies: Collection[str]) -> Sink | None:
        """Say where the carbon is that a project removes; None where nothing is removed, and where no one sink is stated."""
        stated, mechanism = self.project(project_id), self.mechanism_of(project_id, methodologies)
        if mechanism not in ("removal", "both"):
            return None
        sinks = {kind.sink for kind in self._of(methodologies) if kind.mechanism != "reduction"}
        return stated.sink or (sinks.pop() if len(sinks) == 1 else None)

    def _of(self, methodologies: Collection[str]) -> list[StatedMethodology]:
        return [self._kinds.get(bare_methodology(id)) or StatedMethodology() for id in methodologies]


def parse_facts(text: str, name: str) -> DisclosureFacts:
    """
    Read what a deployment states in a file: YAML, or JSON where its name says so.

    :raises InvalidInputError: when it is neither, or says anything that is not known here; names the file, the key and the value.
    """
    read = _json if name.endswith(".json") else _yaml
    try:
        stated = read(text)
    except ValueError as error:
        raise InvalidInputError(
            name, f"can't be read ({error})", remedy="Write YAML, or JSON in a file .json"
        ) from None
    try:
        return DisclosureFacts.model_validate({} if stated is None else stated)
    except ValidationError as invalid:
        raise _refusal(name, invalid) from None


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once)


def _yaml(text: str) -> Any:
    import yaml  # type: ignore[import-untyped]  # late: only who has such a file pays for it

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """As it is, but for a key that is there twice, of which it would take the last."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            return _once(
                [
                    (self.construct_object(key, True), self.construct_object(value, True))
                    for key, value in node.value
                ]
            )

    Loader.add_constructor("tag:yaml.org,2002:map", Loader.construct_mapping)
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, TypeError) as error:  # the latter for a key that is no single value
        raise ValueError(" ".join(str(error).split())) from None


def _once(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} is there twice")
        found[key] = value
    # A key with nothing after it is as good as none.
    return {key: value for key, value in found.items() if value is not None}


def _refusal(name: str, invalid: ValidationError) -> InvalidInputError:
    """Say what is wrong first, in words."""
    first = invalid.errors(include_url=False)[0]
    place = tuple(part for part in first["loc"] if part != "[key]")
    problem, remedy = {
        "extra_forbidden": (
            "is no key here",
            f"Leave it out, or write one of {', '.join(_keys(place[:-1]))}",
        ),
        "literal_error": (
            "is none of the words that it may be",
            f"Write {first.get('ctx', {}).get('expected')}",
        ),
        "bool_type": ("is neither true nor false", "Write one of the two, or leave it out"),
        "string_type": ("is not text", 'Write it in quotes, "…"'),
        "string_too_short": ("is empty", "Write something, or leave it out"),
        "value_error": (str(first.get("ctx", {}).get("error")), "Correct it, or leave it out"),
    }.get(first["type"], ("has no keys", f"Write below it {_below(place)}"))
    where = f"{name}: {'.'.join(map(str, place)) or 'the file'}"
    return InvalidInputError(where, problem, value=first["input"], remedy=remedy)


def _below(place: tuple[int | str, ...]) -> str:
    is_section = len(place) == 1 and place[0] != "company"
    return ("ids, and below each " if is_section else "") + ", ".join(_keys(place))


def _keys(place: tuple[int | str, ...]) -> list[str]:
    """Name the keys that may stand in a place, or below each id in it."""
    kinds: dict[int | str, type[BaseModel]] = {
        "company": Company,
        "methodologies": StatedMethodology,
        "standards": StatedStandard,
        "projects": StatedProject,
    }
    return list(kinds.get(place[0] if place else "", DisclosureFacts).model_fields)
