"""The API as one ASGI application: a route for each path, and what every operation has in common.

Holds: it is handed a `Passage` with each request, raises `RegistryError` for what it refuses, and answers nothing then:
whoever mounted it answers, logs and counts (`server/application.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import unquote

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from homeport.server.api import calls, openapi
from homeport.server.api.answers import Answer, Document, encoded
from homeport.server.api.calls import Call
from homeport.server.api.errors import MethodNotAllowed, NotFound
from homeport.server.api.models import Nothing
from homeport.server.api.operations import OPERATIONS, PREFIX, Operation
from homeport.server.api.services import ApiServices
from homeport.server.context import PASSAGE, Passage

#: What is told is for who asked, and only true now.
_HEADERS: Final = {"cache-control": "no-store"}


def build(services: ApiServices) -> ASGIApp:
    """The API on these services."""
    paths: dict[str, dict[str, Operation]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = operation
    routes = [Route(PREFIX + path, _Endpoint(services, operations)) for path, operations in paths.items()]
    routes.append(Route(f"{PREFIX}/openapi.json", _Description()))
    router = Router(routes, redirect_slashes=False, default=_nothing)

    async def api(scope: Scope, receive: Receive, send: Send) -> None:
        # What is percent-encoded never becomes a separator, so routes are found in the path as it came.
        await router({**scope, "path": scope["raw_path"].decode("ascii", "replace")}, receive, send)

    return api


class _Endpoint:
    """The operations of one path."""

    def __init__(self, services: ApiServices, operations: Mapping[str, Operation]) -> None:
        self._services = services
        self._operations = operations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        passage: Passage = scope[PASSAGE]
        request, handled = passage
        operation = self._operations.get("GET" if request.method == "HEAD" else request.method)
        if operation is None:
            raise MethodNotAllowed(_methods(self._operations))
        handled.route = operation.name
        actor = handled.actor = await calls.administrator(self._services, request)
        in_path = {name: unquote(value) for name, value in scope["path_params"].items()}
        parameters = calls.parameters(operation.parameters, request, in_path)
        body = await calls.body(operation.body, request) if operation.method == "POST" else Nothing()
        answer = await operation.handler(Call(self._services, request, actor, parameters, body))
        await _response(answer, operation.status, head=request.method == "HEAD")(scope, receive, send)


class _Description:
    """The OpenAPI document. It is the same for everybody, and says nothing about this server."""

    def __init__(self) -> None:
        self._body = encoded(openapi.document())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        passage: Passage = scope[PASSAGE]
        if passage.request.method not in {"GET", "HEAD"}:
            raise MethodNotAllowed(_methods({"GET"}))
        passage.handled.route = "openapi"
        await Response(self._body, headers=_HEADERS, media_type="application/json")(scope, receive, send)


def _response(answer: Answer, status: int, *, head: bool) -> ASGIApp:
    if isinstance(answer, Document):
        location = {} if answer.location is None else {"location": answer.location}
        return Response(encoded(answer.content), status, {**_HEADERS, **location}, "application/json")
    # Some proxies gather an answer before they pass it on, unless they are told otherwise.
    headers = {**_HEADERS, "x-accel-buffering": "no"}
    if not head:
        return StreamingResponse(answer.lines, status, headers, "application/jsonl")
    response = Response(None, status, headers, "application/jsonl")
    del response.headers["content-length"]  # Nobody knows how long it would be.
    return response


def _methods(taken: Collection[str]) -> list[str]:
    return [*taken, *(["HEAD"] if "GET" in taken else [])]


async def _nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise NotFound
