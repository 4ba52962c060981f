"""Requests made of nothing but what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, MutableMapping
from typing import Any

from homeport.clock import SystemClock
from homeport.server.http import Request


def request(
    *,
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    query: bytes = b"",
    body: Iterable[bytes | None] = (),
    peer: str = "192.0.2.1",
    scheme: str = "http",
    version: str = "1.1",
    idle_seconds: float = 60,
) -> Request:
    """A request whose body comes in these parts. None: the client is gone; after the last part nothing ever comes."""
    parts = list(body)
    messages: list[dict[str, Any]] = [
        {"type": "http.disconnect"}
        if part is None
        else {"type": "http.request", "body": part, "more_body": number < len(parts) - 1}
        for number, part in enumerate(parts)
    ]

    async def receive() -> MutableMapping[str, Any]:
        await asyncio.sleep(0)
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    scope = {
        "method": method,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        "query_string": query,
        "client": (peer, 50000),
        "scheme": scheme,
        "http_version": version,
    }
    return Request(scope, receive, SystemClock(), request_id="1", address=peer, idle_seconds=idle_seconds)
