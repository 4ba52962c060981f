"""Time, randomness and threads: the only door to them.

Holds: no other module asks the system for the time, for randomness, for a thread or for a sleep (rule 5), so a test can
hand in a clock of its own and one seed replays everything. `testing/simulation.py` has that clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar, overload

P = ParamSpec("P")
T = TypeVar("T")


class Threads(ABC):
    """A fixed number of threads for blocking work: disk, hashing, flushing the database's log."""

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


#: Of the systems that have it, the clock that goes on while the machine sleeps.
_ELAPSED: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(ABC):
    """Where time, randomness and threads come from."""

    @abstractmethod
    def now(self) -> float:
        """Wall time, seconds since 1970 UTC. May jump."""

    @abstractmethod
    def monotonic(self) -> float:
        """Seconds since some start. Never goes back."""

    @abstractmethod
    def elapsed(self) -> float:
        """As `monotonic`, with what the machine slept: by this the wall clock moves if nobody sets it."""

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

    def elapsed(self) -> float:
        return time.clock_gettime(_ELAPSED)

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


@overload
def rfc3339(seconds: float) -> str: ...
@overload
def rfc3339(seconds: None) -> None: ...
def rfc3339(seconds: float | None) -> str | None:
    """Seconds since 1970 UTC as JSON has a time: `2026-01-31T08:00:00Z`, to the microsecond. None stays None."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


class _Work(NamedTuple):
    """A call that waits for a thread, and where what comes of it goes."""

    function: Callable[[], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class _SystemThreads(Threads):
    """A queue and the threads that serve it.

    `concurrent.futures` does this with two futures and a lock for each call, and a push makes two dozen calls: with it,
    small images took a fifth more of the processor.
    """

    def __init__(self, name: str, count: int) -> None:
        self._waiting: SimpleQueue[_Work | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, name=f"{name}-{number}", daemon=True) for number in range(count)
        ]
        self._closed = False
        for thread in self._threads:
            thread.start()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closed:
            raise RuntimeError("these threads were closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.put(_Work(partial(function, *args, **kwargs), future, loop))
        return await future

    def close(self) -> None:
        self._closed = True
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        while (work := self._waiting.get()) is not None:
            try:
                settle = partial(_succeed, work.future, work.function())
            except BaseException as error:  # noqa: BLE001 (it is the caller's)
                settle = partial(_fail, work.future, error)
            with contextlib.suppress(RuntimeError):  # The loop was closed meanwhile: nobody waits any more.
                work.loop.call_soon_threadsafe(settle)
            del work, settle  # What they hold must not live until the next call.


def _succeed(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():  # Whoever waited may have been cancelled.
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        # A future refuses StopIteration, which is what a `next` on nothing raises.
        future.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)
