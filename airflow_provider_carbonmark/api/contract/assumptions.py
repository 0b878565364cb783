"""What this package sends and reads, as values, taken from the code that does it: the requests, the models, the verdict."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import httpx
from pydantic import AliasChoices, AliasPath, BaseModel, TypeAdapter, ValidationError

from airflow_provider_carbonmark.api.answers import Answer, AnswerReader
from airflow_provider_carbonmark.api.calls import Calls, Exchange
from airflow_provider_carbonmark.api.errors import CarbonmarkError
from airflow_provider_carbonmark.api.inputs import MAX_BENEFICIARY_NAME, MAX_RETIREMENT_MESSAGE, QUANTITY_STEP
from airflow_provider_carbonmark.api.models import (
    Certificate,
    Checkout,
    Listing,
    Payment,
    Project,
    ProvenanceRecord,
    Quote,
    Retirement,
)
from airflow_provider_carbonmark.api.retirement import (
    DEFAULT_SUCCESS_STATES,
    Outcome,
    RetirementRequest,
    judge,
)
from airflow_provider_carbonmark.api.retries import NO_RETRIES

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

Place: TypeAlias = tuple[str, ...]

# The least and the longest that is ever sent, so that a document's limits show.
_SOURCE, _NAME, _MESSAGE = (
    f"listing-137-0x{'5a' * 32}",
    "n" * MAX_BENEFICIARY_NAME,
    "m" * MAX_RETIREMENT_MESSAGE,
)
_ORDER = {"asset_price_source_id": _SOURCE, "quantity_tonnes": str(QUANTITY_STEP)}
_METADATA = {"beneficiary_name": _NAME, "retirement_message": _MESSAGE}
_URLS = {"success_url": "https://example.com/paid", "cancel_url": "https://example.com/cancelled"}
_PROJECT = "VCS-191"
_TRANSACTION = f"0x{'5a' * 32}"
_RETIREMENT = f"137-{_TRANSACTION}-0"
_ASKED = RetirementRequest(_NAME, QUANTITY_STEP, _SOURCE, _MESSAGE)

# What an answer may hold of each JSON type: the first that a field can read stands for all, but for what has to fit the request.
_VALUES: Mapping[str, tuple[object, ...]] = {
    "string": ("https://example.com/1", "2026-11-27T12:00:00Z", "0.001", "1"),
    "number": (float(QUANTITY_STEP), 1),
    "integer": (1,),
    "boolean": (True,),
    "array": ([],),
}
_FITTING = {
    **_ORDER,
    **_METADATA,
    "key": _PROJECT,
    "retirement_status": DEFAULT_SUCCESS_STATES[0],
    "transaction_hash": _TRANSACTION,
    "id": _RETIREMENT,
}


@dataclass(frozen=True)
class AssumedField:
    """
    A field that is read.

    :param places: where it is read from, in the order in which it is looked for.
    """

    name: str
    places: tuple[Place, ...]
    info: FieldInfo

    @cached_property
    def _reads(self) -> TypeAdapter[object]:
        return TypeAdapter(self.info.rebuild_annotation())

    def value(self, types: Iterable[str] = _VALUES) -> object:
        """Return something of these JSON types that can be read; None when there is nothing."""
        for kind in types:
            fitting = [_FITTING[self.name]] if self.name in _FITTING and kind == "string" else []
            for value in (*fitting, *_VALUES.get(kind, ())):
                try:
                    if self._reads.validate_python(value) is not None:
                        return value
                except ValidationError:
                    continue
        return None


@dataclass(frozen=True)
class AssumedCall:
    """
    A call that is made.

    :param model: what its answer is, or its entries are.
    :param word: what the path of any successor of it would hold.
    :param sureness: how surely its answer is known.
    """

    make: Callable[[], Exchange[Any]]
    model: type[BaseModel]
    word: str
    sureness: str = "assumed"
    is_list: bool = False

    @property
    def is_markets(self) -> bool:
        """Whether it is one of the market API's."""
        return self.model not in (Quote, Checkout, Payment)

    @property
    def is_needed(self) -> bool:
        """Whether nothing can be bought without it."""
        return self.model in (Quote, Checkout, Payment, Listing)

    @cached_property
    def request(self) -> httpx.Request:
        return cast("httpx.Request", next(self.make()))

    @cached_property
    def sent(self) -> dict[str, Any]:
        return json.loads(self.request.content) if self.request.content else {}

    @cached_property
    def fields(self) -> list[AssumedField]:
        fields = self.model.model_fields.items()
        return [AssumedField(name, _places(name, info), info) for name, info in fields if not info.exclude]

    def __str__(self) -> str:
        path = self.request.url.path.replace(f"/{_RETIREMENT}", "/{id}").replace("/ID", "/{id}")
        return f"{self.request.method} {path}"

    @cached_property
    def needed(self) -> set[str]:
        """Names of the fields that the call can't do without."""
        firsts = {field.name: field.places[0] for field in self.fields}
        full = {field.places[0]: field.value() for field in self.fields}
        without = {
            name: {place: full[place] for place in full if place != own} for name, own in firsts.items()
        }
        return {name for name, values in without.items() if self.problem_with(values) is not None}

    def problem_with(self, values: Mapping[Place, object]) -> str | None:
        """Return why an answer with these values is not enough for the call; None when it is."""
        answer: dict[str, Any] = {}
        for (*parents, name), value in values.items():
            inner = answer
            for parent in parents:
                inner = inner.setdefault(parent, {})
            inner[name] = value
        body = json.dumps([answer] if self.is_list else answer).encode()
        exchange = self.make()
        next(exchange)
        try:
            exchange.send(Answer(self.request, 200, httpx.Headers(), body))
        except CarbonmarkError as error:
            return str(error).partition(" (content type")[0]
        except StopIteration as end:
            if isinstance(end.value, Payment):
                verdict = judge(end.value, _ASKED, test_mode=False)
                return None if verdict.outcome is Outcome.RETIRED else verdict.reason
            return None if end.value else "no entry can be read"
        return None


