"""To which requests the rest of the program gives way."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

from tests.server.api.world import World

SCOPE = {
    "type": "http",
    "http_version": "1.1",
    "scheme": "http",
    "method": "POST",
    "path": "/v2/a/blobs/uploads/",
    "raw_path": b"/v2/a/blobs/uploads/",
    "query_string": b"",
    "headers": [(b"host", b"registry.lan"), (b"content-length", b"1000")],
    "client": ("192.0.2.1", 50000),
}


async def test_to_none_that_was_refused_and_is_still_sending(world: World) -> None:
    drained, sent = asyncio.Event(), []

    async def receive() -> MutableMapping[str, Any]:
        drained.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    answering = asyncio.ensure_future(world.application(dict(SCOPE), receive, send))
    async with asyncio.timeout(10):
        await drained.wait()
    assert (world.application.active, world.application.in_front) == (1, 0)
    await answering
    assert sent[0]["status"] == 401
