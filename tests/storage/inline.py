"""A clock whose threads are none: jobs run at once, in the caller's thread, as they do in simulations."""

import random
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from homeport.clock import Clock, Deadline, Threads

P = ParamSpec("P")
T = TypeVar("T")


class InlineThreads(Threads):
    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)

    def close(self) -> None:
        pass


class InlineClock(Clock):
    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def now(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 0.0

    def elapsed(self) -> float:
        return 0.0

    def random(self) -> float:
        return self._random.random()

    def random_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    def timeout(self, seconds: float) -> Deadline:
        raise NotImplementedError

    def threads(self, name: str, count: int) -> Threads:
        return InlineThreads()
