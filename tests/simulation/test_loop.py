"""The simulated loop: made-up time, drawn order, deaths that leave nothing running."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from homeport.testing.simulation import Deadlock, ProcessDied, SimulatedClock, run


def order(seed: int) -> list[str]:
    clock = SimulatedClock(seed)
    seen: list[str] = []

    async def worker(name: str) -> None:
        for step in range(3):
            seen.append(f"{name}{step}")
            await clock.sleep(0)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(worker(name))

    run(clock, main)
    return seen


def test_the_seed_decides_the_order() -> None:
    assert all(order(seed) == order(seed) for seed in range(20))
    assert len({tuple(order(seed)) for seed in range(20)}) > 10


def test_time_passes_without_waiting() -> None:
    clock = SimulatedClock(1)

    async def main() -> float:
        began = clock.now()
        await clock.sleep(3600)
        return clock.now() - began

    assert 3600 <= run(clock, main) < 3601


def test_a_timeout_comes_when_its_time_has_come() -> None:
    clock = SimulatedClock(1)

    async def main() -> None:
        async with clock.timeout(60):
            await clock.sleep(59)
        with pytest.raises(TimeoutError):
            async with clock.timeout(60):
                await clock.sleep(61)

    run(clock, main)


def test_a_thread_does_one_job_after_the_other() -> None:
    clock = SimulatedClock(1)
    threads = clock.threads("test", 1)
    done: list[int] = []

    async def main() -> None:
        jobs = []
        for number in range(20):
            jobs.append(asyncio.create_task(threads.run(done.append, number)))
            await clock.sleep(0.01)
        await asyncio.gather(*jobs)

    run(clock, main)
    assert done == list(range(20))


def test_threads_overtake_one_another() -> None:
    clock = SimulatedClock(1)
    threads = clock.threads("test", 8)
    done: list[int] = []

    async def main() -> None:
        await asyncio.gather(*(threads.run(done.append, number) for number in range(20)))

    run(clock, main)
    assert sorted(done) == list(range(20)) != done


async def test_a_job_that_raises_raises_for_its_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        await SimulatedClock(1).threads("test", 1).run(divmod, 1, 0)


def test_a_process_that_waits_for_nothing_is_found_out() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run(SimulatedClock(1), main)


def test_an_error_in_a_task_that_nobody_waits_for_is_found_out() -> None:
    async def fail() -> None:
        raise ValueError

    async def main() -> None:
        task = asyncio.create_task(fail())
        await asyncio.sleep(1)
        del task

    with pytest.raises(AssertionError, match="nobody noticed"):
        run(SimulatedClock(1), main)


@pytest.mark.parametrize("steps", range(12))
def test_the_dead_do_nothing(steps: int) -> None:
    """Whatever a process was about to do when it died, it does not do: not even what stands in `finally`."""
    clock = SimulatedClock(steps)
    threads = clock.threads("test", 1)
    done: list[str] = []

    async def body() -> AsyncIterator[int]:
        try:
            for number in range(10):
                await asyncio.sleep(0)
                yield number
        finally:
            await threads.run(done.append, "a generator's end")

    async def worker() -> None:
        try:
            async for _ in body():
                await threads.run(len, "abc")
        finally:
            await asyncio.create_task(threads.run(done.append, "a task's end"))

    async def main() -> None:
        await asyncio.gather(worker(), worker())

    with pytest.raises(ProcessDied):
        run(clock, main, lambda so_far: so_far == steps)
    assert done == []
