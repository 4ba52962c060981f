"""Servers to talk to: Debian's registry as a process, and little ones of our own, as hostile as a test likes."""

import asyncio
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import yaml
from aiohttp import web

from tests.support.certificates import Authority, ServerCertificate
from tests.support.components import need

START_SECONDS_MAX = 20
USER, PASSWORD = "ada", "correct horse battery"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class DockerRegistry:
    """Debian's docker-registry (distribution 2.8), with a folder and a port of its own."""

    host: str
    process: subprocess.Popen[bytes]
    ca: Path | None = None

    @classmethod
    def start(
        cls, folder: Path, *, login: bool = False, tls: bool = False, names: tuple[str, ...] = ()
    ) -> "DockerRegistry":
        """Start it. `names`: its certificate is good for these hosts as well."""
        program = need("docker-registry")
        port = free_port()
        http: dict[str, Any] = {"addr": f"127.0.0.1:{port}", "secret": "test"}
        certificate: ServerCertificate | None = None
        if tls:
            certificate = Authority(folder).issue(hosts=("127.0.0.1", "localhost", *names))
            http["tls"] = {"certificate": str(certificate.certificate), "key": str(certificate.key)}
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
            "http": http,
            "validation": {"manifests": {"urls": {"allow": ["^http://127"]}}},
        }
        if login:
            users = folder / "htpasswd"
            users.write_text(f"{USER}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}\n")
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(users)}}
        file = folder / "config.yml"
        file.write_text(yaml.safe_dump(config))
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([program, "serve", file], stdout=log, stderr=subprocess.STDOUT)
        registry = cls(f"127.0.0.1:{port}", process, certificate.ca if certificate else None)
        registry._wait(port)
        return registry

    def _wait(self, port: int) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "docker-registry ended"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("docker-registry does not listen")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Seen:
    """A request as a little server saw it."""

    method: str
    path: str
    authorization: str | None
    headers: dict[str, str]
    body: bytes = b""


def moved(location: str, status: int = 302) -> web.Response:
    """A redirect."""
    return web.Response(status=status, headers={"Location": location})


class LittleServer:
    """What one handler answers. It notes every request that it sees."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.seen: list[Seen] = []
        self.port = 0
        self.name = "127.0.0.1"

    @property
    def host(self) -> str:
        return f"{self.name}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def paths(self, method: str = "GET") -> list[str]:
        return [seen.path for seen in self.seen if seen.method == method]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        headers = dict(request.headers)
        body = await request.read() if request.method == "POST" else b""
        seen = Seen(request.method, request.raw_path, headers.get("Authorization"), headers, body)
        self.seen.append(seen)
        return await self._handler(request)


@asynccontextmanager
async def serving(
    handler: Handler, *, tls: ServerCertificate | None = None, address: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[LittleServer]:
    """A little server, on a free port unless one is named."""
    server = LittleServer(handler)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1, handle_signals=False)
    await runner.setup()
    context = None
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls.certificate, tls.key)
    site = web.TCPSite(runner, address, port, ssl_context=context)
    await site.start()
    server.name = address
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_serving(
    converse: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A server that says whatever `converse` writes; its HOST:PORT."""
    running: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # asyncio's own server would be loud about a cancelled one
        finally:
            running.discard(task)
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.sleep(0)  # closed transports let go of their sockets at the next turn
