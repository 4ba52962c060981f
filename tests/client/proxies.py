"""An HTTP proxy on loopback: tunnels by CONNECT, and forwards what is asked for by its whole address."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from yarl import URL

from tests.client.servers import raw_serving


@dataclass
class Proxy:
    """What it was asked for. `places` says where each HOST:PORT is, as only a proxy knows; others it refuses."""

    places: Mapping[str, str]
    host: str = ""
    #: Request line and headers of each request.
    seen: list[str] = field(default_factory=list)

    @property
    def url(self) -> URL:
        return URL(f"http://{self.host}")

    @property
    def asked(self) -> list[str]:
        return [head.split("\r\n")[0] for head in self.seen]

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.seen.append(head)
        method, target, rest = head.split(" ", 2)
        url = URL(f"//{target}") if method == "CONNECT" else URL(target)
        place = self.places.get(f"{url.host}:{url.port}")
        if place is None:
            writer.write(b"HTTP/1.1 403 Not for you\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            return
        server_reader, server_writer = await asyncio.open_connection(*place.split(":"))
        try:
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                server_writer.write(f"{method} {url.raw_path_qs} {rest}".encode())
            await asyncio.gather(_pass(reader, server_writer), _pass(server_reader, writer))
        finally:
            server_writer.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def proxying(places: Mapping[str, str]) -> AsyncIterator[Proxy]:
    """A proxy that reaches these places."""
    proxy = Proxy(places)
    async with raw_serving(proxy.converse) as host:
        proxy.host = host
        yield proxy
