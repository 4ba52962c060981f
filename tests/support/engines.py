"""Container engines that say whatever a test likes, on a unix socket, on TCP and on TLS."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.certificates import ServerCertificate

ID = "sha256:" + "1" * 64
DIGEST = "sha256:" + "d" * 64
Converse = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    """An answer as it is on the wire."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


class LittleEngine:
    """An engine with one container, until a test changes what it says."""

    def __init__(self) -> None:
        #: What it says, by path: JSON, or bytes as they are sent, or a conversation of its own.
        self.says: dict[str, Any] = {
            "/info": {"Name": "node-1", "Swarm": {"LocalNodeState": "inactive", "ControlAvailable": False}},
            "/containers/json?all=1": [
                {"Id": "c" * 64, "Names": ["/web"], "Image": "registry.lan/team/app:1", "ImageID": ID,
                 "State": "running", "Created": 1_700_000_000, "Labels": {}}
            ],
            f"/images/{ID}/json": {"Id": ID, "RepoDigests": [f"registry.lan/team/app@{DIGEST}"]},
            "/services": [], "/tasks": [], "/nodes": [],
        }  # fmt: skip
        #: The requests that came: method and path.
        self.asked: list[str] = []
        self.url = ""
        self._running: set[asyncio.Task[None]] = set()

    def manage_a_swarm(self, **says: Any) -> None:
        self.says["/info"] = {"Name": "node-1", "Swarm": {"LocalNodeState": "active", "ControlAvailable": True}}
        self.says |= {f"/{path}": found for path, found in says.items()}

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            if (first := await reader.readexactly(4)) != b"GET ":
                writer.write(answer(b"", "400 Bad Request"))
                return
            while head := first + await reader.readuntil(b"\r\n\r\n"):
                first = b""
                method, path, _ = head.decode().split(" ", 2)
                self.asked.append(f"{method} {path}")
                await self._say(path, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # asyncio's own server would be loud about a cancelled one
        finally:
            self._running.discard(task)
            writer.close()

    async def _say(self, path: str, writer: asyncio.StreamWriter) -> None:
        says = self.says.get(path, answer(b'{"message":"page not found"}', "404 Not Found"))
        if callable(says):
            await says(writer)
            return
        writer.write(says if isinstance(says, bytes) else answer(json.dumps(says).encode()))
        await writer.drain()

    async def end(self, server: asyncio.Server) -> None:
        server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await asyncio.sleep(0)  # closed transports let go of their sockets at the next turn


@asynccontextmanager
async def on_socket(path: Path) -> AsyncIterator[LittleEngine]:
    """An engine on a unix socket."""
    engine = LittleEngine()
    engine.url = f"unix://{path}"
    server = await asyncio.start_unix_server(engine.accept, path)
    try:
        yield engine
    finally:
        await engine.end(server)


@asynccontextmanager
async def on_tcp(tls: ServerCertificate | None = None, clients: Path | None = None) -> AsyncIterator[LittleEngine]:
    """An engine on TCP, or with `tls` on TLS; with `clients`, for those whose certificate is from that authority."""
    context = None
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls.certificate, tls.key)
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients)
    engine = LittleEngine()
    server = await asyncio.start_server(engine.accept, "127.0.0.1", 0, ssl=context)
    engine.url = f"{'tcp' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield engine
    finally:
        await engine.end(server)
