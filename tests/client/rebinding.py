"""A program for `test_rebinding`, which runs it in a network of its own, where all but its own addresses is missing.

There a real name server answers the system's resolver: the first time with a public address, from then on with ours. It
prints as JSON what Homeport's client made of that.
"""

import asyncio
import json
import subprocess
import sys
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import uvloop
from aiohttp import web
from yarl import URL

from homeport.client.errors import ClientError
from homeport.client.settings import ClientSettings
from homeport.client.transport import Request, Transport
from homeport.clock import SystemClock
from tests.client.servers import moved, serving

PUBLIC, OURS = "93.184.216.34", "127.0.0.1"
NAME = "rebinding.example"
_A = 1


class NameServer(asyncio.DatagramProtocol):
    """Answers each question for an IPv4 address with the next of `addresses`, then ever with the last; nothing else."""

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses
        self.answers: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        end = data.index(b"\0", 12) + 5
        question, kind = data[12:end], int.from_bytes(data[end - 4 : end - 2], "big")
        records = b""
        if kind == _A:
            address = self._addresses.pop(0) if len(self._addresses) > 1 else self._addresses[0]
            self.answers.append(address)
            # A pointer to the name asked for, A, IN, for no time at all, four bytes.
            records = b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04" + IPv4Address(address).packed
        header = data[:2] + b"\x81\x80\0\x01" + (b"\0\x01" if records else b"\0\0") + b"\0\0\0\0"
        self._transport.sendto(header + question + records, addr)


def make_network(folder: Path) -> None:
    """A public address for this machine, and its own name server."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "address", "add", f"{PUBLIC}/32", "dev", "lo"], check=True)
    resolver = folder / "resolv.conf"
    resolver.write_text(f"nameserver {OURS}\n")
    subprocess.run(["mount", "--bind", resolver, "/etc/resolv.conf"], check=True)


async def fetched(url: str) -> str:
    """What came, or why nothing did. The transport is new: nothing is remembered of names that were asked for."""
    async with Transport(ClientSettings(), SystemClock()) as transport:
        try:
            return (await transport.fetch(Request("GET", URL(url)), bytes_max=100)).body.decode()
        except ClientError as error:
            return f"{type(error).__name__}: {error}"


async def main() -> None:
    names = NameServer([PUBLIC, OURS])
    endpoint, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: names, local_addr=(OURS, 53))

    async def public(request: web.Request) -> web.StreamResponse:
        return web.Response(text="public")

    async def secret(request: web.Request) -> web.StreamResponse:
        return web.Response(text="secret")

    async def redirect(request: web.Request) -> web.StreamResponse:
        return moved(f"http://{NAME}/")

    async with (
        serving(public, address=PUBLIC, port=80),
        serving(secret, address=OURS, port=80) as inside,
        serving(redirect) as server,
    ):
        results = [await fetched(server.url), await fetched(server.url), await fetched(f"http://{NAME}/")]
        told = {"answers": names.answers, "results": results, "inside": inside.paths()}
    endpoint.close()
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    make_network(Path(sys.argv[1]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the program has it
        runner.run(main())
