"""A request and a response, as much of HTTP as a registry needs, on plain ASGI.

Holds: a body is read once, as it comes, and never as a whole unless `Request.body` was told how much of it there may
be. A body that ends early, is longer than announced, or stands still is an error, never a shorter body.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qs

from homeport.clock import Clock, Deadline
from homeport.oci.errors import BodyIncomplete, BodyStalled, ManifestTooLarge, RequestInvalid, SizeInvalid

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]
AsgiApplication: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

#: A body that is read as a whole is small; it has this long to come, so that nobody can hold a connection by a trickle.
BODY_SECONDS = 60.0
#: A deadline is not moved for every chunk: a body may stand still for this much less than the setting says.
DEADLINE_GRAIN_SECONDS = 1.0

#: More parameters than this in one query is nobody's honest request.
QUERY_FIELDS_MAX = 256


class Request:
    """One HTTP request."""

    __slots__ = (
        "_clock",
        "_deadline",
        "_headers",
        "_idle_seconds",
        "_query",
        "_receive",
        "_scope",
        "address",
        "body_ended",
        "id",
        "method",
        "peer",
    )

    def __init__(
        self, scope: Scope, receive: Receive, clock: Clock, *, request_id: str, address: str, idle_seconds: float
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._headers: Headers = scope["headers"]
        self._query: dict[str, list[str]] | None = None
        self._deadline: Deadline | None = None
        self.method: str = scope["method"]
        self.id = request_id
        #: Where it comes from, seen through the proxies that are trusted.
        self.address = address
        #: Who opened the connection: the client, or the last proxy.
        self.peer: str = scope["client"][0]
        self.body_ended = False

    def header(self, name: bytes) -> str | None:
        """The first header of this (lower-case) name."""
        for key, value in self._headers:
            if key == name:
                return value.decode("latin-1")
        return None

    def joined(self, name: bytes) -> str | None:
        """All headers of this name as one list, in their order. Source: RFC 9110, section 5.3."""
        values = [value.decode("latin-1") for key, value in self._headers if key == name]
        return ",".join(values) if values else None

    @property
    def scheme(self) -> str:
        """`http` or `https`, as this server was spoken to; a proxy may have been spoken to otherwise."""
        scheme: str = self._scope["scheme"]
        return scheme

    @property
    def query(self) -> dict[str, list[str]]:
        """The parameters after `?`, decoded; a parameter without a value counts."""
        if self._query is None:
            text = self._scope["query_string"]
            try:
                self._query = (
                    parse_qs(text.decode("ascii"), keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
                    if text
                    else {}
                )
            except ValueError:
                raise RequestInvalid("the query after '?' cannot be read") from None
        return self._query

    def parameter(self, name: str) -> str | None:
        """The first value of a parameter."""
        values = self.query.get(name)
        return values[0] if values else None

    @property
    def content_length(self) -> int | None:
        """The announced length of the body in bytes; None where it comes in chunks of its own."""
        text = self.header(b"content-length")
        if text is None:
            return None
        if not text.isascii() or not text.isdigit() or len(text) > 20:
            raise SizeInvalid("Content-Length must be a whole number")
        return int(text)

    @property
    def has_body(self) -> bool:
        """Whether anything can follow the headers."""
        length = self.content_length
        if length is not None:
            return length > 0
        # HTTP/2 frames every body, so there only a length of 0 rules one out.
        return self.header(b"transfer-encoding") is not None or self._scope["http_version"] == "2"

    @property
    def is_unread(self) -> bool:
        """Whether more of the body may come."""
        try:
            return not self.body_ended and self.has_body
        except SizeInvalid:
            return False  # Most likely that is what the answer says.

    @asynccontextmanager
    async def receiving(self) -> AsyncIterator[None]:
        """Around whatever reads the body by `chunks`: raises `BodyStalled` when it stands still for too long."""
        deadline = self._clock.timeout(self._idle_seconds)
        try:
            async with deadline:
                self._deadline = deadline
                yield
        except TimeoutError:
            if not deadline.expired:
                raise
            raise BodyStalled(f"none came for {self._idle_seconds:g} s") from None
        finally:
            self._deadline = None

    async def chunks(self, expected_bytes: int | None = None) -> AsyncIterator[bytes]:
        """The body as it comes; exactly `expected_bytes` of it where that is known."""
        if expected_bytes is None:
            expected_bytes = self.content_length
        received = 0
        more = True
        moved_at = self._clock.monotonic()
        while more:
            now = self._clock.monotonic()
            if self._deadline is not None and now - moved_at > DEADLINE_GRAIN_SECONDS:
                # Before waiting: what the disk took for the last part is not the client's fault.
                self._deadline.extend(self._idle_seconds)
                moved_at = now
            message = await self._receive()
            if message["type"] != "http.request":
                raise BodyIncomplete(f"{received} bytes came")
            chunk: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            received += len(chunk)
            if expected_bytes is not None and received > expected_bytes:
                raise SizeInvalid(f"more than {expected_bytes} bytes came")
            if received == expected_bytes == self.content_length:
                more = False  # HTTP lets nothing follow, and asking whether something does costs as much as a part.
            if chunk:
                yield chunk
        self.body_ended = True
        if self._deadline is not None:
            self._deadline.lift()  # What is done with the body takes its own time.
        if expected_bytes is not None and received != expected_bytes:
            raise BodyIncomplete(f"{received} of {expected_bytes} bytes came")

    async def body(self, bytes_max: int) -> bytes:
        """The whole body, if it is no larger than `bytes_max`; `ManifestTooLarge` otherwise."""
        length = self.content_length
        if length is not None and length > bytes_max:
            raise ManifestTooLarge(f"{length} bytes, at most {bytes_max} are accepted")
        parts = []
        received = 0
        seconds = min(BODY_SECONDS, self._idle_seconds)
        deadline = self._clock.timeout(seconds)
        try:
            async with deadline:
                async for chunk in self.chunks():
                    received += len(chunk)
                    if received > bytes_max:
                        raise ManifestTooLarge(f"at most {bytes_max} bytes are accepted")
                    parts.append(chunk)
        except TimeoutError:
            if not deadline.expired:
                raise
            raise BodyStalled(f"{received} bytes came in {seconds:g} s") from None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def drain(self, bytes_max: int, seconds: float) -> None:
        """Read on for a moment, so that a client that is still sending sees the answer and not a reset."""
        if not self.is_unread:
            return
        try:
            async with self._clock.timeout(seconds):
                received = 0
                while received <= bytes_max:
                    message = await self._receive()
                    received += len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return
        except TimeoutError:
            return


@dataclass(slots=True)
class Response:
    """An answer: `body` is bytes, or a file that is sent as it lies on disk, or parts that are made while sending.

    For a file and for parts, and for a HEAD that has no body at hand, `length` says how many bytes there are.
    """

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes | Path | AsyncIterator[bytes] = b""
    length: int | None = None

    @property
    def body_bytes(self) -> int:
        return len(self.body) if isinstance(self.body, bytes) and self.length is None else self.length or 0

    async def send(self, send: Send, *, head: bool, before_end: Callable[[], Awaitable[None]] | None = None) -> None:
        """Write it; for HEAD everything but the body. `before_end` runs before the last byte of a body of bytes."""
        headers = self.headers
        if self.status not in {204, 304}:
            headers.append((b"content-length", b"%d" % self.body_bytes))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        body = self.body
        if head or isinstance(body, bytes):
            written = b"" if head or not isinstance(body, bytes) else body
            if before_end is not None:
                # Behind the last byte the connection ends, if the request has not been read.
                await send({"type": "http.response.body", "body": written[:-1], "more_body": True})
                await before_end()
                written = written[-1:]
            await send({"type": "http.response.body", "body": written})
        elif isinstance(body, Path):
            await send({"type": "http.response.pathsend", "path": str(body)})
        else:
            async for part in body:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


def json_response(status: int, document: object, headers: Headers | None = None) -> Response:
    """A JSON answer, compact, with the exact media type that clients compare with."""
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    return Response(status, [(b"content-type", b"application/json"), *(headers or [])], body)
