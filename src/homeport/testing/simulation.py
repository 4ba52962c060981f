"""A world in which one seed decides everything: what runs next, how long it takes, and when the process dies.

Homeport's own code runs in it unchanged, because it takes time, randomness and threads from a `Clock` (rule 5):

    clock = SimulatedClock(seed)
    run(clock, lambda: main(clock))

Holds: nothing here waits for the machine, and the same seed takes the same steps, so a failure is replayed by its seed.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio.base_events import BaseEventLoop
from asyncio.events import _get_running_loop, _set_running_loop
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from homeport.clock import Clock, Deadline, Threads

P = ParamSpec("P")
T = TypeVar("T")

#: What the wall clock shows when a simulation begins.
_EPOCH = 1_700_000_000.0
#: A step of the loop takes up to this long.
_STEP_SECONDS_MAX = 0.002
#: A job of a thread takes up to this long,
_JOB_SECONDS_MAX = 0.05
#: or, where the disk stalls, up to this long unless it was told otherwise: longer than a write hold lasts.
_STALL_SECONDS_MAX = 1_200.0


class ProcessDied(BaseException):
    """The simulated process was killed: what it had in memory is gone, and nothing of it runs any more."""


class Deadlock(Exception):
    """Every task of the process waits for another one, for ever."""


class SimulatedClock(Clock):
    """Time that passes only as the loop runs, and randomness that the seed decides. It outlives the processes."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._elapsed = 0.0
        #: Of how many jobs of threads one meets a disk that stalls.
        self.jobs_per_stall = 2_000
        #: The same of jobs of one name, such as that which puts an upload in its place.
        self.jobs_per_stall_of: dict[str, int] = {}
        self.stall_seconds_max = _STALL_SECONDS_MAX

    def now(self) -> float:
        return _EPOCH + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed

    def elapsed(self) -> float:
        return self._elapsed

    def random(self) -> float:
        return self._random.random()

    def random_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float) -> Deadline:
        return Deadline(seconds)

    def threads(self, name: str, count: int) -> Threads:  # noqa: ARG002
        return _InlineThreads(self, count)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        assert seconds >= 0
        self._elapsed += seconds

    def below(self, count: int) -> int:
        """A whole number in [0, count)."""
        return int(self._random.random() * count)


class _InlineThreads(Threads):
    """Jobs run on the loop, each at one moment; when that is, and when its end is noticed, is drawn."""

    def __init__(self, clock: SimulatedClock, count: int) -> None:
        self._clock = clock
        self._free = asyncio.Semaphore(count)
        self._closed = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closed:
            raise RuntimeError("these threads are closed")
        jobs_per_stall = self._clock.jobs_per_stall_of.get(function.__name__, self._clock.jobs_per_stall)
        async with self._free:
            await self._hesitate(jobs_per_stall)
            try:
                result = function(*args, **kwargs)
            except Exception:
                await self._hesitate(jobs_per_stall)
                raise
        await self._hesitate(jobs_per_stall)
        return result

    def close(self) -> None:
        self._closed = True

    async def _hesitate(self, jobs_per_stall: int) -> None:
        draw = self._clock.random()
        if draw < 1 / jobs_per_stall:
            await asyncio.sleep(self._clock.random() * self._clock.stall_seconds_max)
        elif draw < 0.5:
            await asyncio.sleep(self._clock.random() * _JOB_SECONDS_MAX)
        elif draw < 0.8:
            await asyncio.sleep(0)


class SimulatedLoop(BaseEventLoop):
    """An event loop without sockets: of the callbacks that are ready, the seed draws which one runs.

    asyncio's own loop runs them in the order in which they became ready; no code may rely on that between tasks, since
    sockets and threads have no such order.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, clock: SimulatedClock, dies: Callable[[int], bool]) -> None:
        super().__init__()
        self._clock = clock
        self._dies = dies
        self._steps = 0
        self._buried = False
        self._tasks_begun = 0
        self._tasks: WeakValueDictionary[int, asyncio.Task[Any]] = WeakValueDictionary()
        self.set_debug(False)

    def time(self) -> float:
        return self._clock.monotonic()

    def _run_once(self) -> None:
        """Run one callback."""
        if self._dies(self._steps):
            raise ProcessDied
        self._steps += 1
        self._clock.advance(self._clock.random() * _STEP_SECONDS_MAX)
        if not self._ready:
            self._wait_for_a_timer()
        while self._scheduled and self._scheduled[0].when() <= self.time():
            self._ready.append(heapq.heappop(self._scheduled))
        self._ready.rotate(self._clock.below(len(self._ready)))
        handle = self._ready.popleft()
        if not handle.cancelled():
            handle._run()  # noqa: SLF001 - what a loop does with its handles

    def _wait_for_a_timer(self) -> None:
        while self._scheduled and self._scheduled[0].cancelled():
            heapq.heappop(self._scheduled)
        if not self._scheduled:
            raise Deadlock("nothing is ready, and nothing ever will be")
        timer = heapq.heappop(self._scheduled)
        self._clock.advance(max(0.0, timer.when() - self.time()))
        self._ready.append(timer)

    def create_task(self, *args: Any, **kwargs: Any) -> asyncio.Task[Any]:
        task = super().create_task(*args, **kwargs)
        self._tasks_begun += 1
        self._tasks[self._tasks_begun] = task
        return task

    def _write_to_self(self) -> None:
        """Nobody waits in a `select` that would have to be woken."""

    def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        if not self._buried:
            super()._asyncgen_finalizer_hook(agen)  # type: ignore[misc]  # typeshed does not know it.

    def bury(self) -> None:
        """Let go of every task without letting one take another step.

        Python closes a coroutine that nobody holds any more, which runs its `finally` blocks. They run here, in the
        order in which the tasks began, while the loop is current but never runs again: what they begin does nothing.
        """
        self._buried = True
        number = 0
        while number < self._tasks_begun:  # It grows meanwhile.
            number += 1
            task = self._tasks.get(number)
            if task is not None and not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - they all are
                _close(task.get_coro())
        self.close()


def run(
    clock: SimulatedClock, main: Callable[[], Coroutine[Any, Any, T]], dies: Callable[[int], bool] = lambda _: False
) -> T:
    """Run a process to the end of `main`; what it returned.

    Before each step `dies` is asked, with the number of steps so far, whether the process is killed now; then
    `ProcessDied` is raised. What outlives the process (its disk, what its database had committed) is the caller's.
    Whatever goes wrong in a task that nobody waits for fails `main` too.
    """
    loop = SimulatedLoop(clock, dies)
    unnoticed: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: unnoticed.append(context))
    try:
        result = loop.run_until_complete(main())
        if unnoticed:
            raise AssertionError(f"nobody noticed: {unnoticed}")
        return result
    finally:
        with _current(loop):
            loop.bury()


@contextmanager
def _current(loop: SimulatedLoop) -> Iterator[None]:
    before = _get_running_loop()
    _set_running_loop(loop)
    try:
        yield
    finally:
        _set_running_loop(before)


def _close(coroutine: Any) -> None:
    for _ in range(100):
        try:
            coroutine.close()
        except RuntimeError:
            continue  # It went on to another `await` instead of ending.
        except Exception:  # noqa: BLE001, S110 - the last words of a dead process
            pass
        return
    raise AssertionError(f"{coroutine} does not end")
