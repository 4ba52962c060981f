"""Doing the same with many things, some at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

T = TypeVar("T")


async def each(function: Callable[[T], Awaitable[None]], items: Collection[T], at_once: int) -> None:
    """Call the function with each of the items, `at_once` at a time. What one raises ends the others, and is raised."""
    waiting = iter(items)

    async def work() -> None:
        for item in waiting:
            await function(item)

    tasks = [asyncio.ensure_future(work()) for _ in range(min(at_once, len(items)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
