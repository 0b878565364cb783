"""Which request goes wrong, and what is sent instead of its answer."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_carbonmark.sandbox.errors import error_answer

if TYPE_CHECKING:
    from airflow_provider_carbonmark.sandbox.switches import ErrorShape, Fault, Switches

API_PATHS = ("/checkout", "/quotes", "/payments/", "/prices")
CONTROL_PATH = "/sandbox"
JUST_TOO_MUCH = 4 * 1024 * 1024 + 1


class FaultPlan:
    """
    The faults, and how many requests each has left to hit.

    :param switches: name the faults and the seed of their draws.
    """

    def __init__(self, switches: Switches) -> None:
        self._faults = [(fault, [fault.next]) for fault in switches.faults]
        self._random = random.Random(switches.seed)

    def pick(self, path: str) -> Fault | None:
        """Return the fault that hits the next request for a path, and count it."""
        for fault, left in self._faults:
            if not _fits(fault, path) or left[0] == 0 or self._random.random() >= fault.rate:
                continue
            if left[0] is not None:
                left[0] -= 1
            return fault
        return None


def _fits(fault: Fault, path: str) -> bool:
    if path.startswith(CONTROL_PATH):
        return False
    return path.startswith(fault.path) if fault.path else path.startswith(API_PATHS)


@dataclass
class Answer:
    """
    A whole HTTP answer.

    :param chunked: sent without a Content-Length.
    """

    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    chunked: bool = False


def error(fault: Fault, shape: ErrorShape) -> Answer:
    """Return an error status, with a Retry-After header if the fault names one."""
    content = error_answer(
        fault.status,
        "The sandbox was told to fail.",
        name="SandboxFault",
        code="SANDBOX_FAULT",
        shape=shape,
    )
    headers = {"content-type": "application/json"}
    if fault.retry_after is not None:
        # A date is what the client compares with its own clock, so it is not the sandbox's.
        at = datetime.now(UTC) + timedelta(seconds=fault.retry_after)
        as_date = fault.retry_after_as == "date"
        headers["retry-after"] = format_datetime(at, usegmt=True) if as_date else f"{fault.retry_after:g}"
    return Answer(fault.status, headers, json.dumps(content).encode())


def needs_answer(fault: Fault) -> bool:
    """Whether the request is worked on before it goes wrong."""
    return fault.after_work or fault.kind not in ("error", "drop", "html", "redirect", "empty_object")


def spoil(answer: Answer, fault: Fault) -> Answer:
    """Return what is sent instead of an answer."""
    json_type = {"content-type": "application/json"}
    match fault.kind:
        case "html":
            page = b"<!doctype html><html><body><h1>It works!</h1></body></html>"
            return Answer(200, {"content-type": "text/html"}, page)
        case "redirect":
            return Answer(302, {"location": fault.location})
        case "invalid_json":
            return Answer(answer.status, json_type, answer.body[:-1] + b",,")
        case "empty_object":
            return Answer(200, json_type, b"{}")
        case "wrong_types":
            return Answer(answer.status, json_type, json.dumps(_swap(_content(answer))).encode())
        case "bad_urls":
            return Answer(answer.status, json_type, json.dumps(_script(_content(answer))).encode())
        case "oversized" | "oversized_chunked":
            body = json.dumps({"padding": "x" * JUST_TOO_MUCH, "answer": _content(answer)}).encode()
            return Answer(answer.status, json_type, body, chunked=fault.kind == "oversized_chunked")
    return answer


def _content(answer: Answer) -> Any:
    return json.loads(answer.body) if answer.headers.get("content-type") == "application/json" else None


def _swap(value: Any) -> Any:
    match value:
        case dict():
            return {key: _swap(item) for key, item in value.items()}
        case list():
            return [_swap(item) for item in value]
        case str():
            return 12345
        case bool() | None:
            return value
        case _:
            return "not a number"


def _script(value: Any) -> Any:
    match value:
        case dict():
            return {key: _script(item) for key, item in value.items()}
        case list():
            return [_script(item) for item in value]
        case str() if value.startswith(("http://", "https://")):
            return "javascript:alert(document.domain)"
        case _:
            return value
