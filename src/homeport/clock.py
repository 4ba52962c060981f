"""Time, randomness and threads: the only door to them.

Holds: no other module asks the system for the time, for randomness, for a thread or for a sleep (rule 5), so a test can
hand in a clock of its own and one seed replays everything. `testing/simulation.py` has that clock.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads(ABC):
    """A fixed number of threads for blocking work: disk, hashing, database commits."""

    @abstractmethod
    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returns or raises. Cancelling the caller does not stop a function that has begun."""

    @abstractmethod
    def close(self) -> None:
        """Wait for what has begun, refuse what comes after."""


class Deadline:
    """Cancels the body of its `async with` when its time has come, and raises `TimeoutError` then."""

    def __init__(self, seconds: float) -> None:
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> Deadline:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._timeout.__aexit__(kind, error, trace)

    @property
    def expired(self) -> bool:
        """Whether it was this deadline that ended the body."""
        return self._timeout.expired()

    def extend(self, seconds: float) -> None:
        """Let the body go on for `seconds` from now."""
        self._timeout.reschedule(asyncio.get_running_loop().time() + seconds)

    def lift(self) -> None:
        """Let the body go on for as long as it takes."""
        self._timeout.reschedule(None)


class Clock(ABC):
    """Where time, randomness and threads come from."""

    @abstractmethod
    def now(self) -> float:
        """Wall time, seconds since 1970 UTC. May jump."""

    @abstractmethod
    def monotonic(self) -> float:
        """Seconds since some start. Never goes back."""

    @abstractmethod
    def random(self) -> float:
        """A number in [0, 1), for jitter; never for a secret."""

    @abstractmethod
    def random_bytes(self, count: int) -> bytes:
        """`count` bytes that nobody can guess."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of monotonic time; 0 gives others their turn."""

    @abstractmethod
    def timeout(self, seconds: float) -> Deadline:
        """A deadline `seconds` from now, for an `async with`."""

    @abstractmethod
    def threads(self, name: str, count: int) -> Threads:
        """`count` threads for one purpose, which `name` tells to whoever looks at the process."""

    def new_id(self) -> str:
        """128 random bits as 32 hexadecimal digits: an id that cannot be guessed."""
        return self.random_bytes(16).hex()


class SystemClock(Clock):
    """The machine's own time, randomness and threads."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def random(self) -> float:
        return random.random()  # noqa: S311 (jitter is no secret)

    def random_bytes(self, count: int) -> bytes:
        return secrets.token_bytes(count)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float) -> Deadline:
        return Deadline(seconds)

    def threads(self, name: str, count: int) -> Threads:
        return _SystemThreads(name, count)


class _SystemThreads(Threads):
    def __init__(self, name: str, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        if kwargs:
            return await loop.run_in_executor(self._executor, lambda: function(*args, **kwargs))
        return await loop.run_in_executor(self._executor, function, *args)

    def close(self) -> None:
        self._executor.shutdown(wait=True)
