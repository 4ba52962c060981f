"""The program as one ASGI application: every request comes in here, and every answer leaves here.

Holds: each request has an id, is answered once, counted once and logged once, whatever is raised while it is handled.
There is no stack of middleware: what happens to a request is written below, from top to bottom.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from functools import partial
from itertools import chain
from typing import Any

from homeport.auth.actors import Actor
from homeport.mirror.nodes import DOOR_PATH
from homeport.observe import Level
from homeport.oci.errors import (
    BodyStalled,
    HeadersTooLarge,
    NotFound,
    RegistryError,
    Unauthorized,
    Unsupported,
    UploadOutOfOrder,
)
from homeport.server import addressing, failures, routes, status, token
from homeport.server.access import Challenge, anonymous_may_everything
from homeport.server.api import errors as api_errors
from homeport.server.context import PASSAGE, Call, Context, Handled, Passage
from homeport.server.distribution.uploads import session_headers
from homeport.server.http import AsgiApplication, Receive, Request, Response, Scope, Send, json_response
from homeport.server.proxies import client_address

#: What is read of a body after its request was refused, so that the client sees why.
DRAIN_BYTES_MAX = 8 * 1024 * 1024
DRAIN_SECONDS = 2.0

_PLAIN: Mapping[bytes, tuple[str, Callable[[Context], Awaitable[Response]]]] = {
    b"/healthz": ("healthz", status.health),
    b"/readyz": ("readyz", status.ready),
    b"/metrics": ("metrics", status.metrics),
}

_DOOR = f"{DOOR_PATH}/".encode()
_READING = ("GET", "HEAD")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Application:
    """The ASGI application."""

    def __init__(self, context: Context) -> None:
        self._context = context
        #: Ids are this process's own random start and a number, so they are cheap and still unique in a log.
        self._id_prefix = context.registry.clock.new_id()[:12]
        self._requests = 0
        #: Requests that have not ended; and those of them whose answer is being found, but for administrators', who may
        #: follow something for days: to these, what the program does beside gives way. Not to whoever takes or sends
        #: what is left at its own pace.
        self.active = 0
        self.in_front = 0
        #: When the last request began, on the monotonic clock.
        self.asked_at = -math.inf

    async def __call__(self, scope: Scope, receive: Receive, send: Send, *, at_door: bool = False) -> None:
        """Answer a request. `at_door`: it came to the address whose root is the mirror door."""
        if scope["type"] != "http":
            return
        context = self._context
        clock = context.registry.clock
        started = clock.monotonic()
        self._requests += 1
        self.asked_at = started
        self.active += 1
        request = self._request(scope, receive)
        handled = Handled()
        try:
            if context.api is not None and scope["raw_path"].startswith(b"/api/") and not at_door:
                await self._mounted(context.api, scope, receive, send, Passage(request, handled))
            else:
                await self._own(scope, send, request, handled, at_door=at_door)
        except Exception as error:
            # The answer has begun, so the client can only be told by cutting it off.
            handled.error = failures.as_registry_error(error).code
            context.log.write(Level.ERROR, "request.cut", {"id": request.id, "error": repr(error)})
            raise
        finally:
            self.active -= 1
            self._note(scope, request, handled, clock.monotonic() - started)

    def _request(self, scope: Scope, receive: Receive) -> Request:
        options = self._context.options
        address: str = scope["client"][0]
        request = Request(
            scope,
            receive,
            self._context.registry.clock,
            request_id=f"{self._id_prefix}{self._requests:x}",
            address=address,
            idle_seconds=options.body_idle_seconds,
        )
        if options.trusted_proxies:
            request.address = client_address(address, request.joined(b"x-forwarded-for"), options.trusted_proxies)
        return request

    async def _own(self, scope: Scope, send: Send, request: Request, handled: Handled, *, at_door: bool) -> None:
        """Answer what is ours: the registry protocol, the token service, and how the server is."""
        self.in_front += 1
        try:
            self._check_size(scope)
            answer = self._at_door if at_door else self._answer
            response = await answer(scope["raw_path"], request, handled)
        except Challenge as challenge:
            handled.error = challenge.error.code
            response = failures.response(challenge.error, challenge.headers(self._context, request))
        except Exception as error:  # noqa: BLE001 (the one place that must let nothing through)
            response = failures.response(self._told(error, request, handled))
        finally:
            self.in_front -= 1
        response.headers.append((b"docker-distribution-api-version", b"registry/2.0"))
        response.headers.append((b"x-request-id", request.id.encode("ascii")))
        handled.status = response.status
        handled.bytes = response.body_bytes
        # A client that is still sending hears at once that it can stop: it may have gigabytes to go.
        is_refused = response.status >= 400 and request.is_unread
        before_end = partial(self._drain, request, response.status) if is_refused else None
        await response.send(send, head=request.method == "HEAD", before_end=before_end)

    async def _mounted(
        self, application: AsgiApplication, scope: Scope, receive: Receive, send: Send, passage: Passage
    ) -> None:
        """Let `application` answer, which raises what it refuses. It is answered, counted and logged as all others."""
        request, handled = passage
        scope[PASSAGE] = passage

        async def noting(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request.id.encode("ascii"))]
                handled.status = message["status"]
            elif request.method == "HEAD":
                message["body"] = b""
            handled.bytes += len(message.get("body", b""))
            await send(message)

        try:
            self._check_size(scope)
            await application(scope, receive, noting)
        except Exception as error:
            if handled.status:  # It has begun to answer.
                raise
            response = api_errors.response(self._told(error, request, handled), request.id)
            await self._drain(request, response.status)
            await response.send(noting, head=request.method == "HEAD")

    async def _drain(self, request: Request, status: int) -> None:
        if status != BodyStalled.status:
            await request.drain(DRAIN_BYTES_MAX, DRAIN_SECONDS)

    def _check_size(self, scope: Scope) -> None:
        size = sum(map(len, chain.from_iterable(scope["headers"])), len(scope["raw_path"]) + len(scope["query_string"]))
        if size > self._context.options.header_bytes_max:
            raise HeadersTooLarge

    async def _answer(self, path: bytes, request: Request, handled: Handled) -> Response:
        context = self._context
        if path.startswith(b"/v2/") or path == b"/v2":
            return await self._registry(path, request, handled)
        if path.startswith(_DOOR):
            return await self._at_door(path[len(DOOR_PATH) :], request, handled, DOOR_PATH)
        if path == b"/token":
            handled.route = "token"
            if request.method not in token.METHODS:
                return _not_allowed(request, token.METHODS)
            return await token.answer(context, request)
        plain = _PLAIN.get(path)
        if plain is None:
            raise NotFound(path[:200].decode("ascii", "replace"))
        handled.route = plain[0]
        if request.method not in _READING:
            return _not_allowed(request, _READING)
        return await plain[1](context)

    async def _registry(self, path: bytes, request: Request, handled: Handled) -> Response:
        context = self._context
        if path in {b"/v2/", b"/v2"}:
            handled.route = "version"
            return await self._version(request, handled)
        route = routes.read(path)
        handled.route = route.name
        handler = routes.handler(route.name, request.method)
        if handler is None:
            return _not_allowed(request, routes.HANDLERS[route.name])
        handled.actor = await self._authenticate(request)
        repository = addressing.meant(request, context.options, route.repository)
        call = Call(context, request, handled.actor, repository, route.reference)
        try:
            return await handler(call)
        except UploadOutOfOrder as error:
            handled.error = error.code
            response = failures.response(error)
            response.headers += session_headers(repository, route.reference, error.accepted_bytes or 0)
            return response

    async def _at_door(self, path: bytes, request: Request, handled: Handled, before: str = "") -> Response:
        """Answer a node, from the repositories of upstreams only. `before`: what stood before `path`.

        Credentials are not looked at: they are for the registry that the node means (dockerd sends Docker Hub's).
        """
        context = self._context
        if not context.options.upstreams or not (path.startswith(b"/v2/") or path == b"/v2"):
            raise NotFound(path[:200].decode("ascii", "replace"))
        if request.method not in _READING:
            return _not_allowed(request, _READING)
        handled.actor = context.logins.nobody(request.address)
        if path in {b"/v2/", b"/v2"}:
            handled.route = "version"
            return json_response(200, {})
        route = routes.read(path)
        handler = routes.handler(route.name, request.method)
        if handler is None or route.name not in routes.AT_DOOR:
            raise NotFound(path[:200].decode("ascii", "replace"))
        handled.route = route.name
        repository = addressing.meant_at_door(request, context.options.upstreams, route.repository)
        return await handler(
            Call(context, request, handled.actor, repository, route.reference, f"{before}/v2", at_door=True)
        )

    async def _version(self, request: Request, handled: Handled) -> Response:
        """GET `/v2/`: whether the client has to log in, and where. Source: distribution-spec, end-1."""
        if request.method not in _READING:
            return _not_allowed(request, _READING)
        handled.actor = await self._authenticate(request)
        # Whoever has an anonymous token has been to the token service.
        if handled.actor.is_nobody and not anonymous_may_everything(self._context.policy):
            raise Challenge(Unauthorized(), None, None)
        return json_response(200, {})

    async def _authenticate(self, request: Request) -> Actor:
        authorization = request.header(b"authorization")
        try:
            return await self._context.logins.authenticate(authorization, request.address)
        except Unauthorized as error:
            raise Challenge(error, None, "invalid_token") from None

    def _told(self, error: Exception, request: Request, handled: Handled) -> RegistryError:
        """What the client is told of `error`; what it is told less of is logged."""
        told = failures.as_registry_error(error)
        handled.error = told.code
        if told is not error:
            level = Level.ERROR if told.status == 500 else Level.WARNING
            fields = {"id": request.id, "error": repr(error), "traceback": traceback.format_exc(limit=-12)}
            self._context.log.write(level, "request.failed", fields)
        return told

    def _note(self, scope: Scope, request: Request, handled: Handled, seconds: float) -> None:
        context = self._context
        # A method that somebody made up must not become a time series.
        method = request.method if request.method in _METHODS else "other"
        context.counters.request(handled.route, method, handled.status, seconds)
        context.log.request(
            request.id,
            method=request.method,
            path=scope["raw_path"][:1024].decode("latin-1"),
            status=handled.status,
            body_bytes=handled.bytes,
            seconds=seconds,
            address=request.address,
            actor=str(handled.actor),
            error=handled.error,
        )


def _not_allowed(request: Request, allowed: Collection[str]) -> Response:
    """405 with the methods that would do. Source: RFC 9110, section 15.5.6."""
    methods = ", ".join(sorted({*allowed, *(["HEAD"] if "GET" in allowed else [])}))
    return failures.response(Unsupported(f"{request.method}; here it can be {methods}"), [(b"allow", methods.encode())])
