"""What is remembered for a while, and what is under way, each at most so many.

Holds: what is remembered is never given when its time is over, and the oldest goes when there are too many. Work that
several wait for belongs to none of them: it goes on when they leave, and ends with its owner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final, Generic, TypeVar

from homeport.clock import Clock
from homeport.oci.errors import Unavailable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: How much work there is at once. Whoever asks for more is told to come later.
FLIGHTS_MAX: Final = 1_000

_STOPPING: Final = "Homeport stops"


class Memory(Generic[K, V]):
    """Values by their keys, each until its time is over. All of them together weigh at most `weight_max`."""

    def __init__(self, clock: Clock, weight_max: int) -> None:
        self._clock = clock
        self._weight_max = weight_max
        self._weight = 0
        #: Each with when it is over and what it weighs, the longest known first.
        self._known: dict[K, tuple[V, float, int]] = {}

    def get(self, key: K) -> V | None:
        """What is remembered; None if nothing is."""
        found = self._known.get(key)
        if found is None:
            return None
        value, until, _ = found
        if self._clock.monotonic() >= until:
            self.forget(key)
            return None
        return value

    def put(self, key: K, value: V, seconds: float, *, weight: int = 1) -> None:
        """Remember it for so long. What weighs too much by itself is not."""
        self.forget(key)
        if seconds <= 0 or weight > self._weight_max:
            return
        self._known[key] = value, self._clock.monotonic() + seconds, weight
        self._weight += weight
        while self._weight > self._weight_max:
            self.forget(next(iter(self._known)))

    def forget(self, key: K) -> None:
        """As if it had never been known."""
        found = self._known.pop(key, None)
        if found is not None:
            self._weight -= found[2]

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()
        self._weight = 0


class Flights:
    """Work that is done once, however many ask for it meanwhile."""

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[Any]] = {}
        self._closed = False

    async def join(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """What the work of this key gives or raises, which is begun unless it is under way."""
        task = self._running.get(key)
        if task is None:
            if self._closed or len(self._running) >= FLIGHTS_MAX:
                raise Unavailable(_STOPPING if self._closed else "too much is on its way from upstream")
            task = self._running[key] = asyncio.create_task(work())
            task.add_done_callback(lambda done: self._end(key, done))
        try:
            found: V = await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise Unavailable(_STOPPING) from None
            raise
        return found

    async def close(self) -> None:
        """Break off what is under way, and refuse what comes after."""
        self._closed = True
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _end(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # So that asyncio does not report it where all who asked have left.
