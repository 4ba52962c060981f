"""Loops: each is a step and a pause."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from homeport.clock import Clock
from homeport.observe import Level, Log


@asynccontextmanager
async def running(log: Log, *loops: Awaitable[None]) -> AsyncIterator[None]:
    """Run the loops until the body ends."""
    tasks = [asyncio.ensure_future(_watched(log, loop)) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _watched(log: Log, loop: Awaitable[None]) -> None:
    """Run the loop; one that breaks is said at once, not when somebody misses what it did."""
    try:
        await loop
    except Exception as error:  # noqa: BLE001 (nobody waits for it who could be told)
        log.write(Level.ERROR, "loop.died", {"error": repr(error), "traceback": traceback.format_exc(limit=-12)})


async def every(clock: Clock, log: Log, seconds: float, step: Callable[[], Awaitable[object]]) -> None:
    """Take the step again and again, also after one that failed."""
    while True:
        await clock.sleep(seconds)
        try:
            await step()
        except Exception as error:  # noqa: BLE001 (a loop that died would be missed by nobody until it is needed)
            log.write(Level.ERROR, "loop.failed", {"error": repr(error)})
