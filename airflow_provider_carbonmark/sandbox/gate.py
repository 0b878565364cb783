"""The outermost layer: gives each request an id, remembers it, and makes it go wrong when a fault says so."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from airflow_provider_carbonmark.sandbox.faults import CONTROL_PATH, Answer, error, needs_answer, spoil
from airflow_provider_carbonmark.sandbox.layouts import timestamp

if TYPE_CHECKING:
    from airflow_provider_carbonmark.sandbox.state import SandboxState
    from airflow_provider_carbonmark.sandbox.switches import Fault

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_KEPT = 4096
PATHS_WITH_ID = ("/payments/", "/pay/", "/retirements/id/", "/transactions/", "/returned/")


class Gate:
    """
    ASGI middleware around the whole app.

    :param app: the app.
    :param state: holds the faults and remembers the requests.
    """

    def __init__(self, app: App, state: SandboxState) -> None:
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
        if switches.latency:
            await asyncio.sleep(switches.latency)
        if fault is None:
            await self._app(scope, listen, answer)
        else:
            await self._go_wrong(fault, scope, listen, answer)

    def _remember(self, entry: dict[str, Any], scope: Scope, request_id: str, fault: Fault | None) -> None:
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
        entry |= {
            "id": request_id,
            "at": timestamp(self._state.clock.now()),
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
        self._state.request_counts[f"{scope['method']} {endpoint(scope['path'])}"] += 1

    async def _go_wrong(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
            await self._app(scope, receive, send)
            return
        answer = await _collect(self._app, scope, receive) if needs_answer(fault) else Answer()
        match fault.kind:
            case "drop":
                await _close(scope, receive)
            case "drop_mid_body":
                await _start(answer, send)
                await send({"type": "http.response.body", "body": answer.body[:-1], "more_body": True})
                await _close(scope, receive)
            case "error":
                await _send(error(fault, self._state.switches.error_shape), send)
            case _:
                await _send(spoil(answer, fault), send)


def endpoint(path: str) -> str:
    """Return a path with its ids replaced, to count requests by."""
    prefix = next((prefix for prefix in PATHS_WITH_ID if path.startswith(prefix)), None)
    return f"{prefix}{{id}}" if prefix else path


async def _collect(app: App, scope: Scope, receive: Receive) -> Answer:
    answer = Answer()

    async def keep(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode("latin-1") for name, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    await app(scope, receive, keep)
    return answer


async def _start(answer: Answer, send: Send) -> None:
    headers = {name: value for name, value in answer.headers.items() if name.lower() != "content-length"}
    if not answer.chunked:
        headers["content-length"] = str(len(answer.body))
    lines = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": lines})


async def _send(answer: Answer, send: Send) -> None:
    await _start(answer, send)
    await send({"type": "http.response.body", "body": answer.body})


async def _close(scope: Scope, receive: Receive) -> None:
    # Put there by the server: ASGI has no way to close a connection.
    scope["state"]["transport"].close()
    while (await receive())["type"] != "http.disconnect":
        pass
