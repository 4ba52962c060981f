"""Answers that go on while something happens.

Holds: a stream ends when there is no more to come, when the server stops, and when the login that it was opened with is
no longer good; whoever reads it can ask again from the last object that came. A silent stream says every few seconds
that it is there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from homeport.oci.errors import RegistryError
from homeport.server.api.answers import encoded
from homeport.server.api.calls import Call, administrator

#: How long it may take until something is told, and until a stream sees that the server stops.
STEP_SECONDS = 0.5
#: How often a silent stream says that it is there, and how often the login is looked at again.
HEARTBEAT_SECONDS = 10.0


class News(NamedTuple):
    """What is new: objects to tell, and whether these were the last."""

    objects: list[Mapping[str, Any]]
    ended: bool = False


async def lines(call: Call[Any, Any], look: Callable[[], Awaitable[News]]) -> AsyncIterator[bytes]:
    """What `look` finds each time, as lines of JSON."""
    services, clock = call.services, call.services.clock
    spoke_at = checked_at = clock.monotonic()
    while not services.draining():
        news = await look()
        if news.objects:
            yield b"".join(encoded(told) + b"\n" for told in news.objects)
            spoke_at = clock.monotonic()
        if news.ended:
            return
        if clock.monotonic() - spoke_at >= HEARTBEAT_SECONDS:
            yield b"\n"
            spoke_at = clock.monotonic()
        if clock.monotonic() - checked_at >= HEARTBEAT_SECONDS:
            try:
                await administrator(services, call.request)
            except RegistryError:
                return
            checked_at = clock.monotonic()
        if not news.objects:
            await clock.sleep(STEP_SECONDS)
