"""
Everything that can go wrong between us and Carbonmark.

::

    CarbonmarkError
    ├── InvalidInputError        refused before anything was sent (also a ValueError)
    ├── TransportError           no complete answer: DNS, refused, reset, TLS, timeout
    ├── UnreadableAnswerError    an answer that is not what is documented
    └── StatusError              an HTTP error status
        ├── AccessDeniedError    401, 403
        ├── NotFoundError        404
        ├── RateLimitedError     429
        ├── RequestRefusedError  any other 4xx
        └── ServiceError         5xx

All of them pickle (Airflow moves exceptions between processes) and none holds the API key: whatever comes from
the other side passes :func:`redact` before it gets into a message.
"""

from __future__ import annotations

import copyreg
from typing import Any

_UNSET: Any = object()
_LONGEST_VALUE = 80
_LONGEST_EXCERPT = 200


class CarbonmarkError(Exception):
    """
    Root of the tree.

    :param message: what is wrong, where, and what to do about it.
    :param status: HTTP status of the answer, None when there was none.
    :param code: the service's own word for the error, e.g. ``UNAUTHORIZED``.
    :param request_id: the service's id for the request, to quote to Carbonmark's support.
    :param retry_after: seconds the service asks to wait (its ``Retry-After`` header), None when it doesn't say.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        facts = (("HTTP", self.status), ("code", self.code), ("request id", self.request_id))
        shown = ", ".join(f"{name} {value}" for name, value in facts if value is not None)
        return f"{self.args[0]} [{shown}]" if shown else str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with ``args`` alone, which loses or lacks the keyword arguments.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class InvalidInputError(CarbonmarkError, ValueError):
    """
    An input that is refused before anything is sent.

    :param field: name of the input.
    :param problem: what is wrong with it, as the end of a sentence that starts with the field's name.
    :param value: the refused value, shown shortened; leave it out for secrets.
    :param remedy: a sentence that says what to give instead.
    """

    def __init__(self, field: str, problem: str, *, value: object = _UNSET, remedy: str) -> None:
        got = "" if value is _UNSET else f" (got {shorten(repr(value), _LONGEST_VALUE)})"
        super().__init__(f"{field} {problem}{got}. {remedy.removesuffix('.')}.")
        self.field = field
        self.remedy = remedy


class TransportError(CarbonmarkError):
    """No complete answer came: name resolution, connection, TLS, or time ran out."""


class UnreadableAnswerError(CarbonmarkError):
    """An answer came that is not what is documented: HTML, a redirect, over 4 MiB, a field missing."""


class StatusError(CarbonmarkError):
    """The service answered with an HTTP error status."""


class AccessDeniedError(StatusError):
    """The key is missing, wrong, or not allowed to do this (401, 403)."""


class NotFoundError(StatusError):
    """The service doesn't know what was asked for (404)."""


class RateLimitedError(StatusError):
    """Too many requests (429)."""


class RequestRefusedError(StatusError):
    """The service refused the request as it stands (any other 4xx)."""


class ServiceError(StatusError):
    """The service failed (5xx)."""


def status_error_class(status: int) -> type[StatusError]:
    """
    Name the class for an HTTP error status.

    :param status: 400 to 599; anything odd above counts as the service's failure.
    """
    known = {401: AccessDeniedError, 403: AccessDeniedError, 404: NotFoundError, 429: RateLimitedError}
    return known.get(status, RequestRefusedError if status < 500 else ServiceError)


def redact(text: str, secret: str | None) -> str:
    """Cut a secret out of a text that came from the other side, which may echo what it was sent."""
    return text.replace(secret, "***") if secret else text


def shorten(text: str, length: int = _LONGEST_EXCERPT) -> str:
    """Keep a text within so many characters; what is left out is replaced by an ellipsis."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
