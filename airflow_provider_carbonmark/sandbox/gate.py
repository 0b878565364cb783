"""The outermost layer: gives each request an id, remembers it, and makes it go wrong when a fault says so."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from fastapi.responses import HTMLResponse, JSONResponse, Response

from airflow_provider_carbonmark.sandbox.errors import error_answer
from airflow_provider_carbonmark.sandbox.world.layouts import timestamp

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from airflow_provider_carbonmark.sandbox.switches import ErrorShape, Fault
    from airflow_provider_carbonmark.sandbox.world.state import SandboxState

CONTROL_PATH = "/sandbox"
PATHS_WITH_ID = (
    "/payments/",
    "/carbonProjects/",
    "/pay/",
    "/retirements/id/",
    "/retirements/",
    "/transactions/",
    "/returned/",
)
BODY_KEPT = 4096
JUST_TOO_MUCH = 4 * 1024 * 1024 + 1


class Gate:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, state: SandboxState) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{uuid.uuid4().hex}"
        entry: dict[str, Any] = {"body": ""}

        async def listen() -> Message:
            message = await receive()
            entry["body"] = (entry["body"] + message.get("body", b"").decode(errors="replace"))[:BODY_KEPT]
            return message

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry["status"] = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        if scope["path"].startswith(CONTROL_PATH):
            await self._app(scope, receive, answer)
            return
        with self._state.lock:
            fault = self._state.fault_plan.pick(scope["path"])
            self._remember(entry, scope, request_id, fault)
            switches = self._state.switches
        await asyncio.sleep(switches.latency)
        if fault is None:
            await self._app(scope, listen, answer)
        else:
            await self._go_wrong(fault, scope, listen, answer)

    def _remember(self, entry: dict[str, Any], scope: Scope, request_id: str, fault: Fault | None) -> None:
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
        entry |= {
            "id": request_id,
            "at": timestamp(self._state.now()),
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode("latin-1"),
            "has_key": "authorization" in headers,
            "idempotency_key": headers.get("idempotency-key"),
            "user_agent": headers.get("user-agent"),
            "fault": fault and fault.kind,
            "status": None,
        }
        self._state.requests.append(entry)
        self._state.request_counts[f"{scope['method']} {_endpoint(scope['path'])}"] += 1

    async def _go_wrong(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
            await self._app(scope, receive, send)
            return
        answer = Response()
        if fault.after_work or fault.kind not in ("error", "drop", "html", "redirect", "empty_object"):
            answer = await _collect(self._app, scope, receive)
        if fault.kind == "drop_mid_body":
            start = {"type": "http.response.start", "status": answer.status_code}
            await send({**start, "headers": answer.raw_headers})
            await send({"type": "http.response.body", "body": answer.body[:-1], "more_body": True})
        if fault.kind in ("drop", "drop_mid_body"):
            await _close(scope, receive)
        else:
            await _spoilt(answer, fault, self._state.switches.error_shape)(scope, receive, send)


def _endpoint(path: str) -> str:
    """Return a path with its ids replaced, to count requests by."""
    prefix = next((prefix for prefix in PATHS_WITH_ID if path.startswith(prefix)), None)
    return f"{prefix}{{id}}" if prefix else path


async def _collect(app: ASGIApp, scope: Scope, receive: Receive) -> Response:
    answer = Response()

    async def keep(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status_code, answer.raw_headers = message["status"], list(message["headers"])
        else:
            answer.body = bytes(answer.body) + message.get("body", b"")

    await app(scope, receive, keep)
    return answer


async def _close(scope: Scope, receive: Receive) -> None:
    # Put there by the server: ASGI has no way to close a connection.
    scope["state"]["transport"].close()
    while (await receive())["type"] != "http.disconnect":
        pass


def _spoilt(answer: Response, fault: Fault, shape: ErrorShape) -> Response:
    """Return what is sent instead of an answer."""
    match fault.kind:
        case "error":
            return _error(fault, shape)
        case "html":
            page = HTMLResponse("<!doctype html><html><body><h1>It works!</h1></body></html>")
            page.headers["content-type"] = "text/html"
            return page
        case "redirect":
            return Response(status_code=302, headers={"location": fault.location})
        case "empty_object":
            return JSONResponse({})
        case "invalid_json":
            return Response(
                bytes(answer.body)[:-1] + b",,", answer.status_code, media_type="application/json"
            )
    content = None
    if answer.headers.get("content-type") == "application/json":
        content = json.loads(bytes(answer.body))
    match fault.kind:
        case "wrong_types":
            content = _replaced(content, _other_type)
        case "bad_urls":
            content = _replaced(content, _script_url)
        case "oversized" | "oversized_chunked":
            content = {"padding": "x" * JUST_TOO_MUCH, "answer": content}
    spoilt = JSONResponse(content, answer.status_code)
    if fault.kind == "oversized_chunked":
        del spoilt.headers["content-length"]
    return spoilt


def _error(fault: Fault, shape: ErrorShape) -> Response:
    said = "The sandbox was told to fail."
    content = error_answer(fault.status, said, name="SandboxFault", code="SANDBOX_FAULT", shape=shape)
    answer = JSONResponse(content, fault.status)
    if fault.retry_after is not None:
        # A date is what the client compares with its own clock, so it is not the sandbox's.
        at = datetime.now(UTC) + timedelta(seconds=fault.retry_after)
        as_date = fault.retry_after_as == "date"
        answer.headers["retry-after"] = (
            format_datetime(at, usegmt=True) if as_date else f"{fault.retry_after:g}"
        )
    return answer


def _replaced(value: Any, replace: Callable[[Any], Any]) -> Any:
    match value:
        case dict():
            return {key: _replaced(item, replace) for key, item in value.items()}
        case list():
            return [_replaced(item, replace) for item in value]
    return replace(value)


def _other_type(value: Any) -> Any:
    if isinstance(value, str):
        return 12345
    return value if value is None or isinstance(value, bool) else "not a number"


def _script_url(value: Any) -> Any:
    is_url = isinstance(value, str) and value.startswith(("http://", "https://"))
    return "javascript:alert(document.domain)" if is_url else value
