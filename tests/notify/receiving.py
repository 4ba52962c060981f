"""A receiver of webhooks on a real socket, which answers as a test likes and remembers what arrived."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.client.servers import serving


@dataclass(frozen=True)
class Arrival:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


def thanks() -> web.Response:
    return web.Response(text="thanks")


@dataclass
class Receiver:
    """`answer` decides what the next requests are answered."""

    answer: Callable[[], web.Response] = thanks
    arrivals: list[Arrival] = field(default_factory=list)
    url: str = ""
    #: Set by each arrival.
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        self.arrivals.append(Arrival(request.path, dict(request.headers), await request.read()))
        self.arrived.set()
        return self.answer()

    @property
    def tags(self) -> list[str]:
        """The tags of the events that arrived, in the format `standard`."""
        return [arrival.json["data"]["tag"] for arrival in self.arrivals]

    async def until(self, count: int) -> None:
        """Wait until so many requests have arrived."""
        while len(self.arrivals) < count:
            self.arrived.clear()
            await self.arrived.wait()


@asynccontextmanager
async def receiving(answer: Callable[[], web.Response] = thanks) -> AsyncIterator[Receiver]:
    receiver = Receiver(answer)
    async with serving(receiver.take) as server:
        receiver.url = f"{server.url}/hook"
        yield receiver