@cache
def assumed_calls(base_url: str) -> tuple[AssumedCall, ...]:
    """
    Return the calls that are made.

    :param base_url: of either service.
    """
    calls = Calls(
        checkout_url=base_url, market_url=base_url, api_key="key", user_agent="contract", retries=NO_RETRIES
    )
    checkout = partial(calls.create_checkout, **_ORDER, **_URLS, metadata=_METADATA)
    return (
        AssumedCall(partial(calls.create_quote, **_ORDER), Quote, "quote"),
        AssumedCall(checkout, Checkout, "checkout"),
        AssumedCall(partial(calls.get_payment, "ID"), Payment, "payment"),
        AssumedCall(partial(calls.list_prices, [_PROJECT], 1), Listing, "price", "seen", is_list=True),
        AssumedCall(partial(calls.list_projects, [_PROJECT]), Project, "carbonproject", "doc", is_list=True),
        AssumedCall(
            partial(calls.list_retirements, _TRANSACTION), Retirement, "retirement", "seen", is_list=True
        ),
        AssumedCall(partial(calls.get_retirement, _RETIREMENT), Retirement, "retirement", "seen"),
        AssumedCall(
            partial(calls.get_provenance, _RETIREMENT), ProvenanceRecord, "provenance", "seen", is_list=True
        ),
        AssumedCall(partial(calls.get_certificate, _RETIREMENT), Certificate, "certificate"),
    )


def is_one_of(word: str, states: Collection[str]) -> bool:
    """Tell whether a status word is one of some, as a wait would tell."""
    payment = Payment(retirement_status=word, certificate_url="https://example.com/1")
    verdict = judge(payment, None, test_mode=False, success_states=states, failed_states=())
    return verdict.outcome is Outcome.RETIRED


def read_of_error(names: Iterable[str]) -> str:
    """
    Return what is read of an error's fields; empty when its message isn't found.

    :param names: the fields, all of them text.
    """
    body = json.dumps({name: f"<{name}>" for name in names}).encode()
    try:
        AnswerReader(None, "").json(Answer(httpx.Request("GET", ""), 400, httpx.Headers(), body))
    except CarbonmarkError as error:
        message = next((name for name in names if f"'<{name}>'" in str(error)), None)
        return f"message from {message}, code from {(error.code or 'nowhere').strip('<>')}" if message else ""
    return ""


def _places(name: str, info: FieldInfo) -> tuple[Place, ...]:
    alias = info.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias or name]
    found = [tuple(map(str, each.path)) if isinstance(each, AliasPath) else (str(each),) for each in choices]
    # The models take a field's own name, too.
    return tuple(dict.fromkeys((*found, (name,))))
