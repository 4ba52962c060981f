"""The socket: starting, replacing and stopping Granian, which speaks HTTP and TLS for us.

Granian's embedded server runs on our event loop. It is called experimental and can't read a certificate again, so
nothing but this module touches it. Holds: while a server is replaced, the port never stops answering: the new one
listens on the same port (SO_REUSEPORT) before the old one stops.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from granian.server.embed import Server

from homeport.server.http import Receive, Scope, Send

#: Connections that wait to be accepted, and requests that are handled at once; more wait in their sockets.
BACKLOG = 1_024
REQUESTS_MAX = 4_096
#: How long a client may take to send its headers.
HEADER_SECONDS = 30
#: HTTP/2 lets a client send this much before we took it; its default (64 KiB) throttles uploads.
WINDOW_BYTES = 4 * 1024 * 1024
#: Parts of a body that are asked for before they are wanted. Docker's are 32 KiB, the largest 400 KiB.
AHEAD_PARTS_MAX = 8
#: The methods whose bodies may be long.
_SENDING = frozenset({"POST", "PUT", "PATCH"})

#: How long a freshly started server may take until it accepts.
START_SECONDS = 10.0
#: How long a server that replaces another one is watched before the other one stops.
SETTLE_SECONDS = 0.5


class ListenFailed(OSError):
    """The address could not be listened on."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The files of a TLS certificate, with its chain, and of its key."""

    certificate: Path
    key: Path

    def check(self) -> None:
        """Raises `ListenFailed` with the reason if the files can't be used together."""
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                self.certificate,
                self.key,
                password=lambda: "",  # Where the key has a pass phrase, OpenSSL would ask for it on the terminal.
            )
        except (OSError, ValueError) as error:
            raise ListenFailed(f"the certificate {self.certificate} with the key {self.key}: {error}") from None

    def stamp(self) -> tuple[int, int, int, int] | None:
        """What changes when one of the files does; None while one is missing."""
        try:
            first, second = self.certificate.stat(), self.key.stat()
        except OSError:
            return None
        return first.st_mtime_ns, first.st_ino, second.st_mtime_ns, second.st_ino


class _Ahead:
    """A request's `receive` that asks Granian for the next parts of the body before they are wanted.

    Each part comes over three threads, so asking one at a time leaves all of them waiting for each other (docker sends
    parts of 32 KiB; 8 at a time come four times as fast). Granian answers calls of `receive` in the order in which they
    were made; those behind the end of the body say that the client is gone, and are thrown away.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._asked: deque[Any] = deque()
        self._width = 2

    async def __call__(self) -> MutableMapping[str, Any]:
        while len(self._asked) < self._width:
            self._asked.append(self._receive())
        message: MutableMapping[str, Any] = await self._asked.popleft()
        if message.get("more_body"):
            # Most bodies are one part, so it begins with one.
            self._width = min(2 * self._width, AHEAD_PARTS_MAX)
        else:
            self.cancel()
            self._width = 1
        return message

    def cancel(self) -> None:
        """Take back what was asked for."""
        while self._asked:
            self._asked.pop().cancel()


class Listener:
    """One address on which the application is served."""

    def __init__(self, application: Callable[[Scope, Receive, Send], Awaitable[None]], host: str, port: int) -> None:
        """Take the port. `port` 0: a free one. Raises `ListenFailed`, also when somebody answers there."""
        self._application = application
        self._reservation = _reserve(host, port)
        self.host = host
        self.port: int = self._reservation.getsockname()[1]
        self._server: Server | None = None
        self._serving: asyncio.Task[None] | None = None
        #: Servers that were replaced and still have open connections.
        self._replaced: list[asyncio.Task[None]] = []

    async def start(self, certificate: Certificate | None) -> None:
        """Serve; returns when connections are accepted."""
        if certificate is not None:
            certificate.check()
        before, stopping = self._server, self._serving
        server = self._make(certificate)
        serving = asyncio.create_task(server.serve())
        try:
            await self._accepting(serving)
        except BaseException:
            server.stop()  # type: ignore[no-untyped-call]
            raise
        self._server, self._serving = server, serving
        if before is not None and stopping is not None:
            # What it has begun may take an hour; nobody needs to wait for that.
            before.stop()  # type: ignore[no-untyped-call]
            self._replaced = [task for task in (*self._replaced, stopping) if not task.done()]

    async def stop(self) -> None:
        """Accept nothing new, at once. Returns when the connections that are open have ended."""
        self._reservation.close()
        if self._server is not None and self._serving is not None:
            self._server.stop()  # type: ignore[no-untyped-call]
            await asyncio.wait([self._serving, *self._replaced])

    def _enter(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["method"] in _SENDING:
            return self._enter_sending(scope, receive, send)
        return self._application(scope, receive, send)

    async def _enter_sending(self, scope: Scope, receive: Receive, send: Send) -> None:
        ahead = _Ahead(receive)
        try:
            await self._application(scope, ahead, send)
        finally:
            ahead.cancel()

    def _make(self, certificate: Certificate | None) -> Server:
        return Server(
            self._enter,
            address=self.host,
            port=self.port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.auto if certificate else HTTPModes.http1,
            websockets=False,
            backlog=BACKLOG,
            backpressure=REQUESTS_MAX,
            log_enabled=False,
            http1_settings=HTTP1Settings(header_read_timeout=HEADER_SECONDS * 1000),
            http2_settings=HTTP2Settings(
                initial_connection_window_size=WINDOW_BYTES,
                initial_stream_window_size=WINDOW_BYTES,
                max_headers_size=64 * 1024,
                keep_alive_interval=30_000,
            ),
            ssl_cert=certificate.certificate if certificate else None,
            ssl_key=certificate.key if certificate else None,
            ssl_protocol_min=SSLProtocols.tls12,
        )

    async def _accepting(self, serving: asyncio.Task[None]) -> None:
        """Return when the server that `serving` runs accepts connections. Beside another one that can't be told apart
        from outside, so it is also given a moment in which it could fail.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_SECONDS
        settled_at = loop.time() + (SETTLE_SECONDS if self._server is not None else 0.0)
        while loop.time() < deadline:
            if serving.done():
                raise ListenFailed(f"{self.host}:{self.port}: {serving.exception()}")
            try:
                _, writer = await asyncio.open_connection(_reachable(self.host), self.port)
            except OSError:
                pass
            else:
                writer.close()
                if loop.time() >= settled_at:
                    return
            await asyncio.sleep(0.005)
        raise ListenFailed(f"{self.host}:{self.port} did not begin to answer")


def _reserve(host: str, port: int) -> socket.socket:
    """A socket that keeps the port ours without listening on it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if port and _answers(family, host, port):
        raise ListenFailed(f"{host}:{port} is taken: another program answers there")
    reservation = socket.socket(family, socket.SOCK_STREAM)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        reservation.bind((host, port))
    except OSError as error:
        reservation.close()
        raise ListenFailed(f"{host}:{port}: {error.strerror}") from None
    return reservation


def _answers(family: int, host: str, port: int) -> bool:
    # With SO_REUSEPORT two servers could listen on one port, and each would get half of the requests.
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((_reachable(host), port)) == 0


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared with, not bound to)
