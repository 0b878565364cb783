"""How an answer is taken off the wire and turned into a model, or into the error it stands for."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from airflow_provider_carbonmark.api.errors import (
    CarbonmarkError,
    InvalidInputError,
    TransportError,
    UnreadableAnswerError,
    redact,
    shorten,
    status_error_class,
)
from airflow_provider_carbonmark.api.models import Certificate
from airflow_provider_carbonmark.api.remedies import look_at, without_answer
from airflow_provider_carbonmark.api.retries import parse_retry_after

log = logging.getLogger(__name__)

# Enough for certificates, too: those of the service's predecessor (seen, 2023) were a page of PDF with pictures.
MAX_BODY_BYTES = 4 * 1024 * 1024

# Nobody documents one; these are what gateways and frameworks commonly send.
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "x-correlation-id", "x-amzn-requestid", "cf-ray")
# Errors of httpx that come with an answer, or after one.
_ANSWERED = (httpx.DecodingError, httpx.TooManyRedirects, httpx.CookieConflict, httpx.HTTPStatusError)
_REMEDIES = {
    400: "Check the inputs",
    401: "Check the API key in the connection's password",
    403: "Check that the API key in the connection's password may do this",
    404: "Check the id",
    409: "The listing may have sold out or expired: read the prices again, where liquidSupply is what is left",
    429: "Wait, and ask less often",
}

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Answer:
    """
    An answer as it came.

    :param body: at most a chunk more than 4 MiB, which tells that there was more.
    """

    request: httpx.Request
    status: int
    headers: httpx.Headers
    body: bytes


def show_request(request: httpx.Request) -> str:
    """Name a request in a message: method and address without the query."""
    return f"{request.method} {request.url.copy_with(query=None)}"


def out_of_time(request: httpx.Request, seconds: float) -> TransportError:
    """Make the error for a request that was ended at its total limit."""
    return TransportError(
        f"{show_request(request)} was ended: it wasn't done within {seconds:g} s, the total limit of a request (its timeout). "
        "Try again later, or raise the timeout."
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Numbers with a fraction go straight from text to Decimal.
_JSON = json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse_constant)


class AnswerReader:
    """
    Reads answers, and keeps the API key out of the errors even if the other side echoes it.

    :param checkout_url: base URL of the Checkout Service, for what errors say is to be looked at.
    """

    def __init__(self, api_key: str | None, checkout_url: str) -> None:
        self._api_key = api_key
        # As the addresses of requests are written.
        self._checkout_url = str(httpx.URL(f"{checkout_url}/"))

    def model(self, answer: Answer, model: type[M], known: Mapping[str, object] | None = None) -> M:
        """
        Read an answer that is one object.

        :param known: values to assume for fields the answer lacks.
        :raises StatusError: it is an HTTP error status.
        :raises UnreadableAnswerError: it is not what is documented.
        """
        payload = self.json(answer)
        if not isinstance(payload, dict):
            raise self.unreadable(answer, f"is a JSON {_json_type(payload)} instead of an object")
        if known:
            payload = {**known, **{name: value for name, value in payload.items() if value is not None}}
        try:
            return model.model_validate(payload)
        except ValidationError as error:
            problem = _first_problem(error)
        raise self.unreadable(answer, f"is not a {model.__name__.lower()}: {problem}")

    def certificate(self, answer: Answer) -> Certificate:
        """Read a document; what is none, such as a page that says why not, must not be kept for it."""
        certificate = Certificate(content=self._body(answer))
        if not certificate.content_type:
            raise self.unreadable(answer, "is no whole document: a PDF, a PNG or a JPEG")
        return certificate

    def entries(
        self,
        answer: Answer,
        what: str,
        model: type[M],
        is_wanted: Callable[[dict[str, Any]], bool] = lambda entry: True,
    ) -> tuple[list[M], int]:
        """
        Read a list: an array, or ``{"items": […], "itemsCount": N}``. One entry that can't be read must not hide the rest of the market.

        :param what: an entry, in words.
        :param is_wanted: whether it is worth a warning that an entry can't be read.
        :return: those that can be read; and how many there are, of which the answer may hold a part.
        """
        payload = self.json(answer)
        entries = payload.get("items") if isinstance(payload, dict) else payload
        if not isinstance(entries, list):
            raise self.unreadable(answer, f"is a JSON {_json_type(payload)} instead of an array of {what}s")
        found: list[M] = []
        problems: list[str] = []
        for entry in entries:
            try:
                found.append(model.model_validate(entry))
            except ValidationError as error:
                if not isinstance(entry, dict) or is_wanted(entry):
                    problems.append(_first_problem(error))
        if problems:
            log.warning(
                "%d of %d entries of the %s list can't be read and are left out; the first: %s",
                *(len(problems), len(entries), what, self._clean(problems[0])),
            )
        told = payload.get("itemsCount") if isinstance(payload, dict) else None
        return found, told if isinstance(told, int) else len(entries)

    def json(self, answer: Answer) -> Any:
        """Read an answer's JSON; numbers with a fraction are Decimal."""
        body = self._body(answer)
        try:
            return _JSON.decode(body.decode("utf-8-sig"))
        # ArithmeticError: an exponent out of Decimal's range. RecursionError: brackets nested thousands deep.
        except (ValueError, ArithmeticError, RecursionError):
            pass
        raise self.unreadable(answer, "is not JSON")

    def _body(self, answer: Answer) -> bytes:
        """Return what an answer that is none of an error holds, all of it."""
        if answer.status >= 400:
            raise self._status_error(answer)
        if answer.status >= 300:
            location = answer.headers.get("location", "")
            host = self._clean(_host(location) or "the same host")
            if answer.request.url.scheme == "http" and location.lower().startswith("https:"):
                host += " by https://"
            raise self.unreadable(answer, f"is a redirect to {host}, which is not followed")
        if len(answer.body) > MAX_BODY_BYTES:
            raise self.unreadable(answer, "is longer than 4 MiB")
        body = _decoded(answer)
        if body is None:
            raise self.unreadable(
                answer, "is compressed, though that was not asked for, or longer than 4 MiB"
            )
        if not body.strip():
            raise self.unreadable(answer, "is empty")
        return body

    def failure(self, error: Exception, request: httpx.Request) -> CarbonmarkError:
        """
        Turn an error of the HTTP libraries into one of ours.

        The original isn't chained: it carries the request, whose headers carry the key.
        """
        problem = f"{show_request(request)} failed: {type(error).__name__}: {self._clean(str(error))}"
        if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError)):
            return InvalidInputError(
                "The request", f"can't be sent: {problem}", remedy="Check the connection's host"
            )
        if isinstance(error, _ANSWERED):
            return UnreadableAnswerError(f"{problem}.")
        remedy = without_answer(error, request, self._checkout_url)
        return TransportError(f"{problem.removesuffix('.')}. {remedy}")

    def unreadable(self, answer: Answer, problem: str) -> UnreadableAnswerError:
        """
        Make the error for an answer that is not what is documented, or doesn't fit its request.

        :param problem: what is wrong with it, as the end of a sentence that starts with the answer.
        """
        content_type = answer.headers.get("content-type", "none")
        excerpt = self._clean((_decoded(answer) or b"").decode("utf-8", "replace"))
        return UnreadableAnswerError(
            f"The answer to {show_request(answer.request)} {self._clean(problem)} "
            f"(content type {self._clean(content_type)!r}, body {excerpt!r}). "
            f"Check {look_at(answer.request, self._checkout_url)}.",
            status=answer.status,
            request_id=self._request_id(answer),
        )

    def _status_error(self, answer: Answer) -> CarbonmarkError:
        said, code = self._complaint(answer)
        remedy = _REMEDIES.get(answer.status, "Try again later" if answer.status >= 500 else _REMEDIES[400])
        # Any web server answers 404, and Carbonmark's errors name themselves (seen).
        if answer.status == 404 or (code is None and answer.status < 500):
            remedy += f", and {look_at(answer.request, self._checkout_url)}"
        return status_error_class(answer.status)(
            f"{show_request(answer.request)} failed, Carbonmark says {said!r}. {remedy}.",
            status=answer.status,
            code=code,
            request_id=self._request_id(answer),
            retry_after=parse_retry_after(answer.headers.get("retry-after")),
        )

    def _complaint(self, answer: Answer) -> tuple[str, str | None]:
        """
        Read the message and the code of an error.

        seen: ``{"message", "name"}``. assumed: ``{"statusCode", "error", "message"}``, sometimes with a ``code``.
        """
        body = (_decoded(answer) or b"").decode("utf-8", "replace")
        try:
            payload = json.loads(body)
        except (ValueError, RecursionError):
            payload = None
        if not isinstance(payload, dict):
            return self._clean(body), None
        message = payload.get("message")
        if isinstance(message, list):
            message = "; ".join(str(part) for part in message)
        words = (payload.get(name) for name in ("code", "name", "error"))
        code = next((word for word in words if isinstance(word, str) and word.strip()), None)
        return self._clean(message if isinstance(message, str) else body), code and self._clean(code)

    def _request_id(self, answer: Answer) -> str | None:
        found = (answer.headers.get(name) for name in _REQUEST_ID_HEADERS)
        return next((self._clean(value) for value in found if value), None)

    def _clean(self, text: str) -> str:
        """Make a text from the other side fit for a message: without the key, on one line, short."""
        return shorten(" ".join(redact(text, self._api_key).split()))


def _decoded(answer: Answer) -> bytes | None:
    """Undo a compression nobody asked for, never beyond the limit; None when that can't be done."""
    encoding = answer.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return answer.body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return None
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        body = inflater.decompress(answer.body, MAX_BODY_BYTES)
    except zlib.error:
        return None
    return body if inflater.eof else None


def _host(location: str) -> str | None:
    try:
        return urlsplit(location).hostname
    except ValueError:
        return "an address that is none"


def _first_problem(error: ValidationError) -> str:
    # The input is left out: it is the other side's, and shown shortened elsewhere.
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg']}" if place else problem["msg"]


def _json_type(value: object) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
