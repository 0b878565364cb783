"""The outermost layer: gives each request an id, remembers it, and makes it go wrong when a fault says so."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from airflow_provider_carbonmark.sandbox.faults import CONTROL_PATH, Answer, error, spoil
from airflow_provider_carbonmark.sandbox.layouts import timestamp

if TYPE_CHECKING:
    from airflow_provider_carbonmark.sandbox.state import SandboxState
    from airflow_provider_carbonmark.sandbox.switches import Fault

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

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

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(CONTROL_PATH):
            await self._app(scope, receive, send)
            return
        request_id = f"req_{uuid.uuid4().hex}"
        with self._state.lock:
            fault = self._state.fault_plan.pick(scope["path"])
            entry = self._remember(scope, request_id, fault)
            switches = self._state.switches

        async def listen() -> Message:
            message = await receive()
            entry["body"] = (entry["body"] + message.get("body", b"").decode(errors="replace"))[:BODY_KEPT]
            return message

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry["status"] = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        if switches.latency:
            await asyncio.sleep(switches.latency)
        if fault is None:
            await self._app(scope, listen, answer)
        else:
            await self._go_wrong(fault, scope, listen, answer)

    def _remember(
        self, scope: MutableMapping[str, Any], request_id: str, fault: Fault | None
    ) -> dict[str, Any]:
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
        entry = {
            "id": request_id,
            "at": timestamp(self._state.clock.now()),
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode("latin-1"),
            "has_key": "authorization" in headers,
            "idempotency_key": headers.get("idempotency-key"),
            "user_agent": headers.get("user-agent"),
            "body": "",
            "fault": fault and fault.kind,
            "status": None,
        }
        self._state.requests.append(entry)
        self._state.request_counts[f"{scope['method']} {endpoint(scope['path'])}"] += 1
        return entry

    async def _go_wrong(
        self, fault: Fault, scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> None:
        transport: asyncio.Transport = scope["state"]["transport"]
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
            await self._app(scope, receive, send)
            return
        if fault.kind in ("error", "drop") and not fault.after_work:
            answer = Answer(0)
        else:
            answer = await _collect(self._app, scope, receive)
        match fault.kind:
            case "drop":
                await _close(transport, receive)
            case "drop_mid_body":
                await _start(answer, send)
                await send({"type": "http.response.body", "body": answer.body[:-1], "more_body": True})
                await _close(transport, receive)
            case "error":
                await _send(error(fault, self._state.switches.error_shape), send)
            case _:
                await _send(spoil(answer, fault), send)


def endpoint(path: str) -> str:
    """Return a path with its ids replaced, to count requests by."""
    prefix = next((prefix for prefix in PATHS_WITH_ID if path.startswith(prefix)), None)
    return f"{prefix}{{id}}" if prefix else path


async def _collect(app: App, scope: MutableMapping[str, Any], receive: Receive) -> Answer:
    answer = Answer(500)

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


async def _close(transport: asyncio.Transport, receive: Receive) -> None:
    transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass
