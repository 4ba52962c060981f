"""Loops: each is a step and a pause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from homeport.clock import Clock
from homeport.observe import Level, Log


@asynccontextmanager
async def running(*loops: Awaitable[None]) -> AsyncIterator[None]:
    """Run the loops until the body ends."""
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def every(clock: Clock, log: Log, seconds: float, step: Callable[[], Awaitable[object]]) -> None:
    """Take the step again and again, also after one that failed."""
    while True:
        await clock.sleep(seconds)
        try:
            await step()
        except Exception as error:  # noqa: BLE001 (a loop that died would be missed by nobody until it is needed)
            log.write(Level.ERROR, "loop.failed", {"error": repr(error)})
