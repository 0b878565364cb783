"""
The calls to Carbonmark without their I/O: how each request is built and sent again, and what its answer has to be.

A call is a generator (:data:`Exchange`). It yields a request, and is sent the answer or the error it met; or it
yields seconds to wait. It returns what was asked for. The clients only drive it, so both of them send, retry and
read alike.
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Collection, Generator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

import httpx

from airflow_provider_carbonmark.api.answers import Answer, AnswerReader, show_request
from airflow_provider_carbonmark.api.errors import CarbonmarkError, InvalidInputError, NotFoundError
from airflow_provider_carbonmark.api.inputs import (
    MAX_BENEFICIARY_NAME,
    MAX_ID,
    MAX_RETIREMENT_MESSAGE,
    bare_source_id,
    parse_payment_id,
    parse_quantity,
    parse_retirement_id,
    parse_text,
    parse_url,
)
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
from airflow_provider_carbonmark.api.retries import RetryPolicy, full_jitter

log = logging.getLogger(__name__)

T = TypeVar("T")
Exchange: TypeAlias = Generator[httpx.Request | float, Answer | CarbonmarkError, T]
Quantity: TypeAlias = Decimal | int | str
_Query: TypeAlias = list[tuple[str, str | int | float | bool | None]]

_METADATA_LENGTHS = {
    "beneficiary_name": MAX_BENEFICIARY_NAME,
    "retirement_message": MAX_RETIREMENT_MESSAGE,
}
# A page of projects, and how many are gone through for one question at most.
_PROJECTS_AT_ONCE = 50
_MOST_PROJECTS = 5_000
_HEADER_VALUE = re.compile(r"[\x21-\x7e]{1,255}")


class Calls:
    """
    Builder of all calls, which :class:`~airflow_provider_carbonmark.hooks.carbonmark.CarbonmarkHook` says the arguments of.

    :param checkout_url: base URL of the Checkout Service, without trailing slash.
    :param market_url: base URL of the market API, without trailing slash.
    """

    def __init__(
        self,
        *,
        checkout_url: str,
        market_url: str,
        api_key: str | None,
        user_agent: str,
        retries: RetryPolicy,
    ) -> None:
        self._checkout_url = checkout_url
        self._market_url = market_url
        self._retries = retries
        self.reader = AnswerReader(api_key, checkout_url)
        # A wait asks for the same payment over and over, and building the request is a sixth of a poll's CPU.
        self._payment_request = lru_cache(maxsize=2048)(self._build_payment_request)
        # Answers are small; compression would save little and bring decompression bombs.
        shared = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": user_agent}
        self._public_headers = httpx.Headers(shared)
        # doc for the market API, assumed for the Checkout Service: a bearer token.
        self._headers = httpx.Headers({**shared, "Authorization": f"Bearer {api_key}"} if api_key else shared)

    def list_prices(
        self, project_ids: Collection[str] | None = None, min_supply: Quantity | None = None
    ) -> Exchange[list[Listing]]:
        """Read the market's price sources (doc: ``GET /prices``, an array; seen in older integrations: an object with it)."""
        if isinstance(project_ids, str):
            remedy = "Give a list of project keys"
            raise InvalidInputError("project_ids", "is a single text", value=project_ids, remedy=remedy)
        # assetPriceType is left to the reader of the list: each entry tells its type.
        query: _Query = [("projectIds", parse_text(key, "project_ids", MAX_ID)) for key in project_ids or ()]
        if min_supply is not None:
            query.append(("minSupply", f"{parse_quantity(min_supply, 'min_supply'):f}"))

        def read(answer: Answer) -> list[Listing]:
            # doc: price sources of other types (pools) are laid out otherwise, and not for sale.
            return self.reader.entries(
                answer, "price", Listing, lambda entry: entry.get("type") in ("listing", None)
            )[0]

        return self._exchange(self._of_market("/prices", query), read)

    def list_projects(self, keys: Collection[str]) -> Exchange[list[Project]]:
        """
        Read what the market says of projects; those that its list lacks are asked for one by one.

        doc: ``GET /carbonProjects`` (since v17 an object with the list and a count) and ``/carbonProjects/{key}``; seen: ``keys``. The
        market has thousands, and lists those of one registry first.
        """
        wanted = sorted({parse_text(key, "keys", MAX_ID) for key in keys})
        found: list[Project] = []
        for first in range(0, len(wanted), _PROJECTS_AT_ONCE):
            some, skip = wanted[first : first + _PROJECTS_AT_ONCE], 0
            while True:
                # doc: a limit too small cuts off silently.
                query: _Query = [("keys", key) for key in some]
                query += [("limit", _PROJECTS_AT_ONCE), ("offset", skip)]
                told, count = yield from self._exchange(
                    self._of_market("/carbonProjects", query),
                    lambda answer: self.reader.entries(answer, "project", Project),
                )
                # assumed: a market may pass over what it is asked for and list all it has.
                found += [project for project in told if project.key in some]
                skip += max(len(told), 1)
                if skip >= min(count, _MOST_PROJECTS) or not told:
                    break
        for key in sorted(set(wanted) - {project.key for project in found}):
            try:
                found.append((yield from self._project(key)))
            except NotFoundError:
                continue
        return found

    def _project(self, key: str) -> Exchange[Project]:
        def read(answer: Answer) -> Project:
            told = self.reader.model(answer, Project)
            if told.key != key:
                raise self.reader.unreadable(answer, "is another project, which was not asked for")
            return told

        return self._exchange(self._of_market(f"/carbonProjects/{quote(key, safe='')}"), read)

    def list_retirements(self, transaction_hash: str) -> Exchange[list[Retirement]]:
        """Read the retirements of a transaction, whoever's they are (doc: ``GET /retirements?hash=``, an array)."""
        wanted = parse_text(transaction_hash, "transaction_hash", MAX_ID)

        def read(answer: Answer) -> list[Retirement]:
            # assumed: a market may pass over what it is asked for and list all it has.
            told, _ = self.reader.entries(answer, "retirement", Retirement)
            return [each for each in told if wanted.lower() in f"{each.id} {each.transaction_hash}".lower()]

        return self._exchange(self._of_market("/retirements", [("hash", wanted)]), read)

    def get_retirement(self, retirement_id: str) -> Exchange[Retirement]:
        """Read a retirement (doc: ``GET /retirements/{id}``)."""
        wanted = parse_retirement_id(retirement_id).lower()

        def read(answer: Answer) -> Retirement:
            told = self.reader.model(answer, Retirement)
            parts = (told.id, told.transaction_hash and f"-{told.transaction_hash}-")
            if not all((part or "").lower() in wanted for part in parts):
                raise self.reader.unreadable(answer, "is another retirement, which was not asked for")
            if told.beneficiary_name is None and told.quantity_tonnes is None:
                raise self.reader.unreadable(answer, "tells neither a beneficiary nor an amount")
            return told

        return self._exchange(self._of_market(f"/retirements/{retirement_id}"), read)

    def get_provenance(self, retirement_id: str) -> Exchange[list[ProvenanceRecord]]:
        """Read where a retirement's credits come from (doc: ``GET /retirements/{id}/provenance``; seen, v6: an array)."""
        path = f"/retirements/{parse_retirement_id(retirement_id)}/provenance"
        return self._exchange(
            self._of_market(path),
            lambda answer: self.reader.entries(answer, "provenance record", ProvenanceRecord)[0],
        )

    def get_certificate(self, retirement_id: str) -> Exchange[Certificate]:
        """Read a retirement's certificate (doc: ``GET /retirements/{id}/certificate``; 404 at first)."""
        request = self._of_market(f"/retirements/{parse_retirement_id(retirement_id)}/certificate")
        request.headers["Accept"] = "*/*"
        return self._exchange(request, self.reader.certificate)

    def _of_market(self, path: str, query: _Query | None = None) -> httpx.Request:
        # seen: /prices is public. So the market doesn't get the key.
        url = f"{self._market_url}{path}"
        return httpx.Request("GET", url, params=query or None, headers=self._public_headers)

    def create_quote(self, *, asset_price_source_id: str, quantity_tonnes: Quantity) -> Exchange[Quote]:
        """Ask what a quantity of a listing costs (doc: ``POST /quotes``)."""
        order = _order(asset_price_source_id, quantity_tonnes)

        def read(answer: Answer) -> Quote:
            # assumed: an answer may leave out what we said ourselves; if it says it, it has to be the same.
            quote = self.reader.model(answer, Quote, known=order)
            told = (bare_source_id(quote.asset_price_source_id), quote.quantity_tonnes)
            if told != (bare_source_id(order["asset_price_source_id"]), order["quantity_tonnes"]):
                raise self.reader.unreadable(
                    answer,
                    f"is a quote for {quote.quantity_tonnes} t of {quote.asset_price_source_id}, which was not asked for",
                )
            return quote

        return self._exchange(self._post("/quotes", order), read)

    def create_checkout(
        self,
        *,
        asset_price_source_id: str,
        quantity_tonnes: Quantity,
        metadata: Mapping[str, Any],
        success_url: str,
        cancel_url: str,
        idempotency_key: str | None = None,
    ) -> Exchange[Checkout]:
        """Make a hosted payment page (doc: ``POST /checkout``)."""
        order = _order(asset_price_source_id, quantity_tonnes)
        order["metadata"] = _metadata(metadata)
        order["success_url"] = parse_url(success_url, "success_url", takes_suffix=True)
        order["cancel_url"] = parse_url(cancel_url, "cancel_url")
        # Made once, before the first attempt: every attempt carries the same (assumed harmless where not honoured).
        key = str(uuid.uuid4()) if idempotency_key is None else idempotency_key
        if not _HEADER_VALUE.fullmatch(key):
            raise InvalidInputError(
                "idempotency_key",
                "doesn't fit into a header",
                value=key,
                remedy="Give 1 to 255 visible ASCII characters",
            )
        request = self._post("/checkout", order, {"Idempotency-Key": key})
        return self._exchange(request, lambda answer: self.reader.model(answer, Checkout))

    def get_payment(self, payment_id: str) -> Exchange[Payment]:
        """Read a payment and its retirement (doc: ``GET /payments/{id}``)."""
        return self._exchange(self._payment_request(parse_payment_id(payment_id)), self._read_payment)

    def _build_payment_request(self, payment_id: str) -> httpx.Request:
        return httpx.Request(
            "GET",
            f"{self._checkout_url}/payments/{payment_id}",
            headers=self._headers,
        )

    def _read_payment(self, answer: Answer) -> Payment:
        payment = self.reader.model(answer, Payment)
        if payment.id is None and payment.payment_status is None and payment.retirement_status is None:
            raise self.reader.unreadable(answer, "tells neither an id nor a status")
        return payment

    def _post(
        self, path: str, order: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> httpx.Request:
        try:
            body = json.dumps(order, default=_json_number, allow_nan=False)
        except (TypeError, ValueError) as error:
            # Everything else in it has been checked.
            raise InvalidInputError(
                "metadata", f"is not JSON: {error}", remedy="Give plain JSON values"
            ) from None
        return httpx.Request(
            "POST",
            f"{self._checkout_url}{path}",
            headers=[
                *self._headers.multi_items(),
                ("Content-Type", "application/json"),
                *(headers or {}).items(),
            ],
            content=body.encode(),
        )

    def _exchange(self, request: httpx.Request, read: Callable[[Answer], T]) -> Exchange[T]:
        """Send a request until its answer can be read or the policy gives up: the one algorithm of both clients."""
        started = time.monotonic()
        attempt = 1
        while True:
            try:
                answer = yield request
                if isinstance(answer, CarbonmarkError):
                    raise answer
                return read(answer)
            except CarbonmarkError as error:
                bounds = self._retries.delay_bounds(
                    error, method=request.method, attempt=attempt, elapsed=time.monotonic() - started
                )
                if bounds is None:
                    raise
                reason = str(error)
            delay = full_jitter(bounds)
            log.warning(
                "Attempt %d of %d of %s failed, the next one follows in %.1f s: %s",
                attempt,
                self._retries.attempts,
                show_request(request),
                delay,
                reason,
            )
            yield delay
            attempt += 1


def _order(asset_price_source_id: str, quantity_tonnes: Quantity) -> dict[str, Any]:
    return {
        "asset_price_source_id": parse_text(asset_price_source_id, "asset_price_source_id", MAX_ID),
        "quantity_tonnes": parse_quantity(quantity_tonnes),
    }


def _metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: parse_text(value, name, _METADATA_LENGTHS[name]) if name in _METADATA_LENGTHS else value
        for name, value in metadata.items()
    }


def _json_number(value: object) -> int | float:
    """
    Make a quantity a JSON number without noise.

    A float's shortest text gives back any decimal of up to 15 significant digits, which is as many as
    :func:`parse_quantity` lets through.
    """
    if not isinstance(value, Decimal):
        raise TypeError(f"{type(value).__name__} has no JSON form")
    return int(value) if value == value.to_integral_value() else float(value)
